//! How a plugin calls models: through the same queues as everybody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use sluice_sandbox::{CallContext, Inference, InferenceError};
use sluice_tensor::{NamedTensor, Signature};

use super::model::Model;
use crate::error::Kind;
use crate::pipeline::{Call, check};

/// The models that one plugin may call.
pub(super) struct GrantedModels(pub(super) BTreeMap<Arc<str>, Arc<Model>>);

#[async_trait]
impl Inference for GrantedModels {
    fn signature(&self, model: &str) -> Option<Signature> {
        self.0.get(model).map(|model| model.signature().clone())
    }

    fn model_of_file(&self, sha256: &str) -> Option<Arc<str>> {
        self.0.iter().find(|(_, model)| model.digest() == sha256).map(|(name, _)| Arc::clone(name))
    }

    async fn infer(
        &self,
        call: &CallContext,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError> {
        let model = self.0.get(model).ok_or_else(|| InferenceError::NotFound(model.to_owned()))?;
        let rows =
            check(model, inputs).map_err(|error| InferenceError::InvalidInput(error.message().to_owned()))?;
        model.infer(rows, &Call::of_plugin(call)).await.map_err(|error| match error.kind() {
            Kind::QueueFull | Kind::Overloaded | Kind::Draining | Kind::ModelUnavailable => {
                InferenceError::Overloaded
            }
            Kind::Deadline => InferenceError::Deadline,
            Kind::BadShape => InferenceError::InvalidInput(error.message().to_owned()),
            _ => InferenceError::Failed(error.message().to_owned()),
        })
    }
}
