//! What requests take beside their bodies.

use serde_json::{Value, json};

use super::super::plugins::{AFTER_MAX, LINES_MAX, PROFILE_SECONDS_MAX, SIGNATURE};

/// What `sluice_tensor::check_name` takes.
pub(super) const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$";

/// A signature of 64 bytes, which may be preceded by the name of its key.
const SIGNATURE_FORM: &str = "^([A-Za-z0-9][A-Za-z0-9_.-]{0,127}:)?[A-Za-z0-9+/]{85}[AQgw]==$";

/// A name of a plugin, a version, a pipeline or an owner.
pub(super) fn name() -> Value {
    json!({ "type": "string", "pattern": NAME, "minLength": 1, "maxLength": 128 })
}

/// The bytes of a component.
pub(super) fn binary() -> Value {
    json!({ "type": "string", "format": "binary" })
}

/// All parameters, by name.
pub(super) fn all() -> Value {
    let path = |name: &str, what: &str| json!({ "name": name, "in": "path", "required": true, "description": what, "schema": self::name() });
    let query = |name: &str, what: &str, schema: Value| json!({ "name": name, "in": "query", "description": what, "schema": schema });
    let seconds = json!({ "type": "integer", "minimum": 1, "maximum": PROFILE_SECONDS_MAX, "default": 5 });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": LINES_MAX, "default": 100 });
    let after = json!({
        "type": "integer", "format": "int64", "minimum": 0, "maximum": AFTER_MAX,
    });
    let mut of = query("of", "the plugin whose use in the pipeline is meant", name());
    of["name"] = json!("plugin");
    of["required"] = json!(true);
    json!({
        "plugin": path("plugin", "the plugin's name"),
        "version": path("version", "the version's name; `file` and `oci` are the configuration's own"),
        "pipeline": path("pipeline", "the pipeline's name"),
        "of": of,
        "which": query("version", "lines of this version only", json!({ "type": "string" })),
        "after": query("after", "begin behind the line with this `sequence`; the newest lines if absent", after),
        "limit": query("limit", "how many lines at most", limit),
        "seconds": query("seconds", "for how long", seconds),
        "owner": query("owner", "whose a new plugin shall be, if an admin uploads it", name()),
        "activate": query(
            "activate",
            "whether to serve the version at once",
            json!({ "type": "boolean", "default": false }),
        ),
        "signature": {
            "name": SIGNATURE.as_str(),
            "in": "header",
            "description": "a detached ed25519 signature over the SHA-256 digest of the component: the key's \
                name and a colon, if it is known, and the signature in base64",
            "schema": { "type": "string", "pattern": SIGNATURE_FORM, "minLength": 88, "maxLength": 217 },
        },
    })
}

/// The parameters of a route: those of its path, and what it takes more.
pub(super) fn of(path: &str, more: &[&str]) -> Value {
    let variables = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let names = variables.chain(more.iter().copied());
    names.map(|name| json!({ "$ref": format!("#/components/parameters/{name}") })).collect()
}
