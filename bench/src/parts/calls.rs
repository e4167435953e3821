//! One call of a plugin against the same function called natively, nothing else
//! running.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluice_sandbox::{
    CallContext, CallError, Grants, HttpBody, LogLevel, LogSink, PluginLimits, PluginOptions, Request,
    Sandbox, SandboxConfig, WasiPolicy,
};
use tokio::time::Instant;

use crate::bars::{Bar, Section};
use crate::workload::{self, Workload};

/// Calls that are timed for each way.
const CALLS: u32 = 20_000;

/// How long one call may take: a machine with other work may stop for a while.
const PATIENCE: Duration = Duration::from_secs(10);

struct Silent;

impl LogSink for Silent {
    fn log(&self, _: &str, _: &str, _: LogLevel, _: &str, _: &str) {}
}

/// What one call costs, in microseconds: the median of all calls.
struct CallCost {
    /// The function in the process.
    native: f64,
    /// The plugin, an instance that is reused.
    warm: f64,
    /// The plugin, a fresh instance.
    fresh: f64,
}

/// The pipelines whose bodies are given to the preprocessor.
const PIPELINES: [&str; 2] = ["score", "rank"];

/// Times the preprocessor of each.
///
/// # Errors
/// The plugin is not there or fails.
pub async fn measure() -> Result<Section, String> {
    let mut section = Section::default();
    section.text.push_str(
        "## One call\n\n| one preprocessor call, nothing else running | native | reused instance | of native | fresh instance |\n\
         |---|---|---|---|---|\n",
    );
    for name in PIPELINES {
        let CallCost { native, warm, fresh } = cost(&workload::read(name)?).await?;
        let ratio = warm / native;
        // Writing to a string cannot fail.
        let _ = writeln!(
            section.text,
            "| `{name}` | {native:.1} µs | {warm:.1} µs | {ratio:.2} | {fresh:.1} µs |"
        );
        if name == "score" {
            section.bars.push(Bar::at_most(
                "one guest call of `score`, reused instance, of native",
                ratio,
                2.2,
            ));
            section
                .bars
                .push(Bar::at_most("one guest call of `score`, fresh instance", fresh, 18.0).in_unit("µs"));
        }
    }
    Ok(section)
}

/// Times the preprocessor on a workload's bodies.
async fn cost(workload: &Workload) -> Result<CallCost, String> {
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
            limits: PluginLimits { call_timeout: PATIENCE, ..PluginLimits::default() },
            grants: Grants::default(),
            log: Arc::new(Silent),
        };
        sandbox.load(&component, options).map_err(|error| error.to_string())
    };
    let (fresh, warm) = (load(1)?, load(u32::MAX)?);
    Ok(CallCost {
        native: median(workload, async |call, request| native.preprocess(call, request).await.map(drop))
            .await?,
        warm: median(workload, async |call, request| warm.preprocess(call, request).await.map(drop)).await?,
        fresh: median(workload, async |call, request| fresh.preprocess(call, request).await.map(drop))
            .await?,
    })
}

async fn median(
    workload: &Workload,
    call: impl AsyncFn(CallContext, Request) -> Result<(), CallError>,
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
            deadline: Instant::now() + PATIENCE,
            span: tracing::Span::none(),
        };
        let request = Request::Body(HttpBody { content_type: None, data: Bytes::clone(body) });
        let started = Instant::now();
        call(context, request).await.map_err(|error| format!("a call failed: {error}"))?;
        took.push(started.elapsed());
    }
    took.sort_unstable();
    Ok(took[took.len() / 2].as_secs_f64() * 1e6)
}
