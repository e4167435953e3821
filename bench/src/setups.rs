//! Configurations that a part needs beside `config/bench.toml`, written when it runs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::workload::repository;

/// A configuration in a folder of its own, which goes with it.
pub struct Written {
    folder: TempDir,
}

impl Written {
    /// The file.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("sluice.toml")
    }
}

/// The small model of Triton's examples, as it is asked of the oracle too.
pub const SIMPLE: &str = "tests/oracle/repository/simple/1/model.onnx";

/// Writes a configuration; `{repo}` in it stands for the repository, `{here}` for its
/// folder, and `{bench}` for that of the benchmark's models. `files` are written beside it.
///
/// # Errors
/// It cannot be written.
pub fn write(text: &str, files: &[(&str, &str)]) -> Result<Written, String> {
    let error = |error: std::io::Error| error.to_string();
    let folder = tempfile::tempdir().map_err(error)?;
    let bench =
        std::env::var("SLUICE_BENCH_DIR").map_err(|_| "SLUICE_BENCH_DIR is not set: use `make bench`")?;
    let root = repository().canonicalize().map_err(error)?;
    let shown = |path: &Path| path.display().to_string();
    let text = format!("[server]\nadmin_without_tokens = true\n{text}")
        .replace("{repo}", &shown(&root))
        .replace("{here}", &shown(folder.path()))
        .replace("{bench}", &bench);
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).map_err(error)?;
    }
    std::fs::write(folder.path().join("sluice.toml"), text).map_err(error)?;
    Ok(Written { folder })
}

/// The small model, so many times: `simple-0` and so on.
///
/// # Errors
/// It cannot be written.
pub fn simple(count: usize) -> Result<Written, String> {
    let mut text = String::new();
    for number in 0..count {
        // Writing to a string cannot fail.
        let _ = write!(text, "[models.simple-{number}]\nfile = \"{{repo}}/{SIMPLE}\"\nmax_batch_size = 64\n");
    }
    write(&text, &[])
}

/// `score`, so many times, with a preprocessor of its own each: `score-0` and so on.
///
/// # Errors
/// It cannot be written.
pub fn score(count: usize) -> Result<Written, String> {
    let mut text = String::from(
        "[models.mlp]\nfile = \"{bench}/models/mlp.onnx\"\nmax_batch_size = 256\n\
         [plugins.top-k]\nfile = \"{repo}/guest-examples/dist/rank_topk.wasm\"\n",
    );
    for number in 0..count {
        let _ = write!(
            text,
            "[plugins.hash-{number}]\nfile = \"{{repo}}/guest-examples/dist/feature_hash.wasm\"\n\
             config = {{ mode = \"mlp\" }}\n\
             [pipelines.score-{number}]\npre = \"hash-{number}\"\nmodel = \"mlp\"\npost = \"top-k\"\n"
        );
    }
    write(&text, &[])
}
