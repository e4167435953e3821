//! Compiled code, kept between starts.
//!
//! Compiled code is native code: whoever can write a file here runs code in the
//! gateway. So the directory is made by us and closed to others, every file is
//! hashed before it is loaded, and code that somebody sends is never taken.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::account::Account;
use crate::error::LoadError;

/// The subdirectory of the configured directory. Its name changes with the
/// format of the files.
const DIRECTORY: &str = "compiled-v1";

/// What every file starts with.
const MAGIC: &[u8; 8] = b"sluice\x01\n";

/// Magic, component digest, engine hash, code digest.
const HEADER_BYTES: usize = 8 + 32 + 32 + 32;

/// Files that are kept. A plugin has one for each version of itself and of the
/// gateway; those that were used longest ago go first, but none of a plugin that is
/// loaded: it would have to be compiled again before it could be.
const FILES_MAX: usize = 256;

/// Bytes of all files that are kept, so that no crowd of large components fills the disk.
const BYTES_MAX: u64 = 8 << 30;

/// A digest, as SHA-256 makes it.
pub(crate) type Sha = [u8; 32];

pub(crate) fn sha256(bytes: &[u8]) -> Sha {
    Sha256::digest(bytes).into()
}

pub(crate) fn hex(digest: &Sha) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(64), |mut out, byte| {
        // Writing to a string cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

/// The digest that [`hex`] wrote.
pub(crate) fn unhex(text: &str) -> Option<Sha> {
    let mut digest = [0; 32];
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    if pairs.len() != digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(pairs) {
        let digit = |index: usize| char::from(pair[index]).to_digit(16);
        *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
    }
    Some(digest)
}

/// How old an unfinished file is that nobody finishes any more: writing one takes a second.
const PART_AGE: Duration = Duration::from_secs(600);

/// Removes files that a killed process has begun. What cannot be removed only takes room.
fn remove_parts(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_part = entry.file_name().to_string_lossy().starts_with(".part-");
        let modified = entry.metadata().and_then(|found| found.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if is_part && age.is_some_and(|age| age > PART_AGE) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// See the module's description.
pub(crate) struct Cache {
    directory: PathBuf,
    /// Settings and version of wasmtime: code for others cannot be loaded.
    engine_hash: Sha,
    /// Components of loaded plugins, and what lives as long as each of those.
    loaded: Mutex<Vec<(Sha, Weak<Account>)>>,
}

impl Cache {
    /// Opens the cache in `parent`, making what is missing.
    ///
    /// # Errors
    /// [`LoadError::Io`] when the directory cannot be made, or is open to
    /// others, or belongs to somebody else.
    pub(crate) fn open(parent: &Path, engine: &Engine) -> Result<Self, LoadError> {
        let directory = parent.join(DIRECTORY);
        let fail = |error: io::Error| LoadError::Io(format!("code cache {}: {error}", directory.display()));
        fs::create_dir_all(parent).map_err(fail)?;
        match DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(fail(error)),
            _ => {}
        }
        let found = fs::symlink_metadata(&directory).map_err(fail)?;
        if !found.is_dir() || found.mode() & 0o077 != 0 {
            return Err(fail(io::Error::other(
                "must be a directory that only its owner can enter (mode 0700)",
            )));
        }
        // What we make belongs to us, so it tells who we are. The number tells apart
        // several sandboxes of one process.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let probe = directory.join(format!(".probe-{}-{number}", std::process::id()));
        let made = File::create(&probe).and_then(|file| file.metadata()).map_err(fail)?;
        fs::remove_file(&probe).map_err(fail)?;
        if made.uid() != found.uid() {
            return Err(fail(io::Error::other("belongs to another user")));
        }
        remove_parts(&directory);
        let mut hasher = ShaHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Ok(Self { directory, engine_hash: hasher.0.finalize().into(), loaded: Mutex::default() })
    }

    /// The compiled component, if it is here and whole.
    pub(crate) fn load(&self, engine: &Engine, digest: &Sha) -> Option<Component> {
        let path = self.path(digest);
        let file = fs::read(&path).ok()?;
        let code = self.check(&file, digest)?;
        // What is used is not among the oldest. Without that it only goes earlier.
        let _ = OpenOptions::new().write(true).open(&path).and_then(|it| it.set_modified(SystemTime::now()));
        deserialize_cached(engine, code)
    }

    /// Keeps the code of a component for as long as its plugin is loaded.
    pub(crate) fn keep(&self, digest: &Sha, plugin: &Arc<Account>) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|(_, plugin)| plugin.strong_count() > 0);
        loaded.push((*digest, Arc::downgrade(plugin)));
    }

    fn is_kept(&self, path: &Path) -> bool {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().any(|(digest, plugin)| plugin.strong_count() > 0 && self.path(digest) == *path)
    }

    /// The code in a file that was written for this component and this engine,
    /// and has not changed since.
    fn check<'a>(&self, file: &'a [u8], digest: &Sha) -> Option<&'a [u8]> {
        let (header, code) = file.split_at_checked(HEADER_BYTES)?;
        (header == self.header(digest, code)).then_some(code)
    }

    fn header(&self, digest: &Sha, code: &[u8]) -> Vec<u8> {
        [MAGIC.as_slice(), digest, &self.engine_hash, &sha256(code)].concat()
    }

    /// Whether there is a file for it. Whether that is whole shows when it is loaded.
    pub(crate) fn has(&self, digest: &Sha) -> bool {
        fs::metadata(self.path(digest)).is_ok_and(|found| found.is_file())
    }

    /// Keeps compiled code. Failing costs only the next start some time, so it
    /// is logged and no more.
    pub(crate) fn store(&self, code: &[u8], digest: &Sha) {
        if let Err(error) = self.try_store(code, digest) {
            tracing::warn!(%error, "compiled plugin cannot be cached");
        }
    }

    fn try_store(&self, code: &[u8], digest: &Sha) -> io::Result<()> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let part = self.directory.join(format!(".part-{}-{number}", std::process::id()));
        let written = self.write(&part, code, digest).and_then(|()| fs::rename(&part, self.path(digest)));
        if written.is_err() {
            let _ = fs::remove_file(&part);
        }
        written.and_then(|()| self.prune())
    }

    fn write(&self, path: &Path, code: &[u8], digest: &Sha) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&self.header(digest, code))?;
        file.write_all(code)?;
        file.sync_all()
    }

    /// Removes the oldest files above [`FILES_MAX`] and [`BYTES_MAX`].
    fn prune(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Somebody else who writes may have removed it meanwhile.
            let Some(found) = unless_gone(entry.metadata())? else { continue };
            files.push((found.modified()?, found.len(), entry.path()));
        }
        files.sort();
        let mut count = files.len();
        let mut bytes = files.iter().fold(0_u64, |sum, (_, bytes, _)| sum.saturating_add(*bytes));
        for (_, length, path) in files {
            if count <= FILES_MAX && bytes <= BYTES_MAX {
                break;
            }
            if self.is_kept(&path) {
                continue;
            }
            unless_gone(fs::remove_file(&path))?;
            count -= 1;
            bytes = bytes.saturating_sub(length);
        }
        Ok(())
    }

    fn path(&self, digest: &Sha) -> PathBuf {
        let engine = hex(&self.engine_hash);
        self.directory.join(format!("{}-{}.cwasm", hex(digest), &engine[..16]))
    }
}

