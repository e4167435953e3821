//! A model's files as they came with a request to load it, in place of its folder: what
//! Triton calls an override of the model directory.
//!
//! They lie in a folder of the system's temporary one that only this process may read, laid
//! out as in a repository, and are gone with the last snapshot that knows them: after the
//! next load of the model, or after its unloading.

use std::fmt::Display;
use std::path::{Component, Path};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::layout::Folder;
use crate::catalog::files;
use crate::error::{Error, Kind, Result};

/// Files of one request. External weights come in pieces; a request of more is none of a
/// model.
const FILES_MAX: usize = 1024;

/// Bytes of all files that came with requests and are kept: what callers may take of the
/// temporary folder, which is often memory. One request is bounded by the size of its body.
const BYTES_MAX: u64 = 1 << 30;

/// Characters of a path, as most file systems bound it, with room for the folder before it.
const PATH_CHARACTERS_MAX: usize = 1024;

/// What all overrides take together.
#[derive(Debug, Clone, Default)]
pub(super) struct Held(Arc<AtomicU64>);

impl Held {
    /// Takes so many bytes, until the share is dropped.
    fn take(&self, bytes: u64) -> Result<Share> {
        let fits = |held: u64| held.checked_add(bytes).filter(|held| *held <= BYTES_MAX);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Share { held: self.clone(), bytes }),
            Err(_) => Err(Error::new(
                Kind::StorageFull,
                "the files of models that came with requests take all the room there is for them: unload some",
            )),
        }
    }
}

#[derive(Debug)]
struct Share {
    held: Held,
    bytes: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// See the module. Two are equal if their files are.
#[derive(Debug)]
pub(in crate::catalog) struct FileOverrides {
    folder: tempfile::TempDir,
    digest: String,
    _share: Share,
}

impl PartialEq for FileOverrides {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl FileOverrides {
    /// Writes the files of a model. Blocks on the disk.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for a path that is none; [`Kind::StorageFull`].
    pub(super) fn write(name: &str, files: &[(String, Vec<u8>)], held: &Held) -> Result<Self> {
        if files.len() > FILES_MAX {
            return Err(Error::new(Kind::BadRequest, format!("more than {FILES_MAX} files are given")));
        }
        let bytes = files.iter().map(|(_, content)| u64::try_from(content.len()).unwrap_or(u64::MAX));
        let share = held.take(bytes.fold(0, u64::saturating_add))?;
        let folder = tempfile::Builder::new().prefix("sluice-model-").tempdir().map_err(kept)?;
        let mut hasher = Sha256::new();
        for (relative, content) in files {
            let path = folder.path().join(name).join(plain(relative)?);
            std::fs::create_dir_all(path.parent().unwrap_or(&path))
                .map_err(|error| unfit(relative, &error))?;
            let file = std::fs::File::create_new(&path).map_err(|error| unfit(relative, &error));
            std::io::Write::write_all(&mut file?, content).map_err(kept)?;
            for part in [relative.as_bytes(), content] {
                hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
                hasher.update(part);
            }
        }
        Ok(Self { folder, digest: files::hex(&hasher.finalize()), _share: share })
    }

    /// The folder of the model that they are of.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::catalog) fn open(&self, name: &str) -> std::result::Result<Option<Folder>, String> {
        Folder::open(self.folder.path(), name)
    }
}

/// A path below the model's folder.
fn plain(relative: &str) -> Result<&Path> {
    let path = Path::new(relative);
    let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    let is_short = relative.len() <= PATH_CHARACTERS_MAX;
    if relative.is_empty() || relative.contains('\0') || relative.ends_with('/') || !is_plain || !is_short {
        return Err(bad(relative, "is not a path below the model's folder, such as 'file:1/model.onnx'"));
    }
    Ok(path)
}

/// Why nothing can be kept.
fn kept(error: impl Display) -> Error {
    Error::new(Kind::StorageFull, "the model's files cannot be kept").with_detail(error.to_string())
}

/// Why one file has no place.
fn unfit(relative: &str, error: &std::io::Error) -> Error {
    use std::io::ErrorKind::{AlreadyExists, IsADirectory, NotADirectory};
    match error.kind() {
        AlreadyExists | IsADirectory | NotADirectory => bad(relative, "is there twice, or is a folder too"),
        _ => kept(error),
    }
}

fn bad(relative: &str, what: &str) -> Error {
    let shown: String = relative.chars().take(64).collect();
    Error::new(Kind::BadRequest, format!("parameter 'file:{shown}' {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &[(&str, &str)], held: &Held) -> Result<FileOverrides> {
        let files: Vec<_> =
            files.iter().map(|(path, content)| ((*path).to_owned(), content.as_bytes().to_vec())).collect();
        FileOverrides::write("m", &files, held)
    }

    #[test]
    fn files_lie_as_in_a_repository_and_go_with_the_last_who_knows_them() {
        let held = Held::default();
        let files = write(&[("2/model.onnx", "x"), ("2/weights/a.bin", "yz"), ("labels.txt", "a")], &held);
        let files = files.expect("fine");
        let folder = files.open("m").expect("readable").expect("there");
        assert_eq!(folder.versions, [2]);
        assert!(folder.file("2/weights/a.bin").expect("fine").is_some());
        assert_eq!(folder.text("labels.txt", 9).expect("fine").as_deref(), Some("a"));
        assert_eq!(held.0.load(Ordering::Relaxed), 4);
        let place = files.folder.path().to_owned();
        drop(files);
        assert!(std::fs::metadata(place).is_err());
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_path_that_leaves_the_folder_and_bytes_beyond_the_room_are_refused_and_leave_nothing() {
        let held = Held::default();
        let long = "x/".repeat(600) + "y";
        for bad in ["", "/etc/passwd", "../x", "1/../../x", "./1", "1/", "a\0b", &long] {
            let refused = write(&[("1/model.onnx", "x"), (bad, "x")], &held).expect_err(bad);
            assert_eq!(refused.kind(), Kind::BadRequest, "{bad:?}");
        }
        for twice in [[("1/a", "x"), ("1/a", "y")], [("1/a/b", "x"), ("1/a", "y")]] {
            assert_eq!(write(&twice, &held).expect_err("refused").kind(), Kind::BadRequest);
        }
        assert_eq!(held.0.load(Ordering::Relaxed), 0);
        let most = held.take(BYTES_MAX).expect("fits");
        assert_eq!(write(&[("1/a", "x")], &held).expect_err("refused").kind(), Kind::StorageFull);
        drop(most);
        assert!(write(&[("1/a", "x")], &held).is_ok());
    }
}
