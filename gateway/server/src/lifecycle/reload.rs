//! A reload is a transaction: read, validate, build what changed, swap. Whatever
//! goes wrong before the swap leaves everything as it was, and says why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::tls::Certificates;
use crate::catalog::{Builder, Catalog, Snapshot, Turns};
use crate::config::{self, Config, Overrides};
use crate::observe::Metrics;

/// How the last reload went.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The snapshot of this generation is served.
    Applied {
        /// Of the snapshot.
        generation: u64,
    },
    /// The file asks for what is served already.
    Unchanged,
    /// Nothing was changed.
    Refused {
        /// Why: `invalid`, `needs_restart` or `failed`.
        reason: &'static str,
        /// One line for each thing that is wrong.
        problems: Vec<String>,
    },
}

/// Reloads the config, one at a time.
pub struct Reloader {
    path: PathBuf,
    overrides: Overrides,
    builder: Arc<Builder>,
    catalog: Arc<Catalog>,
    certificates: Arc<Certificates>,
    metrics: Arc<Metrics>,
    /// Shared with whatever else swaps snapshots.
    turns: Arc<Turns>,
    last: Mutex<Option<Outcome>>,
}

impl Reloader {
    /// Reloads `path` into `catalog`.
    pub fn new(
        path: PathBuf,
        overrides: Overrides,
        builder: Arc<Builder>,
        catalog: Arc<Catalog>,
        certificates: Arc<Certificates>,
        metrics: Arc<Metrics>,
        turns: Arc<Turns>,
    ) -> Arc<Self> {
        let last = Mutex::new(None);
        Arc::new(Self { path, overrides, builder, catalog, certificates, metrics, turns, last })
    }

    /// How the last reload went, if there was one.
    pub fn last(&self) -> Option<Outcome> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file and puts into service what changed. Reloads queue up behind
    /// each other; each sees the file as it is when its turn comes.
    ///
    /// Not cancelled with its caller: once begun, a reload ends, and keeps its turn until
    /// then.
    pub async fn reload(self: &Arc<Self>) -> Outcome {
        let this = Arc::clone(self);
        let panicked = |_| refused("failed", "the reload panicked");
        let whole = tokio::spawn(async move {
            let _turn = this.turns.load().await;
            let attempting = Arc::clone(&this);
            let attempt = tokio::task::spawn_blocking(move || attempting.attempt()).await;
            let outcome = attempt.unwrap_or_else(panicked);
            this.settle(&outcome);
            outcome
        });
        whole.await.unwrap_or_else(panicked)
    }

    fn settle(&self, outcome: &Outcome) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(outcome.clone());
        // The same refusal again is no news.
        if last.as_ref() != Some(outcome) {
            self.report(outcome);
        }
    }

    fn attempt(&self) -> Outcome {
        let next: Arc<Config> = match config::load(&self.path, &self.overrides) {
            Ok(config) => Arc::new(config),
            Err(errors) => return refused("invalid", &errors.to_string()),
        };
        let restart = config::restart_keys(&self.catalog.snapshot().config, &next);
        if !restart.is_empty() {
            let problems = restart.iter().map(|key| format!("{key}: a change needs a restart"));
            return refused("needs_restart", &problems.collect::<Vec<_>>().join("\n"));
        }
        let certificates = match self.certificates.prepare(&next.server) {
            Ok(certificates) => certificates,
            Err(error) => return refused("failed", &error.to_string()),
        };
        let build = |current: &Snapshot, prepared: Option<&Snapshot>| {
            self.builder.build(Arc::clone(&next), Some(current), prepared)
        };
        let swapped = self.turns.build_and_swap(&self.catalog, build, |built, current| {
            let is_same = built.changes_nothing(current);
            if is_same && certificates.is_empty() {
                self.metrics.config_digest(&next.digest.0);
                return Outcome::Unchanged;
            }
            certificates.commit();
            // The text may have changed though what it says has not.
            self.metrics.config_digest(&next.digest.0);
            let generation =
                if is_same { current.generation } else { built.commit(&self.catalog, &self.metrics) };
            Outcome::Applied { generation }
        });
        swapped.unwrap_or_else(|error| refused("failed", &error.to_string()))
    }

    fn report(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Applied { generation } => {
                self.metrics.reload("ok");
                tracing::info!(generation, "configuration reloaded");
            }
            Outcome::Unchanged => self.metrics.reload("unchanged"),
            Outcome::Refused { reason, problems } => {
                self.metrics.reload(reason);
                tracing::error!(?problems, "configuration not reloaded, the old one stays");
            }
        }
    }
}

fn refused(reason: &'static str, problems: &str) -> Outcome {
    Outcome::Refused { reason, problems: problems.lines().map(str::to_owned).collect() }
}
