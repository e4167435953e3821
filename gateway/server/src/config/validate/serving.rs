//! What serves: engines, the sandbox, stores, and the rooms around them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{
    CacheFile, EgressFile, EngineFile, OciFile, SandboxFile, StateFile, StoreFile, StoreKind, TelemetryFile,
    VerifyFile,
};
use super::super::types::{Cache, Egress, Engine, Oci, Sandbox, State, Store, Telemetry, Verify};
use crate::oci::Reference;

pub(super) fn engine(check: &mut Checker<'_>, file: EngineFile) -> Engine {
    let at = At(&["engine"]);
    let library = file.onnxruntime_library.as_deref();
    Engine {
        default: file.default.unwrap_or_default(),
        onnxruntime_library: library.map(|text| check.file(at, "onnxruntime_library", Some(text), u64::MAX)),
        threads: check.number(at, "threads", file.threads, 0, &d::THREADS_RANGE),
        spinning: file.spinning.unwrap_or(false),
        runs_max: check.number(at, "runs_max", file.runs_max, 0, &d::RUNS_RANGE),
        load_timeout: check.millis(
            at,
            "load_timeout_ms",
            file.load_timeout_ms,
            d::LOAD_TIMEOUT,
            &d::LOAD_TIMEOUT_RANGE,
        ),
        resources: super::batching::units(check, at, "resources", &file.resources),
    }
}

pub(super) fn sandbox(check: &mut Checker<'_>, file: SandboxFile) -> Sandbox {
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
        require_signature: file.require_signature.unwrap_or(false),
    }
}

/// The user's cache folder, as the XDG base directory specification finds it.
fn cache_home(environment: &BTreeMap<String, String>) -> Option<PathBuf> {
    let absolute = |name: &str| environment.get(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
}

pub(super) fn telemetry(check: &mut Checker<'_>, file: TelemetryFile) -> Telemetry {
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
        triton_metrics: file.triton_metrics.unwrap_or(false),
        triton_trace_file: file
            .triton_trace_file
            .as_deref()
            .and_then(|text| check.path(at, "triton_trace_file", text)),
    }
}

pub(super) fn cache(check: &mut Checker<'_>, file: &CacheFile) -> Cache {
    let (at, bytes) = (At(&["cache"]), &d::CACHE_BYTES_RANGE);
    Cache { bytes_max: check.number(at, "size_bytes", file.size_bytes, d::CACHE_BYTES, bytes) }
}

pub(super) fn state(check: &mut Checker<'_>, file: &StateFile) -> State {
    let at = At(&["state"]);
    let kept = &d::VERSIONS_KEPT_RANGE;
    State {
        dir: file.dir.as_deref().and_then(|text| check.path(at, "dir", text)),
        versions_kept: check.number(at, "versions_kept", file.versions_kept, d::VERSIONS_KEPT, kept),
    }
}

pub(super) fn verify(check: &mut Checker<'_>, file: &VerifyFile) -> Verify {
    let at = At(&["verify"]);
    let (children, waiting) = (&d::VERIFY_CHILDREN_RANGE, &d::VERIFY_WAITING_RANGE);
    let memory = &d::VERIFY_MEMORY_RANGE;
    Verify {
        children_max: check.number(at, "children_max", file.children_max, d::VERIFY_CHILDREN, children),
        waiting_max: check.number(at, "waiting_max", file.waiting_max, d::VERIFY_WAITING, waiting),
        cpu: check.timeout(at, "cpu_ms", file.cpu_ms, d::VERIFY_CPU),
        timeout: check.timeout(at, "timeout_ms", file.timeout_ms, d::VERIFY_TIMEOUT),
        memory_bytes: check.number(at, "memory_bytes", file.memory_bytes, d::VERIFY_MEMORY, memory),
    }
}

pub(super) fn egress(check: &mut Checker<'_>, file: &EgressFile) -> Egress {
    let at = At(&["egress"]);
    let ca = file.ca.as_deref();
    let body = &d::EGRESS_BODY_BYTES_RANGE;
    Egress {
        ca: ca.map(|text| check.file(at, "ca", Some(text), d::PEM_BYTES_MAX)),
        connect_timeout: check.timeout(at, "connect_timeout_ms", file.connect_timeout_ms, d::EGRESS_CONNECT),
        timeout: check.timeout(at, "timeout_ms", file.timeout_ms, d::EGRESS_TIMEOUT),
        body_bytes_max: check.number(at, "body_bytes_max", file.body_bytes_max, d::EGRESS_BODY_BYTES, body),
        allow_private: file.allow_private.unwrap_or(false),
    }
}

pub(super) fn oci(check: &mut Checker<'_>, file: OciFile) -> Oci {
    let at = At(&["oci"]);
    if file.insecure_hosts.len() > d::PLUGIN_LIST_MAX {
        check.problem(at, "insecure_hosts", format!("has more than {} entries", d::PLUGIN_LIST_MAX));
    }
    for host in file.insecure_hosts.iter().filter(|host| !Reference::is_host(host)) {
        check.problem(at, "insecure_hosts", format!("'{host}' is not a host or host:port"));
    }
    let credentials = file.credentials.as_deref();
    Oci {
        insecure_hosts: file.insecure_hosts,
        credentials: credentials.map(|text| check.file(at, "credentials", Some(text), d::CONFIG_BYTES_MAX)),
    }
}

pub(super) fn store(check: &mut Checker<'_>, at: At<'_>, file: &StoreFile, has_state: bool) -> Store {
    let kind = file.kind.unwrap_or_default();
    let unused = match kind {
        StoreKind::File => [("url", file.url.is_some()), ("timeout_ms", file.timeout_ms.is_some())],
        StoreKind::Redis => [("file", file.file.is_some()), ("bytes_max", file.bytes_max.is_some())],
        StoreKind::Memory | StoreKind::Embedded => {
            [("file", file.file.is_some()), ("url", file.url.is_some())]
        }
    };
    for (key, _) in unused.iter().filter(|(_, is_set)| *is_set) {
        check.problem(at, key, "does not go with this kind of store");
    }
    let bytes = check.number(at, "bytes_max", file.bytes_max, d::STORE_BYTES, &d::STORE_BYTES_RANGE);
    match kind {
        StoreKind::File => {
            Store::File { file: check.file(at, "file", file.file.as_deref(), bytes), bytes_max: bytes }
        }
        StoreKind::Memory => Store::Memory { bytes_max: bytes },
        StoreKind::Embedded => {
            if !has_state {
                check.problem(at, "kind", "an embedded store is kept in [state] dir, which is not set");
            }
            Store::Embedded { bytes_max: bytes }
        }
        StoreKind::Redis => redis(check, at, file),
    }
}

fn redis(check: &mut Checker<'_>, at: At<'_>, file: &StoreFile) -> Store {
    let expanded = file.url.as_deref().map(|text| super::super::expand::expand(text, check.environment));
    let url = match expanded {
        Some(Ok(url)) if url.starts_with("redis://") || url.starts_with("rediss://") => url,
        // The address may hold a password: it is not repeated.
        Some(Ok(_)) => {
            check.problem(at, "url", "is not a redis:// or rediss:// address");
            String::new()
        }
        Some(Err(message)) => {
            check.problem(at, "url", message);
            String::new()
        }
        None => {
            check.problem(at, "url", "is missing");
            String::new()
        }
    };
    Store::Redis { url, timeout: check.timeout(at, "timeout_ms", file.timeout_ms, d::REDIS_TIMEOUT) }
}
