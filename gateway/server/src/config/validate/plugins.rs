//! `[plugins]` and `[pipelines]`.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::checker::{At, Checker};
use super::super::defaults as d;
use super::super::file::{PipelineFile, PluginFile};
use super::super::types::{
    FailurePolicy, Limits, Model, Pipeline, PipelineKind, Plugin, PluginSource, Rollout, Sandbox, State,
    Store,
};
use super::Named;
use crate::oci::Reference;
use crate::services::egress::AllowedHost;

/// What a plugin may refer to.
pub(super) struct Around<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) state: &'a State,
    pub(super) stores: &'a Named<Store>,
    pub(super) models: &'a Named<Model>,
}

pub(super) fn plugin(
    check: &mut Checker<'_>,
    at: At<'_>,
    name: Arc<str>,
    file: PluginFile,
    around: &Around<'_>,
) -> Plugin {
    let Around { sandbox, stores, models, .. } = around;
    let numbers = numbers(check, at, &file);
    let strict = file.strict.unwrap_or(false) || sandbox.strict;
    check_lists(check, at, &file, strict);
    let memory_max = u64::try_from(sandbox.memory_bytes_max).unwrap_or(u64::MAX);
    let memory_range = *d::PLUGIN_MEMORY_RANGE.start()..=memory_max;
    let memory_default = d::PLUGIN_MEMORY.min(memory_max);
    Plugin {
        source: source(check, at, &file, around),
        owner: check.owner(at, "owner", file.owner.as_deref()),
        rollout: rollout(check, at, &file),
        files: directories(check, at, &file.files),
        config: serde_json::Value::Object(file.config),
        reuse: check.number(at, "reuse", file.reuse, d::REUSE, &d::REUSE_RANGE),
        memory_bytes: check.number(at, "memory_bytes", file.memory_bytes, memory_default, &memory_range),
        call_timeout: check.timeout(at, "call_timeout_ms", file.call_timeout_ms, d::CALL_TIMEOUT),
        init_timeout: check.timeout(at, "init_timeout_ms", file.init_timeout_ms, d::INIT_TIMEOUT),
        host_wait_max: check.timeout(at, "host_wait_max_ms", file.host_wait_max_ms, d::HOST_WAIT),
        permit_wait_max: check.timeout(at, "permit_wait_max_ms", file.permit_wait_max_ms, d::PERMIT_WAIT),
        hostcall_bytes: numbers.hostcall_bytes,
        log_bytes_per_call: numbers.log_bytes_per_call,
        answer_parts_max: numbers.answer_parts_max,
        answer_bytes_max: numbers.answer_bytes_max,
        resources: check.number(at, "resources", file.resources, d::RESOURCES, &d::COUNT_RANGE),
        concurrency: check.number(at, "concurrency", file.concurrency, d::CONCURRENCY, &d::COUNT_RANGE),
        memory_total_bytes: numbers.memory_total_bytes,
        stack_bytes: stack(check, at, file.stack_bytes),
        stores: check.references(at, "stores", &file.stores, "store", stores),
        models: check.models(at, "models", &file.models, models),
        http_hosts: http_hosts(check, at, &file.http_hosts),
        arguments: file.arguments,
        environment: file.environment,
        strict,
        sockets: file.sockets.unwrap_or(false),
        clocks: file.clocks.unwrap_or(!strict),
        random: file.random.unwrap_or(!strict),
        require_signature: file.require_signature.unwrap_or(sandbox.require_signature),
        name,
    }
}

/// Not any size: each is an engine of its own.
fn stack(check: &mut Checker<'_>, at: At<'_>, value: Option<u64>) -> usize {
    let Some(value) = value else { return d::STACK_BYTES };
    let found = d::STACK_BYTES_ALLOWED.into_iter().find(|bytes| u64::try_from(*bytes) == Ok(value));
    found.unwrap_or_else(|| {
        let allowed = d::STACK_BYTES_ALLOWED.map(|bytes| bytes.to_string()).join(", ");
        check.problem(at, "stack_bytes", format!("must be one of {allowed}"));
        d::STACK_BYTES
    })
}

