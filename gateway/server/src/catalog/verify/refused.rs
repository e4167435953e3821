//! Components that were too much for a child a moment ago. The same bytes again cost another
//! minute of processor time to find out the same, so for a while nobody tries.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sluice_sandbox::LoadError;
use tokio::time::Instant;

use super::VerifyError;
use crate::oci::Digest;

/// How long it is remembered. The machine may be less busy by then, and the limits others.
const REMEMBERED: Duration = Duration::from_secs(300);

/// Most that are remembered; each took a good part of a minute to find out, so there are not
/// many. The oldest goes first.
const REMEMBERED_MAX: usize = 64;

/// See the module's description.
#[derive(Default)]
pub(super) struct RefusedBefore(Mutex<BTreeMap<String, (Instant, Limit)>>);

#[derive(Clone)]
struct Limit {
    message: &'static str,
    detail: String,
}

impl RefusedBefore {
    /// Whether nothing is remembered.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Why it was too much, if it was.
    pub(super) fn find(&self, component: &[u8]) -> Option<VerifyError> {
        let digest = Digest::of(component).to_string();
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        let (_, limit) = refused.get(&digest)?;
        let Limit { message, detail } = limit.clone();
        Some(VerifyError::Limit { message, detail })
    }

    /// Remembers what a limit of the child has ended; other refusals are quick.
    pub(super) fn remember(&self, component: &[u8], error: &VerifyError) {
        let limit = match error {
            VerifyError::Limit { message, detail } => Limit { message, detail: detail.clone() },
            VerifyError::Refused(LoadError::CompileLimit(detail)) => {
                Limit { message: "compiling it takes more than a component may take", detail: detail.clone() }
            }
            _ => return,
        };
        let digest = Digest::of(component).to_string();
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.insert(digest, (Instant::now(), limit));
        if refused.len() > REMEMBERED_MAX {
            let oldest = refused.iter().min_by_key(|(_, (at, _))| *at).map(|(digest, _)| digest.clone());
            if let Some(oldest) = oldest {
                refused.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_too_much_is_not_tried_again_at_once() {
        let refused = RefusedBefore::default();
        let limit = VerifyError::Limit { message: "too much", detail: "why".to_owned() };
        refused.remember(b"bomb", &limit);
        refused.remember(b"nonsense", &VerifyError::Refused(LoadError::NotWasm("x".to_owned())));
        refused.remember(b"busy", &VerifyError::Slow);
        assert!(matches!(refused.find(b"bomb"), Some(VerifyError::Limit { message: "too much", .. })));
        for other in [&b"nonsense"[..], b"busy", b"other"] {
            assert!(refused.find(other).is_none());
        }
        tokio::time::advance(REMEMBERED).await;
        assert!(refused.find(b"bomb").is_none());
    }
}
