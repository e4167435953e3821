//! [`ConfigFile`] to [`Config`]: defaults, ranges and references. All problems are
//! collected; the configuration is only worth anything if there were none.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::checker::{At, Checker};
use super::defaults as d;
use super::file::{
    ConfigFile, EngineFile, LimitsFile, ModelFile, PipelineFile, PluginFile, SandboxFile, ServerFile,
    StoreFile, TelemetryFile,
};
use super::problem::Problem;
use super::read::Origin;
use super::types::{
    Config, Engine, Limits, Model, Pipeline, PipelineKind, Plugin, Sandbox, Server, Store, Telemetry,
};

type Named<T> = BTreeMap<Arc<str>, T>;

pub(super) fn validate(
    source: &Path,
    file: ConfigFile,
    origin: &Origin,
    environment: &BTreeMap<String, String>,
) -> (Config, Vec<Problem>) {
    let folder = source.parent().unwrap_or_else(|| Path::new("."));
    let mut check = Checker { folder, origin, environment, problems: Vec::new() };
    let server = server(&mut check, &file.server);
    let engine = engine(&mut check, file.engine);
    let sandbox = sandbox(&mut check, file.sandbox);
    let telemetry = telemetry(&mut check, file.telemetry);
    let stores = named(&mut check, "stores", file.stores, |check, at, _, file| store(check, at, &file));
    let models = named(&mut check, "models", file.models, |check, at, name, file| {
        model(check, at, name, file, &engine)
    });
    let plugins = named(&mut check, "plugins", file.plugins, |check, at, name, file| {
        plugin(check, at, name, file, &sandbox, &stores, &models)
    });
    let limits = &server.limits;
    let mut pipelines = named(&mut check, "pipelines", file.pipelines, |check, at, name, file| {
        if models.contains_key(&name) {
            check.problem(at, "", "a model has this name too, and clients could not tell them apart");
        }
        pipeline(check, at, name, &file, limits, &models, &plugins)
    });
    let pipelines = pipelines.iter_mut().filter_map(|(name, found)| Some((name.clone(), found.take()?)));
    let pipelines = pipelines.collect();
    let source = source.to_owned();
    let problems = check.problems;
    (Config { source, server, engine, sandbox, telemetry, stores, models, plugins, pipelines }, problems)
}

/// Checks the names of a kind of entries, and each entry.
fn named<'a, F, T>(
    check: &mut Checker<'a>,
    kind: &str,
    entries: BTreeMap<String, F>,
    mut each: impl FnMut(&mut Checker<'a>, At<'_>, Arc<str>, F) -> T,
) -> Named<T> {
    if entries.len() > d::ENTRIES_MAX {
        check.problem(At(&[kind]), "", format!("has more than {} entries", d::ENTRIES_MAX));
    }
    let mut checked = Named::new();
    for (name, entry) in entries.into_iter().take(d::ENTRIES_MAX) {
        let at = At(&[kind, &name]);
        if let Err(error) = sluice_tensor::check_name(&name) {
            check.problem(at, "", error.to_string());
        }
        let name: Arc<str> = name.as_str().into();
        let value = each(check, at, name.clone(), entry);
        checked.insert(name, value);
    }
    checked
}

fn server(check: &mut Checker<'_>, file: &ServerFile) -> Server {
    let at = At(&["server"]);
    let http = file.http.unwrap_or(d::HTTP);
    let grpc = file.grpc.unwrap_or(d::GRPC);
    let admin = file.admin.unwrap_or(d::ADMIN);
    if !admin.ip().is_loopback() {
        check.problem(at, "admin", "must be a loopback address: the admin listener has no authentication");
    }
    // Port 0 lets the system choose, so two of those never meet.
    let meet = |a: std::net::SocketAddr, b: std::net::SocketAddr| {
        let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
        a.port() != 0 && a.port() == b.port() && same_ip
    };
    if meet(grpc, http) {
        check.problem(at, "grpc", format!("{grpc} is the address of http too"));
    }
    if meet(admin, http) || meet(admin, grpc) {
        check.problem(at, "admin", format!("{admin} is the address of http or grpc too"));
    }
    Server {
        http,
        grpc,
        admin,
        limits: limits(check, &file.limits),
        drain: check.millis(at, "drain_ms", file.drain_ms, d::DRAIN, &d::DRAIN_RANGE),
        drain_delay: check.millis(at, "drain_delay_ms", file.drain_delay_ms, d::DRAIN_DELAY, &d::DRAIN_RANGE),
    }
}

