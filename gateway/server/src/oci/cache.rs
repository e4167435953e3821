//! What was pulled, on disk by digest: a restart needs no registry.
//!
//! Nothing in it is trusted. The manifest is checked against the digest that was asked
//! for, and the component against the manifest, each time they are read; what does not
//! fit is as good as absent.

use std::fs::DirBuilder;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;

use super::manifest::{self, MANIFEST_BYTES_MAX};
use super::{Digest, OciError};

/// Files that are kept; beyond this the ones that were not used for longest go. A plugin
/// has two, and a node serves dozens of plugins.
const FILES_MAX: usize = 1024;

/// Bytes that are kept.
const BYTES_MAX: u64 = 4 << 30;

/// A directory of files that are named by the digest of their content.
#[derive(Debug, Clone)]
pub(super) struct Cache(PathBuf);

impl Cache {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// A manifest and its component, if both are there, whole, and small enough.
    pub(super) fn find(&self, digest: Digest, bytes_max: u64) -> Option<(Bytes, Bytes)> {
        let content = self.read(digest, MANIFEST_BYTES_MAX)?;
        let plugin = manifest::read(&content).ok()?;
        let component = self.read(plugin.component, plugin.size.min(bytes_max))?;
        (component.len() as u64 == plugin.size).then_some((content, component))
    }

    /// Keeps a manifest and its component.
    ///
    /// # Errors
    /// [`OciError::Cache`]: the plugin was pulled all the same.
    pub(super) fn keep(&self, manifest: &[u8], component: &[u8]) -> Result<(), OciError> {
        let kept = (|| {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            // The component first: a manifest that is there has its component.
            self.write(component)?;
            self.write(manifest)?;
            self.prune()
        })();
        kept.map_err(|error: std::io::Error| OciError::Cache(format!("{}: {error}", self.0.display())))
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.0.join(digest.hex())
    }

    fn read(&self, digest: Digest, bytes_max: u64) -> Option<Bytes> {
        let path = self.path(digest);
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(file = %path.display(), %error, "pulled plugin cannot be read");
                }
                return None;
            }
        };
        let mut content = Vec::new();
        (&file).take(bytes_max.saturating_add(1)).read_to_end(&mut content).ok()?;
        if content.len() as u64 > bytes_max || Digest::of(&content) != digest {
            tracing::warn!(file = %path.display(), "pulled plugin is damaged, it is pulled again");
            return None;
        }
        // What is used stays; that it does not matter if this fails is the worst of it.
        let _ = file.set_modified(SystemTime::now());
        Some(Bytes::from(content))
    }

    /// Whole or not at all, whoever else writes the same.
    fn write(&self, content: &[u8]) -> std::io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(&self.0)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.path(Digest::of(content))).map_err(|error| error.error)?;
        std::fs::File::open(&self.0)?.sync_all()
    }

    fn prune(&self) -> std::io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let is_ours = entry.file_name().to_str().is_some_and(is_name);
            let Ok(data) = entry.metadata() else { continue };
            if is_ours && data.is_file() {
                files.push((data.modified().unwrap_or(SystemTime::UNIX_EPOCH), data.len(), entry.path()));
            }
        }
        files.sort_unstable();
        remove_oldest(&files, FILES_MAX, BYTES_MAX)
    }
}

fn is_name(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn remove_oldest(
    files: &[(SystemTime, u64, impl AsRef<Path>)],
    files_max: usize,
    bytes_max: u64,
) -> std::io::Result<()> {
    let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (place, (_, size, path)) in files.iter().enumerate() {
        if files.len() - place <= files_max && bytes <= bytes_max {
            break;
        }
        std::fs::remove_file(path)?;
        bytes -= size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Description, make};
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let directory = tempfile::tempdir().expect("a folder");
        let cache = Cache::new(directory.path().join("oci"));
        (directory, cache)
    }

    #[test]
    fn what_was_kept_is_found_and_what_was_altered_is_not() {
        let (_directory, cache) = cache();
        let manifest = make(b"component", &Description::default()).expect("makes").manifest;
        let digest = Digest::of(&manifest);
        assert_eq!(cache.find(digest, 100), None);
        cache.keep(&manifest, b"component").expect("keeps");
        let found = cache.find(digest, 100).expect("found");
        assert_eq!((&found.0[..], &found.1[..]), (&manifest[..], &b"component"[..]));
        assert_eq!(cache.find(digest, 8), None, "larger than is allowed now");
        std::fs::write(cache.path(Digest::of(b"component")), b"something").expect("writes");
        assert_eq!(cache.find(digest, 100), None);
    }

    #[test]
    fn the_oldest_go_first() {
        let (directory, _) = cache();
        let files: Vec<_> = (0..4)
            .map(|n| {
                let path = directory.path().join(n.to_string());
                std::fs::write(&path, b"1234567890").expect("writes");
                (SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(n), 10, path)
            })
            .collect();
        remove_oldest(&files, 3, 25).expect("removes");
        let left: Vec<_> = files.iter().map(|(_, _, path)| std::fs::metadata(path).is_ok()).collect();
        assert_eq!(left, [false, false, true, true]);
    }
}
