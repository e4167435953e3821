//! What bodies look like. Objects are open, as the protocol says: unknown fields are
//! ignored.

use serde_json::{Value, json};

/// The data types of tensors.
const TYPES: [&str; 14] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32",
    "FP64", "BYTES",
];

/// A reference to a schema.
pub(super) fn named(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn text() -> Value {
    json!({ "type": "string" })
}

/// All schemas, by name.
pub(super) fn all() -> Value {
    // In metadata -1 is any size.
    let dims = list(json!({ "type": "integer", "minimum": -1 }));
    let (datatype, parameters) = (datatype(), parameters());
    let described = object(
        &["name", "datatype", "shape"],
        json!({ "name": text(), "datatype": datatype, "shape": dims }),
    );
    json!({
        "Anything": {},
        "Fields": { "type": "object" },
        "Error": object(&["error"], json!({ "error": text(), "code": text(), "request_id": text() })),
        "ServerMetadata": object(
            &["name", "version", "extensions"],
            json!({ "name": text(), "version": text(), "extensions": list(text()) }),
        ),
        "ModelMetadata": object(
            &["name", "platform", "inputs", "outputs"],
            json!({
                "name": text(),
                "platform": text(),
                "versions": list(text()),
                "inputs": list(described.clone()),
                "outputs": list(described),
            }),
        ),
        "InferRequest": infer_request(),
        "InferResponse": infer_response(),
        "Statistics": object(&["model_stats"], json!({ "model_stats": list(json!({ "type": "object" })) })),
        "IndexRequest": object(&[], json!({ "ready": { "type": "boolean" } })),
        "Index": list(object(&["name"], json!({ "name": text(), "version": text(), "state": text(), "reason": text() }))),
        "ControlRequest": object(&[], json!({ "parameters": parameters })),
        "Region": object(&["key", "byte_size"], region()),
        "Regions": list(object(&["name"], region())),
        "PredictRequest": object(
            &[],
            json!({
                "signature_name": text(),
                "instances": list(json!({})),
                "inputs": {},
            }),
        ),
    })
}

/// A region of shared memory.
fn region() -> Value {
    let bytes = json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX });
    json!({ "name": text(), "key": text(), "offset": bytes, "byte_size": bytes })
}

fn datatype() -> Value {
    json!({ "type": "string", "enum": TYPES })
}

fn parameters() -> Value {
    let parameter = json!({ "type": ["string", "number", "boolean"] });
    json!({ "type": "object", "additionalProperties": parameter })
}

/// Tensors with their data.
fn tensors() -> Value {
    let shape = list(json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }));
    list(object(
        &["name", "datatype", "shape"],
        json!({
            "name": text(),
            "datatype": datatype(),
            "shape": shape,
            "parameters": parameters(),
            "data": list(json!({})),
        }),
    ))
}

fn infer_request() -> Value {
    object(
        &["inputs"],
        json!({
            "id": text(),
            "parameters": parameters(),
            "inputs": tensors(),
            "outputs": list(object(&["name"], json!({ "name": text(), "parameters": parameters() }))),
        }),
    )
}

fn infer_response() -> Value {
    object(
        &["model_name", "outputs"],
        json!({
            "id": text(),
            "model_name": text(),
            "model_version": text(),
            "parameters": parameters(),
            "outputs": tensors(),
        }),
    )
}
