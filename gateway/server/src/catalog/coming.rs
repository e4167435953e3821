//! Requests whose inputs a plugin is still making.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use sluice_batch::Rejected;

use super::{Model, scheduling};
use crate::error::Result;
use crate::pipeline::Call;

/// Weight of the latest request in the share of them that come to the model.
const LATEST: f64 = 1.0 / 32.0;

/// The share below which nobody is refused early: most would not have waited for the model.
const SHARE_REFUSED: f64 = 0.5;

/// What is known of the requests whose inputs are being made.
pub(super) struct Announced {
    under_way: AtomicUsize,
    /// The share of them that came to the model lately: a plugin may answer itself. The bits
    /// of a float; an update that is lost to another one changes nothing.
    share: AtomicU64,
}

impl Default for Announced {
    fn default() -> Self {
        Self { under_way: AtomicUsize::new(0), share: AtomicU64::new(1_f64.to_bits()) }
    }
}

impl Announced {
    fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// A request came to the model, or was answered without it.
    fn note(&self, came: bool) {
        let share = self.share();
        let came = if came { 1.0 } else { 0.0 };
        self.share.store((share + (came - share) * LATEST).to_bits(), Ordering::Relaxed);
    }

    /// Of so many, those that will come to the model; `None` if too few do for that to be
    /// reckoned with.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    fn expected(&self, of: usize) -> Option<usize> {
        let share = self.share();
        (share >= SHARE_REFUSED).then_some((of as f64 * share) as usize)
    }
}

impl Model {
    /// Says that a request's inputs are being made, until what is returned is dropped. Refuses
    /// it now if it would be refused then, so that under overload nobody's time is spent on
    /// inputs that are never run. Where most requests are answered by the plugin itself nobody
    /// is refused here: the queue does that for those that come to it.
    ///
    /// # Errors
    /// [`Kind::QueueFull`].
    pub fn announce(self: &Arc<Self>, call: &Call) -> Result<Coming> {
        let before = self.announced.under_way.fetch_add(1, Ordering::Relaxed);
        let mut coming = Coming { model: Arc::clone(self), is_counted: true };
        // A cached answer needs no queue, and sequences have queues of their own.
        if self.cache.is_some() || self.sequences.is_some() {
            return Ok(coming);
        }
        let Some(before) = self.announced.expected(before) else { return Ok(coming) };
        let who = (call.options.priority, scheduling::tenant_key(call.tenant.as_deref()));
        if self.queue.would_be_behind(self.queue_deadline(call.deadline), who, before) {
            // Whether it would have come nobody will know.
            coming.is_counted = false;
            return Err(self.refusal(&Rejected::Behind));
        }
        Ok(coming)
    }
}

/// A request whose inputs are being made: see [`Model::announce`].
pub struct Coming {
    model: Arc<Model>,
    /// Whether it says something about the share that comes to the model.
    is_counted: bool,
}

impl Coming {
    /// Its inputs are made, and it goes to the model.
    pub fn comes(mut self) {
        self.model.announced.note(true);
        self.is_counted = false;
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        self.model.announced.under_way.fetch_sub(1, Ordering::Relaxed);
        if self.is_counted {
            self.model.announced.note(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_plugins_answer_themselves_does_not_count_as_waiting() {
        let announced = Announced::default();
        assert_eq!(announced.expected(100), Some(100), "nothing is known yet");
        (0..64).for_each(|_| announced.note(false));
        assert_eq!(announced.expected(100), None);
        (0..64).for_each(|number| announced.note(number % 4 != 0));
        let expected = announced.expected(100).expect("most come to the model");
        assert!((50..85).contains(&expected), "{expected}");
    }
}
