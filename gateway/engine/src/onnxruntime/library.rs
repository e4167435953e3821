//! Finding and loading the shared library.

use std::path::{Path, PathBuf};

use super::OnnxRuntime;
use crate::{EngineError, EngineSearch};

/// The library's file name, where a candidate is a folder.
const FILE_NAME: &str = if cfg!(target_os = "macos") {
    "libonnxruntime.dylib"
} else if cfg!(target_os = "windows") {
    "onnxruntime.dll"
} else {
    "libonnxruntime.so"
};

/// A library that answered with its version.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) minor_version: u32,
}

/// Finds ONNX Runtime: the configured library and no other, or else the first
/// candidate that is one. A candidate is a file, a folder that holds the library,
/// or a bare file name, which the system's loader searches for.
///
/// Opens libraries that it finds in order to ask for their version.
///
/// # Errors
/// Why there is none, one reason for each place that was looked at.
pub fn find_onnxruntime(search: &EngineSearch) -> Result<PathBuf, String> {
    find(search).map(|found| found.path)
}

pub(super) fn find(search: &EngineSearch) -> Result<Found, String> {
    if let Some(configured) = &search.onnxruntime_library {
        // Somebody asked for this one: another would be a surprise.
        return try_one(configured);
    }
    let mut reasons = Vec::new();
    for candidate in &search.candidates {
        match try_one(candidate) {
            Ok(found) => return Ok(found),
            Err(reason) => reasons.push(reason),
        }
    }
    if reasons.is_empty() {
        return Err("no onnxruntime library is configured".to_owned());
    }
    Err(reasons.join("; "))
}

fn try_one(candidate: &Path) -> Result<Found, String> {
    let bare = candidate.parent().is_none_or(|parent| parent.as_os_str().is_empty());
    let path = if !bare && candidate.is_dir() { candidate.join(FILE_NAME) } else { candidate.to_owned() };
    if !bare && !path.is_file() {
        return Err(format!("{} is not there", path.display()));
    }
    let oldest = ort::MINOR_VERSION;
    match ort::util::probe(&path) {
        Some(minor_version) if minor_version >= oldest => Ok(Found { path, minor_version }),
        Some(older) => Err(format!("{} is version 1.{older}, 1.{oldest} is needed", path.display())),
        None => Err(format!("{} cannot be loaded as onnxruntime", path.display())),
    }
}

/// Loads the library and makes the process's one environment.
pub(super) fn load(found: Found) -> Result<OnnxRuntime, EngineError> {
    let unavailable = |reason: String| EngineError::Unavailable(reason);
    let builder = ort::init_from(&found.path).map_err(|error| unavailable(error.to_string()))?;
    let environment = builder
        .with_name("sluice")
        .with_telemetry(false)
        .build()
        .map_err(|error| unavailable(error.to_string()))?;
    // The default logs every allocation through the callback.
    environment.set_log_level(ort::logging::LogLevel::Warning);
    Ok(OnnxRuntime { environment, library: found.path, minor_version: found.minor_version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_that_was_looked_at_is_named_with_its_reason() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = folder.path().join("text.so");
        std::fs::write(&text, "no library").expect("written");
        let search = EngineSearch {
            onnxruntime_library: None,
            candidates: vec![folder.path().to_owned(), text.clone(), "libonnxruntime-none.so".into()],
        };
        let reason = find_onnxruntime(&search).expect_err("nothing there");
        for part in
            ["libonnxruntime.so is not there", "text.so cannot be loaded", "libonnxruntime-none.so cannot"]
        {
            assert!(reason.contains(part), "{part} in {reason}");
        }
        let configured = EngineSearch { onnxruntime_library: Some("/nowhere/lib.so".into()), ..search };
        assert_eq!(find_onnxruntime(&configured), Err("/nowhere/lib.so is not there".to_owned()));
        assert!(find_onnxruntime(&EngineSearch::default()).is_err());
    }
}
