//! `wasi:filesystem`: folders that the configuration lets a plugin read.

use std::path::PathBuf;

use wasmtime_wasi::filesystem::{FsPerms, WasiFilesystemCtx};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::error::LoadError;

/// Folders that were opened once. Paths of plugins are resolved below them, never above;
/// moving a folder does not move what was granted.
#[derive(Clone, Default)]
pub(crate) struct Files(WasiFilesystemCtx);

impl Files {
    /// Opens the folders to be read, never written.
    ///
    /// # Errors
    /// [`LoadError::Io`] if one cannot be opened; it names the plugin's path.
    pub(crate) fn open(folders: &[(PathBuf, String)]) -> Result<Self, LoadError> {
        let mut builder = WasiCtxBuilder::new();
        builder.allow_blocking_current_thread(false);
        for (host, guest) in folders {
            builder
                .preopened_dir(host, guest, FsPerms::ReadOnly)
                .map_err(|error| LoadError::Io(format!("folder {guest} of the plugin: {error:#}")))?;
        }
        Ok(Self(builder.build().filesystem().clone()))
    }

    /// Puts the folders into a context.
    pub(crate) fn grant(&self, context: &mut WasiCtx) {
        *context.filesystem() = self.0.clone();
    }
}
