//! Lines about failures that repeat: a plugin that traps in every call, an engine that is
//! broken, a load that is refused. The first few of each cause are written; of the others it
//! is said how many there were. Metrics count all of them, and a plugin's own log has the
//! last ones.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines of one cause that are written in a [`WINDOW`]. Twenty with their backtraces tell
/// whoever reads them all that a thousand would, and are at most 16 KiB a second.
const LINES_MAX: u32 = 20;

/// How long a cause is remembered after its first line.
const WINDOW: Duration = Duration::from_secs(10);

/// Causes that are told apart. Names are those of plugins and models that are configured,
/// and codes those of the error table; more causes than this at once share their lines.
const CAUSES_MAX: usize = 4_096;

/// Who failed, if it was somebody in particular, and with which code.
type Cause = (Option<Arc<str>>, &'static str);

static REPEATS: LazyLock<Repeats> = LazyLock::new(Repeats::default);

/// Whether a line about this failure is written. What is not is counted, and told when the
/// cause's window is over.
pub fn is_failure_written(who: Option<&Arc<str>>, code: &'static str) -> bool {
    REPEATS.is_written((who.cloned(), code))
}

#[derive(Default)]
struct Repeats(Mutex<HashMap<Cause, Window>>);

struct Window {
    since: Instant,
    written: u32,
    suppressed: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

impl Repeats {
    fn is_written(&'static self, cause: Cause) -> bool {
        let now = Instant::now();
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if causes.len() >= CAUSES_MAX && !causes.contains_key(&cause) {
            causes.retain(|_, window| !window.is_over(now) || window.suppressed > 0);
        }
        let cause = match causes.len() >= CAUSES_MAX && !causes.contains_key(&cause) {
            true => (None, "other"),
            false => cause,
        };
        let window = causes.entry(cause.clone()).or_insert(Window { since: now, written: 0, suppressed: 0 });
        let mut missed = 0;
        if window.is_over(now) {
            // Nobody has told it: there was no runtime to do so.
            missed = window.suppressed;
            *window = Window { since: now, written: 0, suppressed: 0 };
        }
        if window.written < LINES_MAX {
            window.written += 1;
            drop(causes);
            tell(&cause, missed);
            return true;
        }
        window.suppressed += 1;
        let (is_first, end) = (window.suppressed == 1, window.since + WINDOW);
        drop(causes);
        if is_first && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                tokio::time::sleep_until(end).await;
                tell(&cause, self.close(&cause));
            });
        }
        false
    }

    /// Ends a cause's window. Gives how many lines it kept back.
    fn close(&self, cause: &Cause) -> u64 {
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = causes.get(cause).is_some_and(|window| window.is_over(Instant::now()));
        if is_over { causes.remove(cause).map_or(0, |window| window.suppressed) } else { 0 }
    }
}

fn tell((who, code): &Cause, suppressed: u64) {
    if suppressed > 0 {
        let who = who.as_deref().unwrap_or("");
        tracing::warn!(who, code, suppressed, "more failures of this kind were not written one by one");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_repeats_is_written_some_times_and_then_counted() {
        let repeats: &'static Repeats = Box::leak(Box::default());
        let trap = |name: &str| (Some(Arc::from(name)), "plugin_trap");
        let written = (0..10_000).filter(|_| repeats.is_written(trap("a"))).count();
        assert_eq!(written, 20, "of ten thousand");
        assert!(repeats.is_written(trap("b")), "another plugin has lines of its own");
        assert!(repeats.is_written((Some("a".into()), "plugin_timeout")), "and so has another code");
        let kept_back = |cause| repeats.0.lock().expect("not poisoned").get(&cause).map(|it| it.suppressed);
        assert_eq!(kept_back(trap("a")), Some(9_980));
        tokio::time::sleep(WINDOW + Duration::from_millis(1)).await;
        assert_eq!(kept_back(trap("a")), None, "the task has told them");
        assert!(repeats.is_written(trap("a")));
    }

    #[test]
    fn causes_are_bounded_and_what_is_not_told_apart_shares_its_lines() {
        let repeats: &'static Repeats = Box::leak(Box::default());
        for number in 0..2 * CAUSES_MAX {
            repeats.is_written((Some(number.to_string().into()), "plugin_trap"));
        }
        let causes = repeats.0.lock().expect("not poisoned");
        assert_eq!(causes.len(), CAUSES_MAX + 1);
        assert!(causes[&(None, "other")].suppressed > 0);
    }
}
