//! The models that a pipeline plugin meets during a case.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use sluice_sandbox::{CallContext, Inference, InferenceError};
use sluice_tensor::{NamedTensor, Signature};

use super::Case;

/// Answers with what the case says, whatever it is asked; models that the case does not
/// name are the real ones, if there are any.
#[derive(Default)]
pub struct CaseModels {
    real: Option<Arc<dyn Inference>>,
    /// None once the cases were run: real requests pay nothing but a look.
    fake: ArcSwapOption<BTreeMap<String, Vec<NamedTensor>>>,
}

impl CaseModels {
    /// With these models behind the cases'.
    pub fn new(real: Option<Arc<dyn Inference>>) -> Self {
        Self { real, fake: ArcSwapOption::empty() }
    }

    /// Answers for this case from now on. Cases run one after the other.
    pub fn serve(&self, case: &Case) {
        self.fake.store(Some(Arc::new(case.models.clone())));
    }

    /// Answers for no case any more.
    pub fn stand_aside(&self) {
        self.fake.store(None);
    }

    /// Whether there are models behind the cases'.
    pub fn has_real(&self) -> bool {
        self.real.is_some()
    }

    fn fake(&self, model: &str) -> Option<Vec<NamedTensor>> {
        self.fake.load().as_ref()?.get(model).cloned()
    }
}

#[async_trait]
impl Inference for CaseModels {
    /// What a case answers for takes whatever it is given.
    fn signature(&self, model: &str) -> Option<Signature> {
        match (self.fake(model), &self.real) {
            (Some(_), _) => Some(Signature::default()),
            (None, Some(real)) => real.signature(model),
            (None, None) => None,
        }
    }

    fn model_of_file(&self, sha256: &str) -> Option<Arc<str>> {
        self.real.as_ref()?.model_of_file(sha256)
    }

    async fn infer(
        &self,
        call: &CallContext,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError> {
        match (self.fake(model), &self.real) {
            (Some(outputs), _) => Ok(outputs),
            (None, Some(real)) => real.infer(call, model, inputs).await,
            (None, None) => Err(InferenceError::NotFound(model.to_owned())),
        }
    }
}
