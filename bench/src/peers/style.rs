//! The workload's requests in the wrapping that a peer wants, and its answers out of theirs.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::description::{Description, Style};
use crate::load::Protocol;
use crate::requests::Requests;
use crate::workload::Workload;

/// A pipeline's requests to a peer. Only answers that are the workload's are checked.
pub(super) fn requests(peer: &Description, workload: &Workload) -> Requests {
    let (style, check) = (peer.style, workload.check.clone());
    let wrap = |body: &Bytes| match style {
        Style::Plain | Style::V2Raw => body.clone(),
        Style::V2Json => v2_json(body),
        Style::List => Bytes::from([b"[", body.as_ref(), b"]"].concat()),
    };
    let headers: &[(&str, &str)] = match style {
        Style::Plain | Style::V2Json | Style::List => &[("content-type", "application/json")],
        Style::V2Raw => {
            &[("content-type", "application/octet-stream"), ("inference-header-content-length", "0")]
        }
    };
    let is_checked = peer.is_checked();
    Requests {
        protocol: Protocol::Http1,
        paths: vec![peer.path.replace("{pipeline}", workload.name)],
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        bodies: Arc::new(workload.bodies.iter().map(wrap).collect()),
        check: Arc::new(move |index, answer| match style {
            _ if !is_checked => Ok(()),
            Style::Plain => check(index, answer),
            Style::V2Raw => check(index, raw_answer(answer).ok_or("no bytes at the end")?),
            Style::V2Json => check(index, json_answer(answer)?.as_bytes()),
            Style::List => check(index, list_answer(answer).ok_or("no list")?),
        }),
    }
}

fn v2_json(body: &[u8]) -> Bytes {
    let data = String::from_utf8_lossy(body);
    let input = json!({ "name": "body", "shape": [1, 1], "datatype": "BYTES", "data": [data] });
    Bytes::from(json!({ "inputs": [input] }).to_string())
}

/// The one BYTES element behind the JSON header: its length and itself, up to the end.
fn raw_answer(answer: &[u8]) -> Option<&[u8]> {
    let ends = (0..answer.len()).filter(|at| answer[*at] == b'}').map(|at| at + 1);
    let mut elements = ends.filter_map(|at| {
        let (length, element) = answer[at..].split_first_chunk::<4>()?;
        (usize::try_from(u32::from_le_bytes(*length)) == Ok(element.len())).then_some(element)
    });
    elements.next()
}

/// What is between the brackets of a list.
fn list_answer(answer: &[u8]) -> Option<&[u8]> {
    answer.trim_ascii().strip_prefix(b"[")?.strip_suffix(b"]")
}

/// The one string of a JSON answer.
fn json_answer(answer: &[u8]) -> Result<String, String> {
    let answer: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
    let data = answer["outputs"][0]["data"][0].as_str();
    data.map(str::to_owned).ok_or_else(|| format!("{answer} has no string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_out_of_their_wrapping() {
        let mut raw = br#"{"model_name":"score","outputs":[{"name":"answer"}]}"#.to_vec();
        raw.extend(10_u32.to_le_bytes());
        raw.extend(br#"{"id":"r"}"#);
        assert_eq!(raw_answer(&raw), Some(br#"{"id":"r"}"#.as_slice()));
        raw.push(b' ');
        assert_eq!(raw_answer(&raw), None);
        let answer = json!({ "outputs": [{ "data": ["{}"] }] }).to_string();
        assert_eq!(json_answer(answer.as_bytes()).as_deref(), Ok("{}"));
        assert_eq!(list_answer(b"[{}]\n"), Some(b"{}".as_slice()));
        let body = v2_json(br#"{"id":"r1"}"#);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["inputs"][0]["data"][0], r#"{"id":"r1"}"#);
    }
}
