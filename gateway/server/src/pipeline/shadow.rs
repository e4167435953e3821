//! A candidate on copies of requests: it runs when the caller has its answer, what it says
//! is compared and dropped, and nobody waits for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sluice_sandbox::{Answer, Request};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::versions::Versions;
use super::{Call, run_stages};
use crate::catalog::{Pipeline, ShadowOutcome, ShadowStage};

/// Copies under way at once, in the whole process. They compete for processors with
/// callers, so there are few; what comes above is dropped and counted.
const SHADOWS_MAX: usize = 2;

static PLACES: Semaphore = Semaphore::const_new(SHADOWS_MAX);

/// The part of one thread's time that copies may take, all of one owner's candidates
/// together. A candidate that is as
/// quick as what serves hardly reaches it; one that spins until its time is over is tried
/// now and then, and callers notice it as seldom. What comes above is dropped and counted.
const TIME_SHARE: f64 = 0.1;

/// Time that may be taken at once after a quiet spell.
const TIME_AT_ONCE: Duration = Duration::from_secs(1);

/// Longest bodies that are compared as JSON: parsed, they take ten times their size, and
/// nothing else runs on the thread meanwhile. Longer ones are compared byte by byte.
const JSON_BYTES_MAX: usize = 1 << 20;

/// By owner of the candidate. Owners come from the configuration, so there are not many.
static ALLOWANCES: Mutex<BTreeMap<Arc<str>, Allowance>> = Mutex::new(BTreeMap::new());

/// What copies may still take of the guests' time.
struct Allowance {
    /// Below zero after a copy that took longer than there was.
    seconds: f64,
    since: Option<Instant>,
}

impl Allowance {
    fn is_left(&mut self, now: Instant) -> bool {
        let grown = match self.since.replace(now) {
            Some(since) => now.saturating_duration_since(since).as_secs_f64() * TIME_SHARE,
            None => TIME_AT_ONCE.as_secs_f64(),
        };
        self.seconds = (self.seconds + grown).min(TIME_AT_ONCE.as_secs_f64());
        self.seconds > 0.0
    }

    fn take(&mut self, time: Duration) {
        self.seconds -= time.as_secs_f64();
    }
}

/// Does something with what an owner's copies may still take.
fn allowance<T>(owner: &Arc<str>, with: impl FnOnce(&mut Allowance) -> T) -> T {
    let mut all = ALLOWANCES.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = || Allowance { seconds: 0.0, since: None };
    with(all.entry(Arc::clone(owner)).or_insert_with(fresh))
}

/// A copy of a request that is ready to run.
pub struct ShadowRun {
    pipeline: Arc<Pipeline>,
    stage: Arc<ShadowStage>,
    call: Call,
    request: Request,
    /// What the caller got; `None` while that goes out in parts.
    answer: Option<Answer>,
    /// How long what serves took.
    active_took: Duration,
    /// How long the copy may take: what the request had.
    patience: Duration,
}

fn wanted<'a>(pipeline: &'a Pipeline, call: &Call) -> Option<&'a Arc<ShadowStage>> {
    pipeline.stages.plugins().filter_map(|stage| stage.shadow.as_ref()).find(|shadow| shadow.wants(&call.key))
}

/// Whether a candidate gets this request.
pub(super) fn is_wanted(pipeline: &Pipeline, call: &Call) -> bool {
    wanted(pipeline, call).is_some()
}

/// Makes the copy ready, for when the answer is sent.
pub(super) fn prepare(
    pipeline: &Arc<Pipeline>,
    call: &Call,
    request: Request,
    answer: Option<&Answer>,
    active_took: Duration,
) -> Option<Box<ShadowRun>> {
    let stage = Arc::clone(wanted(pipeline, call)?);
    let patience = call.deadline.saturating_duration_since(Instant::now()) + active_took;
    let (pipeline, call, answer) = (Arc::clone(pipeline), call.clone(), answer.cloned());
    Some(Box::new(ShadowRun { pipeline, stage, call, request, answer, active_took, patience }))
}

impl ShadowRun {
    /// With the answer that went out in parts; without one that can be compared, the copy
    /// is counted as dropped.
    pub(super) fn with_answer(mut self: Box<Self>, answer: Option<Answer>) -> Option<Box<Self>> {
        if answer.is_none() {
            self.count(ShadowOutcome::Dropped, Duration::ZERO);
            return None;
        }
        self.answer = answer;
        Some(self)
    }

