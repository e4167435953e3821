//! Runs that never return. Not every engine can be interrupted in the middle of a run, and a
//! model may hold a loop whose end its caller decides: nobody waits for such a run any more,
//! and its instance takes nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Catalog;
use crate::observe::ModelMetrics;

/// How long a run may go on after the last moment at which anybody can wait for it. It was
/// interrupted by then: engines that can be look for it between operators, and a large one
/// takes seconds.
const GRACE: Duration = Duration::from_secs(5);

/// How often runs are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What one instance runs, as somebody else sees it.
#[derive(Debug)]
pub(super) struct RunWatch {
    run: Mutex<Run>,
    /// Instances of the model that can take a batch.
    ready_instances: Arc<AtomicUsize>,
    metrics: Arc<ModelMetrics>,
}

#[derive(Debug, Default)]
struct Run {
    since: Option<Instant>,
    /// It was given up: its instance does not count as ready until it returns.
    is_given_up: bool,
}

/// A run that is under way, until this is dropped.
pub(super) struct UnderWay<'a>(&'a RunWatch);

impl RunWatch {
    pub(super) fn new(ready_instances: &Arc<AtomicUsize>, metrics: &Arc<ModelMetrics>) -> Arc<Self> {
        let (ready_instances, metrics) = (Arc::clone(ready_instances), Arc::clone(metrics));
        Arc::new(Self { run: Mutex::default(), ready_instances, metrics })
    }

    /// A run begins.
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.lock().since = Some(Instant::now());
        UnderWay(self)
    }

    /// Gives the instance up if its run goes on for longer than that. Says for how long it
    /// does, if that is new.
    pub(super) fn look(&self, longest: Duration) -> Option<Duration> {
        let mut run = self.lock();
        let took = run.since.map(|since| since.elapsed()).filter(|took| *took > longest)?;
        if std::mem::replace(&mut run.is_given_up, true) {
            return None;
        }
        self.ready_instances.fetch_sub(1, Ordering::AcqRel);
        self.metrics.instance_hangs(true);
        Some(took)
    }

    /// Nothing inside can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let run = std::mem::take(&mut *self.0.lock());
        if run.is_given_up {
            // It came back after all.
            self.0.ready_instances.fetch_add(1, Ordering::AcqRel);
            self.0.metrics.instance_hangs(false);
        }
    }
}

/// Looks at the runs of everything that is served. An instance whose run does not return is
/// given up, and a model that has no other is not ready: its callers are told so at once
/// instead of at their deadlines. Returns when there is such a run and the configuration wants
/// the process to end for it.
pub async fn look_after_runs(catalog: &Catalog) {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    loop {
        ticks.tick().await;
        let snapshot = catalog.snapshot();
        let server = &snapshot.config.server;
        let longest = server.limits.request_timeout_max + GRACE;
        let mut is_new = false;
        for model in snapshot.all_models() {
            for (instance, took) in model.hanging(longest) {
                let model = &**model.name();
                tracing::error!(model, instance, ?took, "a run does not return: its instance is given up");
                is_new = true;
            }
        }
        if is_new && server.exit_when_hung {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Metrics, SpanCounters};

    #[tokio::test(start_paused = true)]
    async fn an_instance_whose_run_does_not_return_is_given_up_once_and_comes_back_with_it() {
        let ready = Arc::new(AtomicUsize::new(1));
        let metrics = Metrics::new(SpanCounters::default());
        let watch = RunWatch::new(&ready, &metrics.model("m"));
        let longest = Duration::from_secs(10);
        assert_eq!(watch.look(longest), None, "nothing runs");
        let run = watch.begin();
        tokio::time::advance(longest).await;
        assert_eq!(watch.look(longest), None);
        tokio::time::advance(longest).await;
        assert_eq!(watch.look(longest), Some(longest * 2));
        assert_eq!(watch.look(longest), None, "it was said");
        assert_eq!(ready.load(Ordering::Acquire), 0);
        drop(run);
        assert_eq!(ready.load(Ordering::Acquire), 1);
        drop(watch.begin());
        assert_eq!((watch.look(Duration::ZERO), ready.load(Ordering::Acquire)), (None, 1));
    }
}