fn limits(check: &mut Checker<'_>, file: &LimitsFile) -> Limits {
    let at = At(&["server", "limits"]);
    let count = &d::COUNT_RANGE;
    let limits = Limits {
        body_bytes_max: check.number(
            at,
            "body_bytes_max",
            file.body_bytes_max,
            d::BODY_BYTES,
            &d::BODY_BYTES_RANGE,
        ),
        body_timeout: check.timeout(at, "body_timeout_ms", file.body_timeout_ms, d::BODY_TIMEOUT),
        header_timeout: check.timeout(at, "header_timeout_ms", file.header_timeout_ms, d::HEADER_TIMEOUT),
        header_bytes_max: check.number(
            at,
            "header_bytes_max",
            file.header_bytes_max,
            d::HEADER_BYTES,
            &d::HEADER_BYTES_RANGE,
        ),
        headers_max: check.number(at, "headers_max", file.headers_max, d::HEADERS, count),
        connections_max: check.number(at, "connections_max", file.connections_max, d::CONNECTIONS, count),
        streams_max: check.number(at, "streams_max", file.streams_max, d::STREAMS, count),
        in_flight_max: check.number(at, "in_flight_max", file.in_flight_max, d::IN_FLIGHT, count),
        in_flight_bytes_max: check.number(
            at,
            "in_flight_bytes_max",
            file.in_flight_bytes_max,
            d::IN_FLIGHT_BYTES,
            &d::IN_FLIGHT_BYTES_RANGE,
        ),
        request_timeout_default: check.timeout(
            at,
            "request_timeout_default_ms",
            file.request_timeout_default_ms,
            d::REQUEST_TIMEOUT,
        ),
        request_timeout_max: check.timeout(
            at,
            "request_timeout_max_ms",
            file.request_timeout_max_ms,
            d::REQUEST_TIMEOUT_MAX,
        ),
        json_depth_max: check.number(
            at,
            "json_depth_max",
            file.json_depth_max,
            d::JSON_DEPTH,
            &d::JSON_DEPTH_RANGE,
        ),
    };
    if limits.in_flight_bytes_max < limits.body_bytes_max {
        check.problem(at, "in_flight_bytes_max", "is below body_bytes_max: no body of that size could enter");
    }
    if limits.request_timeout_default > limits.request_timeout_max {
        check.problem(at, "request_timeout_default_ms", "is above request_timeout_max_ms");
    }
    limits
}

fn engine(check: &mut Checker<'_>, file: EngineFile) -> Engine {
    let at = At(&["engine"]);
    let library = file.onnxruntime_library.as_deref();
    Engine {
        default: file.default.unwrap_or_default(),
        onnxruntime_library: library.map(|text| check.file(at, "onnxruntime_library", Some(text), u64::MAX)),
        threads: check.number(at, "threads", file.threads, 0, &d::THREADS_RANGE),
        spinning: file.spinning.unwrap_or(false),
    }
}

