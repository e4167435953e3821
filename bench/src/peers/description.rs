//! What is written about a peer in its `peer.json`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// What a server is in the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Role {
    /// The gateway.
    Sluice,
    /// Another server.
    Peer,
    /// Rust without batching.
    HandWritten,
    /// Bare HTTP, which answers with the body.
    Ceiling,
}

/// How requests and answers are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Style {
    /// Body and answer are the workload's own.
    Plain,
    /// The raw body of Triton's binary extension: the one BYTES input is the body itself.
    V2Raw,
    /// A JSON body of V2 with the workload's body as its one string.
    V2Json,
    /// A JSON list of one.
    List,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    role: Role,
    #[serde(default = "plain")]
    style: Style,
    /// With `{pipeline}`.
    path: String,
    /// With `{python}`, `{here}`, `{root}`, `{sluice}`, `{bench}`, `{port}`, `{port2}` to `{port5}`, `{work}`.
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The package in the lock file whose version is shown.
    package: Option<String>,
    /// How it is served, for the report.
    how: String,
}

fn plain() -> Style {
    Style::Plain
}

/// A peer, with everything but the ports filled in.
#[derive(Debug, Clone)]
pub(super) struct Description {
    /// For people, with its version.
    pub(super) title: String,
    /// What it is.
    pub(super) role: Role,
    /// How it is asked.
    pub(super) style: Style,
    /// Where, with `{pipeline}`.
    pub(super) path: String,
    /// What starts it, with the ports still to be filled in.
    pub(super) command: Vec<String>,
    /// Variables for it, the same.
    pub(super) environment: BTreeMap<String, String>,
    /// How it is served.
    pub(super) how: String,
    /// What peers in Python share.
    pub(super) common: PathBuf,
}

impl Description {
    /// Reads a peer's file.
    ///
    /// # Errors
    /// There is none, or it is wrong.
    pub(super) fn read(folder: &Path, name: &str, python: &str, program: &Path) -> Result<Self, String> {
        let folder = folder.canonicalize().map_err(|error| format!("{}: {error}", folder.display()))?;
        let here = folder.join(name);
        let path = here.join("peer.json");
        let error = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read(&path).map_err(|cause| error(cause.to_string()))?;
        let written: Written = serde_json::from_slice(&text).map_err(|cause| error(cause.to_string()))?;
        let bench = std::env::current_exe().map_err(|error| error.to_string())?;
        let root = folder.join("../..");
        let paths =
            [("{here}", here.as_path()), ("{root}", &root), ("{sluice}", program), ("{bench}", &bench)];
        let fill = |text: &String| {
            let text = text.replace("{python}", python);
            paths.iter().fold(text, |text, (key, path)| text.replace(key, &path.display().to_string()))
        };
        let lock = std::fs::read_to_string(here.join("requirements.lock")).unwrap_or_default();
        let version = written.package.and_then(|package| locked_version(&lock, &package));
        Ok(Self {
            title: [Some(written.title), version].into_iter().flatten().collect::<Vec<_>>().join(" "),
            role: written.role,
            style: written.style,
            path: written.path,
            command: written.command.iter().map(fill).collect(),
            environment: written.environment.iter().map(|(key, value)| (key.clone(), fill(value))).collect(),
            how: written.how,
            common: folder.join("common"),
        })
    }

    /// Whether its answers are the workload's.
    pub(super) fn is_checked(&self) -> bool {
        self.role != Role::Ceiling
    }
}

/// The version of a package in a lock file.
fn locked_version(lock: &str, package: &str) -> Option<String> {
    let versions = lock.lines().filter_map(|line| line.strip_prefix(package)?.strip_prefix("=="));
    versions.map(|rest| rest.trim_end_matches('\\').trim().to_owned()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let lock = "# mosec\nmosec-extra==1.0 \\\n    --hash=x\nmosec==0.9.8 \\\n    --hash=y\nlast==2";
        assert_eq!(locked_version(lock, "mosec").as_deref(), Some("0.9.8"));
        assert_eq!(locked_version(lock, "last").as_deref(), Some("2"));
        assert_eq!(locked_version(lock, "mose"), None);
    }

    #[test]
    fn every_peer_is_described() {
        let folder = crate::workload::repository().join("bench/peers");
        let mut found = 0;
        for entry in std::fs::read_dir(&folder).expect("the peers").map(|entry| entry.expect("an entry")) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "common" || !entry.path().is_dir() {
                continue;
            }
            let peer = Description::read(&folder, &name, "python", Path::new("sluice")).expect("described");
            assert!(peer.path.starts_with('/') && peer.command.iter().all(|part| !part.contains("{here}")));
            found += 1;
        }
        assert!(found >= 4, "{found} peers");
    }
}
