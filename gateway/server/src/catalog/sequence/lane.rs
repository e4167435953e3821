//! The thread of a lane: takes a batch of sequences, has it run, hands out the results.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sluice_batch::sequence::{EndedBy, Flight, Member, Outcome};
use sluice_batch::{Entry, Queue, Rejected};
use sluice_tensor::NamedTensor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::plan::{Plan, Row, Unfit};
use super::{Key, Request, Sequences, State};
use crate::catalog::guards::Caller;
use crate::catalog::worker::Job;
use crate::error::{Error, Kind, Result};

/// What the thread of a lane owns.
pub(super) struct Lane {
    /// Also that of its instance.
    pub(super) number: usize,
    pub(super) model: Arc<str>,
    pub(super) plan: Arc<Plan>,
    pub(super) sequences: Arc<Sequences>,
    /// The model's own queue.
    pub(super) runs: Arc<Queue<Job>>,
}

/// Why a run has no outputs.
enum Failure {
    /// It failed, for whoever is in it.
    Run(Error),
    /// The instance is gone, or going.
    Gone(Error),
}

/// What came of a member: for its sequence, and for its caller.
struct Landed {
    outcome: Outcome<State>,
    reply: oneshot::Sender<Answer>,
    answer: Answer,
}

type Answer = Result<Vec<NamedTensor>>;

impl Lane {
    pub(super) fn spawn(self) -> io::Result<()> {
        // Linux shows the first 15 bytes of a thread's name.
        let name = format!("seq-{}-{}", self.number, self.model);
        std::thread::Builder::new().name(name).spawn(move || self.work()).map(drop)
    }

    fn work(self) {
        while let Some(flight) = self.sequences.next(self.number) {
            let (landed, is_gone) = self.fly(flight);
            let split = |one: Landed| (one.outcome, (one.reply, one.answer));
            let (outcomes, answers): (Vec<_>, Vec<_>) = landed.into_iter().map(split).unzip();
            self.sequences.finish(self.number, outcomes);
            if is_gone {
                tracing::warn!(model = %self.model, lane = self.number, "sequences end: their instance is gone");
                self.sequences.abandon(self.number);
            }
            // Whoever has an answer finds its sequence as the answer says it is.
            for (reply, answer) in answers {
                // The caller may have left meanwhile: its sequence goes on all the same.
                let _ = reply.send(answer);
            }
        }
    }

    /// Runs a batch. Gives what came of each member, and whether the instance is gone.
    fn fly(&self, flight: Flight<Key, Request, State>) -> (Vec<Landed>, bool) {
        let Flight { rows, mut members } = flight;
        members.iter_mut().for_each(|member| member.payload.waiting = None);
        let failed = match self.run(rows, &members) {
            Ok(outputs) => {
                let landed = members.into_iter().map(|member| self.land(member, &outputs)).collect();
                return (landed, false);
            }
            Err(failed) => failed,
        };
        match failed {
            // One poisonous request must hurt only itself: each runs apart, once.
            Failure::Run(error) if members.len() > 1 => {
                let detail = error.detail().unwrap_or_default();
                tracing::warn!(model = %self.model, detail, "batch of sequences failed, its members run apart");
                self.fly_apart(rows, members)
            }
            Failure::Run(error) => {
                (members.into_iter().map(|member| refuse(member, &error)).collect(), false)
            }
            Failure::Gone(error) => {
                (members.into_iter().map(|member| refuse(member, &error)).collect(), true)
            }
        }
    }

    fn fly_apart(&self, rows: usize, members: Vec<Member<Key, Request, State>>) -> (Vec<Landed>, bool) {
        let mut is_gone = false;
        let landed = members.into_iter().map(|member| match self.run(rows, std::slice::from_ref(&member)) {
            Ok(outputs) => self.land(member, &outputs),
            Err(Failure::Run(error)) => refuse(member, &error),
            Err(Failure::Gone(error)) => {
                is_gone = true;
                refuse(member, &error)
            }
        });
        (landed.collect(), is_gone)
    }

    /// Has the instance run the members in one batch, and waits for the outputs.
    fn run(&self, rows: usize, members: &[Member<Key, Request, State>]) -> Result<Vec<NamedTensor>, Failure> {
        let views: Vec<Row<'_>> = members
            .iter()
            .map(|member| Row {
                place: member.row,
                inputs: &member.payload.inputs,
                id: &member.payload.id,
                start: member.start,
                end: member.end,
                state: member.state.as_ref(),
            })
            .collect();
        let inputs = self.plan.gather(rows, &views).map_err(|error| {
            let message = format!("model '{}' failed to run", self.model);
            Failure::Run(Error::new(Kind::Engine, message).with_detail(error.to_string()))
        })?;
        let queued = members.iter().map(|member| member.payload.queued).min();
        let span = members.first().map_or_else(tracing::Span::none, |member| member.payload.span.clone());
        let (reply, answer) = oneshot::channel();
        let job = Job {
            inputs,
            rows,
            members: members.iter().map(|member| member.payload.as_member()).collect(),
            reply,
            // A batch that has begun ends: what its sequences remember depends on it.
            caller: Arc::new(Caller::default()),
            queued: queued.unwrap_or_else(Instant::now),
            waited: Duration::ZERO,
            queue_span: tracing::debug_span!(parent: &span, "queue"),
            span,
            // Of its members each waits and is traced.
            waiting: None,
            trace: None,
        };
        let entry = Entry { instance: Some(self.number), ..Entry::new(rows, 0, job) };
        let admitted = self.runs.submit(entry).map_err(|(why, _)| self.rejection(&why))?;
        // The worker drops a job only when its thread is going away.
        let outcome = answer.blocking_recv().map_err(|_| Failure::Gone(super::gone(&self.model)))?;
        admitted.finish();
        outcome.map_err(|error| match error.kind() {
            Kind::ModelUnavailable | Kind::Draining => Failure::Gone(error),
            _ => Failure::Run(error),
        })
    }

    fn rejection(&self, why: &Rejected) -> Failure {
        match why {
            Rejected::InstanceGone | Rejected::Draining => Failure::Gone(super::gone(&self.model)),
            _ => {
                let message = format!("model '{}' failed to run", self.model);
                Failure::Run(Error::new(Kind::Engine, message).with_detail(why.to_string()))
            }
        }
    }

    /// Cuts a member's part out of the outputs.
    fn land(&self, member: Member<Key, Request, State>, outputs: &[NamedTensor]) -> Landed {
        let (outcome, answer) = match self.plan.scatter(outputs, member.row) {
            Ok((seen, state)) => {
                if let Some(trace) = &member.payload.trace {
                    trace.tensors("TENSOR_BACKEND_OUTPUT", &seen);
                }
                (Outcome::Ran(state), Ok(seen))
            }
            Err(Unfit::TooLarge { bytes, max }) => {
                let (model, id) = (&self.model, &member.payload.shown_id);
                let message = format!(
                    "sequence {id} of model '{model}' has ended: its state has {bytes} bytes, {max} are allowed"
                );
                (Outcome::Ended(EndedBy::State), Err(Error::new(Kind::TooLarge, message)))
            }
            Err(Unfit::Wrong(what)) => {
                let message = format!("model '{}' failed to run", self.model);
                (Outcome::Failed, Err(Error::new(Kind::Engine, message).with_detail(what)))
            }
        };
        Landed { outcome, reply: member.payload.reply, answer }
    }
}

fn refuse(member: Member<Key, Request, State>, error: &Error) -> Landed {
    Landed { outcome: Outcome::Failed, reply: member.payload.reply, answer: Err(error.clone()) }
}
