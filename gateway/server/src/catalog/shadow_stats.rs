//! How a candidate did on copies of requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the shadow was set, or since the start.
#[derive(Debug, Default)]
pub struct ShadowStats {
    agreed: AtomicU64,
    differed: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    micros: AtomicU64,
    active_micros: AtomicU64,
}

/// What became of one copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowOutcome {
    /// The same answer.
    Agreed,
    /// Another answer.
    Differed,
    /// An error where the caller got an answer.
    Failed,
    /// Not run: too many copies were under way.
    Dropped,
}

impl ShadowOutcome {
    /// The word in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Agreed => "agreed",
            Self::Differed => "differed",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// The counts at one time.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub struct ShadowCounts {
    /// Copies with the same answer.
    pub agreed: u64,
    /// Copies with another answer.
    pub differed: u64,
    /// Copies that failed.
    pub failed: u64,
    /// Copies that were not run.
    pub dropped: u64,
    /// `agreed` of all that were run, 0 to 1; none before the first.
    pub agreement: Option<f64>,
    /// Mean time of a copy, in microseconds.
    pub mean_us: u64,
    /// Mean time of the same requests in what serves, in microseconds.
    pub active_mean_us: u64,
}

impl ShadowStats {
    /// Counts one copy: how long it took, and how long the request itself did.
    pub fn count(&self, outcome: ShadowOutcome, took: Duration, active: Duration) {
        let counter = match outcome {
            ShadowOutcome::Agreed => &self.agreed,
            ShadowOutcome::Differed => &self.differed,
            ShadowOutcome::Failed => &self.failed,
            ShadowOutcome::Dropped => &self.dropped,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        if outcome != ShadowOutcome::Dropped {
            self.micros.fetch_add(micros(took), Ordering::Relaxed);
            self.active_micros.fetch_add(micros(active), Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> ShadowCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (agreed, differed, failed) = (load(&self.agreed), load(&self.differed), load(&self.failed));
        let run = agreed + differed + failed;
        #[expect(clippy::cast_precision_loss, reason = "a share, for people")]
        let agreement = (run > 0).then(|| agreed as f64 / run as f64);
        ShadowCounts {
            agreed,
            differed,
            failed,
            dropped: load(&self.dropped),
            agreement,
            mean_us: load(&self.micros) / run.max(1),
            active_mean_us: load(&self.active_micros) / run.max(1),
        }
    }
}
