//! Fault points: places where a test makes the process die or the disk fail.
//!
//! They exist in debug builds only. `SLUICE_FAULT=name:n` in the environment of the
//! process, read once at its start ([`arm_from_environment`]), kills it with SIGKILL
//! when it comes by that point for the n-th time. [`fail`] makes one point of the
//! calling thread give an I/O error instead.

use std::io;

/// Every point, in the order in which an upload comes by. Tests iterate over these.
pub const POINTS: [&str; 20] = [
    "open.locked",
    "open.swept",
    "open.read",
    "open.finished",
    "blob.begun",
    "blob.write",
    "blob.sync",
    "blob.rename",
    "blob.renamed",
    "blob.stored",
    "commit.checked",
    "backup.append",
    "backup.appended",
    "backup.write",
    "backup.rename",
    "redb.write",
    "redb.set_len",
    "redb.sync",
    "commit.durable",
    "blob.removed",
];

#[cfg(any(test, debug_assertions))]
mod armed {
    use std::cell::Cell;
    use std::io;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::POINTS;

    /// Where to die, and at which pass.
    static DEATH: OnceLock<(&'static str, u64)> = OnceLock::new();
    static PASSES: [AtomicU64; POINTS.len()] = [const { AtomicU64::new(0) }; POINTS.len()];

    thread_local! {
        static FAILURE: Cell<Option<(&'static str, u64, i32)>> = const { Cell::new(None) };
    }

    fn index(name: &str) -> usize {
        let found = POINTS.iter().position(|point| *point == name);
        found.unwrap_or_else(|| panic!("{name} is not listed in POINTS"))
    }

    pub(super) fn arm(specification: &str) {
        let (name, pass) = specification.split_once(':').unwrap_or((specification, "1"));
        let pass = pass.parse().unwrap_or_else(|_| panic!("SLUICE_FAULT: {pass} is not a number"));
        DEATH.get_or_init(|| (POINTS[index(name)], pass));
    }

    pub(super) fn pass(name: &'static str) -> io::Result<()> {
        let passes = PASSES[index(name)].fetch_add(1, Relaxed) + 1;
        if DEATH.get() == Some(&(name, passes)) {
            die();
        }
        match FAILURE.get() {
            Some((point, 1, errno)) if point == name => {
                FAILURE.set(None);
                Err(io::Error::from_raw_os_error(errno))
            }
            Some((point, left, errno)) if point == name => {
                FAILURE.set(Some((point, left - 1, errno)));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn fail(failure: Option<(&'static str, u64, i32)>) -> bool {
        FAILURE.replace(failure).is_some()
    }

    pub(super) fn passes() -> Vec<(&'static str, u64)> {
        POINTS.iter().zip(&PASSES).map(|(name, passes)| (*name, passes.load(Relaxed))).collect()
    }

    /// Ends as a process ends whose power is cut: no destructor, no flush.
    fn die() -> ! {
        let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            // The signal is on its way; if it could not be sent, the test will see a hang.
            let _ = &killed;
            std::thread::park();
        }
    }
}

/// Reads `SLUICE_FAULT`. Called once, by the program's start; does nothing in release
/// builds. Panics on a specification it cannot understand: a test that kills nothing
/// proves nothing.
pub fn arm_from_environment() {
    #[cfg(any(test, debug_assertions))]
    if let Ok(specification) = std::env::var("SLUICE_FAULT") {
        armed::arm(&specification);
    }
}

/// Comes by a point at which the disk may fail.
#[cfg_attr(
    not(any(test, debug_assertions)),
    expect(clippy::unnecessary_wraps, reason = "fails in debug builds only")
)]
pub(crate) fn pass(name: &'static str) -> io::Result<()> {
    #[cfg(any(test, debug_assertions))]
    return armed::pass(name);
    #[cfg(not(any(test, debug_assertions)))]
    {
        let _ = name;
        Ok(())
    }
}

/// Comes by a point at which the process may die, and nothing else can go wrong.
pub(crate) fn point(name: &'static str) {
    #[cfg(any(test, debug_assertions))]
    let _ = armed::pass(name);
    #[cfg(not(any(test, debug_assertions)))]
    let _ = name;
}

/// Makes a point fail with an error number when this thread comes by for the n-th
/// time from now, once; `None` takes that back. Gives whether the one before was
/// still to come. For tests.
#[cfg(any(test, debug_assertions))]
pub fn fail(failure: Option<(&'static str, u64, i32)>) -> bool {
    armed::fail(failure)
}

/// How often this process came by each point. For tests.
#[cfg(any(test, debug_assertions))]
pub fn passes() -> Vec<(&'static str, u64)> {
    armed::passes()
}
