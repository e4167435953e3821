//! The folders of a model repository: `MODEL/config.pbtxt`, `MODEL/VERSION/model.onnx`.
//!
//! Whatever is read lies below the repository: a symbolic link may lead around in it (as
//! mounted volumes do), never out of it.

use std::fs::Metadata;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use crate::catalog::files;

/// Models of one repository. One more folder is an error: a path that is too high up
/// should not make the gateway read a whole disk.
pub(in crate::catalog) const MODELS_MAX: usize = 1024;

/// Versions of one model.
const VERSIONS_MAX: usize = 1024;

/// Files of one model, of all versions together. External weights may come in hundreds of
/// pieces.
const FILES_MAX: usize = 10_000;

/// How deep a model's folders may nest.
const DEPTH_MAX: usize = 8;

/// A model's folder.
#[derive(Debug, Clone)]
pub(in crate::catalog) struct Folder {
    /// The repository, without symbolic links.
    root: PathBuf,
    /// The folder, without symbolic links.
    path: PathBuf,
    /// Its versions, ascending.
    pub(in crate::catalog) versions: Vec<u64>,
}

/// The names of a repository's models, sorted.
///
/// # Errors
/// The folder cannot be read, or has too many entries.
pub(in crate::catalog) fn list(root: &Path) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root).map_err(|error| fault(root, &error))? {
        let entry = entry.map_err(|error| fault(root, &error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // Hidden folders are those of tools; what is no name could not be asked for.
        if name.starts_with('.') || sluice_tensor::check_name(&name).is_err() || !entry.path().is_dir() {
            continue;
        }
        if names.len() == MODELS_MAX {
            return Err(format!("{} has more than {MODELS_MAX} models", root.display()));
        }
        names.push(name);
    }
    names.sort_unstable();
    Ok(names)
}

impl Folder {
    /// Looks at a model's folder. `None` if there is none.
    ///
    /// # Errors
    /// It leads out of the repository, or cannot be read.
    pub(in crate::catalog) fn open(root: &Path, name: &str) -> Result<Option<Self>, String> {
        let given = root.join(name);
        if sluice_tensor::check_name(name).is_err() || !given.is_dir() {
            return Ok(None);
        }
        let root = root.canonicalize().map_err(|error| fault(root, &error))?;
        let mut folder = Self { path: PathBuf::new(), root, versions: Vec::new() };
        folder.path = folder.inside(&given)?;
        for entry in std::fs::read_dir(&folder.path).map_err(|error| fault(&given, &error))? {
            let entry = entry.map_err(|error| fault(&given, &error))?;
            let name = entry.file_name();
            let version = name.to_str().and_then(version_number);
            let Some(version) = version.filter(|_| entry.path().is_dir()) else { continue };
            if folder.versions.len() == VERSIONS_MAX {
                return Err(format!("has more than {VERSIONS_MAX} versions"));
            }
            folder.versions.push(version);
        }
        folder.versions.sort_unstable();
        Ok(Some(folder))
    }

    /// A path without symbolic links, if it is in the repository.
    fn inside(&self, path: &Path) -> Result<PathBuf, String> {
        let real = path.canonicalize().map_err(|error| fault(path, &error))?;
        if real.starts_with(&self.root) {
            return Ok(real);
        }
        Err(format!("{} leads out of the repository", path.display()))
    }

    /// A file of the model, by a path below its folder. `None` if it is not there.
    ///
    /// # Errors
    /// It is no file, or not below the folder.
    pub(in crate::catalog) fn file(&self, relative: &str) -> Result<Option<PathBuf>, String> {
        let path = Path::new(relative);
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        if relative.is_empty() || relative.contains('\0') || !is_plain {
            return Err(format!("{relative:?} is not a path below the model's folder"));
        }
        let path = self.path.join(path);
        match std::fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(fault(&path, &error)),
            Ok(metadata) if !metadata.is_file() => Err(format!("{} is not a file", path.display())),
            Ok(_) => self.inside(&path).map(Some),
        }
    }

    /// A text of at most so many bytes. `None` if it is not there.
    ///
    /// # Errors
    /// It cannot be read, is too large, or is not UTF-8.
    pub(in crate::catalog) fn text(&self, relative: &str, bytes_max: u64) -> Result<Option<String>, String> {
        let Some(path) = self.file(relative)? else { return Ok(None) };
        let content = files::read(&path, bytes_max)?;
        String::from_utf8(content).map(Some).map_err(|_| format!("{relative} is not UTF-8"))
    }

    /// The digest of all files of a version: weights may lie beside the model's file.
    ///
    /// # Errors
    /// A file cannot be read or leads out of the repository.
    pub(in crate::catalog) fn version_digest(&self, version: u64) -> Result<String, String> {
        let mut hasher = Sha256::new();
        let mut count = 0;
        self.walk(&self.path.join(version.to_string()), 0, &mut count, &mut |path, _| {
            hasher.update(path.strip_prefix(&self.path).unwrap_or(path).as_os_str().as_encoded_bytes());
            hasher.update([0]);
            hasher.update(files::digest_file(path)?.as_bytes());
            Ok(())
        })?;
        Ok(files::hex(&hasher.finalize()))
    }

    /// What tells whether anything in the folder has changed, without reading files; and how
    /// long nothing has been written.
    ///
    /// # Errors
    /// It cannot be read, or has too many files.
    pub(in crate::catalog) fn stamp(&self) -> Result<(String, Duration), String> {
        let mut hasher = Sha256::new();
        let (mut count, mut newest) = (0, SystemTime::UNIX_EPOCH);
        self.walk(&self.path, 0, &mut count, &mut |path, metadata| {
            hasher.update(path.as_os_str().as_encoded_bytes());
            hasher.update([0]);
            hasher.update(metadata.len().to_le_bytes());
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            hasher.update(since.as_nanos().to_le_bytes());
            hasher.update(identity(metadata));
            newest = newest.max(modified);
            Ok(())
        })?;
        let quiet = newest.elapsed().unwrap_or_default();
        Ok((files::hex(&hasher.finalize()), quiet))
    }

    /// Calls `each` with every file and folder below one, in a fixed order.
    fn walk(
        &self,
        folder: &Path,
        depth: usize,
        count: &mut usize,
        each: &mut dyn FnMut(&Path, &Metadata) -> Result<(), String>,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("folders nest deeper than {DEPTH_MAX} levels"));
        }
        let entries = std::fs::read_dir(folder).map_err(|error| fault(folder, &error))?;
        let mut paths = Vec::new();
        for entry in entries {
            *count += 1;
            if *count > FILES_MAX {
                return Err(format!("has more than {FILES_MAX} files"));
            }
            paths.push(entry.map_err(|error| fault(folder, &error))?.path());
        }
        paths.sort_unstable();
        for path in paths {
            let metadata = std::fs::metadata(&path).map_err(|error| fault(&path, &error))?;
            if metadata.is_dir() {
                self.inside(&path)?;
                self.walk(&path, depth + 1, count, each)?;
            } else if metadata.is_file() {
                self.inside(&path)?;
                each(&path, &metadata)?;
            } else {
                return Err(format!("{} is neither a file nor a folder", path.display()));
            }
        }
        Ok(())
    }
}

