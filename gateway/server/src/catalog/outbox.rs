//! Answers that leave in the order in which their batches were formed, where a model is told
//! to preserve it: what an instance has ready waits for the batches before it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use sluice_tensor::NamedTensor;

use super::worker::Job;
use crate::error::Result;

type Answer = (Job, Result<Vec<NamedTensor>>);

/// The batches of one model that are under way. At most as many wait as there are
/// instances.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The first batch that has not ended.
    next: u64,
    /// Later ones that have, with the answers that they keep back.
    ended: BTreeMap<u64, Vec<Answer>>,
}

/// One batch's answers. Its turn ends when it is dropped, also if the batch failed.
pub(super) struct Turn {
    outbox: Arc<Outbox>,
    number: u64,
    is_ordered: bool,
    kept: Vec<Answer>,
}

impl Outbox {
    /// The batch of this number begins. Each number must have one turn.
    pub(super) fn turn(self: &Arc<Self>, number: u64, is_ordered: bool) -> Turn {
        Turn { outbox: Arc::clone(self), number, is_ordered, kept: Vec::new() }
    }
}

impl Turn {
    /// Answers a job: at once, or when all batches before this one have ended.
    pub(super) fn answer(&mut self, job: Job, answer: Result<Vec<NamedTensor>>) {
        if self.is_ordered {
            self.kept.push((job, answer));
        } else {
            send((job, answer));
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.outbox.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        state.ended.insert(self.number, std::mem::take(&mut self.kept));
        // Sent under the lock: another instance must not overtake.
        while let Some(first) = state.ended.first_entry().filter(|first| *first.key() == state.next) {
            let answers = first.remove();
            state.next += 1;
            answers.into_iter().for_each(send);
        }
    }
}

fn send((job, answer): Answer) {
    // The caller may have left meanwhile: its result is abandoned.
    let _ = job.reply.send(answer);
}
