//! One open file: a thread that writes groups, and readers off the guests' threads.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redb::Database;
use redb::backends::FileBackend;
use sluice_sandbox::KeyValueError;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::Turn;
use super::table::{self, Answer, Write};
use crate::services::limits::other;

/// Pages of the file that are kept in memory. redb would take a gigabyte.
const CACHE_BYTES: usize = 32 << 20;

/// Reads of one file at a time; each blocks a thread. More wait.
const READERS: usize = 8;

/// Writes that wait for the thread; more wait in their calls.
const QUEUE: usize = 1024;

/// Writes that one commit takes: a commit waits for the disk, however much is in it.
const GROUP: usize = 256;

/// How long a call waits for its turn before it is told that the store is busy.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a broken file waits for readers that still hold it.
const READERS_LEAVE: Duration = Duration::from_secs(2);

/// How often that is looked at.
const STEP: Duration = Duration::from_millis(10);

struct Queued {
    write: Write,
    answer: oneshot::Sender<Answer>,
    /// Its share of the queue, until its bytes are gone.
    _turn: Option<Turn>,
}

/// An open file. Dropping it ends the thread and releases the file.
pub(super) struct File {
    database: Arc<Slot>,
    writes: mpsc::Sender<Queued>,
    readers: Arc<Semaphore>,
    runtime: Handle,
}

/// Where the database is. It is empty while a file that failed is opened again: after
/// an error of the disk, redb refuses everything until then.
struct Slot {
    path: PathBuf,
    open: ArcSwapOption<Database>,
}

impl File {
    /// Opens or creates a file, which only one process can do at a time.
    ///
    /// # Errors
    /// What is wrong, with the path.
    pub(super) fn open(path: &Path, runtime: Handle) -> Result<Self, String> {
        let fault = |error: &dyn std::fmt::Display| format!("cannot open {}: {error}", path.display());
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| fault(&error))?;
        }
        let database = open_released(path).map_err(|error| fault(&error))?;
        let slot = Slot { path: path.to_owned(), open: ArcSwapOption::new(Some(Arc::new(database))) };
        let database = Arc::new(slot);
        let (writes, queue) = mpsc::channel(QUEUE);
        let theirs = Arc::clone(&database);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_all(&theirs, queue))
            .map_err(|error| fault(&error))?;
        Ok(Self { database, writes, readers: Arc::new(Semaphore::new(READERS)), runtime })
    }

    /// Writes durably. A call that is cancelled before its turn writes nothing; after
    /// that, everything.
    pub(super) async fn write(&self, write: Write, turn: Option<Turn>) -> Answer {
        let (answer, answered) = oneshot::channel();
        match self.writes.send_timeout(Queued { write, answer, _turn: turn }, TURN_TIMEOUT).await {
            Ok(()) => answered.await.unwrap_or_else(|_| Err(unavailable())),
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => Err(other("store is busy")),
            Err(mpsc::error::SendTimeoutError::Closed(_)) => Err(unavailable()),
        }
    }

    /// Reads on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<Result<T, KeyValueError>, redb::Error> + Send + 'static,
    ) -> Result<T, KeyValueError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, Arc::clone(&self.readers).acquire_owned()).await;
        let permit = turn.map_err(|_| other("store is busy"))?.map_err(|_| unavailable())?;
        let slot = Arc::clone(&self.database);
        let reading = self.runtime.spawn_blocking(move || {
            let _permit = permit;
            let Some(database) = slot.open.load_full() else { return Err(unavailable()) };
            work(&database).unwrap_or_else(|error| {
                tracing::error!(store = %slot.path.display(), %error, "store cannot be read");
                Err(unavailable())
            })
        });
        reading.await.unwrap_or_else(|_| Err(unavailable()))
    }
}

fn unavailable() -> KeyValueError {
    other("store is not available")
}

fn open(path: &Path) -> Result<Database, redb::Error> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let database =
        redb::Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(FileBackend::new(file)?)?;
    table::prepare(&database)?;
    Ok(database)
}

/// Opens a file that may be on its way to be closed: by the thread of a store that a
/// reload dropped.
fn open_released(path: &Path) -> Result<Database, redb::Error> {
    let mut waited = Duration::ZERO;
    loop {
        match open(path) {
            Err(redb::Error::DatabaseAlreadyOpen) if waited < READERS_LEAVE => {
                std::thread::sleep(STEP);
                waited += STEP;
            }
            outcome => return outcome,
        }
    }
}

/// The life of the writing thread: whatever waits goes into one commit.
fn write_all(slot: &Slot, mut queue: mpsc::Receiver<Queued>) {
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP {
            let Ok(next) = queue.try_recv() else { break };
            group.push(next);
        }
        group.retain(|queued| !queued.answer.is_closed());
        if group.is_empty() {
            continue;
        }
        let writes: Vec<&Write> = group.iter().map(|queued| &queued.write).collect();
        let answers = match slot.commit(&writes) {
            Ok(answers) => answers,
            Err(error) => {
                tracing::error!(store = %slot.path.display(), %error, "store cannot be written");
                vec![Err(unavailable()); group.len()]
            }
        };
        for (queued, answer) in group.into_iter().zip(answers) {
            // Nobody may be waiting any more.
            let _ = queued.answer.send(answer);
        }
    }
}

