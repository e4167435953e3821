//! Models that are functions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use crate::inference::Error;
use crate::{Inputs, Tensors};

type Model = Rc<dyn Fn(Inputs) -> Result<Tensors, Error>>;

thread_local! {
    static MODELS: RefCell<HashMap<String, Model>> = RefCell::default();
    static SUBMITTED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Gives this thread a model for [`inference`](crate::inference).
pub fn set_model(name: &str, model: impl Fn(Inputs) -> Result<Tensors, Error> + 'static) {
    MODELS.with_borrow_mut(|models| models.insert(name.to_owned(), Rc::new(model)));
}

/// The models that were submitted on this thread and not yet waited for when asked,
/// in the order of submission.
pub fn submitted_models() -> Vec<String> {
    SUBMITTED.with_borrow(Clone::clone)
}

/// Runs when it is waited for, so that a test sees what was submitted before.
#[derive(Debug)]
pub(crate) struct Pending {
    model: String,
    inputs: Inputs,
}

impl Pending {
    pub(crate) fn wait(self) -> Result<Tensors, Error> {
        SUBMITTED.with_borrow_mut(|submitted| {
            if let Some(at) = submitted.iter().position(|name| *name == self.model) {
                submitted.remove(at);
            }
        });
        infer(&self.model, self.inputs)
    }
}

pub(crate) fn infer(model: &str, inputs: Inputs) -> Result<Tensors, Error> {
    find(model)?(inputs)
}

pub(crate) fn submit(model: &str, inputs: Inputs) -> Result<Pending, Error> {
    find(model)?;
    SUBMITTED.with_borrow_mut(|submitted| submitted.push(model.to_owned()));
    Ok(Pending { model: model.to_owned(), inputs })
}

fn find(model: &str) -> Result<Model, Error> {
    let found = MODELS.with_borrow(|models| models.get(model).cloned());
    found.ok_or_else(|| Error::NotFound(model.to_owned()))
}
