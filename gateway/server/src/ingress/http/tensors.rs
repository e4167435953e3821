//! A V2 answer: tensors in JSON, with whose they are.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use sluice_tensor::NamedTensor;

use crate::error::Result;
use crate::tensor_json::{encode_all, put};

/// Writes a V2 answer.
///
/// # Errors
/// As [`encode_all`].
pub(super) fn respond(
    model: &str,
    version: &str,
    id: Option<&str>,
    outputs: &[NamedTensor],
) -> Result<Response> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"model_name\":");
    put(&mut out, model);
    out.extend_from_slice(b",\"model_version\":");
    put(&mut out, version);
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        put(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":");
    encode_all(outputs, &mut out)?;
    out.push(b'}');
    let json = HeaderValue::from_static("application/json");
    Ok(([(CONTENT_TYPE, json)], Bytes::from(out)).into_response())
}
