//! The macros that make a component of a plugin.

/// Makes a type that implements [`Preprocessor`](crate::Preprocessor) the component's plugin. Once a crate.
#[macro_export]
macro_rules! export_preprocessor {
    ($plugin:ty) => {
        $crate::__export!(Preprocessor, PreprocessorExport, $plugin, [lifecycle, preprocess]);
    };
}

/// Makes a type that implements [`Postprocessor`](crate::Postprocessor) the component's plugin. Once a crate.
#[macro_export]
macro_rules! export_postprocessor {
    ($plugin:ty) => {
        $crate::__export!(Postprocessor, PostprocessorExport, $plugin, [lifecycle, postprocess]);
    };
}

/// Makes a type that implements [`Transformer`](crate::Transformer) the component's plugin. Once a crate.
#[macro_export]
macro_rules! export_transformer {
    ($plugin:ty) => {
        $crate::__export!(Transformer, TransformerExport, $plugin, [lifecycle, preprocess, postprocess]);
    };
}

/// Makes a type that implements [`Pipeline`](crate::Pipeline) the component's plugin. Once a crate.
#[macro_export]
macro_rules! export_pipeline {
    ($plugin:ty) => {
        $crate::__export!(Pipeline, PipelineExport, $plugin, [lifecycle, handler]);
    };
}

/// In the sandbox: a place for the one instance, and the interfaces' exports. Elsewhere
/// there is nothing to export, but the type is still checked.
#[doc(hidden)]
#[macro_export]
macro_rules! __export {
    ($trait:ident, $glue:ident, $plugin:ty, [$($interface:ident),+]) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            impl $crate::wasm::Slot for $plugin {
                fn with<R>(run: impl FnOnce(&mut Option<Self>) -> R) -> R {
                    ::std::thread_local! {
                        static SLOT: ::std::cell::RefCell<Option<$plugin>> =
                            const { ::std::cell::RefCell::new(None) };
                    }
                    SLOT.with_borrow_mut(run)
                }
            }
            type Export = $crate::wasm::$glue<$plugin>;
            $($crate::wasm::bindings::$interface::export!(
                Export with_types_in $crate::wasm::bindings::$interface
            );)+
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_a_plugin<T: $crate::$trait>() {}
            is_a_plugin::<$plugin>();
        };
    };
}
