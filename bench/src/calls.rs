//! One call of a plugin against the same function called natively, nothing else
//! running.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_sandbox::{
    CallContext, Grants, HttpBody, LogLevel, LogSink, PluginLimits, PluginOptions, Request, Sandbox,
    SandboxConfig, WasiPolicy,
};
use tokio::time::Instant;

use crate::workload::{self, Workload};

/// Calls that are timed for each way.
const CALLS: u32 = 20_000;

struct Silent;

impl LogSink for Silent {
    fn log(&self, _: &str, _: &str, _: LogLevel, _: &str, _: &str) {}
}

/// What one call costs, in microseconds: the median of all calls.
pub struct CallCost {
    /// The pipeline whose bodies were sent.
    pub workload: &'static str,
    /// The function in the process.
    pub native: f64,
    /// The plugin, an instance that is reused.
    pub warm: f64,
    /// The plugin, a fresh instance.
    pub fresh: f64,
}

/// Times the preprocessor on a workload's bodies.
///
/// # Errors
/// The plugin is not there or fails.
pub async fn measure(workload: &Workload) -> Result<CallCost, String> {
    let natives = crate::native::stand_ins()?;
    let native = natives.get("hash-mlp").ok_or("no stand-in")?;
    let path = workload::repository().join("guest-examples/dist/feature_hash.wasm");
    let component = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let config = SandboxConfig { compile_in_process: true, ..SandboxConfig::default() };
    let sandbox = Sandbox::new(config).map_err(|error| error.to_string())?;
    let load = |reuse| {
        let options = PluginOptions {
            name: "hash".into(),
            config_json: r#"{"mode": "mlp"}"#.to_owned(),
            reuse,
            wasi: WasiPolicy::Refuse,
            limits: PluginLimits::default(),
            grants: Grants::default(),
            log: Arc::new(Silent),
        };
        sandbox.load(&component, options).map_err(|error| error.to_string())
    };
    let (fresh, warm) = (load(1)?, load(u32::MAX)?);
    Ok(CallCost {
        workload: workload.name,
        native: median(workload, async |call, request| native.preprocess(call, request).await.is_ok())
            .await?,
        warm: median(workload, async |call, request| warm.preprocess(call, request).await.is_ok()).await?,
        fresh: median(workload, async |call, request| fresh.preprocess(call, request).await.is_ok()).await?,
    })
}

async fn median(
    workload: &Workload,
    call: impl AsyncFn(CallContext, Request) -> bool,
) -> Result<f64, String> {
    let mut took = Vec::new();
    for body in workload.bodies.iter().cycle().take(CALLS as usize) {
        let context = CallContext {
            request_id: "bench".into(),
            pipeline: workload.name.into(),
            plugin_version: Arc::default(),
            routing_key: None,
            priority: 0,
            tenant: None,
            parameters: std::sync::Arc::default(),
            route: None,
            deadline: Instant::now() + Duration::from_secs(10),
            span: tracing::Span::none(),
        };
        let request = Request::Body(HttpBody { content_type: None, data: Bytes::clone(body) });
        let started = Instant::now();
        if !call(context, request).await {
            return Err("a call failed".to_owned());
        }
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1e6)
}
