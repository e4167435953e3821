//! Models of tests: Triton repositories that may be changed, and echoes of every data type.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{gateway, repository};

/// Two elements of each data type: in JSON if it can carry them, and packed.
pub const TYPES: [(&str, Option<&str>, &[u8]); 14] = [
    ("BOOL", Some("[true,false]"), &[1, 0]),
    ("UINT8", Some("[0,255]"), &[0, 255]),
    ("UINT16", Some("[1,65535]"), &[1, 0, 255, 255]),
    ("UINT32", Some("[1,4294967295]"), &[1, 0, 0, 0, 255, 255, 255, 255]),
    (
        "UINT64",
        Some("[1,18446744073709551615]"),
        &[1, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255],
    ),
    ("INT8", Some("[-1,127]"), &[255, 127]),
    ("INT16", Some("[-2,1]"), &[254, 255, 1, 0]),
    ("INT32", Some("[-2,1]"), &[254, 255, 255, 255, 1, 0, 0, 0]),
    ("INT64", Some("[-2,1]"), &[254, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0, 0, 0, 0, 0]),
    ("FP16", Some("[0.5,-1.5]"), &[0, 56, 0, 190]),
    ("BF16", Some("[1.0,-2.0]"), &[128, 63, 0, 192]),
    ("FP32", Some("[1.0,-2.5]"), &[0, 0, 128, 63, 0, 0, 32, 192]),
    ("FP64", Some("[1.0,-2.0]"), &[0, 0, 0, 0, 0, 0, 240, 63, 0, 0, 0, 0, 0, 0, 0, 192]),
    ("BYTES", None, &[2, 0, 0, 0, 255, 0, 0, 0, 0, 0]),
];

/// Models that echo two elements, one for each of [`TYPES`] and called like it in small
/// letters: the configuration. Their programs go into the folder.
pub fn echoes(folder: &Path) -> String {
    let one = |dtype: &str| {
        let name = dtype.to_lowercase();
        let program = json!({
            "inputs": [{ "name": "x", "dtype": dtype, "dims": [-1, 2] }],
            "outputs": [{ "name": "y", "rule": "echo", "from": "x" }],
        });
        let file = folder.join(format!("{name}.sim.json"));
        std::fs::write(&file, program.to_string()).expect("written");
        format!("[models.{name}]\nengine = \"sim\"\nfile = {file:?}\nmax_batch_size = 8\n")
    };
    TYPES.iter().map(|(dtype, ..)| one(dtype)).collect()
}

/// A folder of the repository that a real Triton was recorded with.
pub fn recorded(model: &str) -> PathBuf {
    repository().join("tests/oracle/repository").join(model)
}

/// A repository that a test may change.
pub struct Models(tempfile::TempDir);

impl Models {
    /// With these recorded models.
    pub fn new(models: &[&str]) -> Self {
        let new = Self(tempfile::tempdir().expect("a folder"));
        models.iter().for_each(|model| new.add(model, model));
        new
    }

    /// Adds a recorded model, under a name; its configuration is of that name too.
    pub fn add(&self, model: &str, name: &str) {
        copy(&recorded(model), &self.path().join(name));
        let config = self.path().join(name).join("config.pbtxt");
        let text = std::fs::read_to_string(&config).expect("readable");
        std::fs::write(&config, text.replace(&format!("name: \"{model}\""), &format!("name: \"{name}\"")))
            .expect("written");
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file of it.
    pub fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(file);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, content).expect("written");
    }

    /// A configuration that serves it.
    pub fn config(&self, more: &str) -> String {
        format!("[repositories.models]\npath = \"{}\"\n{more}\n", self.path().display())
    }

    /// A gateway that serves it.
    pub async fn serve(&self, more: &str) -> gateway::Running {
        gateway::start(&self.config(more)).await
    }
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let path = entry.expect("readable").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(std::fs::copy(&path, &target).expect("copied")),
        }
    }
}
