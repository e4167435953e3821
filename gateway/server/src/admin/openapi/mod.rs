//! The admin listener in OpenAPI 3.1, for generic clients: made from the table of routes,
//! what each takes and gives (`paths`), and what that looks like (`schemas`). A route
//! without a description fails a test, and so does an answer that the document does not
//! know.

mod parameters;
mod paths;
mod problems;
mod schemas;

use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use serde_json::{Map, Value, json};

use super::{Admin, routes};
use crate::auth::{Access, Route};
use paths::{Body, Content, Operation};

/// How tokens come.
const BEARER: &str = "bearer";

/// `GET /admin/v1/openapi.json`.
pub(super) async fn serve() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(document().to_string()));
    ([(CONTENT_TYPE, "application/json")], DOCUMENT.clone()).into_response()
}

/// The document.
pub fn document() -> Value {
    let mut all: Map<String, Value> = Map::new();
    for route in routes() {
        let Some(operation) = paths::of(&route.method, route.path) else { continue };
        let path = all.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = described(&route, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Sluice, administration",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What operators and plugin teams do with a gateway. Every error has one form, and \
                the id of its request: the caller's `x-request-id`, or one that was made.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ BEARER: [] }],
        "paths": all,
        "components": {
            "securitySchemes": { BEARER: {
                "type": "http",
                "scheme": "bearer",
                "description": "`sluice token new` makes tokens. `admin` includes every other scope.",
            } },
            "parameters": parameters::all(),
            "responses": problems::responses(),
            "schemas": schemas::all(),
        },
    })
}

fn described(route: &Route<std::sync::Arc<Admin>>, operation: &Operation) -> Value {
    let mut described = json!({
        "operationId": operation.id,
        "summary": route.summary,
        "tags": [tag(route.path)],
        "parameters": parameters::of(route.path, operation.takes),
        "responses": answers(route.access, operation),
        "security": security(route.access),
    });
    if let Some(body) = body(operation.body) {
        described["requestBody"] = body;
    }
    described
}

fn tag(path: &str) -> &str {
    match path.strip_prefix("/admin/v1/") {
        Some(path) => path.split(['/', '.']).next().unwrap_or(path),
        None => "health",
    }
}

fn security(access: Access) -> Value {
    match access {
        Access::Public => json!([]),
        Access::Known => json!([{ BEARER: [] }]),
        Access::Metrics => json!([{ BEARER: ["metrics"] }]),
        Access::Predict => json!([{ BEARER: ["predict"] }]),
        Access::Deploy => json!([{ BEARER: ["plugins:deploy"] }]),
        Access::Admin | Access::Models | Access::Settings => json!([{ BEARER: ["admin"] }]),
    }
}

fn body(body: Body) -> Option<Value> {
    let is_required = !matches!(body, Body::MaybeJson(_));
    let content = match body {
        Body::None => return None,
        Body::Json(schema) | Body::MaybeJson(schema) => {
            json!({ "application/json": { "schema": schemas::named(schema) } })
        }
        Body::Component => json!({
            "application/wasm": { "schema": parameters::binary() },
            "application/octet-stream": { "schema": parameters::binary() },
        }),
    };
    Some(json!({ "required": is_required, "content": content }))
}

fn answers(access: Access, operation: &Operation) -> Value {
    let mut answers = Map::new();
    for (status, what, content) in operation.answers {
        let mut answer = json!({ "description": what });
        if let Some((media, schema)) = content_of(*content) {
            answer["content"] = json!({ media: { "schema": schema } });
        }
        answers.insert(status.to_string(), answer);
    }
    let everywhere: &[u16] = match access {
        Access::Public => &[400, 403],
        _ => &[400, 401, 403, 429, 500],
    };
    for status in everywhere.iter().chain(operation.errors) {
        answers.entry(status.to_string()).or_insert_with(|| problems::named(*status));
    }
    answers.into()
}

fn content_of(content: Content) -> Option<(&'static str, Value)> {
    Some(match content {
        Content::Nothing => return None,
        Content::Text => ("text/plain", json!({ "type": "string" })),
        Content::Metrics => ("application/openmetrics-text", json!({ "type": "string" })),
        Content::Component => ("application/wasm", parameters::binary()),
        Content::Json(schema) => ("application/json", schemas::named(schema)),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openapi_references::references;

    #[test]
    fn the_document_and_the_table_name_the_same_routes() {
        let table: BTreeSet<_> =
            routes().iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
        let described: BTreeSet<_> =
            paths::names().map(|(method, path)| (method.to_string(), path.to_owned())).collect();
        assert_eq!(table, described);
        let document = document();
        for (method, path) in table {
            assert!(document["paths"][&path][method.to_ascii_lowercase()].is_object(), "{method} {path}");
        }
    }

    #[test]
    fn ids_are_unique_and_every_reference_leads_somewhere() {
        let document = document();
        let described = routes().iter().filter_map(|route| paths::of(&route.method, route.path)).count();
        let found = routes().into_iter().filter_map(|route| paths::of(&route.method, route.path));
        let unique: BTreeSet<_> = found.map(|operation| operation.id).collect();
        assert_eq!(unique.len(), described);
        let seen = references(&document);
        assert!(seen > 100, "{seen} references");
    }

    #[test]
    fn every_variable_of_a_path_is_described() {
        let document = document();
        for route in routes() {
            let operation = &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            let references: Vec<_> =
                operation["parameters"].as_array().expect("a list").iter().map(|it| &it["$ref"]).collect();
            let variables = route.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
            for variable in variables {
                let reference = Value::from(format!("#/components/parameters/{variable}"));
                assert!(references.contains(&&reference), "{variable} of {}", route.path);
            }
        }
    }
}