/// A folder's name as a version: digits that do not begin with 0.
pub(in crate::catalog) fn version_number(name: &str) -> Option<u64> {
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit()) && !name.starts_with('0');
    name.parse().ok().filter(|_| is_number)
}

#[cfg(unix)]
fn identity(metadata: &Metadata) -> [u8; 24] {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = [0; 24];
    let numbers =
        [metadata.ino().to_le_bytes(), metadata.ctime().to_le_bytes(), metadata.ctime_nsec().to_le_bytes()];
    bytes.copy_from_slice(&numbers.concat());
    bytes
}

#[cfg(not(unix))]
fn identity(_metadata: &Metadata) -> [u8; 0] {
    []
}

fn fault(path: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repository(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, file).expect("written");
        }
        folder
    }

    #[test]
    fn versions_are_folders_with_numbers() {
        let root = repository(&[
            "m/1/model.onnx",
            "m/10/model.onnx",
            "m/2/x",
            "m/01/x",
            "m/0/x",
            "m/a/x",
            "m/3",
            ".git/x",
            "f",
        ]);
        assert_eq!(list(root.path()).expect("readable"), ["m"]);
        let folder = Folder::open(root.path(), "m").expect("readable").expect("there");
        assert_eq!(folder.versions, [1, 2, 10]);
        assert!(folder.file("1/model.onnx").expect("fine").is_some());
        assert!(folder.file("2/model.onnx").expect("fine").is_none());
        for bad in ["", "../m/1/model.onnx", "/etc/passwd", "1", "1/../../f", "./1/model.onnx\0"] {
            assert!(folder.file(bad).is_err(), "{bad:?}");
        }
        for none in ["", "..", "x", "m/1"] {
            assert!(Folder::open(root.path(), none).expect("fine").is_none(), "{none:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_out_of_the_repository_is_refused_and_one_inside_is_followed() {
        use std::os::unix::fs::symlink;
        let outside = repository(&["o/1/model.onnx"]);
        let root = repository(&["m/1/model.onnx", "n/1/x", "..data/2/model.onnx"]);
        symlink(outside.path().join("o"), root.path().join("o")).expect("linked");
        assert!(Folder::open(root.path(), "o").expect_err("refused").contains("leads out"));
        symlink(outside.path().join("o/1/model.onnx"), root.path().join("n/1/model.onnx")).expect("linked");
        let n = Folder::open(root.path(), "n").expect("readable").expect("there");
        assert!(n.file("1/model.onnx").expect_err("refused").contains("leads out"));
        assert!(n.stamp().is_err() && n.version_digest(1).is_err());
        symlink(outside.path().join("o/1"), root.path().join("n/2")).expect("linked");
        let n = Folder::open(root.path(), "n").expect("readable").expect("there");
        assert!(n.file("2/model.onnx").is_err());
        symlink("../..data/2", root.path().join("m/2")).expect("linked");
        let m = Folder::open(root.path(), "m").expect("readable").expect("there");
        assert!(m.file("2/model.onnx").expect("fine").is_some());
        // A link in a circle ends.
        symlink("../m", root.path().join("m/3")).expect("linked");
        assert!(m.stamp().is_err());
    }

    #[test]
    fn a_change_anywhere_in_the_folder_is_seen() {
        let root = repository(&["m/1/model.onnx", "m/1/weights/a.bin"]);
        let folder = Folder::open(root.path(), "m").expect("readable").expect("there");
        let (stamp, digest) = (folder.stamp().expect("fine").0, folder.version_digest(1).expect("fine"));
        assert_eq!(folder.stamp().expect("fine").0, stamp);
        std::fs::write(root.path().join("m/1/weights/a.bin"), "m/1/weights/a.biN").expect("written");
        assert_ne!(folder.stamp().expect("fine").0, stamp);
        assert_ne!(folder.version_digest(1).expect("fine"), digest);
    }
}
