//! The plugins' functions, compiled into the process: what the sandbox costs is what
//! they are faster by.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use sluice::catalog::Overrides;
use sluice::pipeline::{Hook, HookResult};
use sluice_sandbox::{Answer, CallContext, CallError, Failure, HttpAnswer, Prepared, Request};
use sluice_sdk::{
    Carry, Config, Context, HostTensor, Payload, Postprocessor, Preprocessor, TensorValue, Tensors,
};
use sluice_tensor::{DType, NamedTensor, Shape, SparseRows, Tensor};

#[path = "../../guest-examples/feature-hash/src/lib.rs"]
mod feature_hash;
#[path = "../../guest-examples/rank-topk/src/lib.rs"]
mod rank_topk;

pub use feature_hash::FeatureHash;
pub use rank_topk::RankTopK;

/// Stand-ins for the plugins of `config/bench.toml`.
///
/// # Errors
/// A plugin refuses its config.
pub fn stand_ins() -> Result<Overrides, String> {
    let pre = |name, mode: &str| Pre::new(name, format!(r#"{{"mode": "{mode}"}}"#));
    let hooks: [(&str, Arc<dyn Hook>); 3] = [
        ("hash-mlp", Arc::new(pre("hash-mlp", "mlp")?)),
        ("hash-dlrm", Arc::new(pre("hash-dlrm", "dlrm")?)),
        ("top-k", Arc::new(Post { idle: Mutex::default() })),
    ];
    Ok(hooks.into_iter().map(|(name, hook)| (name.into(), hook)).collect())
}

struct Pre {
    name: &'static str,
    config: String,
    idle: Mutex<Vec<FeatureHash>>,
}

struct Post {
    idle: Mutex<Vec<RankTopK>>,
}

fn internal(what: impl ToString) -> CallError {
    CallError::Internal(what.to_string())
}

/// Takes an idle plugin, or makes one, and puts it back afterwards.
fn with<P, T>(
    idle: &Mutex<Vec<P>>,
    make: impl FnOnce() -> Result<P, String>,
    call: impl FnOnce(&mut P) -> T,
) -> HookResult<T> {
    let found = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut plugin = found.map_or_else(make, Ok).map_err(internal)?;
    let answer = call(&mut plugin);
    idle.lock().unwrap_or_else(PoisonError::into_inner).push(plugin);
    Ok(answer)
}

impl Pre {
    fn new(name: &'static str, config: String) -> Result<Self, String> {
        let first = FeatureHash::init(Config::from_json(config.as_str()))?;
        Ok(Self { name, config, idle: Mutex::new(vec![first]) })
    }
}

fn failure(error: sluice_sdk::Error) -> CallError {
    let (status, message) = error.into_parts();
    CallError::Failure(Failure { status, message, retry_after_seconds: None })
}

fn unused<T>() -> HookResult<T> {
    Err(internal("this stand-in has no such hook"))
}

#[async_trait]
impl Hook for Pre {
    fn name(&self) -> &str {
        self.name
    }

    async fn preprocess(&self, call: CallContext, request: Request) -> HookResult<Prepared> {
        let Request::Body(body) = request else { return unused() };
        let context = to_context(&call);
        let body = sluice_sdk::Body { content_type: body.content_type, data: body.data.into() };
        let request = sluice_sdk::Request { context, payload: Payload::Body(body) };
        let make = || FeatureHash::init(Config::from_json(self.config.as_str()));
        match with(&self.idle, make, |plugin| plugin.preprocess(request))?.map_err(failure)? {
            sluice_sdk::Prepared::Answer(answer) => Ok(Prepared::Answer(to_answer(answer)?)),
            sluice_sdk::Prepared::Run { inputs, carry } => {
                let inputs = inputs
                    .into_vec()
                    .into_iter()
                    .map(|(name, tensor)| Ok(NamedTensor { name: name.into(), tensor: to_tensor(tensor)? }));
                Ok(Prepared::Run { inputs: inputs.collect::<HookResult<_>>()?, carry: carry.into() })
            }
        }
    }

    async fn postprocess(&self, _: CallContext, _: Bytes, _: Vec<NamedTensor>) -> HookResult<Answer> {
        unused()
    }

    async fn handle(&self, _: CallContext, _: Request) -> HookResult<Answer> {
        unused()
    }
}

#[async_trait]
impl Hook for Post {
    fn name(&self) -> &str {
        "top-k"
    }

    async fn preprocess(&self, _: CallContext, _: Request) -> HookResult<Prepared> {
        unused()
    }

    async fn postprocess(
        &self,
        call: CallContext,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> HookResult<Answer> {
        let context = to_context(&call);
        let outputs = outputs.into_iter().map(|output| (output.name.to_string(), to_host(&output.tensor)));
        let outputs = Tensors::new(outputs);
        let make = || RankTopK::init(Config::from_json("{}"));
        let answer =
            with(&self.idle, make, |plugin| plugin.postprocess(&context, Carry::new(carry), outputs))?;
        to_answer(answer.map_err(failure)?)
    }

    async fn handle(&self, _: CallContext, _: Request) -> HookResult<Answer> {
        unused()
    }
}

fn to_context(call: &CallContext) -> Context {
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
    Context {
        request_id: call.request_id.to_string(),
        pipeline: call.pipeline.to_string(),
        plugin_version: call.plugin_version.to_string(),
        time_left: call.deadline.saturating_duration_since(tokio::time::Instant::now()),
        routing_key: text(&call.routing_key),
        tenant: text(&call.tenant),
        ..Context::default()
    }
}

fn to_answer(answer: sluice_sdk::Answer) -> HookResult<Answer> {
    match answer {
        sluice_sdk::Answer::Body(body) => Ok(Answer::Body(HttpAnswer {
            status: body.status,
            content_type: body.content_type,
            data: body.data.into(),
        })),
        sluice_sdk::Answer::Tensors(_) | sluice_sdk::Answer::Sent => unused(),
    }
}

fn to_tensor(tensor: sluice_sdk::Tensor) -> HookResult<Tensor> {
    match tensor {
        sluice_sdk::Tensor::Sparse(rows) => {
            let columns = usize::try_from(rows.columns).map_err(internal)?;
            let shared = (rows.shared_columns, rows.shared_values);
            let own = (rows.own_columns, rows.own_values);
            let rows = SparseRows::new(columns, shared, rows.row_offsets, own).map_err(internal)?;
            Tensor::sparse(rows).map_err(internal)
        }
        sluice_sdk::Tensor::Value(TensorValue { dtype, shape, data }) => {
            let dims =
                shape.into_iter().map(usize::try_from).collect::<Result<Vec<_>, _>>().map_err(internal)?;
            let shape = Shape::new(&dims).map_err(internal)?;
            Tensor::dense(to_dtype(dtype)?, shape, data.into()).map_err(internal)
        }
        sluice_sdk::Tensor::Handle(_) => unused(),
    }
}

fn to_dtype(dtype: sluice_sdk::DType) -> HookResult<DType> {
    match dtype {
        sluice_sdk::DType::Fp32 => Ok(DType::F32),
        sluice_sdk::DType::Int64 => Ok(DType::I64),
        other => Err(internal(format!("{other:?} is not in this workload"))),
    }
}

fn to_host(tensor: &Tensor) -> HostTensor {
    let shape = tensor.shape().dims().iter().map(|dim| u32::try_from(*dim).unwrap_or(u32::MAX)).collect();
    HostTensor::from_shared(sluice_sdk::DType::Fp32, shape, Arc::new(tensor.to_dense()))
}
