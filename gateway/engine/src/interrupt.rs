//! The request to stop a run that nobody waits for any more.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Asks one run to stop. Clones are the same interrupt; once triggered it stays
/// so, and a new run takes a new one.
#[derive(Clone, Default)]
pub struct Interrupt {
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    triggered: AtomicBool,
    hooks: Mutex<Hooks>,
    woken: Condvar,
}

#[derive(Default)]
struct Hooks {
    next_id: u64,
    list: Vec<(u64, Box<dyn Fn() + Send>)>,
}

impl Interrupt {
    /// Asks the run to stop: calls its hooks and wakes its waits. Returns at once;
    /// the run itself ends when its engine notices.
    pub fn trigger(&self) {
        let hooks = self.hooks();
        // Under the lock, so that a hook is called exactly once whether it is
        // registered before or after.
        if !self.state.triggered.swap(true, Ordering::AcqRel) {
            for (_, hook) in &hooks.list {
                hook();
            }
        }
        drop(hooks);
        self.state.woken.notify_all();
    }

    /// Whether somebody asked.
    pub fn is_triggered(&self) -> bool {
        self.state.triggered.load(Ordering::Acquire)
    }

    /// Has `hook` called when the interrupt is triggered, or at once if it was.
    /// Once the guard is dropped the hook is not running and never runs again.
    ///
    /// The hook runs on the thread that triggers, under a lock: it must be short
    /// and must not use this interrupt.
    pub fn on_trigger(&self, hook: impl Fn() + Send + 'static) -> HookGuard {
        let mut hooks = self.hooks();
        let id = hooks.next_id;
        hooks.next_id += 1;
        if self.is_triggered() {
            hook();
        } else {
            hooks.list.push((id, Box::new(hook)));
        }
        HookGuard { interrupt: self.clone(), id }
    }

    /// Sleeps, but no longer than until the interrupt; whether it was triggered.
    pub fn wait(&self, at_most: Duration) -> bool {
        if at_most.is_zero() {
            return self.is_triggered();
        }
        let waited = self.state.woken.wait_timeout_while(self.hooks(), at_most, |_| !self.is_triggered());
        drop(waited);
        self.is_triggered()
    }

    fn hooks(&self) -> MutexGuard<'_, Hooks> {
        // A hook that panicked leaves the list whole.
        self.state.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interrupt").field("triggered", &self.is_triggered()).finish_non_exhaustive()
    }
}

/// Unregisters a hook when dropped.
#[must_use = "the hook is unregistered when this is dropped"]
pub struct HookGuard {
    interrupt: Interrupt,
    id: u64,
}

impl Drop for HookGuard {
    fn drop(&mut self) {
        self.interrupt.hooks().list.retain(|(id, _)| *id != self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counting(interrupt: &Interrupt) -> (Arc<AtomicUsize>, HookGuard) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let guard = interrupt.on_trigger(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        (calls, guard)
    }

    #[test]
    fn a_hook_runs_once_and_never_after_its_guard_is_gone() {
        let interrupt = Interrupt::default();
        let (before, _kept) = counting(&interrupt);
        let (gone, guard) = counting(&interrupt);
        drop(guard);
        interrupt.trigger();
        interrupt.clone().trigger();
        let (after, _kept) = counting(&interrupt);
        let calls = [before, gone, after].map(|calls| calls.load(Ordering::SeqCst));
        assert_eq!(calls, [1, 0, 1]);
    }

    #[test]
    fn a_wait_ends_with_the_trigger_and_not_with_its_time() {
        let interrupt = Interrupt::default();
        assert!(!interrupt.wait(Duration::from_millis(1)));
        let other = interrupt.clone();
        let waiting = std::thread::spawn(move || other.wait(Duration::from_secs(600)));
        interrupt.trigger();
        assert!(waiting.join().expect("no panic"));
        assert!(interrupt.wait(Duration::from_secs(600)));
    }
}