/// Nothing for a file that is not there any more.
fn unless_gone<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        outcome => outcome.map(Some),
    }
}

/// Loads compiled code that [`Cache::check`] let through.
#[allow(unsafe_code, reason = "wasmtime cannot check native code; the cache vouches for it")]
fn deserialize_cached(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: `code` must be what `Component::serialize` gave. `Cache::write` is
    // the only writer of the directory, which no other user can enter, and the
    // bytes were just compared with the digest written beside them; they are in
    // our memory, so they cannot change after that.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Loads compiled code that [`crate::verify::verify`] of this program just made.
///
/// # Errors
/// What wasmtime says to code of another version or other settings, or for which the pool
/// has no place.
#[allow(unsafe_code, reason = "wasmtime cannot check native code; the caller vouches for it")]
pub(crate) fn deserialize_verified(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `code` must be what `precompile_component` gave. Callers of
    // `Sandbox::load_verified` promise that it is the answer of a process that is this very
    // program, started by them, whose answer came through a pipe that nobody else holds.
    // The component that it compiled cannot choose that answer: it is never run there.
    // The bytes are in our memory, so they cannot change.
    unsafe { Component::deserialize(engine, code) }
}

/// A hasher whose result is the same in every process, unlike the standard one.
struct ShaHasher(Sha256);

impl Hasher for ShaHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: Sha = self.0.clone().finalize().into();
        digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_code_goes_and_that_of_loaded_plugins_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::open(folder.path(), &Engine::default()).expect("opens");
        let digest = |number: usize| sha256(&number.to_le_bytes());
        let plugin = Arc::new(Account::new(1));
        cache.keep(&digest(0), &plugin);
        for number in 0..FILES_MAX + 3 {
            cache.try_store(b"code", &digest(number)).expect("written");
            let age = std::time::Duration::from_secs(u64::try_from(FILES_MAX + 3 - number).expect("few"));
            let file = OpenOptions::new().write(true).open(cache.path(&digest(number))).expect("there");
            file.set_modified(SystemTime::now() - age).expect("set");
        }
        let gone: Vec<usize> = (0..FILES_MAX + 3).filter(|number| !cache.has(&digest(*number))).collect();
        assert_eq!(gone, [1, 2, 3], "the first one is in use");
        drop(plugin);
        cache.try_store(b"code", &digest(999)).expect("written");
        assert!(!cache.has(&digest(0)), "nobody uses it any more");
    }
}
