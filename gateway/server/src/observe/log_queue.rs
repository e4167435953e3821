//! Log lines on their way to standard error. Whoever reads that may be slow, or may have
//! stopped; nobody who logs waits for them. Lines are queued, one thread writes them, and
//! what the queue has no room for is dropped and counted.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait. A terminal or a collector that hiccups for a second loses
/// nothing; one that has stopped costs this much memory. More is dropped.
const WAITING_BYTES_MAX: usize = 8 << 20;

/// Bytes that lines of plugins may take of that: what plugins write does not push out what
/// the gateway says.
const PLUGIN_BYTES_MAX: usize = WAITING_BYTES_MAX / 2;

/// Bytes that a line costs beside its own.
const LINE_BYTES: usize = 64;

/// The longest wait at the end for lines to be written. Whoever does not read by then does
/// not keep the process.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Lines that were dropped, in the life of the process: there is one log.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped.
pub(super) fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The way to one writer. Clones share it.
#[derive(Clone)]
pub(super) struct LogQueue(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    bytes: usize,
    plugin_bytes: usize,
    is_writing: bool,
}

struct Line {
    text: Vec<u8>,
    is_plugins: bool,
}

impl Line {
    fn bytes(&self) -> usize {
        self.text.len().saturating_add(LINE_BYTES)
    }
}

impl LogQueue {
    /// Starts the thread that writes to `out`.
    ///
    /// # Errors
    /// The system has no thread.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Self> {
        let (state, filled, written) = (Mutex::default(), Condvar::new(), Condvar::new());
        let queue = Self(Arc::new(Shared { state, filled, written }));
        let shared = Arc::clone(&queue.0);
        // It ends with the process.
        std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all(out))?;
        Ok(queue)
    }

    fn push(&self, line: Line) {
        let mut state = self.0.lock();
        let bytes = line.bytes();
        let plugin_bytes = if line.is_plugins { state.plugin_bytes.saturating_add(bytes) } else { 0 };
        if state.bytes.saturating_add(bytes) > WAITING_BYTES_MAX || plugin_bytes > PLUGIN_BYTES_MAX {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.bytes += bytes;
        state.plugin_bytes = state.plugin_bytes.max(plugin_bytes);
        state.lines.push_back(line);
        drop(state);
        self.0.filled.notify_one();
    }

    /// Waits until everything is written, or for [`DRAIN_TIMEOUT`].
    pub(super) fn drain(&self) {
        let state = self.0.lock();
        let is_busy = |state: &mut State| state.is_writing || !state.lines.is_empty();
        drop(self.0.written.wait_timeout_while(state, DRAIN_TIMEOUT, is_busy));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread that writes.
    fn write_all(&self, mut out: impl Write) {
        let mut told = dropped();
        loop {
            let line = self.next();
            // A closed standard error takes nothing; that is no reason to stop.
            let _ = out.write_all(&line.text);
            let is_last = self.ended(&line);
            if is_last {
                let _ = out.flush();
            }
            let lost = dropped().saturating_sub(told);
            if lost > 0 && is_last {
                told += lost;
                tracing::warn!(lost, "log lines were dropped: they are not read fast enough");
            }
        }
    }

    fn next(&self) -> Line {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.is_writing = true;
                return line;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A line is written and makes room. Gives whether none waits.
    fn ended(&self, line: &Line) -> bool {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(line.bytes());
        if line.is_plugins {
            state.plugin_bytes = state.plugin_bytes.saturating_sub(line.bytes());
        }
        state.is_writing = false;
        let is_last = state.lines.is_empty();
        drop(state);
        if is_last {
            self.written.notify_all();
        }
        is_last
    }
}

impl<'w> MakeWriter<'w> for LogQueue {
    type Writer = QueuedLine<'w>;

    fn make_writer(&'w self) -> Self::Writer {
        QueuedLine { queue: self, line: Line { text: Vec::new(), is_plugins: false } }
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        let is_plugins = metadata.target() == "plugin";
        QueuedLine { queue: self, line: Line { text: Vec::new(), is_plugins } }
    }
}

/// One line, queued when it is dropped.
pub(super) struct QueuedLine<'w> {
    queue: &'w LogQueue,
    line: Line,
}

impl Write for QueuedLine<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.line.text.extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for QueuedLine<'_> {
    fn drop(&mut self) {
        let text = std::mem::take(&mut self.line.text);
        if !text.is_empty() {
            self.queue.push(Line { text, is_plugins: self.line.is_plugins });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes nothing until it is told to.
    struct Stalled {
        go_on: mpsc::Receiver<()>,
        taken: Arc<Mutex<Vec<u8>>>,
        is_open: bool,
    }

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if !self.is_open {
                self.is_open = self.go_on.recv().is_ok();
            }
            self.taken.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn line(text: &str, is_plugins: bool) -> Line {
        Line { text: text.as_bytes().to_vec(), is_plugins }
    }

    #[test]
    fn nobody_who_logs_waits_for_a_reader_that_has_stopped() {
        let (go, go_on) = mpsc::sync_channel(1);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let out = Stalled { go_on, taken: Arc::clone(&taken), is_open: false };
        let queue = LogQueue::start(out).expect("a thread");
        let before = dropped();
        let long = "p".repeat(1 << 20);
        for _ in 0..64 {
            queue.push(line(&long, true));
        }
        let lost = dropped() - before;
        assert!((59..=61).contains(&lost), "{lost} of 64 lines were dropped");
        // Plugins have filled their half; the gateway has the other one.
        queue.push(line("the gateway's\n", false));
        assert_eq!(dropped() - before, lost);
        go.send(()).expect("it listens");
        queue.drain();
        let taken = taken.lock().expect("not poisoned");
        assert!(taken.ends_with(b"the gateway's\n"), "lines come in their order");
        assert!(taken.len() > 2 << 20, "{} bytes", taken.len());
    }
}
