//! The workload: bodies, golden answers, and the check of an answer against them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::load::Check;

/// Engines round differently in the last bits.
const TOLERANCE: f64 = 2e-4;

/// One pipeline's requests.
pub struct Workload {
    /// The pipeline.
    pub name: &'static str,
    /// What is sent.
    pub bodies: Arc<Vec<Bytes>>,
    /// What must come back.
    pub check: Check,
}

/// The repository's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Reads a pipeline's bodies and golden answers.
///
/// # Errors
/// They are not there: `scripts/make-bench-models.sh` makes them.
pub fn read(name: &'static str) -> Result<Workload, String> {
    let folder =
        std::env::var_os("SLUICE_BENCH_DIR").ok_or("SLUICE_BENCH_DIR is not set: use `make bench`")?;
    let path = PathBuf::from(folder).join("bodies").join(format!("{name}.json"));
    let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let file: Value =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let list =
        |key: &str| file[key].as_array().cloned().ok_or_else(|| format!("{}: no {key}", path.display()));
    let (bodies, golden) = (list("bodies")?, list("golden")?);
    let bodies = Arc::new(bodies.iter().map(|body| Bytes::from(body.to_string())).collect());
    let check: Check = Arc::new(move |index, answer| {
        let got: Value = serde_json::from_slice(answer).map_err(|error| error.to_string())?;
        let want = golden.get(index).ok_or("no golden answer")?;
        if is_same(&got, want) { Ok(()) } else { Err(format!("{got} is not {want}")) }
    });
    Ok(Workload { name, bodies, check })
}

/// The same id, and scores within the tolerance place by place.
fn is_same(got: &Value, want: &Value) -> bool {
    let near = |got: &Value, want: &Value| match (got["score"].as_f64(), want["score"].as_f64()) {
        (Some(got), Some(want)) => (got - want).abs() <= TOLERANCE,
        _ => false,
    };
    let scores = match (got["ranking"].as_array(), want["ranking"].as_array()) {
        (Some(got), Some(want)) => {
            got.len() == want.len() && got.iter().zip(want).all(|(got, want)| near(got, want))
        }
        _ => near(got, want),
    };
    scores && got["id"] == want["id"]
}
