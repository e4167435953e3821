//! What each route takes and gives. A route of a version is that of the model.

use http::Method;

/// The body of an answer.
#[derive(Clone, Copy)]
pub(super) enum Content {
    /// The status is what counts.
    Probe,
    /// Server-sent events.
    Events,
    /// By the name of its schema.
    Json(&'static str),
}

/// What a route takes and gives.
#[derive(Clone, Copy)]
pub(super) struct Operation {
    /// The schema of the request's body, if it has one.
    pub(super) body: Option<&'static str>,
    /// Whether it must have one.
    pub(super) needs_body: bool,
    /// What it answers when all is well.
    pub(super) answer: Content,
    /// Whether it asks if something can be served.
    pub(super) is_probe: bool,
}

const fn get(answer: &'static str) -> Operation {
    Operation { body: None, needs_body: false, answer: Content::Json(answer), is_probe: false }
}

const fn post(body: &'static str, answer: &'static str) -> Operation {
    Operation { body: Some(body), needs_body: true, answer: Content::Json(answer), is_probe: false }
}

/// A change whose body may be absent.
const fn change(body: &'static str, answer: &'static str) -> Operation {
    Operation { needs_body: false, ..post(body, answer) }
}

const PROBE: Operation = Operation { body: None, needs_body: false, answer: Content::Probe, is_probe: true };

const EVENTS: Operation = Operation { answer: Content::Events, ..post("Fields", "Fields") };

/// A change that answers with nothing but its status.
const fn done(body: &'static str) -> Operation {
    Operation { answer: Content::Probe, ..change(body, "Fields") }
}

static OPERATIONS: [(&str, &str, Operation); 32] = [
    ("GET", "/", PROBE),
    ("GET", "/openapi.json", get("Fields")),
    ("GET", "/v2", get("ServerMetadata")),
    ("GET", "/v2/health/live", PROBE),
    ("GET", "/v2/health/ready", PROBE),
    ("GET", "/v2/models", get("Anything")),
    ("GET", "/v2/models/{model}", get("ModelMetadata")),
    ("GET", "/v2/models/{model}/ready", PROBE),
    ("GET", "/v2/models/{model}/config", get("Fields")),
    ("GET", "/v2/models/{model}/stats", get("Statistics")),
    ("GET", "/v2/models/stats", get("Statistics")),
    ("POST", "/v2/models/{model}/infer", post("InferRequest", "InferResponse")),
    ("POST", "/v2/models/{model}/generate", post("Fields", "Fields")),
    ("POST", "/v2/models/{model}/generate_stream", EVENTS),
    ("POST", "/v2/repository/index", change("IndexRequest", "Index")),
    ("POST", "/v2/repository/{repository}/index", change("IndexRequest", "Index")),
    ("POST", "/v2/repository/models/{model}/load", done("ControlRequest")),
    ("POST", "/v2/repository/models/{model}/unload", done("ControlRequest")),
    ("POST", "/v2/repository/{repository}/models/{model}/load", done("ControlRequest")),
    ("POST", "/v2/repository/{repository}/models/{model}/unload", done("ControlRequest")),
    ("GET", "/v2/trace/setting", get("Fields")),
    ("POST", "/v2/trace/setting", post("Fields", "Fields")),
    ("GET", "/v2/models/{model}/trace/setting", get("Fields")),
    ("POST", "/v2/models/{model}/trace/setting", post("Fields", "Fields")),
    ("GET", "/v2/logging", get("Fields")),
    ("POST", "/v2/logging", post("Fields", "Fields")),
    ("GET", "/v1/models", get("Anything")),
    ("GET", "/v1/models/{target}", get("Fields")),
    ("GET", "/v1/models/{target}/metadata", get("Fields")),
    ("POST", "/v1/models/{target}", post("PredictRequest", "Fields")),
    ("GET", "shared memory", get("Regions")),
    ("POST", "shared memory", done("Region")),
];

fn find(method: &Method, path: &str) -> Option<&'static Operation> {
    // TensorFlow Serving's paths have versions and labels in the middle or at the end.
    let path = path.replace("/versions/{version}", "").replace("/versions/{target}", "");
    let path = path.replace("/labels/{label}", "").replace("/labels/{target}", "");
    let path = if path.contains("sharedmemory") { "shared memory" } else { path.as_str() };
    let path = if path.starts_with("/v1/models/{model}") {
        path.replace("{model}", "{target}")
    } else {
        path.to_owned()
    };
    OPERATIONS
        .iter()
        .find(|(known, template, _)| *known == method.as_str() && *template == path)
        .map(|(_, _, operation)| operation)
}

/// What a route takes and gives; of one that is not in the table, that it is JSON.
pub(super) fn of(method: &Method, path: &str) -> Operation {
    find(method, path).copied().unwrap_or(match *method {
        Method::GET => get("Anything"),
        _ => change("Anything", "Anything"),
    })
}

/// Whether a route is in the table.
#[cfg(test)]
pub(super) fn is_known(method: &Method, path: &str) -> bool {
    find(method, path).is_some()
}
