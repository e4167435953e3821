//! What is counted for a public name: a pipeline, or a model that is called directly.

use std::sync::Arc;
use std::time::Duration;

use super::codes::Codes;
use super::histogram::{Histogram, SECONDS};
use super::statistics::{Failure, Statistics};

/// The stages of a request, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The plugin before the model.
    Pre,
    /// The model: queue, batch and run.
    Infer,
    /// The plugin after the model.
    Post,
}

impl Stage {
    pub(super) const ALL: [(Self, &'static str); 3] =
        [(Self::Pre, "pre"), (Self::Infer, "infer"), (Self::Post, "post")];
}

/// What is counted for a public name: a pipeline, or a model that is called directly.
#[derive(Debug)]
pub struct PipelineMetrics {
    pub(super) requests: Codes,
    pub(super) seconds: Histogram,
    pub(super) stages: [Histogram; Stage::ALL.len()],
    pub(super) fallbacks: Codes,
    pub(super) shadows: Codes,
    pub(super) shadow_seconds: Histogram,
    pub(super) statistics: Arc<Statistics>,
}

impl PipelineMetrics {
    pub(super) fn new() -> Self {
        let stages = std::array::from_fn(|_| Histogram::new(SECONDS));
        Self {
            requests: Codes::default(),
            seconds: Histogram::new(SECONDS),
            stages,
            fallbacks: Codes::default(),
            shadows: Codes::default(),
            shadow_seconds: Histogram::new(SECONDS),
            statistics: Arc::default(),
        }
    }

    pub(super) fn is_used(&self) -> bool {
        self.requests.counts().next().is_some()
    }

    /// A request ended: with which code of the error table (`ok` if it succeeded), and
    /// whose fault it was (`none`, `caller`, `plugin`, `engine`, `gateway`).
    pub fn request_finished(&self, code: &'static str, fault: &'static str, took: Duration) {
        self.requests.increment(code, fault);
        self.seconds.observe(took);
        let outcome = match (code, fault) {
            ("ok", _) => {
                self.statistics.answered();
                Ok(())
            }
            ("cancelled", _) => Err(Failure::Cancelled),
            (_, "engine") => Err(Failure::Backend),
            ("internal", _) => Err(Failure::Other),
            (_, "gateway") => Err(Failure::Rejected),
            _ => Err(Failure::Other),
        };
        self.statistics.finished(outcome, took);
    }

    /// A plugin failed and the request went on: `skip` or `previous`.
    pub fn fallback(&self, how: &'static str) {
        self.fallbacks.increment(how, "");
    }

    /// A request was run again with a candidate: `agreed`, `differed`, `failed`, or
    /// `dropped` because too many were under way.
    pub fn shadow(&self, outcome: &'static str, took: Option<Duration>) {
        self.shadows.increment(outcome, "");
        if let Some(took) = took {
            self.shadow_seconds.observe(took);
        }
    }

    /// A request left a stage.
    pub fn stage(&self, stage: Stage, took: Duration) {
        let found = Stage::ALL.iter().zip(&self.stages).find(|((known, _), _)| *known == stage);
        if let Some((_, histogram)) = found {
            histogram.observe(took);
        }
        match stage {
            Stage::Pre => self.statistics.before_model(took),
            Stage::Infer => self.statistics.model(took),
            Stage::Post => self.statistics.after_model(took),
        }
    }

    /// What Triton's statistics extension shows of a pipeline. Of a model there are more, by
    /// version: [`Metrics::statistics`].
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }
}
