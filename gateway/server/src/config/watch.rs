//! Says when the files of the configuration may have changed.
//!
//! Directories are watched, not files: editors replace a file, and Kubernetes swaps a
//! symbolic link (`..data`) beside it. Events only wake the watcher; what counts is the
//! content, so a touched file is no change. A look every [`POLL`] finds what events
//! miss: a folder that was replaced, a network file system, a machine that has no more
//! inotify watches. (A Kubernetes `subPath` mount never changes; nothing can see that.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// How long files must be quiet before a change is told. Editors and package managers
/// write in several steps within some milliseconds; people do not notice 200.
pub const DEBOUNCE: Duration = Duration::from_millis(200);
/// After this many times [`DEBOUNCE`] a change is told although files are not quiet, so
/// that constant writing delays a reload but does not prevent it.
pub const DEBOUNCES_MAX: u32 = 10;
/// How often files are looked at although no event came.
pub const POLL: Duration = Duration::from_secs(2);

/// The watcher cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot start the thread that watches files: {0}")]
pub struct WatchError(#[from] std::io::Error);

/// A running watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    changes: mpsc::Receiver<()>,
    wake: SyncSender<()>,
    is_stopped: Arc<AtomicBool>,
}

impl Watcher {
    /// Waits until some file may have changed since the last call, or since [`watch`].
    /// Changes that were not waited for are told once. A file that is gone is a change.
    /// Cancel-safe: a change is not lost with a dropped future.
    pub async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            // The thread has ended and said so; there is nothing to wait for.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        // Full means that the thread is about to look anyway.
        let _ = self.wake.try_send(());
    }
}

/// Watches the files that `paths` names, on a thread of its own. `paths` is asked
/// before every look, so it follows the running configuration ([`super::Config::files`]).
/// The state at the time of the call is what the first change is measured against: all
/// files are read once before this returns, so call it where blocking is allowed.
///
/// # Errors
/// No thread could be started. That events cannot be had is no error: the files are
/// then looked at every [`POLL`].
pub fn watch(paths: impl Fn() -> Vec<PathBuf> + Send + 'static) -> Result<Watcher, WatchError> {
    // One waiting wake-up says as much as a thousand.
    let (wake, woken) = sync_channel(1);
    let (tell, changes) = mpsc::channel(1);
    let is_stopped = Arc::new(AtomicBool::new(false));
    let mut looker = Looker {
        known: Contents::default(),
        events: Events::new(wake.clone()),
        woken,
        is_stopped: is_stopped.clone(),
    };
    looker.known.look(&paths());
    looker.events.follow(&paths());
    std::thread::Builder::new().name("sluice-watch".to_owned()).spawn(move || looker.run(&paths, &tell))?;
    Ok(Watcher { changes, wake, is_stopped })
}

struct Looker {
    known: Contents,
    events: Events,
    woken: Receiver<()>,
    is_stopped: Arc<AtomicBool>,
}

impl Looker {
    fn run(mut self, paths: &dyn Fn() -> Vec<PathBuf>, tell: &mpsc::Sender<()>) {
        loop {
            if self.woken.recv_timeout(POLL).is_ok() {
                self.wait_for_quiet();
            }
            if self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
            let paths = paths();
            // Followed first: what changes after the look then makes an event.
            self.events.follow(&paths);
            if self.known.look(&paths) {
                // Full means that the last change has not been taken yet.
                let _ = tell.try_send(());
            }
        }
    }

    fn wait_for_quiet(&self) {
        for _ in 0..DEBOUNCES_MAX {
            std::thread::sleep(DEBOUNCE);
            if self.woken.try_recv().is_err() || self.is_stopped.load(Ordering::Relaxed) {
                return;
            }
        }
    }
}

/// What the files contained at the last look.
#[derive(Debug, Default)]
struct Contents(BTreeMap<PathBuf, Option<Content>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    stamp: Stamp,
    digest: [u8; 32],
}

