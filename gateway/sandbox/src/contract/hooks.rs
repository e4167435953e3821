//! What we call of a component, whichever version of the contract it speaks.

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use super::hook::{Hook, Signature};
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

/// A hook, if the component exports its interface.
pub(super) fn exported<S: Signature>(
    pre: &InstancePre<State>,
    names: &[String],
    interface: &str,
    function: &'static str,
) -> Result<Option<Hook<S>>, LoadError> {
    let Some(name) = names.iter().find(|name| super::interface_of(name) == Some(interface)) else {
        return Ok(None);
    };
    Hook::find(pre, name, function).map(Some).map_err(|error| {
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

        use super::hook::{Hook, Signature};
        use super::hooks::{Results, exported};
        use crate::bindings::exports::sluice::plugin::preprocess::Prepared;
        use crate::bindings::sluice::plugin::types;
        use crate::bindings::$version::exports::sluice::plugin::{handler, postprocess, preprocess};
        use crate::error::LoadError;
        use crate::state::State;

        struct Init;

        impl Signature for Init {
            type Params<'a> = (&'a str,);
            type Results = (Result<(), String>,);
        }

        struct Preprocess;

        impl Signature for Preprocess {
            type Params<'a> = (&'a [preprocess::Item],);
            type Results = (Vec<Result<preprocess::Prepared, preprocess::Failure>>,);
        }

        struct Postprocess;

        impl Signature for Postprocess {
            type Params<'a> = (&'a [postprocess::Item],);
            type Results = (Vec<Result<postprocess::Answer, postprocess::Failure>>,);
        }

        struct Handle;

        impl Signature for Handle {
            type Params<'a> = (&'a handler::Context, &'a handler::Request);
            type Results = (Result<handler::Answer, handler::Failure>,);
        }

        pub(crate) struct Exports {
            init: Option<Hook<Init>>,
            preprocess: Option<Hook<Preprocess>>,
            postprocess: Option<Hook<Postprocess>>,
            handle: Option<Hook<Handle>>,
        }

        impl Exports {
            pub(super) fn find(pre: &InstancePre<State>, names: &[String]) -> Result<Self, LoadError> {
                Ok(Self {
                    init: exported(pre, names, "lifecycle", "init")?,
                    preprocess: exported(pre, names, "preprocess", "process")?,
                    postprocess: exported(pre, names, "postprocess", "process")?,
                    handle: exported(pre, names, "handler", "handle")?,
                })
            }

            pub(super) fn check(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
            ) -> wasmtime::Result<()> {
                if let Some(hook) = &self.preprocess {
                    hook.typed(store, instance)?;
                }
                if let Some(hook) = &self.postprocess {
                    hook.typed(store, instance)?;
                }
                if let Some(hook) = &self.handle {
                    hook.typed(store, instance)?;
                }
                Ok(())
            }

            pub(super) async fn init(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                config: &str,
            ) -> wasmtime::Result<Option<Result<(), String>>> {
                let Some(hook) = &self.init else { return Ok(None) };
                let (result,) = hook.typed(store, instance)?.call_async(store, (config,)).await?;
                Ok(Some(result))
            }

            pub(super) async fn preprocess(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                context: types::Context,
                request: types::Request,
            ) -> wasmtime::Result<Option<Results<Prepared>>> {
                let Some(hook) = &self.preprocess else { return Ok(None) };
                let items = [preprocess::Item { context: context.into(), request }];
                let (results,) = hook.typed(store, instance)?.call_async(store, (&items,)).await?;
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
                let items = [postprocess::Item { context: context.into(), carry, outputs }];
                let (results,) = hook.typed(store, instance)?.call_async(store, (&items,)).await?;
                Ok(Some(results.into_iter().map(|one| one.map(Into::into).map_err(Into::into)).collect()))
            }

            pub(super) async fn handle(
                &self,
                store: &mut Store<State>,
                instance: &Instance,
                context: types::Context,
                request: types::Request,
            ) -> wasmtime::Result<Option<Result<types::Answer, types::Failure>>> {
                let Some(hook) = &self.handle else { return Ok(None) };
                let params = (&context.into(), &request);
                let (result,) = hook.typed(store, instance)?.call_async(store, params).await?;
                Ok(Some(result.map(Into::into).map_err(Into::into)))
            }
        }
    };
}

pub(super) use exports;
