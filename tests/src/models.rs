//! Triton model repositories that a test may change.

use std::path::{Path, PathBuf};

use crate::{gateway, repository};

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