impl Contents {
    /// Looks again, and says whether some content differs. A path that is new in the
    /// list differs only by being looked at for the first time, which is no change.
    fn look(&mut self, paths: &[PathBuf]) -> bool {
        let mut is_changed = false;
        let mut now = BTreeMap::new();
        for path in paths {
            let before = self.0.get(path);
            let content = content(path, before.and_then(Option::as_ref));
            let digest = |content: &Option<Content>| content.as_ref().map(|content| content.digest);
            is_changed |= before.is_some_and(|before| digest(before) != digest(&content));
            now.insert(path.clone(), content);
        }
        self.0 = now;
        is_changed
    }
}

/// Files of this length are hashed again only if the kernel says that they changed.
const LARGE_BYTES: u64 = 1 << 20;

/// The content of a file, or None if it cannot be read. Hashing a large model again and
/// again would cost, so that is skipped while the kernel says that it is the same file
/// and nobody wrote to it. (The change time cannot be set by programs. It has steps of
/// milliseconds, though, so small files are always read.)
fn content(path: &Path, before: Option<&Content>) -> Option<Content> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok().filter(Metadata::is_file)?;
    let stamp = Stamp::of(&metadata);
    match before {
        Some(before) if before.stamp == stamp && stamp.length >= LARGE_BYTES => Some(before.clone()),
        _ => Some(Content { stamp, digest: digest(file).ok()? }),
    }
}

fn digest(mut file: File) -> std::io::Result<[u8; 32]> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..length).unwrap_or_default());
    }
}

/// What identifies a version of a file without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    length: u64,
    #[cfg(unix)]
    inode: (u64, u64),
    #[cfg(unix)]
    changed: (i64, i64),
    #[cfg(not(unix))]
    modified: Option<std::time::SystemTime>,
}

impl Stamp {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            length: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok() }
    }
}

/// The system's events for the folders that matter.
struct Events {
    watcher: Option<notify::RecommendedWatcher>,
    followed: BTreeMap<PathBuf, PathBuf>,
}

impl Events {
    fn new(wake: SyncSender<()>) -> Self {
        let handler = move |event: notify::Result<notify::Event>| {
            // Reading makes events too, and we read. Errors (a queue that ran over) wake.
            let is_read = event.is_ok_and(|event| match event.kind {
                EventKind::Access(kind) => kind != AccessKind::Close(AccessMode::Write),
                _ => false,
            });
            if !is_read {
                let _ = wake.try_send(());
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(
                |error| tracing::warn!(%error, "no file events, files are looked at every two seconds"),
            )
            .ok();
        Self { watcher, followed: BTreeMap::new() }
    }

    /// Watches the folders of the paths, and those of the files that symbolic links
    /// lead to. A folder that was replaced is watched anew.
    fn follow(&mut self, paths: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let targets = paths.iter().filter_map(|path| path.canonicalize().ok());
        let all: BTreeSet<PathBuf> =
            paths.iter().cloned().chain(targets).filter_map(|path| Some(path.parent()?.to_owned())).collect();
        let wanted: BTreeMap<PathBuf, PathBuf> =
            all.into_iter().filter_map(|folder| Some((folder.clone(), identity(&folder)?))).collect();
        for (folder, identity) in &self.followed {
            if wanted.get(folder) != Some(identity) {
                // It may be gone, and with it the watch.
                let _ = watcher.unwatch(folder);
            }
        }
        let before = std::mem::take(&mut self.followed);
        for (folder, identity) in wanted {
            let is_known = before.get(&folder) == Some(&identity);
            if is_known || watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok() {
                self.followed.insert(folder, identity);
            }
        }
    }
}

/// What tells a folder from another one that has taken its path.
fn identity(folder: &Path) -> Option<PathBuf> {
    let real = folder.canonicalize().ok()?;
    #[cfg(unix)]
    let real = {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = real.metadata().ok()?;
        real.join(format!("{}:{}", metadata.dev(), metadata.ino()))
    };
    Some(real)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
