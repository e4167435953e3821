//! One exported function of a component.
//!
//! wasmtime compares a function's types with ours each time that it is looked up in an
//! instance: a fifth of a call of a reused instance. Types belong to the component and not to
//! the instance, so they are compared in the first instance that a plugin has, and never again.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};

use wasmtime::Store;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, Instance, InstancePre, Lift, Lower, TypedFunc,
};

use crate::state::State;

/// What goes into a hook and what comes out.
pub(super) trait Signature {
    type Params<'a>: ComponentNamedList + Lower + Send + Sync;
    type Results: ComponentNamedList + Lift + Send + Sync + 'static;
}

/// A function that a component exports, found once at load.
pub(super) struct Hook<S> {
    interface: String,
    function: &'static str,
    index: ComponentExportIndex,
    /// Whether an instance of this component has been found to have the types of `S`.
    is_checked: AtomicBool,
    signature: PhantomData<fn(S)>,
}

impl<S: Signature> Hook<S> {
    /// # Errors
    /// The interface is not exported, or has no such function.
    pub(super) fn find(
        pre: &InstancePre<State>,
        interface: &str,
        function: &'static str,
    ) -> wasmtime::Result<Self> {
        let component = pre.component();
        let outer = component.get_export_index(None, interface);
        let index = outer.and_then(|outer| component.get_export_index(Some(&outer), function));
        let index = index.ok_or_else(|| {
            wasmtime::Error::msg(format!("instance export `{interface}` does not have export `{function}`"))
        })?;
        Ok(Self {
            interface: interface.to_owned(),
            function,
            index,
            is_checked: AtomicBool::new(false),
            signature: PhantomData,
        })
    }

    /// The function in an instance of the component that it was found in.
    ///
    /// # Errors
    /// It has other types.
    #[allow(unsafe_code, reason = "the types have been compared in another instance")]
    pub(super) fn typed(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<TypedFunc<S::Params<'_>, S::Results>> {
        if !self.is_checked.load(Ordering::Relaxed) {
            let typed = instance.get_typed_func(&mut *store, self.index).map_err(|error| {
                error.context(format!("`{}` of `{}` has another type", self.function, self.interface))
            })?;
            self.is_checked.store(true, Ordering::Relaxed);
            return Ok(typed);
        }
        let function = instance.get_func(&mut *store, self.index);
        let function = function.ok_or_else(|| wasmtime::Error::msg("an export is gone"))?;
        // SAFETY: the same function had exactly these types in another instance of this
        // component: a lookup by an index of another component finds nothing, and both lookups
        // name their types by `S`. Which types a function has, those of resources included, is
        // part of the component and of the linker's imports, which `InstancePre` fixes for all
        // instances; resources of the component's own would have failed the comparison.
        Ok(unsafe { TypedFunc::new_unchecked(function) })
    }
}
