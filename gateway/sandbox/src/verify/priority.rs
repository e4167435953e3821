//! The lowest priority that there is, for a process that only verifies.

use std::io;

/// Lets this thread run only when nobody else wants its processor (`SCHED_IDLE`).
///
/// Being nice is not enough: a nice thread that has just begun its slice may finish it
/// before a thread of a prediction that woke up gets its turn; an idle one never does.
///
/// # Errors
/// The kernel refuses. The niceness that was set before stays.
#[allow(unsafe_code, reason = "neither the standard library nor rustix has this call")]
pub fn only_when_idle() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is valid for the time of the call, which keeps no pointer to it;
    // 0 is the calling thread.
    let outcome = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