/// Limits that are counted.
struct Numbers {
    memory_total_bytes: usize,
    hostcall_bytes: usize,
    log_bytes_per_call: usize,
    answer_parts_max: usize,
    answer_bytes_max: usize,
}

fn numbers(check: &mut Checker<'_>, at: At<'_>, file: &PluginFile) -> Numbers {
    let mut number = |key: &str, value: Option<u64>, default: u64, range: &RangeInclusive<u64>| {
        check.number(at, key, value, default, range)
    };
    let total = (d::PLUGIN_MEMORY_TOTAL, d::PLUGIN_MEMORY_TOTAL_RANGE);
    let crossing = (d::HOSTCALL_BYTES, d::HOSTCALL_BYTES_RANGE);
    let (parts, bytes) = ((d::ANSWER_PARTS, d::ANSWER_PARTS_RANGE), (d::ANSWER_BYTES, d::ANSWER_BYTES_RANGE));
    let log = (d::LOG_BYTES, d::LOG_BYTES_RANGE);
    Numbers {
        memory_total_bytes: number("memory_total_bytes", file.memory_total_bytes, total.0, &total.1),
        hostcall_bytes: number("hostcall_bytes", file.hostcall_bytes, crossing.0, &crossing.1),
        log_bytes_per_call: number("log_bytes_per_call", file.log_bytes_per_call, log.0, &log.1),
        answer_parts_max: number("answer_parts_max", file.answer_parts_max, parts.0, &parts.1),
        answer_bytes_max: number("answer_bytes_max", file.answer_bytes_max, bytes.0, &bytes.1),
    }
}

/// Lists are short, and nothing is asked for that `strict` refuses.
fn check_lists(check: &mut Checker<'_>, at: At<'_>, file: &PluginFile, strict: bool) {
    let lengths = [
        ("http_hosts", file.http_hosts.len()),
        ("files", file.files.len()),
        ("arguments", file.arguments.len()),
        ("environment", file.environment.len()),
    ];
    if strict && file.sockets == Some(true) {
        check.problem(at, "sockets", "are refused with the rest of WASI where strict is set");
    }
    for (key, _) in lengths.iter().filter(|(_, length)| *length > d::PLUGIN_LIST_MAX) {
        check.problem(at, key, format!("has more than {} entries", d::PLUGIN_LIST_MAX));
    }
}

fn source(check: &mut Checker<'_>, at: At<'_>, file: &PluginFile, around: &Around<'_>) -> PluginSource {
    match (&file.file, &file.plugin) {
        (Some(_), Some(_)) => {
            check.problem(at, "plugin", "and file exclude each other");
            PluginSource::Uploads
        }
        (Some(path), None) => {
            PluginSource::File(check.file(at, "file", Some(path), around.sandbox.plugin_bytes_max))
        }
        // The digest makes it the same component on every machine and every day.
        (None, Some(reference)) => match Reference::parse_pinned(reference) {
            Ok((reference, _)) => PluginSource::Oci(reference),
            Err(error) => {
                check.problem(at, "plugin", error.to_string());
                PluginSource::Uploads
            }
        },
        (None, None) => {
            if around.state.dir.is_none() {
                check.problem(
                    at,
                    "file",
                    "is missing: name a file or a `plugin`, or set [state] dir for uploads",
                );
            }
            PluginSource::Uploads
        }
    }
}

fn http_hosts(check: &mut Checker<'_>, at: At<'_>, entries: &[String]) -> Vec<AllowedHost> {
    let parsed = entries.iter().filter_map(|entry| match AllowedHost::parse(entry) {
        Ok(host) => Some(host),
        Err(message) => {
            check.problem(at, "http_hosts", message);
            None
        }
    });
    parsed.collect()
}

