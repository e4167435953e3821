//! Blobs: the bytes of components, by the SHA-256 of their content. Written beside,
//! synced, renamed; checked again on every read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use super::error::{Result, StoreError};
use super::faults;
use super::layout::{Layout, Lock, sync_directory};
use super::limits::BLOB_BYTES_MAX;
use super::records::BlobDigest;
use super::state::RegistryState;

/// The blobs of a store, and who still needs which.
#[derive(Debug)]
pub(super) struct Blobs {
    layout: Layout,
    state: Arc<ArcSwap<RegistryState>>,
    /// How many [`StoredBlob`]s hold each. Also held while a blob is removed, so that
    /// none is removed between its writing and the commit that names it.
    pins: Mutex<BTreeMap<BlobDigest, usize>>,
    /// An upload under way writes into the directory, so it holds the lock too.
    _lock: Lock,
}

impl Blobs {
    pub(super) fn new(layout: Layout, lock: Lock, state: Arc<ArcSwap<RegistryState>>) -> Self {
        Self { layout, state, pins: Mutex::default(), _lock: lock }
    }

    pub(super) fn begin(self: &Arc<Self>, bytes_max: u64) -> Result<BlobWriter> {
        let fault = |error| StoreError::io("begin an upload", error);
        faults::pass("blob.begun").map_err(fault)?;
        let file = tempfile::Builder::new().prefix("blob-").tempfile_in(self.layout.tmp()).map_err(fault)?;
        let bytes_max = bytes_max.min(BLOB_BYTES_MAX);
        Ok(BlobWriter { file, hasher: Sha256::new(), written: 0, bytes_max, blobs: Arc::clone(self) })
    }

    pub(super) fn read(&self, digest: &BlobDigest) -> Result<Vec<u8>> {
        let fault = |error| StoreError::io("read a blob", error);
        let file = match File::open(self.layout.blob(digest)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StoreError::NotFound { what: "blob" });
            }
            Err(error) => return Err(fault(error)),
        };
        let corrupt = |why: &str| StoreError::Corrupt { what: format!("blob {digest}: {why}") };
        let length = file.metadata().map_err(fault)?.len();
        let capacity = usize::try_from(length).map_err(|_| corrupt("too long"))?;
        if length > BLOB_BYTES_MAX {
            return Err(corrupt("too long"));
        }
        let mut bytes = Vec::with_capacity(capacity);
        file.take(BLOB_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fault)?;
        if BlobDigest::from_hash(&Sha256::digest(&bytes)) != *digest {
            return Err(corrupt("its content has another digest"));
        }
        Ok(bytes)
    }

    /// The length of a blob, if it is there. Does not read it.
    pub(super) fn length(&self, digest: &BlobDigest) -> Option<u64> {
        self.layout.blob(digest).metadata().ok().map(|metadata| metadata.len())
    }

    /// Removes a blob that nothing names and nobody holds. What cannot be removed is
    /// swept at the next start.
    pub(super) fn remove_unused(&self, digest: &BlobDigest) {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if pins.contains_key(digest) || self.state.load().names_blob(digest) {
            return;
        }
        match std::fs::remove_file(self.layout.blob(digest)) {
            Ok(()) => faults::point("blob.removed"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%digest, %error, "cannot remove an unused blob"),
        }
    }

    /// Removes every file that no version names. Only at the start, before anybody
    /// writes. Gives how many there were.
    pub(super) fn sweep(&self) -> Result<usize> {
        let fault = |error| StoreError::io("sweep the blobs", error);
        let state = self.state.load();
        let named: std::collections::BTreeSet<&str> =
            state.all_versions().map(|version| version.digest.hex()).collect();
        let mut removed = 0;
        for entry in self.layout.blobs().read_dir().map_err(fault)? {
            let entry = entry.map_err(fault)?;
            let is_named = entry.file_name().to_str().is_some_and(|name| named.contains(name));
            if !is_named && entry.file_type().map_err(fault)?.is_file() {
                std::fs::remove_file(entry.path()).map_err(fault)?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn pin(self: &Arc<Self>, digest: BlobDigest, size_bytes: u64) -> StoredBlob {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        *pins.entry(digest.clone()).or_default() += 1;
        StoredBlob { digest, size_bytes, blobs: Arc::clone(self) }
    }
}

/// Takes the bytes of an upload as they come. Dropped before [`BlobWriter::finish`],
/// it leaves nothing. All its methods block on the disk.
#[derive(Debug)]
pub struct BlobWriter {
    file: NamedTempFile,
    hasher: Sha256,
    written: u64,
    bytes_max: u64,
    blobs: Arc<Blobs>,
}

impl BlobWriter {
    /// Takes more bytes. [`StoreError::TooLarge`] at the byte that crosses the bound,
    /// before it is written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.written.checked_add(bytes.len() as u64);
        let bytes_max = self.bytes_max;
        let written = written.filter(|all| *all <= bytes_max).ok_or(StoreError::TooLarge { bytes_max })?;
        let fault = |error| StoreError::io("write an upload", error);
        faults::pass("blob.write").map_err(fault)?;
        self.file.write_all(bytes).map_err(fault)?;
        self.hasher.update(bytes);
        self.written = written;
        Ok(())
    }

    /// How many bytes came.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Puts the blob in its place, durably. After an error nothing is left, or what
    /// was there before under the same digest.
    pub fn finish(self) -> Result<StoredBlob> {
        let Self { file, hasher, written, blobs, .. } = self;
        let fault = |error| StoreError::io("store an upload", error);
        faults::pass("blob.sync").map_err(fault)?;
        file.as_file().sync_all().map_err(fault)?;
        // Held before it has its name: from here on nobody removes it.
        let stored = blobs.pin(BlobDigest::from_hash(&hasher.finalize()), written);
        faults::pass("blob.rename").map_err(fault)?;
        file.persist(blobs.layout.blob(&stored.digest)).map_err(|error| fault(error.error))?;
        faults::pass("blob.renamed").map_err(fault)?;
        sync_directory(&blobs.layout.blobs()).map_err(fault)?;
        faults::point("blob.stored");
        Ok(stored)
    }
}

/// A blob that is stored. Keep it until the commit that names its digest has
/// returned: when it is dropped and no version names the blob, the blob is removed.
/// So a refused upload cleans up after itself.
#[derive(Debug)]
pub struct StoredBlob {
    digest: BlobDigest,
    size_bytes: u64,
    blobs: Arc<Blobs>,
}

impl StoredBlob {
    /// Its content address.
    pub fn digest(&self) -> &BlobDigest {
        &self.digest
    }

    /// How long it is.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

impl Drop for StoredBlob {
    fn drop(&mut self) {
        {
            let mut pins = self.blobs.pins.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = pins.get_mut(&self.digest) {
                *count -= 1;
                if *count == 0 {
                    pins.remove(&self.digest);
                }
            }
        }
        self.blobs.remove_unused(&self.digest);
    }
}