fn sandbox(check: &mut Checker<'_>, file: SandboxFile) -> Sandbox {
    let at = At(&["sandbox"]);
    let instances = check.number(
        at,
        "instances_max",
        file.instances_max,
        d::SANDBOX_INSTANCES,
        &d::SANDBOX_INSTANCES_RANGE,
    );
    let memory = &d::PLUGIN_MEMORY_RANGE;
    let bytes = &d::PLUGIN_BYTES_RANGE;
    let cache_dir = match file.cache_dir.as_deref() {
        Some(text) => check.path(at, "cache_dir", text),
        None => cache_home(check.environment).map(|home| home.join("sluice").join("compiled")),
    };
    Sandbox {
        guest_threads: check.number(at, "guest_threads", file.guest_threads, 0, &d::THREADS_RANGE),
        instances_max: instances,
        memory_bytes_max: check.number(
            at,
            "memory_bytes_max",
            file.memory_bytes_max,
            d::SANDBOX_MEMORY,
            memory,
        ),
        plugin_bytes_max: check.number(at, "plugin_bytes_max", file.plugin_bytes_max, d::PLUGIN_BYTES, bytes),
        cache_dir,
        epoch_tick: check.millis(
            at,
            "epoch_tick_ms",
            file.epoch_tick_ms,
            d::EPOCH_TICK,
            &d::EPOCH_TICK_RANGE,
        ),
        strict: file.strict.unwrap_or(false),
    }
}

