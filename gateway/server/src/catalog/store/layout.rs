//! The state directory: where things lie, who may read them, and the lock that keeps
//! a second gateway out.
//!
//! ```text
//! lock                 held while a gateway uses the directory; holds its process id
//! registry.redb        the records
//! registry.backup      the same records once more, see `backup`
//! blobs/sha256/<hex>   the components' bytes
//! tmp/                 what is being written; swept at every start
//! ```

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::error::{Result, StoreError};
use super::records::BlobDigest;

/// Only the gateway's user may read, write or enter.
const DIRECTORY_MODE: u32 = 0o700;

/// Permissions that let others change what the gateway trusts.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// How often, and with what pause, the lock is tried: a gateway that was killed lets go
/// when the kernel has cleaned up after it and after its children. Half a second is
/// ten times what that was seen to take. Then the start is refused.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Creates what is missing. A directory that exists keeps its owner's choice of
    /// permissions, but what is in it is ours.
    pub(super) fn prepare(root: &Path) -> Result<Self> {
        let layout = Self { root: root.to_path_buf() };
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE);
        for directory in [root.to_path_buf(), layout.blobs(), layout.tmp()] {
            let fault = |error: io::Error| StoreError::at("create the state directory", &directory, &error);
            builder.create(&directory).map_err(fault)?;
        }
        for directory in [layout.root.join("blobs"), layout.blobs(), layout.tmp()] {
            let fault = |error: io::Error| StoreError::at("close the state directory", &directory, &error);
            let mode = directory.metadata().map_err(fault)?.permissions().mode();
            if mode & 0o777 != DIRECTORY_MODE {
                std::fs::set_permissions(&directory, Permissions::from_mode(DIRECTORY_MODE))
                    .map_err(fault)?;
            }
        }
        Ok(layout)
    }

    /// If others may change what is in the directory: a warning for the operator.
    pub(super) fn warning(&self) -> Option<String> {
        let mode = self.root.metadata().ok()?.permissions().mode() & 0o777;
        (mode & WRITABLE_BY_OTHERS != 0).then(|| {
            format!("the state directory can be changed by other users (mode {mode:o}); 700 is enough")
        })
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn registry(&self) -> PathBuf {
        self.root.join("registry.redb")
    }

    pub(super) fn backup(&self) -> PathBuf {
        self.root.join("registry.backup")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    pub(super) fn blob(&self, digest: &BlobDigest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    /// Takes the directory for this process. The lock is the kernel's: it goes with
    /// the process, however that ends.
    pub(super) fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let fault = |error: io::Error| StoreError::at("lock the state directory", &path, &error);
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = opened.map_err(fault)?;
        let mut attempts = 0;
        while let Err(error) = flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(fault(error.into()));
            }
            attempts += 1;
            if attempts == LOCK_ATTEMPTS {
                let mut text = String::new();
                let read = file.take(32).read_to_string(&mut text);
                let pid = read.ok().and_then(|_| text.trim().parse().ok());
                return Err(StoreError::Locked { dir: self.root.clone(), pid });
            }
            std::thread::sleep(LOCK_PAUSE);
        }
        // For people and for the message above. A full disk must not keep us from starting.
        let written = file.set_len(0).and_then(|()| file.rewind());
        if let Err(error) = written.and_then(|()| writeln!(file, "{}", std::process::id())) {
            tracing::warn!(%error, "cannot note the process id in the lock file");
        }
        Ok(Lock { file })
    }

    /// Removes everything in `tmp/`: nobody is writing, since we hold the lock.
    pub(super) fn sweep(&self) -> Result<()> {
        let tmp = self.tmp();
        let fault = |error: io::Error| StoreError::at("sweep the state directory", &tmp, &error);
        for entry in tmp.read_dir().map_err(fault)? {
            let entry = entry.map_err(fault)?;
            if entry.file_type().map_err(fault)?.is_dir() {
                std::fs::remove_dir_all(entry.path()).map_err(fault)?;
            } else {
                std::fs::remove_file(entry.path()).map_err(fault)?;
            }
        }
        Ok(())
    }
}

/// The state directory is this process's as long as this lives.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    /// Closing the file is not enough: a child process between its fork and its exec
    /// has it open too.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::warn!(%error, "cannot unlock the state directory");
        }
    }
}

/// Makes renames and removals in a directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