impl Slot {
    fn commit(&self, writes: &[&Write]) -> Result<Vec<Answer>, redb::Error> {
        let database = match self.open.load_full() {
            Some(database) => database,
            None => {
                let database = Arc::new(open(&self.path)?);
                self.open.store(Some(Arc::clone(&database)));
                tracing::info!(store = %self.path.display(), "store was opened again");
                database
            }
        };
        let outcome = table::commit(&database, writes);
        drop(database);
        if outcome.is_err() {
            self.close();
        }
        outcome
    }

    /// Lets go of a file that failed; the next write opens it again.
    fn close(&self) {
        let Some(mut database) = self.open.swap(None) else { return };
        let mut waited = Duration::ZERO;
        while waited < READERS_LEAVE {
            match Arc::try_unwrap(database) {
                Ok(alone) => return drop(alone),
                Err(shared) => database = shared,
            }
            std::thread::sleep(STEP);
            waited += STEP;
        }
        tracing::error!(store = %self.path.display(), "store is still being read, so it cannot be opened again yet");
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;

    use sluice_sandbox::KeyValue;

    use super::super::table::{self, Change};
    use super::super::{Embedded, WRITES_MAX};
    use super::*;

    fn put(key: &str) -> Write {
        let change = Change::Put(BTreeMap::from([(key.to_owned(), Some(Bytes::from_static(b"1")))]));
        Write { owner: "a".into(), change, bytes_max: 1000 }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_that_failed_is_opened_again_by_the_next_write() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::open(&folder.path().join("s.redb"), Handle::current()).expect("opens");
        file.write(put("k"), None).await.expect("written");
        file.database.close();
        let holds = |key: &'static str| file.read(move |database| table::holds(database, "a", key).map(Ok));
        assert_eq!(holds("k").await, Err(unavailable()), "nothing is read from a file that failed");
        file.write(put("l"), None).await.expect("written");
        assert_eq!((holds("k").await, holds("l").await), (Ok(true), Ok(true)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_call_that_was_cancelled_before_its_turn_writes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = File::open(&folder.path().join("s.redb"), Handle::current()).expect("opens");
        // The thread cannot commit while somebody else writes.
        let database = file.database.open.load_full().expect("open");
        let blocker = database.begin_write().expect("begun");
        let first = tokio::spawn({
            let (answer, answered) = oneshot::channel();
            file.writes.send(Queued { write: put("first"), answer, _turn: None }).await.expect("queued");
            answered
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        tokio::time::timeout(Duration::from_millis(50), file.write(put("late"), None))
            .await
            .expect_err("it waits");
        blocker.abort().expect("aborted");
        assert_eq!(first.await.expect("ends").expect("answered"), Ok(0));
        file.write(put("last"), None).await.expect("written");
        let holds = |key: &'static str| file.read(move |database| table::holds(database, "a", key).map(Ok));
        assert_eq!((holds("late").await, holds("last").await), (Ok(false), Ok(true)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_owner_that_gives_up_again_and_again_fills_no_more_than_its_part_of_the_queue() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.redb");
        let store = Arc::new(Embedded::open(&path, Handle::current()).expect("opens"));
        // The thread cannot commit while somebody else writes.
        let database = store.0.database.open.load_full().expect("open");
        let blocker = database.begin_write().expect("begun");
        let busy = Err(other("store is busy"));
        let (small, large) = (store.of_owner("a".into(), u64::MAX), store.of_owner("b".into(), u64::MAX));
        let give_up = Duration::from_millis(2);
        let mut waited = 0;
        while tokio::time::timeout(give_up, small.set("k", Bytes::new())).await != Ok(busy.clone()) {
            waited += 1;
            assert!(waited < 1000, "nobody counts them");
        }
        // The thread may have taken the first one before it was given up.
        assert!((WRITES_MAX..=WRITES_MAX + 1).contains(&waited), "{waited}");
        let pairs: Vec<_> = (0..15).map(|key| (key.to_string(), Bytes::from(vec![0; 1 << 20]))).collect();
        let mut waited = 0;
        while tokio::time::timeout(give_up, large.set_many(pairs.clone())).await != Ok(busy.clone()) {
            waited += 1;
            assert!(waited < 100, "nobody weighs them");
        }
        assert!((4..=5).contains(&waited), "64 MiB: {waited}");
        blocker.abort().expect("aborted");
        let patience = Duration::from_secs(10);
        let again = async {
            while small.set("k", Bytes::new()).await == busy || large.set("k", Bytes::new()).await == busy {
                tokio::time::sleep(give_up).await;
            }
        };
        tokio::time::timeout(patience, again).await.expect("what was given up makes room");
        let tiny = store.of_owner("c".into(), 100);
        assert_eq!(tiny.set("k", Bytes::from(vec![0; 100])).await, Err(other("store is full")));
    }
}