/// The user's cache folder, as the XDG base directory specification finds it.
fn cache_home(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

fn telemetry(check: &mut Checker<'_>, file: TelemetryFile) -> Telemetry {
    let at = At(&["telemetry"]);
    let sample_ratio = file.sample_ratio.unwrap_or(d::SAMPLE_RATIO);
    if !(0.0..=1.0).contains(&sample_ratio) {
        check.problem(at, "sample_ratio", format!("is {sample_ratio}, allowed are 0 to 1"));
    }
    if let Some(endpoint) = &file.otlp_endpoint
        && let Err(message) = crate::observe::check_endpoint(endpoint)
    {
        check.problem(at, "otlp_endpoint", message);
    }
    let log_filter = file.log_filter.unwrap_or_else(|| d::LOG_FILTER.to_owned());
    if let Err(message) = crate::observe::check_filter(&log_filter) {
        check.problem(at, "log_filter", message);
    }
    Telemetry {
        otlp_endpoint: file.otlp_endpoint,
        sample_ratio,
        service_name: file.service_name.unwrap_or_else(|| d::SERVICE_NAME.to_owned()),
        log_format: file.log_format.unwrap_or_default(),
        log_filter,
    }
}

fn store(check: &mut Checker<'_>, at: At<'_>, file: &StoreFile) -> Store {
    let bytes_max = check.number(at, "bytes_max", file.bytes_max, d::STORE_BYTES, &d::STORE_BYTES_RANGE);
    Store { file: check.file(at, "file", file.file.as_deref(), bytes_max), bytes_max }
}

fn model(check: &mut Checker<'_>, at: At<'_>, name: Arc<str>, file: ModelFile, engine: &Engine) -> Model {
    let version = file.version.unwrap_or_else(|| d::MODEL_VERSION.to_owned());
    if sluice_tensor::check_name(&version).is_err() {
        check.problem(at, "version", "is not a version: letters, digits, `_`, `.` and `-`");
    }
    let delay_max = u64::try_from(d::QUEUE_DELAY_RANGE.end().as_micros()).unwrap_or(u64::MAX);
    let delay_default = u64::try_from(d::QUEUE_DELAY.as_micros()).unwrap_or(0);
    let delay_key = "max_queue_delay_microseconds";
    let delay = file.max_queue_delay_microseconds;
    let threads_default = u64::try_from(engine.threads).unwrap_or(0);
    let rows = &d::BATCH_ROWS_RANGE;
    Model {
        version,
        file: check.file(at, "file", file.file.as_deref(), u64::MAX),
        engine: file.engine.unwrap_or(engine.default),
        instances: check.number(at, "instances", file.instances, d::INSTANCES, &d::INSTANCES_RANGE),
        threads: check.number(at, "threads", file.threads, threads_default, &d::THREADS_RANGE),
        spinning: file.spinning.unwrap_or(engine.spinning),
        max_batch_size: check.number(at, "max_batch_size", file.max_batch_size, d::BATCH_ROWS, rows),
        max_queue_delay: Duration::from_micros(check.number(
            at,
            delay_key,
            delay,
            delay_default,
            &(0..=delay_max),
        )),
        max_queue_size: check.number(
            at,
            "max_queue_size",
            file.max_queue_size,
            d::QUEUE_SIZE,
            &d::COUNT_RANGE,
        ),
        name,
    }
}

fn plugin(
    check: &mut Checker<'_>,
    at: At<'_>,
    name: Arc<str>,
    file: PluginFile,
    sandbox: &Sandbox,
    stores: &Named<Store>,
    models: &Named<Model>,
) -> Plugin {
    let memory_max = u64::try_from(sandbox.memory_bytes_max).unwrap_or(u64::MAX);
    let memory_range = *d::PLUGIN_MEMORY_RANGE.start()..=memory_max;
    let memory_default = d::PLUGIN_MEMORY.min(memory_max);
    Plugin {
        file: check.file(at, "file", file.file.as_deref(), sandbox.plugin_bytes_max),
        config: serde_json::Value::Object(file.config),
        reuse: check.number(at, "reuse", file.reuse, d::REUSE, &d::REUSE_RANGE),
        memory_bytes: check.number(at, "memory_bytes", file.memory_bytes, memory_default, &memory_range),
        call_timeout: check.timeout(at, "call_timeout_ms", file.call_timeout_ms, d::CALL_TIMEOUT),
        init_timeout: check.timeout(at, "init_timeout_ms", file.init_timeout_ms, d::INIT_TIMEOUT),
        log_bytes_per_call: check.number(
            at,
            "log_bytes_per_call",
            file.log_bytes_per_call,
            d::LOG_BYTES,
            &d::LOG_BYTES_RANGE,
        ),
        resources: check.number(at, "resources", file.resources, d::RESOURCES, &d::COUNT_RANGE),
        concurrency: check.number(at, "concurrency", file.concurrency, d::CONCURRENCY, &d::COUNT_RANGE),
        stores: check.references(at, "stores", &file.stores, "store", stores),
        models: check.references(at, "models", &file.models, "model", models),
        strict: file.strict.unwrap_or(false) || sandbox.strict,
        name,
    }
}

fn pipeline(
    check: &mut Checker<'_>,
    at: At<'_>,
    name: Arc<str>,
    file: &PipelineFile,
    limits: &Limits,
    models: &Named<Model>,
    plugins: &Named<Plugin>,
) -> Option<Pipeline> {
    let timeout = file.timeout_ms.map(|value| check.timeout(at, "timeout_ms", Some(value), Duration::ZERO));
    if timeout.is_some_and(|timeout| timeout > limits.request_timeout_max) {
        check.problem(at, "timeout_ms", "is above server.limits.request_timeout_max_ms");
    }
    let mut plugin = |key: &str, name: &Option<String>| {
        let name = name.as_deref()?;
        check.reference(at, key, name, "plugin", plugins)
    };
    let (pre, post, alone) =
        (plugin("pre", &file.pre), plugin("post", &file.post), plugin("plugin", &file.plugin));
    let kind = match (&file.model, &file.plugin) {
        (Some(model), None) => {
            let model = check.reference(at, "model", model, "model", models)?;
            PipelineKind::Staged { pre, model, post }
        }
        (None, Some(_)) => {
            if file.pre.is_some() || file.post.is_some() {
                check.problem(
                    at,
                    "plugin",
                    "stands alone: it calls models itself, so there is no pre or post",
                );
            }
            PipelineKind::Plugin { plugin: alone? }
        }
        (Some(_), Some(_)) => {
            check.problem(at, "plugin", "and model exclude each other");
            return None;
        }
        (None, None) => {
            check.problem(at, "model", "is missing: a pipeline has a model, or a plugin that calls models");
            return None;
        }
    };
    Some(Pipeline { name, kind, timeout })
}