/// The directories that a plugin may read, by the names that it sees.
fn directories(
    check: &mut Checker<'_>,
    at: At<'_>,
    files: &BTreeMap<String, String>,
) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for (guest, host) in files {
        let Some(path) = check.path(at, "files", host) else { continue };
        if !path.is_dir() {
            check.problem(at, "files", format!("{} is not a directory", path.display()));
        }
        found.insert(guest.clone(), path);
    }
    found
}

fn rollout(check: &mut Checker<'_>, at: At<'_>, file: &PluginFile) -> Rollout {
    let error_rate_max = file.bake_error_rate_max.unwrap_or(d::BAKE_ERROR_RATE);
    if !(0.0..=1.0).contains(&error_rate_max) {
        check.problem(at, "bake_error_rate_max", format!("is {error_rate_max}, allowed are 0 to 1"));
    }
    Rollout {
        bake: check.millis(at, "bake_ms", file.bake_ms, d::BAKE, &d::BAKE_RANGE),
        error_rate_max,
        calls_min: check.number(at, "bake_calls_min", file.bake_calls_min, d::BAKE_CALLS, &d::COUNT_RANGE),
    }
}

pub(super) fn pipeline(
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
    if !file.steps.is_empty() {
        let kind = super::ensembles::ensemble(check, at, file, models)?;
        let fail = FailurePolicy::Fail;
        let (stream, routes, pre_on_failure, post_on_failure) = (false, Vec::new(), fail, fail);
        return Some(Pipeline { name, kind, timeout, stream, routes, pre_on_failure, post_on_failure });
    }
    let of_steps = [
        ("inputs", !file.inputs.is_empty()),
        ("outputs", !file.outputs.is_empty()),
        ("max_batch_size", file.max_batch_size.is_some()),
        ("labels", !file.labels.is_empty()),
        ("versions", !file.versions.is_empty()),
    ];
    for (key, _) in of_steps.iter().filter(|(_, is_set)| *is_set) {
        check.problem(at, key, "is for pipelines of steps");
    }
    let mut plugin = |key: &str, name: &Option<String>| {
        let name = name.as_deref()?;
        check.reference(at, key, name, "plugin", plugins)
    };
    let (pre, post, alone) =
        (plugin("pre", &file.pre), plugin("post", &file.post), plugin("plugin", &file.plugin));
    let kind = match (&file.model, &file.plugin) {
        (Some(model), None) => {
            let model = check.model(at, "model", model, models)?;
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
    let (pre_on_failure, post_on_failure) = on_failure(check, at, file, &kind);
    if file.stream.is_some() && file.plugin.is_none() {
        check.problem(at, "stream", "is for pipelines of one plugin, which is a program");
    }
    let stream = file.stream.unwrap_or(false);
    let routes = super::routes::routes(check, at, file);
    Some(Pipeline { name, kind, timeout, stream, routes, pre_on_failure, post_on_failure })
}

/// What each plugin's failure means; `on_failure` is for both, and for the one that
/// stands alone.
fn on_failure(
    check: &mut Checker<'_>,
    at: At<'_>,
    file: &PipelineFile,
    kind: &PipelineKind,
) -> (FailurePolicy, FailurePolicy) {
    let both = file.on_failure.unwrap_or_default();
    let (pre, post) = (file.pre_on_failure.unwrap_or(both), file.post_on_failure.unwrap_or(both));
    if let PipelineKind::Plugin { .. } = kind {
        for (key, is_set) in [
            ("pre_on_failure", file.pre_on_failure.is_some()),
            ("post_on_failure", file.post_on_failure.is_some()),
        ] {
            if is_set {
                check.problem(at, key, "is for pipelines with a model: use on_failure");
            }
        }
        if both == FailurePolicy::Skip {
            check.problem(at, "on_failure", "cannot skip a plugin that is the whole pipeline");
        }
    }
    (pre, post)
}
