//! How threads share the processor: the lowest priority that there is, for a process that only
//! verifies; and threads that wait for their turn, for guests and for runs.

use std::{io, mem, ptr};

/// How often the process offers its processor to others, in microseconds.
///
/// Between two clock ticks (4 ms on many kernels) Linux may leave a processor to the idlest
/// of threads although another one waits, because that one has just had more than its share:
/// the wait is then a request's. A fifth of a millisecond is less than most requests take,
/// and costs the compiler about one percent.
const STEP_ASIDE_MICROSECONDS: libc::suseconds_t = 200;

/// Lets this thread run only when nobody else wants its processor (`SCHED_IDLE`).
///
/// Being nice is not enough: a nice thread that has just begun its slice may finish it
/// before a thread of a prediction that woke up gets its turn; an idle one never does.
///
/// # Errors
/// The kernel refuses. The niceness that was set before stays.
pub fn only_when_idle() -> io::Result<()> {
    set(libc::SCHED_IDLE)
}

/// Lets this thread wait for its turn when it wakes up, in place of taking the processor from
/// another thread at once (`SCHED_BATCH`). It has its share all the same.
///
/// On few cores a model's run, or a guest's call, that pushes the thread away which reads
/// requests runs for one request; a moment later it runs for several.
///
/// # Errors
/// The kernel refuses, and the thread is as it was.
pub fn wait_for_turns() -> io::Result<()> {
    set(libc::SCHED_BATCH)
}

#[allow(unsafe_code, reason = "neither the standard library nor rustix has this call")]
fn set(policy: libc::c_int) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: `parameters` is valid for the time of the call, which keeps no pointer to it;
    // 0 is the calling thread.
    let outcome = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Offers the processor to whoever waits for it, again and again while this process runs.
///
/// # Errors
/// The kernel refuses: then it is offered only as often as the kernel's clock ticks.
#[allow(unsafe_code, reason = "neither the standard library nor rustix has these calls")]
pub fn step_aside_often() -> io::Result<()> {
    extern "C" fn step_aside(_signal: libc::c_int) {
        // SAFETY: it has no arguments, touches no memory and may be called in a handler.
        unsafe { libc::sched_yield() };
    }
    let often = libc::timeval { tv_sec: 0, tv_usec: STEP_ASIDE_MICROSECONDS };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: zero is a valid value of every field; both structures are valid for the time of
    // the calls, which keep no pointer to them; the handler is safe in any thread at any time.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = step_aside as *const () as libc::sighandler_t;
        // A system call that was interrupted goes on.
        action.sa_flags = libc::SA_RESTART;
        if libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) != 0
            || libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
