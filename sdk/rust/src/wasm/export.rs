//! What the host calls, in terms of the traits. The contract's hooks take lists;
//! here they become one call per item, and a refusal costs only its own.

use std::marker::PhantomData;
use std::panic;

use super::bindings::handler::exports::sluice::plugin::handler;
use super::bindings::lifecycle::exports::sluice::plugin::lifecycle;
use super::bindings::platform::sluice::plugin::types::{self, Failure};
use super::bindings::postprocess::exports::sluice::plugin::postprocess;
use super::bindings::preprocess::exports::sluice::plugin::preprocess;
use super::convert;
use crate::log::{self, Level};
use crate::{Carry, Config, Error, Pipeline, Postprocessor, Prepared, Preprocessor, Transformer};

/// Where a plugin's one instance lives; the export macros implement it.
pub trait Slot: Sized + 'static {
    /// Runs with the place, which is empty until `init`.
    fn with<R>(run: impl FnOnce(&mut Option<Self>) -> R) -> R;
}

fn init<P: Slot>(make: impl FnOnce(Config) -> Result<P, String>, config: String) -> Result<(), String> {
    // Without it a panic is a bare `unreachable` to the operator.
    panic::set_hook(Box::new(|info| log::write(Level::Critical, &info.to_string())));
    let plugin = make(Config::from_json(config))?;
    P::with(|slot| *slot = Some(plugin));
    Ok(())
}

fn call<P: Slot, R>(hook: impl FnOnce(&mut P) -> Result<R, Error>) -> Result<R, Failure> {
    P::with(|slot| match slot {
        Some(plugin) => hook(plugin).map_err(Failure::from),
        None => Err(Error::internal("the plugin was called before its init").into()),
    })
}

macro_rules! plugin {
    ($trait:ident, $glue:ident) => {
        /// A plugin as the contract sees it.
        #[doc(hidden)]
        #[expect(missing_debug_implementations, reason = "never a value")]
        pub struct $glue<P>(PhantomData<P>);

        impl<P: $trait + Slot> lifecycle::Guest for $glue<P> {
            fn init(config: String) -> Result<(), String> {
                init::<P>(<P as $trait>::init, config)
            }
        }
    };
}

macro_rules! before_the_model {
    ($trait:ident, $glue:ident) => {
        impl<P: $trait + Slot> preprocess::Guest for $glue<P> {
            fn process(items: Vec<preprocess::Item>) -> Vec<Result<preprocess::Prepared, Failure>> {
                let one = |item: preprocess::Item| {
                    let request = convert::request(item.context, item.request);
                    call(|plugin: &mut P| plugin.preprocess(request)).map(prepared)
                };
                items.into_iter().map(one).collect()
            }
        }
    };
}

fn prepared(prepared: Prepared) -> preprocess::Prepared {
    match prepared {
        Prepared::Run { inputs, carry } => {
            preprocess::Prepared::Run(preprocess::ModelInputs { inputs: convert::inputs(inputs), carry })
        }
        Prepared::Answer(answer) => preprocess::Prepared::Answer(answer.into()),
    }
}

macro_rules! after_the_model {
    ($trait:ident, $glue:ident) => {
        impl<P: $trait + Slot> postprocess::Guest for $glue<P> {
            fn process(items: Vec<postprocess::Item>) -> Vec<Result<types::Answer, Failure>> {
                let one = |item: postprocess::Item| {
                    let (context, carry) = (item.context.into(), Carry::new(item.carry));
                    let outputs = convert::received(item.outputs);
                    call(|plugin: &mut P| plugin.postprocess(&context, carry, outputs))
                        .map(types::Answer::from)
                };
                items.into_iter().map(one).collect()
            }
        }
    };
}

plugin!(Preprocessor, PreprocessorExport);
before_the_model!(Preprocessor, PreprocessorExport);
plugin!(Postprocessor, PostprocessorExport);
after_the_model!(Postprocessor, PostprocessorExport);
plugin!(Transformer, TransformerExport);
before_the_model!(Transformer, TransformerExport);
after_the_model!(Transformer, TransformerExport);
plugin!(Pipeline, PipelineExport);

impl<P: Pipeline + Slot> handler::Guest for PipelineExport<P> {
    fn handle(context: types::Context, request: types::Request) -> Result<types::Answer, Failure> {
        let request = convert::request(context, request);
        call(|plugin: &mut P| plugin.handle(request)).map(types::Answer::from)
    }
}