    /// Starts the copy on the guests' threads, unless too many are under way or copies have
    /// had their time.
    pub fn start(mut self: Box<Self>) {
        let owner = self.stage.candidate.owner();
        let is_left = || allowance(&owner, |left| left.is_left(Instant::now()));
        let place = PLACES.try_acquire().ok().filter(|_| is_left());
        let Some(place) = place else {
            self.count(ShadowOutcome::Dropped, Duration::ZERO);
            return;
        };
        let threads = self.pipeline.threads.clone();
        threads.spawn(async move {
            let started = Instant::now();
            self.call.deadline = started + self.patience;
            let outcome = self.run().await;
            allowance(&owner, |left| left.take(started.elapsed()));
            self.count(outcome, started.elapsed());
            drop(place);
        });
    }

    async fn run(&self) -> ShadowOutcome {
        let Ok(versions) = Versions::choose(&self.pipeline, &self.call) else { return ShadowOutcome::Failed };
        let versions = versions.try_out(&self.stage.candidate);
        let run = run_stages(&self.pipeline, &self.call, self.request.clone(), &versions, None, None);
        match tokio::time::timeout_at(self.call.deadline, run).await {
            Ok(Ok(answer)) if is_same(answer.as_ref(), self.answer.as_ref()) => ShadowOutcome::Agreed,
            Ok(Ok(_)) => ShadowOutcome::Differed,
            Ok(Err(_)) | Err(_) => ShadowOutcome::Failed,
        }
    }

    fn count(&self, outcome: ShadowOutcome, took: Duration) {
        self.stage.stats.count(outcome, took, self.active_took);
        let timed = (outcome != ShadowOutcome::Dropped).then_some(took);
        self.pipeline.metrics.shadow(outcome.word(), timed);
    }
}

/// Whether a caller would see no difference: the same bytes, or the same JSON whatever
/// the order of its keys.
fn is_same(one: Option<&Answer>, other: Option<&Answer>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    match (one, other) {
        (Answer::Body(one), Answer::Body(other)) => {
            one.status == other.status
                && one.content_type == other.content_type
                && (one.data == other.data || is_same_json(&one.data, &other.data))
        }
        (Answer::Tensors(one), Answer::Tensors(other)) => {
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    let (a, b) = (&one.tensor, &other.tensor);
                    one.name == other.name
                        && a.dtype() == b.dtype()
                        && a.shape() == b.shape()
                        && a.to_dense() == b.to_dense()
                })
        }
        _ => false,
    }
}

fn is_same_json(one: &[u8], other: &[u8]) -> bool {
    if one.len().max(other.len()) > JSON_BYTES_MAX {
        return false;
    }
    let parse = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    parse(one).is_some_and(|one| parse(other) == Some(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_take_a_tenth_of_a_thread_whatever_a_candidate_does() {
        let start = Instant::now();
        let (mut allowance, mut taken) = (Allowance { seconds: 0.0, since: None }, Duration::ZERO);
        let (candidate, every) = (Duration::from_millis(100), Duration::from_millis(10));
        for request in 0..60_000 {
            if allowance.is_left(start + every * request) {
                allowance.take(candidate);
                taken += candidate;
            }
        }
        assert!(taken < Duration::from_millis(61_200), "{taken:?} of ten minutes");
        assert!(taken > Duration::from_secs(55), "{taken:?} of ten minutes");
    }

    #[test]
    fn one_owners_copies_use_up_nobody_elses_time() {
        let (now, slow, other) = (Instant::now(), Arc::from("slow"), Arc::from("other"));
        assert!(allowance(&slow, |left| left.is_left(now)));
        allowance(&slow, |left| left.take(Duration::from_secs(10)));
        assert!(!allowance(&slow, |left| left.is_left(now)));
        assert!(allowance(&other, |left| left.is_left(now)));
    }

    #[test]
    fn large_bodies_are_not_parsed_to_compare_them() {
        let (one, other) = (br#"{"a": 1, "b": 2}"#, br#"{"b": 2, "a": 1}"#);
        assert!(is_same_json(one, other));
        let long = |text: &[u8]| [text, &vec![b' '; JSON_BYTES_MAX][..]].concat();
        assert!(!is_same_json(&long(one), &long(other)));
    }
}
