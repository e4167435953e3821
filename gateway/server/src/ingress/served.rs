//! What is served under a name and version, as every protocol says it.

use std::sync::Arc;

use crate::catalog::Snapshot;
pub use crate::error::shown;
use crate::error::{Error, Kind, Result};
use crate::observe::{Trace, Tracer};

/// The error for a name that is not served.
pub fn unknown(name: &str) -> Error {
    Error::new(Kind::NotFound, format!("Request for unknown model: '{}' is not found", shown(name)))
}

/// Whether a name is served, by that version if one is named.
///
/// # Errors
/// [`Kind::NotFound`].
pub fn check(snapshot: &Snapshot, name: &str, version: Option<&str>) -> Result<()> {
    if !snapshot.serves(name) {
        return Err(unknown(name));
    }
    let Some(version) = version.filter(|version| !snapshot.versions_of(name).contains(version)) else {
        return Ok(());
    };
    let version = shown(version);
    Err(Error::new(
        Kind::NotFound,
        format!("Request for unknown model: '{name}' version {version} is not found"),
    ))
}

/// Whether what is served under a name can answer, by that version if one is named.
pub fn is_ready(snapshot: &Snapshot, name: &str, version: Option<&str>) -> bool {
    match version {
        Some(version) if !snapshot.pipelines.contains_key(name) => {
            snapshot.model(name, Some(version)).is_ok_and(|model| model.is_ready())
        }
        _ => snapshot.is_ready(name),
    }
}

/// A trace of a request for this name, if it is to be traced.
pub fn trace(tracer: &Arc<Tracer>, snapshot: &Snapshot, name: &str, request_id: &str) -> Option<Arc<Trace>> {
    tracer.sample(name, request_id, || snapshot.serves(name).then(|| version(snapshot, name).to_owned()))
}

/// The version that is served under a name.
pub fn version<'a>(snapshot: &'a Snapshot, name: &str) -> &'a str {
    let of_pipeline = snapshot.pipelines.get(name).map(|pipeline| pipeline.version());
    of_pipeline
        .or_else(|| snapshot.models.get(name).map(|model| &*model.config().version))
        .unwrap_or_default()
}
