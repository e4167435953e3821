//! A V2 answer: tensors in JSON or behind it, with whose they are.

use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use sluice_tensor::NamedTensor;

use super::binary::HEADER_LENGTH;
use crate::error::Result;
use crate::ingress::offload;
use crate::tensor_json::{self, DataForm, encode_all, put};

/// About how many bytes of JSON an answer takes for the data of its tensors.
pub(super) fn text_bytes(outputs: &[NamedTensor], form: impl Fn(usize) -> DataForm) -> usize {
    let texts = outputs.iter().enumerate().filter(|(index, _)| matches!(form(*index), DataForm::Json));
    texts.map(|(_, output)| tensor_json::text_bytes(&output.tensor)).sum()
}

/// Writes a V2 answer. `form` says of each output by its index how its data comes.
///
/// # Errors
/// As [`encode_all`].
pub(super) fn respond(
    model: &str,
    version: &str,
    id: Option<&str>,
    outputs: &[NamedTensor],
    form: impl Fn(usize) -> DataForm,
) -> Result<Response> {
    let out = json(model, version, id, outputs, &form)?;
    let is_binary = |index: usize| matches!(form(index), DataForm::Binary);
    let behind =
        || outputs.iter().enumerate().filter(|(index, _)| is_binary(*index)).map(|(_, output)| output);
    if behind().next().is_none() {
        let json = HeaderValue::from_static("application/json");
        return Ok(([(CONTENT_TYPE, json)], Bytes::from(out)).into_response());
    }
    let length = HeaderValue::from(out.len());
    let mut body = BytesMut::from(Bytes::from(out));
    body.reserve(behind().map(|output| output.tensor.byte_len()).sum());
    for output in behind() {
        body.put_slice(&output.tensor.bytes());
    }
    let binary = HeaderValue::from_static("application/octet-stream");
    Ok(([(CONTENT_TYPE, binary), (HEADER_LENGTH, length)], body.freeze()).into_response())
}

/// Writes the JSON of a V2 answer.
///
/// # Errors
/// As [`encode_all`].
pub(super) fn json(
    model: &str,
    version: &str,
    id: Option<&str>,
    outputs: &[NamedTensor],
    form: impl Fn(usize) -> DataForm,
) -> Result<Vec<u8>> {
    // Room for all of it where growing would copy much; a page is nobody's that is not written.
    let large = Some(text_bytes(outputs, &form)).filter(|bytes| *bytes >= offload::LARGE_BYTES);
    let mut out = Vec::with_capacity(large.unwrap_or_default() + 256);
    out.extend_from_slice(b"{\"model_name\":");
    put(&mut out, model);
    out.extend_from_slice(b",\"model_version\":");
    put(&mut out, version);
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        put(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":");
    encode_all(outputs, &form, &mut out)?;
    out.push(b'}');
    Ok(out)
}
