//! A reload is a transaction: read, validate, build what changed, swap. Whatever
//! goes wrong before the swap leaves everything as it was, and says why.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::tls::Certificates;
use crate::catalog::{Builder, Catalog};
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
    turn: Arc<tokio::sync::Mutex<()>>,
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
        turn: Arc<tokio::sync::Mutex<()>>,
    ) -> Arc<Self> {
        let last = Mutex::new(None);
        Arc::new(Self { path, overrides, builder, catalog, certificates, metrics, turn, last })
    }

    /// How the last reload went, if there was one.
    pub fn last(&self) -> Option<Outcome> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the file and puts into service what changed. Reloads queue up behind
    /// each other; each sees the file as it is when its turn comes. One that has begun ends,
    /// also when nobody waits for it any more: no other change may begin beside it.
    pub async fn reload(self: &Arc<Self>) -> Outcome {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let this = Arc::clone(self);
        let work = async move {
            let _turn = turn;
            this.reload_in_turn().await
        };
        tokio::spawn(work).await.unwrap_or_else(|_| refused("failed", "the reload panicked"))
    }

    async fn reload_in_turn(self: &Arc<Self>) -> Outcome {
        let this = Arc::clone(self);
        let attempt = tokio::task::spawn_blocking(move || this.attempt()).await;
        let outcome = attempt.unwrap_or_else(|_| refused("failed", "the reload panicked"));
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(outcome.clone());
        // The same refusal again is no news.
        if last.as_ref() != Some(&outcome) {
            self.report(&outcome);
        }
        outcome
    }

    fn attempt(&self) -> Outcome {
        let next: Arc<Config> = match config::load(&self.path, &self.overrides) {
            Ok(config) => Arc::new(config),
            Err(errors) => return refused("invalid", &errors.to_string()),
        };
        let current = self.catalog.snapshot();
        let restart = config::restart_keys(&current.config, &next);
        if !restart.is_empty() {
            let problems = restart.iter().map(|key| format!("{key}: a change needs a restart"));
            return refused("needs_restart", &problems.collect::<Vec<_>>().join("\n"));
        }
        let certificates = match self.certificates.prepare(&next.server) {
            Ok(certificates) => certificates,
            Err(error) => return refused("failed", &error.to_string()),
        };
        let built = match self.builder.build(next, Some(&current)) {
            Ok(built) => built,
            Err(error) => return refused("failed", &error.to_string()),
        };
        let is_same = built.changes_nothing(&current);
        if is_same && certificates.is_empty() {
            return Outcome::Unchanged;
        }
        certificates.commit();
        let generation =
            if is_same { current.generation } else { built.commit(&self.catalog, &self.metrics) };
        Outcome::Applied { generation }
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
