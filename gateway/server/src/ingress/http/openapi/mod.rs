//! The prediction listener in OpenAPI 3.1, for generic clients: made from the table of
//! routes, what each takes and gives (`paths`), and what that looks like (`schemas`).
//! Routes that pipelines declare for themselves are not in it: their bodies are the
//! plugins' own.

mod paths;
mod schemas;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::routes;
use crate::auth::Access;
use paths::{Content, Operation};

/// How tokens come.
const BEARER: &str = "bearer";

/// Statuses of every route that looks at the request, each with what it means.
const ERRORS: [(u16, &str); 14] = [
    (400, "the request is malformed"),
    (401, "no token, or none that is known"),
    (403, "the token does not allow that"),
    (404, "there is no such model, version, pipeline or setting"),
    (405, "the route has other methods"),
    (408, "the body did not arrive in time"),
    (413, "the body is too large"),
    (415, "the body is compressed in a way that is not understood"),
    (422, "what is asked for cannot be"),
    (429, "a queue is full"),
    (500, "the engine failed, or there is a bug"),
    (501, "that is not supported"),
    (503, "the gateway is too busy, or the model is not ready"),
    (504, "the deadline passed"),
];

/// `GET /openapi.json`.
pub(super) async fn serve() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// The document.
pub(super) fn document() -> Value {
    let mut all: Map<String, Value> = Map::new();
    for route in routes() {
        let operation = paths::of(&route.method, route.path);
        let described = described(route.path, route.method.as_str(), route.summary, route.access, &operation);
        let path = all.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = described;
    }
    let errors: Map<String, Value> = ERRORS
        .into_iter()
        .map(|(status, what)| {
            let content = json!({ "application/json": { "schema": schemas::named("Error") } });
            (status.to_string(), json!({ "description": what, "content": content }))
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice, predictions",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The Open Inference Protocol (KServe V2) with Triton's extensions, and TensorFlow \
                Serving's REST interface (KServe V1).",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": all,
        "components": {
            "securitySchemes": { BEARER: { "type": "http", "scheme": "bearer" } },
            "parameters": parameters(),
            "responses": errors,
            "schemas": schemas::all(),
        },
    })
}

fn described(path: &str, method: &str, summary: &str, access: Access, operation: &Operation) -> Value {
    let id = format!("{} {path}", method.to_ascii_lowercase());
    let mut answers = Map::new();
    answers.insert("200".to_owned(), answer(operation.answer));
    for (status, _) in ERRORS {
        let reference = format!("#/components/responses/{status}");
        answers.insert(status.to_string(), json!({ "$ref": reference }));
    }
    if operation.is_probe {
        for status in ["400", "503"] {
            answers.insert(status.to_owned(), json!({ "description": "it cannot be served" }));
        }
    }
    let mut described = json!({
        "operationId": id,
        "summary": summary,
        "tags": [tag(path)],
        "parameters": parameters_of(path),
        "responses": answers,
        // Which routes need a token is a matter of configuration.
        "security": if access == Access::Public { json!([]) } else { json!([{}, { BEARER: [] }]) },
    });
    if let Some(schema) = operation.body {
        let mut content = json!({ "application/json": { "schema": schemas::named(schema) } });
        if schema == "InferRequest" {
            // Tensors behind the JSON, which `Inference-Header-Content-Length` bounds.
            content["application/octet-stream"] =
                json!({ "schema": { "type": "string", "format": "binary" } });
        }
        described["requestBody"] = json!({ "required": operation.needs_body, "content": content });
    }
    described
}

fn answer(content: Content) -> Value {
    let (media, schema) = match content {
        Content::Probe => return json!({ "description": "yes" }),
        Content::Events => ("text/event-stream", json!({ "type": "string" })),
        Content::Json(schema) => ("application/json", schemas::named(schema)),
    };
    let mut content = json!({ media: { "schema": schema } });
    if media == "application/json" {
        content["application/octet-stream"] = json!({ "schema": { "type": "string", "format": "binary" } });
    }
    json!({ "description": "the answer", "content": content })
}

/// The part of the interface that a path belongs to.
fn tag(path: &str) -> &'static str {
    let is = |part: &str| path.split('/').any(|segment| segment == part);
    match path {
        _ if path.starts_with("/v1") => "TensorFlow Serving",
        _ if is("repository") => "model repository",
        _ if is("trace") || is("logging") => "settings",
        _ if path.contains("sharedmemory") => "shared memory",
        _ if is("infer") || is("generate") || is("generate_stream") => "inference",
        _ if is("health") || is("ready") || path == "/" => "health",
        _ => "models",
    }
}

fn variables(path: &str) -> impl Iterator<Item = &str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

fn parameters_of(path: &str) -> Value {
    variables(path).map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect()
}

/// Every variable of a path in the table.
fn parameters() -> Value {
    let mut all = Map::new();
    for name in routes().iter().flat_map(|route| variables(route.path)) {
        let what = match name {
            "version" => "a version of the model",
            "target" => "a model, or a model and `:predict`",
            _ => "a name",
        };
        all.entry(name).or_insert_with(|| {
            let schema = json!({ "type": "string", "minLength": 1 });
            json!({ "name": name, "in": "path", "required": true, "description": what, "schema": schema })
        });
    }
    all.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi_references::references;

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            assert!(operation.is_object(), "{} {}", route.method, route.path);
            let is_known = paths::is_known(&route.method, route.path);
            assert!(is_known, "{} {} needs a line in openapi/paths.rs", route.method, route.path);
        }
        let seen = references(&document);
        assert!(seen > 100, "{seen} references");
    }
}
