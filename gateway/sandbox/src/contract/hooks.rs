//! What we call of a component, whichever version of the contract it speaks.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use super::{Version, v0_1, v0_2, v0_3};
use crate::bindings::exports::sluice::plugin::preprocess::Prepared;
use crate::bindings::sluice::plugin::types::{Answer, Context, Failure, NamedTensor, Request};
use crate::error::LoadError;
use crate::host::logging::clean;
use crate::state::State;

/// Most bytes of what is said about an export.
const MESSAGE_BYTES_MAX: usize = 1024;

/// What a hook returned for each of its items.
pub(crate) type Results<T> = Vec<Result<T, Failure>>;

/// What was found of an interface, if the component exports it.
pub(super) fn whole<T>(
    interface: &str,
    names: &[String],
    found: wasmtime::Result<T>,
) -> Result<Option<T>, LoadError> {
    if !names.iter().any(|name| super::interface_of(name) == Some(interface)) {
        return Ok(None);
    }
    found.map(Some).map_err(|error| {
        let what = format!("its {interface} is not that of the contract: {error:#}");
        LoadError::World(clean(&what, MESSAGE_BYTES_MAX))
    })
}

/// The exports of one component that we call, looked up once at load. Everything that
/// goes in and comes out is in the latest version's types; a method gives `None` where
/// the component has no such export.
pub(crate) enum Exports {
    V0_1(v0_1::Exports),
    V0_2(v0_2::Exports),
    V0_3(v0_3::Exports),
}

/// The same call for every version.
macro_rules! each {
    ($self:expr, $exports:ident => $call:expr) => {
        match $self {
            Exports::V0_1($exports) => $call,
            Exports::V0_2($exports) => $call,
            Exports::V0_3($exports) => $call,
        }
    };
}

impl Exports {
    /// Looks up what a component exports under these names.
    ///
    /// # Errors
    /// [`LoadError::World`] for an interface that lacks a function of the contract: its
    /// name alone makes no plugin.
    pub(crate) fn find(
        version: Version,
        pre: &InstancePre<State>,
        names: &[String],
    ) -> Result<Self, LoadError> {
        Ok(match version {
            Version::V0_1 => Self::V0_1(v0_1::Exports::find(pre, names)?),
            Version::V0_2 => Self::V0_2(v0_2::Exports::find(pre, names)?),
            Version::V0_3 => Self::V0_3(v0_3::Exports::find(pre, names)?),
        })
    }

    /// Checks that they have the types of the contract.
    pub(crate) fn check(&self, store: &mut Store<State>, instance: &Instance) -> wasmtime::Result<()> {
        each!(self, exports => exports.check(store, instance))
    }

    pub(crate) async fn init(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        config: &str,
    ) -> wasmtime::Result<Option<Result<(), String>>> {
        each!(self, exports => exports.init(store, instance, config).await)
    }

    pub(crate) async fn preprocess(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        context: Context,
        request: Request,
    ) -> wasmtime::Result<Option<Results<Prepared>>> {
        each!(self, exports => exports.preprocess(store, instance, context, request).await)
    }

    pub(crate) async fn postprocess(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        context: Context,
        (carry, outputs): (Vec<u8>, Vec<NamedTensor>),
    ) -> wasmtime::Result<Option<Results<Answer>>> {
        each!(self, exports => exports.postprocess(store, instance, context, carry, outputs).await)
    }

    pub(crate) async fn handle(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        context: Context,
        request: Request,
    ) -> wasmtime::Result<Option<Result<Answer, Failure>>> {
        each!(self, exports => exports.handle(store, instance, context, request).await)
    }
}

/// The exports of one version: the hooks of all versions so far have the same form, and
/// what differs in their types is bridged by `From`. A version whose hooks take another
/// form gets a struct of its own with these methods.
macro_rules! exports {
    ($version:ident) => {
        use wasmtime::Store;
        use wasmtime::component::{Instance, InstancePre};

        use super::hooks::Results;
        use crate::bindings::exports::sluice::plugin::preprocess::Prepared;
        use crate::bindings::sluice::plugin::types;
        use crate::bindings::$version::exports::sluice::plugin::{
            handler, lifecycle, postprocess, preprocess,
        };
        use crate::contract::hooks::whole;
        use crate::error::LoadError;
        use crate::state::State;

        pub(crate) struct Exports {
            lifecycle: Option<lifecycle::GuestIndices>,
            preprocess: Option<preprocess::GuestIndices>,
            postprocess: Option<postprocess::GuestIndices>,
            handler: Option<handler::GuestIndices>,
        }

        impl Exports {
            pub(super) fn find(pre: &InstancePre<State>, names: &[String]) -> Result<Self, LoadError> {
                Ok(Self {
                    lifecycle: whole("lifecycle", names, lifecycle::GuestIndices::new(pre))?,
                    preprocess: whole("preprocess", names, preprocess::GuestIndices::new(pre))?,
                    postprocess: whole("postprocess", names, postprocess::GuestIndices::new(pre))?,
                    handler: whole("handler", names, handler::GuestIndices::new(pre))?,
                })
            }

            pub(super) fn check(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
            ) -> wasmtime::Result<()> {
                if let Some(hook) = &self.preprocess {
                    hook.load(&mut *store, instance)?;
                }
                if let Some(hook) = &self.postprocess {
                    hook.load(&mut *store, instance)?;
                }
                if let Some(hook) = &self.handler {
                    hook.load(&mut *store, instance)?;
                }
                Ok(())
            }

            pub(super) async fn init(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                config: &str,
            ) -> wasmtime::Result<Option<Result<(), String>>> {
                let Some(hook) = &self.lifecycle else { return Ok(None) };
                hook.load(&mut *store, instance)?.call_init(store, config).await.map(Some)
            }

            pub(super) async fn preprocess(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                context: types::Context,
                request: types::Request,
            ) -> wasmtime::Result<Option<Results<Prepared>>> {
                let Some(hook) = &self.preprocess else { return Ok(None) };
                let guest = hook.load(&mut *store, instance)?;
                let items = [preprocess::Item { context: context.into(), request }];
                let results = guest.call_process(store, &items).await?;
                Ok(Some(results.into_iter().map(|one| one.map(Into::into).map_err(Into::into)).collect()))
            }

            pub(super) async fn postprocess(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                context: types::Context,
                carry: Vec<u8>,
                outputs: Vec<types::NamedTensor>,
            ) -> wasmtime::Result<Option<Results<types::Answer>>> {
                let Some(hook) = &self.postprocess else { return Ok(None) };
                let guest = hook.load(&mut *store, instance)?;
                let items = [postprocess::Item { context: context.into(), carry, outputs }];
                let results = guest.call_process(store, &items).await?;
                Ok(Some(results.into_iter().map(|one| one.map(Into::into).map_err(Into::into)).collect()))
            }

            pub(super) async fn handle(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                context: types::Context,
                request: types::Request,
            ) -> wasmtime::Result<Option<Result<types::Answer, types::Failure>>> {
                let Some(hook) = &self.handler else { return Ok(None) };
                let guest: handler::Guest = hook.load(&mut *store, instance)?;
                let result = guest.call_handle(store, &context.into(), &request).await?;
                Ok(Some(result.map(Into::into).map_err(Into::into)))
            }
        }
    };
}

pub(super) use exports;
