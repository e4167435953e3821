//! What each route takes and gives. Errors that come with tokens, hosts and broken
//! requests come from a route's access and are not repeated here.

use http::Method;

use super::super::{
    ACTIVATE, COMPONENT, LOGS, PIPELINE, PLUGIN, PROFILE, RETIRE, ROLLBACK, SHADOW, SPLIT, VERSION,
};

/// The body of a request.
#[derive(Clone, Copy)]
pub(super) enum Body {
    None,
    /// By the name of its schema.
    Json(&'static str),
    /// The same, which may be left out.
    MaybeJson(&'static str),
    Component,
}

/// The body of an answer.
#[derive(Clone, Copy)]
pub(super) enum Content {
    Nothing,
    Text,
    Metrics,
    Component,
    /// By the name of its schema.
    Json(&'static str),
}

/// What a route takes and gives.
pub(super) struct Operation {
    method: &'static str,
    path: &'static str,
    pub(super) id: &'static str,
    /// Parameters beside those of the path, by their names in `parameters`.
    pub(super) takes: &'static [&'static str],
    pub(super) body: Body,
    pub(super) answers: &'static [(u16, &'static str, Content)],
    pub(super) errors: &'static [u16],
}

/// Errors of whatever changes the registry: unknown, in use or without a state directory,
/// does not fit, no room.
const CHANGE: &[u16] = &[404, 409, 422, 507];

/// The same with a body in JSON.
const CHANGE_BY_BODY: &[u16] = &[404, 408, 409, 413, 422, 507];

const UPLOAD: &[u16] = &[404, 408, 409, 413, 415, 422, 503, 507];

const fn get(
    path: &'static str,
    id: &'static str,
    answers: &'static [(u16, &'static str, Content)],
    errors: &'static [u16],
) -> Operation {
    Operation { method: "GET", path, id, takes: &[], body: Body::None, answers, errors }
}

const fn change(
    method: &'static str,
    path: &'static str,
    id: &'static str,
    body: Body,
    answers: &'static [(u16, &'static str, Content)],
    errors: &'static [u16],
) -> Operation {
    Operation { method, path, id, takes: &[], body, answers, errors }
}

const fn taking(takes: &'static [&'static str], operation: Operation) -> Operation {
    Operation { takes, ..operation }
}

type Answers = &'static [(u16, &'static str, Content)];

const VERSION_VIEW: Answers = &[(200, "the version", Content::Json("Version"))];
const PIPELINE_VIEW: Answers = &[(200, "the pipeline", Content::Json("Pipeline"))];
const UPLOADED: Answers = &[
    (200, "the version was there with the same bytes", Content::Json("Uploaded")),
    (201, "the version is new, checked and ready", Content::Json("Uploaded")),
];
const RELOADED: Answers = &[
    (200, "the configuration is served", Content::Json("Reload")),
    (422, "nothing was changed", Content::Json("Reload")),
];
const READY: Answers = &[
    (200, "everything can be served", Content::Text),
    (503, "something cannot be served, or the gateway stops", Content::Text),
];

static OPERATIONS: [Operation; 24] = [
    get("/livez", "live", &[(200, "the process is there", Content::Text)], &[]),
    get("/readyz", "ready", READY, &[]),
    get("/metrics", "metrics", &[(200, "all metrics", Content::Metrics)], &[]),
    get("/admin/v1/openapi.json", "openapi", &[(200, "this document", Content::Json("Document"))], &[]),
    get("/admin/v1/status", "status", &[(200, "what is served", Content::Json("Status"))], &[]),
    change("POST", "/admin/v1/reload", "reload", Body::None, RELOADED, &[]),
    taking(
        &["after", "limit"],
        get("/admin/v1/audit", "audit", &[(200, "oldest first", Content::Json("Audit"))], &[409]),
    ),
    get("/admin/v1/plugins", "listPlugins", &[(200, "by name", Content::Json("Plugins"))], &[]),
    get(PLUGIN, "showPlugin", &[(200, "the plugin", Content::Json("Plugin"))], &[404]),
    change(
        "POST",
        ACTIVATE,
        "activate",
        Body::Json("Activation"),
        &[(200, "it serves", Content::Json("Activated"))],
        CHANGE_BY_BODY,
    ),
    change(
        "POST",
        ROLLBACK,
        "rollBack",
        Body::MaybeJson("Rollback"),
        &[(200, "what serves now", Content::Json("RolledBack"))],
        CHANGE_BY_BODY,
    ),
    taking(
        &["which", "after", "limit"],
        get(LOGS, "logs", &[(200, "oldest first", Content::Json("Logs"))], &[404]),
    ),
    taking(
        &["owner", "activate", "signature"],
        change("PUT", VERSION, "upload", Body::Component, UPLOADED, UPLOAD),
    ),
    get(VERSION, "showVersion", VERSION_VIEW, &[404]),
    change("DELETE", VERSION, "removeVersion", Body::None, &[(204, "it is gone", Content::Nothing)], CHANGE),
    get(
        COMPONENT,
        "downloadVersion",
        &[(200, "the component, as it was uploaded", Content::Component)],
        &[404, 409],
    ),
    change("POST", RETIRE, "retireVersion", Body::None, VERSION_VIEW, CHANGE),
    taking(
        &["seconds"],
        change(
            "POST",
            PROFILE,
            "profileVersion",
            Body::None,
            &[(200, "for profiler.firefox.com", Content::Json("Profile"))],
            &[404, 409],
        ),
    ),
    get("/admin/v1/pipelines", "listPipelines", &[(200, "by name", Content::Json("Pipelines"))], &[]),
    get(PIPELINE, "showPipeline", PIPELINE_VIEW, &[404]),
    change("PUT", SPLIT, "split", Body::Json("NewSplit"), PIPELINE_VIEW, CHANGE_BY_BODY),
    taking(&["of"], change("DELETE", SPLIT, "endSplit", Body::None, PIPELINE_VIEW, CHANGE)),
    change("PUT", SHADOW, "shadow", Body::Json("NewShadow"), PIPELINE_VIEW, CHANGE_BY_BODY),
    taking(&["of"], change("DELETE", SHADOW, "endShadow", Body::None, PIPELINE_VIEW, CHANGE)),
];

/// The description of a route.
pub(super) fn of(method: &Method, path: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.method == method.as_str() && operation.path == path)
}

/// All described routes.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    OPERATIONS.iter().map(|operation| (operation.method, operation.path))
}
