//! A sandbox, options and calls for the tests.

use std::future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{
    Answer, CallContext, CallError, Grants, HttpBody, Inference, InferenceError, KeyPage, KeyValue,
    KeyValueError, LogLevel, LogSink, Plugin, PluginLimits, PluginOptions, Request, Sandbox, SandboxConfig,
    WasiPolicy,
};
use sluice_tensor::{NamedTensor, Signature};
use tokio::time::Instant;

/// The budget of a call in tests: long enough for a slow machine.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_millis(200);

#[derive(Default)]
pub(crate) struct Lines(pub(crate) Mutex<Vec<String>>);

impl LogSink for Lines {
    fn log(&self, plugin: &str, request_id: &str, level: LogLevel, context: &str, message: &str) {
        self.0.lock().unwrap().push(format!("{plugin}/{request_id} {level:?} {context}: {message}"));
    }
}

impl Lines {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

pub(crate) fn config() -> SandboxConfig {
    SandboxConfig {
        guest_threads: 2,
        instances_max: 20,
        compile_in_process: true,
        ..SandboxConfig::default()
    }
}

pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(config()).unwrap()
}

pub(crate) fn options() -> PluginOptions {
    PluginOptions {
        name: "guest".into(),
        config_json: "{}".to_owned(),
        reuse: 1,
        wasi: WasiPolicy::Refuse,
        limits: PluginLimits {
            memory_bytes: 16 << 20,
            call_timeout: CALL_TIMEOUT,
            init_timeout: CALL_TIMEOUT,
            concurrency: 4,
            ..PluginLimits::default()
        },
        grants: Grants::default(),
        log: Arc::new(Lines::default()),
    }
}

/// Loads a guest into a sandbox of its own.
pub(crate) fn load(component: &[u8]) -> Plugin {
    sandbox().load(component, options()).unwrap()
}

pub(crate) fn context() -> CallContext {
    context_within(Duration::from_secs(20))
}

pub(crate) fn context_within(time: Duration) -> CallContext {
    CallContext {
        request_id: "req-1".into(),
        pipeline: "test".into(),
        plugin_version: "file".into(),
        routing_key: None,
        priority: 0,
        tenant: None,
        parameters: std::sync::Arc::default(),
        route: None,
        deadline: Instant::now() + time,
        span: tracing::Span::none(),
    }
}

/// A model that answers with its inputs, when what this makes for each call is done.
pub(crate) struct Echo<F>(pub(crate) F);

#[async_trait]
impl<F, W> Inference for Echo<F>
where
    F: Fn() -> W + Send + Sync,
    W: Future<Output = ()> + Send,
{
    fn signature(&self, _: &str) -> Option<Signature> {
        Some(Signature::default())
    }

    async fn infer(
        &self,
        _: &CallContext,
        _: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError> {
        (self.0)().await;
        Ok(inputs)
    }
}

pub(crate) fn body(text: impl Into<Bytes>) -> Request {
    Request::Body(HttpBody { content_type: Some("text/plain".to_owned()), data: text.into() })
}

/// Calls a pipeline plugin with a body and gives the answer's bytes.
pub(crate) async fn ask(plugin: &Plugin, text: &'static str) -> Result<Bytes, CallError> {
    match plugin.handle(context(), body(text)).await? {
        Answer::Body(answer) => Ok(answer.data),
        Answer::Tensors(_) => panic!("a body was expected"),
    }
}

/// Calls a pipeline plugin that must fail.
pub(crate) async fn fault(plugin: &Plugin) -> CallError {
    ask(plugin, "x").await.expect_err("the guest must fail")
}

/// A component that is built from `tests/guests`.
pub(crate) fn dist(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests/dist");
    std::fs::read(folder.join(format!("{name}.wasm"))).expect("scripts/build-guests.sh builds it")
}

/// A store that never answers.
pub(crate) struct Hanging;

#[async_trait]
impl KeyValue for Hanging {
    async fn get(&self, _: &str) -> Result<Option<Bytes>, KeyValueError> {
        future::pending().await
    }
    async fn set(&self, _: &str, _: Bytes) -> Result<(), KeyValueError> {
        future::pending().await
    }
    async fn delete(&self, _: &str) -> Result<(), KeyValueError> {
        future::pending().await
    }
    async fn exists(&self, _: &str) -> Result<bool, KeyValueError> {
        future::pending().await
    }
    async fn list_keys(&self, _: Option<u64>) -> Result<KeyPage, KeyValueError> {
        future::pending().await
    }
    async fn increment(&self, _: &str, _: u64) -> Result<u64, KeyValueError> {
        future::pending().await
    }
}
