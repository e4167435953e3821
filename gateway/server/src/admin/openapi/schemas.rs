//! What bodies look like. Objects are closed: what is not here is not sent.

use serde_json::{Value, json};

use super::super::pipelines::SAMPLE_DEFAULT;
use super::parameters::{NAME, name};
use crate::catalog::store::VersionState;
use crate::catalog::store::limits::{SPLIT_VERSIONS_MAX, SPLIT_WEIGHT_MAX};

/// A reference to a schema.
pub(super) fn named(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// An object with these properties, all of them.
pub(super) fn object(properties: Value) -> Value {
    object_with(properties, &[])
}

/// An object with these properties, some of which may be missing.
fn object_with(properties: Value, optional: &[&str]) -> Value {
    let names = properties.as_object().into_iter().flat_map(|properties| properties.keys());
    let required: Vec<&String> = names.filter(|name| !optional.contains(&name.as_str())).collect();
    json!({
        "type": "object",
        "required": required,
        "additionalProperties": false,
        "properties": properties,
    })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn maybe_text() -> Value {
    json!({ "type": ["string", "null"] })
}

fn flag() -> Value {
    json!({ "type": "boolean" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

fn share() -> Value {
    json!({ "type": "number", "minimum": 0, "maximum": 1 })
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time" })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

/// Values by name.
fn by_name(values: Value) -> Value {
    json!({ "type": "object", "additionalProperties": values })
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

/// All schemas, by name.
pub(super) fn all() -> Value {
    let groups = [general(), status(), requests(), plugins(), versions(), pipelines(), lines()];
    let groups = groups.into_iter().filter_map(|group| group.as_object().cloned());
    Value::Object(groups.flatten().collect())
}

fn general() -> Value {
    let served = json!({ "type": "string", "enum": ["invalid", "needs_restart", "failed"] });
    let word = |word: &str| json!({ "type": "string", "enum": [word] });
    json!({
        "Document": { "type": "object", "description": "an OpenAPI document" },
        "Profile": { "type": "object", "description": "the processed format of the Firefox profiler" },
        "Reload": { "oneOf": [
            object(json!({ "outcome": word("applied"), "generation": count() })),
            object(json!({ "outcome": word("unchanged") })),
            object(json!({ "outcome": word("refused"), "reason": served, "problems": list(text()) })),
        ] },
    })
}

fn status() -> Value {
    let plugin = json!({
        "name": text(), "owner": maybe_text(), "active": maybe_text(), "previous": maybe_text(),
        "loaded": list(text()), "problem": maybe_text(),
        "world": text(), "digest": text(), "bytes": count(), "imports": list(text()),
    });
    let whole = json!({ "name": text(), "ready": flag(), "plugin": text() });
    let staged = json!({
        "name": text(), "ready": flag(), "pre": maybe_text(), "model": text(), "post": maybe_text(),
    });
    let baking = json!({
        "plugin": text(), "version": text(), "calls": count(), "failures": count(), "left_ms": count(),
        "problem": maybe_text(),
    });
    let upload = json!({
        "plugin": text(), "version": text(), "state": state(), "uploaded_by": text(), "started_at": time(),
    });
    json!({
        "Status": object(json!({
            "version": text(),
            "generation": count(),
            "in_flight": count(),
            "last_reload": or_null(named("Reload")),
            "has_state_directory": flag(),
            "store_problems": list(object(json!({ "place": text(), "what": text() }))),
            "uploads": list(object(upload)),
            "baking": list(object(baking)),
            "models": list(named("Model")),
            "plugins": list(object_with(plugin, &["world", "digest", "bytes", "imports"])),
            "pipelines": list(json!({ "oneOf": [object(whole), object(staged)] })),
        })),
        "Model": object(json!({
            "name": text(), "version": text(), "digest": text(), "engine": text(),
            "instances": count(), "max_batch_size": count(), "ready": flag(),
        })),
    })
}

fn requests() -> Value {
    let weight = json!({ "type": "integer", "minimum": 0, "maximum": SPLIT_WEIGHT_MAX });
    let weights = json!({
        "type": "object",
        "description": "by version; one must be above 0",
        "propertyNames": { "pattern": NAME },
        "additionalProperties": weight,
        "minProperties": 1,
        "maxProperties": SPLIT_VERSIONS_MAX,
    });
    let sample = json!({ "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": SAMPLE_DEFAULT });
    let shadow = json!({ "plugin": name(), "version": name(), "sample": sample });
    json!({
        "Activation": object(json!({ "version": name() })),
        "Activated": object(json!({ "plugin": text(), "active": text(), "changed": flag() })),
        "Rollback": object_with(json!({ "from": or_null(name()) }), &["from"]),
        "RolledBack": object(json!({ "plugin": text(), "active": maybe_text(), "changed": flag() })),
        "NewSplit": object(json!({ "plugin": name(), "weights": weights })),
        "NewShadow": object_with(shadow, &["sample"]),
    })
}

fn plugins() -> Value {
    json!({
        "Plugins": object(json!({ "plugins": list(named("Plugin")) })),
        "Plugin": object(json!({
            "plugin": text(),
            "owner": maybe_text(),
            "declared": flag(),
            "active": maybe_text(),
            "previous": maybe_text(),
            "problem": maybe_text(),
            "pipelines": list(text()),
            "versions": list(named("Version")),
        })),
    })
}

fn state() -> Value {
    let states: Vec<&str> = VersionState::ALL.iter().map(|state| state.name()).collect();
    json!({ "type": "string", "enum": states })
}

fn versions() -> Value {
    let import = json!({ "name": text(), "granted": flag(), "why": text() });
    let usage = json!({
        "calls": by_name(count()),
        "in_flight": count(),
        "instances": count(),
        "memory_bytes": count(),
        "memory_peak_bytes": count(),
    });
    let bake = json!({ "calls": count(), "failures": count(), "left_ms": count(), "problem": maybe_text() });
    let version = json!({
        "plugin": text(),
            "version": text(),
            "owner": maybe_text(),
            "state": state(),
            "reason": maybe_text(),
            "digest": { "type": ["string", "null"], "pattern": "^sha256:[0-9a-f]{64}$" },
            "size_bytes": { "type": ["integer", "null"], "minimum": 0 },
            "world": maybe_text(),
            "contract": maybe_text(),
            "imports": list(object_with(import, &["why"])),
            "metadata": or_null(metadata()),
            "limits": limits(),
            "signed_by": maybe_text(),
            "samples": count(),
            "uploaded_by": maybe_text(),
            "uploaded_at": { "type": ["string", "null"], "format": "date-time" },
            "source": { "type": "string", "enum": ["upload", "file", "oci"] },
            "usage": or_null(object(usage)),
            "bake": or_null(object(bake)),
    });
    let mut uploaded = version.clone();
    uploaded["evicted"] = maybe_text();
    json!({ "Version": object(version), "Uploaded": object(uploaded) })
}

fn metadata() -> Value {
    let producers = list(object(json!({ "name": text(), "version": text() })));
    object(json!({
        "name": maybe_text(),
        "version": maybe_text(),
        "description": maybe_text(),
        "authors": maybe_text(),
        "licenses": maybe_text(),
        "source": maybe_text(),
        "homepage": maybe_text(),
        "revision": maybe_text(),
        "language": producers,
        "sdk": producers,
        "processed_by": producers,
    }))
}

fn limits() -> Value {
    object(json!({
        "memory_bytes": count(),
        "memory_total_bytes": count(),
        "stack_bytes": count(),
        "call_timeout_ms": count(),
        "init_timeout_ms": count(),
        "concurrency": count(),
        "reuse": count(),
        "resources": count(),
        "host_wait_max_ms": count(),
        "permit_wait_max_ms": count(),
        "hostcall_bytes": count(),
        "log_bytes_per_call": count(),
        "answer_parts_max": count(),
        "answer_bytes_max": count(),
        "http_hosts": list(text()),
    }))
}

fn pipelines() -> Value {
    let shadow = json!({
        "version": text(),
        "sample": share(),
        "agreed": count(),
        "differed": count(),
        "failed": count(),
        "dropped": count(),
        "agreement": { "type": ["number", "null"], "minimum": 0, "maximum": 1 },
        "mean_us": count(),
        "active_mean_us": count(),
    });
    let stage = json!({
        "plugin": text(),
        "active": maybe_text(),
        "on_failure": { "type": "string", "enum": ["fail", "skip", "previous"] },
        "split": by_name(count()),
        "shadow": or_null(object(shadow)),
    });
    json!({
        "Pipelines": object(json!({ "pipelines": list(named("Pipeline")) })),
        "Pipeline": object(json!({
            "pipeline": text(), "ready": flag(), "plugins": list(object(stage)),
        })),
    })
}

fn lines() -> Value {
    let levels = ["trace", "debug", "info", "warn", "error", "critical", "failure"];
    let line = json!({
        "sequence": count(),
        "at": time(),
        "version": text(),
        "level": { "type": "string", "enum": levels },
        "request_id": text(),
        "context": text(),
        "message": text(),
    });
    let entry = json!({
        "sequence": count(),
        "at": time(),
        "actor": text(),
        "action": text(),
        "target": text(),
        "from": maybe_text(),
        "to": maybe_text(),
        "outcome": text(),
        "request_id": text(),
    });
    json!({
        "Logs": object(json!({ "lines": list(object(line)) })),
        "Audit": object(json!({ "entries": list(object(entry)) })),
    })
}
