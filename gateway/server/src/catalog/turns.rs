//! Who may change what is served, and when.
//!
//! Loading takes as long as it likes: a registry is slow, a compiler has a queue, a model is
//! large. Swapping takes moments, and a rollback must not wait for more than that. So
//! whatever loads does it beside everything else, and takes its turn only to swap; where
//! somebody else has swapped meanwhile it builds once more, taking over what it has loaded.

use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Built, Catalog, Snapshot};

/// Builds that are made beside others before one is made while nobody else may swap. By
/// then everything that it needs is loaded.
const TRIES_BESIDE: usize = 3;

/// The turns of everything that swaps snapshots.
#[derive(Default)]
pub struct Turns {
    /// Held while models and the files of the configuration are loaded: by reloads and
    /// changes of repositories, one at a time. May take minutes.
    loading: Arc<Mutex<()>>,
    /// Held from a decision to its swap. Nothing that waits for others happens meanwhile.
    swapping: Arc<Mutex<()>>,
}

impl Turns {
    /// The turn of whatever loads models or files.
    pub(crate) async fn load(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.loading).lock_owned().await
    }

    /// The turn to swap.
    pub(crate) async fn swap_soon(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.swapping).lock_owned().await
    }

    /// The same for a thread that may block.
    pub(crate) fn swap(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.swapping).blocking_lock_owned()
    }

    /// Builds what comes after `catalog`'s snapshot, and lets `swap` put it in place while
    /// that snapshot still is what is served. `build` is given it and what an earlier try has
    /// loaded. Blocks; call it while holding [`Self::load`].
    ///
    /// # Errors
    /// Those of `build`.
    pub(crate) fn build_and_swap<T, E>(
        &self,
        catalog: &Catalog,
        build: impl Fn(&Snapshot, Option<&Snapshot>) -> Result<Built, E>,
        swap: impl FnOnce(Built, &Snapshot) -> T,
    ) -> Result<T, E> {
        let mut prepared: Option<Built> = None;
        let mut tries = 0;
        loop {
            let turn = (tries >= TRIES_BESIDE).then(|| self.swap());
            tries += 1;
            let current = catalog.snapshot();
            let built = build(&current, prepared.as_ref().map(Built::snapshot))?;
            let _turn = turn.unwrap_or_else(|| self.swap());
            if built.follows(&catalog.snapshot()) {
                return Ok(swap(built, &current));
            }
            prepared = Some(built);
        }
    }
}
