//! Counts what the allocator is asked for, and samples who asks. A child of the benchmark
//! that was started with `--count` does; in all other processes it costs one test of a flag.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

/// The system's allocator, counted.
pub struct Counting;

/// Whether this process counts.
static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// Of so many calls one is looked at; 0 for none.
static SAMPLED: AtomicU64 = AtomicU64::new(0);
static SITES: Mutex<Vec<(usize, Backtrace)>> = Mutex::new(Vec::new());

/// Samples that are kept: some 4 KiB each, and a millisecond to name.
const SAMPLES_MAX: usize = 6_000;

/// Frames that tell one site from another, and sites that are printed.
const FRAMES: usize = 7;
const SITES_SHOWN: usize = 60;

thread_local! {
    /// Whether this thread is taking a sample, which allocates itself.
    static SAMPLING: Cell<bool> = const { Cell::new(false) };
}

#[expect(unsafe_code, reason = "an allocator can be wrapped in no other way")]
// SAFETY: every call goes to the system's allocator as it came; what is done beside it
// touches atomics, and memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are the ones that are asked for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.saturating_sub(layout.size()));
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// A call: growing counts as a call, with the bytes that are added.
fn note(bytes: usize) {
    if !ON.load(Relaxed) {
        return;
    }
    let number = CALLS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
    let sampled = SAMPLED.load(Relaxed);
    if sampled == 0 || !number.is_multiple_of(sampled) {
        return;
    }
    // A thread that is ending has no such flag any more, and takes no sample.
    let is_first = SAMPLING.try_with(|sampling| !sampling.replace(true)).unwrap_or(false);
    if is_first {
        let site = Backtrace::force_capture();
        let mut sites = SITES.lock().unwrap_or_else(PoisonError::into_inner);
        if sites.len() < SAMPLES_MAX {
            sites.push((bytes, site));
        }
        drop(sites);
        SAMPLING.set(false);
    }
}

/// Counts from now on, and answers lines on a thread of its own: `count` with calls and
/// bytes so far, `sample N` by looking at every Nth call, `sites` with what was seen, up
/// to a line with a full stop.
///
/// # Errors
/// The thread cannot be had.
pub fn answer_lines() -> Result<(), String> {
    ON.store(true, Relaxed);
    let answer = || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let text = match line.split_once(' ').map_or((line.as_str(), ""), |parts| parts) {
                ("sample", every) => {
                    SAMPLED.store(every.parse().unwrap_or(0), Relaxed);
                    String::new()
                }
                ("sites", _) => {
                    SAMPLED.store(0, Relaxed);
                    format!("{}.", sites())
                }
                _ => format!("{} {}", CALLS.load(Relaxed), BYTES.load(Relaxed)),
            };
            // A parent that has left asks nothing more either.
            let _ = writeln!(std::io::stdout(), "{text}");
        }
    };
    let thread = std::thread::Builder::new().name("counting".to_owned()).spawn(answer);
    thread.map(drop).map_err(|error| error.to_string())
}

/// The sites of all samples, the most frequent first.
fn sites() -> String {
    let samples = std::mem::take(&mut *SITES.lock().unwrap_or_else(PoisonError::into_inner));
    let mut sites: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (bytes, trace) in &samples {
        let site = sites.entry(frames(&trace.to_string())).or_default();
        *site = (site.0 + 1, site.1 + bytes);
    }
    let mut sites: Vec<_> = sites.into_iter().collect();
    sites.sort_by_key(|(_, (calls, _))| std::cmp::Reverse(*calls));
    let mut text = String::new();
    for (site, (calls, bytes)) in sites.iter().take(SITES_SHOWN) {
        let share = 100.0 * *calls as f64 / samples.len() as f64;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{share:5.1} %  {:6} B  {site}", bytes / calls);
    }
    text
}

/// The frames nearest to the call that are not the allocator's or the standard library's.
fn frames(trace: &str) -> String {
    let mut lines = trace.lines().map(str::trim).peekable();
    let mut frames = Vec::new();
    while let (Some(line), true) = (lines.next(), frames.len() < FRAMES) {
        let name = line.split_once(": ").map_or(line, |(_, name)| name);
        let file = lines.next_if(|line| line.starts_with("at ")).unwrap_or_default();
        let is_quiet = ["/rustc/", "/library/", "counting.rs"].iter().any(|quiet| file.contains(quiet))
            || ["std::", "core::", "alloc::", "__"].iter().any(|quiet| name.starts_with(quiet));
        if !is_quiet {
            frames.push(format!("{name} ({})", place(file)));
        }
    }
    frames.join("\n                   < ")
}

/// A file by the crate that it belongs to, without what is before it on this machine.
fn place(file: &str) -> &str {
    let registry = file.split_once("index.crates.io-").and_then(|(_, rest)| rest.split_once('/'));
    let own = || ["gateway/", "bench/", "sdk/"].iter().find_map(|folder| file.find(folder));
    registry.map_or_else(|| own().map_or(file, |start| &file[start..]), |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_named_by_the_code_that_is_not_the_standard_librarys() {
        let trace = "   0: alloc\n             at /x/bench/src/counting.rs:45:9\n   1: with_capacity\n             \
                     at /rustc/1/library/vec.rs:1:1\n   2: predict\n             at /x/gateway/server/src/pipeline/mod.rs:7:3\n   \
                     3: poll\n             at /y/index.crates.io-1/hyper-1.8.1/src/proto.rs:1:2\n   4: std::thread::run";
        let wanted = "predict (gateway/server/src/pipeline/mod.rs:7:3)\n                   < poll (hyper-1.8.1/src/proto.rs:1:2)";
        assert_eq!(frames(trace), wanted);
    }
}
