//! Work of an engine that may never end, on a thread of its own: loading a file, a run to warm
//! up. Whoever waits for it holds the turn of all changes.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use sluice_engine::Interrupt;

/// How long work that was interrupted has to end. If it does not its thread is left behind: no
/// thread can be ended from outside.
const GRACE: Duration = Duration::from_secs(5);

/// Does it, for so long at most. The thread has the caller's span.
///
/// # Errors
/// That it took too long, or panicked.
pub(super) fn within<T: Send + 'static>(
    longest: Duration,
    what: &str,
    work: impl FnOnce(&Interrupt) -> T + Send + 'static,
) -> Result<T, String> {
    let (done, outcome) = sync_channel(1);
    let interrupt = Interrupt::default();
    let (own, span) = (interrupt.clone(), tracing::Span::current());
    let thread = move || {
        let _entered = span.enter();
        // Nobody may wait for it any more.
        let _ = done.send(work(&own));
    };
    let started = std::thread::Builder::new().name("load".to_owned()).spawn(thread);
    started.map_err(|error| format!("cannot start a thread: {error}"))?;
    match outcome.recv_timeout(longest) {
        Ok(outcome) => return Ok(outcome),
        Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Err(format!("{what} panicked")),
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
    }
    interrupt.trigger();
    if outcome.recv_timeout(GRACE).is_err() {
        tracing::error!(what, "it cannot be interrupted, and its thread is left behind");
    }
    Err(format!("{what} took longer than {} ms", longest.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_is_interrupted_and_what_panics_is_told() {
        let ms = Duration::from_millis;
        assert_eq!(within(ms(10_000), "it", |_| 7), Ok(7));
        let waits = |interrupt: &Interrupt| {
            while !interrupt.is_triggered() {
                std::thread::yield_now();
            }
        };
        let late = within(ms(20), "loading", waits).expect_err("it has no end");
        assert_eq!(late, "loading took longer than 20 ms");
        let panics = within(ms(10_000), "loading", |_| assert!(std::hint::black_box(false)));
        assert_eq!(panics, Err("loading panicked".to_owned()));
    }
}
