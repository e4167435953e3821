//! The thread that writes traces, and the form in which it does.
//!
//! A file is a JSON array, and whole after each write: the closing bracket is written over
//! by the next trace. Who reads it meanwhile, or after a crash, can parse it.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde_json::{Value, json};
use sluice_tensor::{DType, NamedTensor, Tensor};

/// Traces that wait to be written; more are dropped and counted. Some kilobytes each.
const WAITING_MAX: usize = 256;

/// Bytes that a gateway writes at most, in all of its files: somebody who forgets to switch
/// tracing off must not fill the disk. What comes then is dropped and counted.
const FILES_BYTES_MAX: u64 = 1 << 30;

/// Elements of a tensor that are written; of a larger one the first ones.
const ELEMENTS_MAX: usize = 256;

/// What is written of one request.
#[derive(Debug)]
pub(super) struct TraceRecord {
    pub(super) id: u64,
    pub(super) model: String,
    pub(super) version: String,
    pub(super) request_id: String,
    pub(super) events: Vec<(&'static str, u64)>,
    pub(super) tensors: Vec<Value>,
    /// Traces of one file; 0 for all in one.
    pub(super) per_file: u32,
}

/// The writing end of a file of traces.
#[derive(Debug)]
pub(super) struct TraceFile {
    sender: Option<SyncSender<TraceRecord>>,
    dropped: Arc<AtomicU64>,
}

impl TraceFile {
    /// Starts the thread that writes to `path`.
    pub(super) fn open(path: PathBuf, dropped: Arc<AtomicU64>) -> Self {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let counter = Arc::clone(&dropped);
        let spawned = std::thread::Builder::new()
            .name("write-traces".to_owned())
            .spawn(move || Writer::new(path, counter).work(&receiver));
        if let Err(error) = &spawned {
            tracing::error!(%error, "cannot start the thread that writes traces");
        }
        Self { sender: spawned.is_ok().then_some(sender), dropped }
    }

    /// Hands a trace over, if there is room.
    pub(super) fn write(&self, record: TraceRecord) {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.try_send(record).is_ok());
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    path: PathBuf,
    dropped: Arc<AtomicU64>,
    open: Option<File>,
    /// Traces in the file that is open.
    traces: u32,
    /// The number of the next file, where there are several.
    next_file: u64,
    bytes: u64,
    has_complained: bool,
}

impl Writer {
    fn new(path: PathBuf, dropped: Arc<AtomicU64>) -> Self {
        Self { path, dropped, open: None, traces: 0, next_file: 0, bytes: 0, has_complained: false }
    }

    fn work(mut self, records: &Receiver<TraceRecord>) {
        while let Ok(record) = records.recv() {
            if let Err(error) = self.write(&record) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                self.open = None;
                if !std::mem::replace(&mut self.has_complained, true) {
                    tracing::error!(%error, "cannot write traces");
                }
            }
        }
    }

    fn write(&mut self, record: &TraceRecord) -> io::Result<()> {
        let text = render(record);
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        if self.bytes.saturating_add(bytes) > FILES_BYTES_MAX {
            return Err(io::Error::other("the traces have reached their size limit"));
        }
        if record.per_file > 0 && self.traces >= record.per_file {
            self.open = None;
        }
        let mut file = match self.open.take() {
            Some(file) => file,
            None => self.create(record.per_file > 0)?,
        };
        let end = file.seek(SeekFrom::End(0))?;
        // An empty array is `[` and `]`; behind an element there is a comma.
        let (behind, comma) =
            if self.traces == 0 { (end.min(1), "\n") } else { (end.saturating_sub(2), ",\n") };
        file.seek(SeekFrom::Start(behind))?;
        file.write_all(format!("{comma}{text}\n]").as_bytes())?;
        self.open = Some(file);
        self.traces = self.traces.saturating_add(1);
        self.bytes += bytes;
        Ok(())
    }

    /// A new file that holds an empty array. What an earlier run of the process wrote is
    /// replaced.
    fn create(&mut self, is_numbered: bool) -> io::Result<File> {
        let path = if is_numbered { numbered(&self.path, self.next_file) } else { self.path.clone() };
        self.next_file += u64::from(is_numbered);
        self.traces = 0;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all(b"[]")?;
        Ok(file)
    }
}

/// `trace.json.3`, as Triton names them.
fn numbered(path: &Path, number: u64) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{number}"));
    name.into()
}

/// The elements of the array that are one trace.
fn render(record: &TraceRecord) -> String {
    let TraceRecord { id, model, version, request_id, events, tensors, .. } = record;
    // A number where it is one, as in Triton.
    let version = version.parse::<u64>().map_or_else(|_| json!(version), |number| json!(number));
    let mut head = json!({ "id": id, "model_name": model, "model_version": version });
    if !request_id.is_empty() {
        head["request_id"] = json!(request_id);
    }
    let mut elements = vec![head];
    if !events.is_empty() {
        let events: Vec<Value> = events.iter().map(|(name, ns)| json!({ "name": name, "ns": ns })).collect();
        elements.push(json!({ "id": id, "timestamps": events }));
    }
    elements.extend(tensors.iter().cloned());
    let lines: Vec<String> = elements.iter().map(Value::to_string).collect();
    lines.join(",\n")
}

/// One tensor of a trace.
pub(super) fn describe(id: u64, activity: &str, named: &NamedTensor) -> Value {
    let NamedTensor { name, tensor } = named;
    let join = |dims: &[usize]| dims.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let data = if tensor.dtype() == DType::Bytes { strings(tensor) } else { numbers(tensor) };
    json!({
        "id": id,
        "activity": activity,
        "tensor": {
            "name": &**name,
            "data": data.join(","),
            "shape": join(tensor.shape().dims()),
            "dtype": tensor.dtype().name(),
        },
    })
}

fn strings(tensor: &Tensor) -> Vec<String> {
    let Ok(elements) = tensor.strings() else { return Vec::new() };
    let text = |element: &[u8]| String::from_utf8_lossy(element).chars().take(ELEMENTS_MAX).collect();
    elements.take(ELEMENTS_MAX).map(text).collect()
}

fn numbers(tensor: &Tensor) -> Vec<String> {
    // Only what is shown is read out.
    let size = tensor.dtype().size().unwrap_or(1);
    let bytes = tensor.byte_len().min(size.saturating_mul(ELEMENTS_MAX));
    let shown = tensor.read(0, bytes).ok().and_then(|data| {
        let shape = sluice_tensor::Shape::new(&[data.len() / size]).ok()?;
        Tensor::dense(tensor.dtype(), shape, data).ok()?.to_f64().ok()
    });
    shown.unwrap_or_default().iter().map(f64::to_string).collect()
}
