//! Models whose requests come in sequences: the scheduler of sequences stands in front of
//! the model's queue, and what a sequence remembers is kept here.
//!
//! Each instance has a **lane**: a thread that forms a batch out of the sequences that are
//! bound to the instance, fills in the inputs that clients do not see, and gives it to the
//! model's queue as one entry that only that instance may run.

mod lane;
mod plan;
mod values;

use std::sync::Arc;

use sluice_batch::sequence::{
    Arrival, Counts, EndedBy, Observer, Refused, SequencePolicy, SequenceQueue, Strategy, Unrun,
};
use sluice_batch::{Clock, Policy, Queue, Time};
use sluice_tensor::{NamedTensor, Signature, Tensor};
use tokio::sync::oneshot;
use tokio::time::Instant;

use self::lane::Lane;
use self::plan::Plan;
use super::scheduling;
use super::worker::{self, Job};
use crate::config::{self, SequenceStrategy};
use crate::error::{Error, Kind, Result};
use crate::observe::{DepthOf, ModelMetrics, Statistics, Trace, Waiting};
use crate::pipeline::{Call, CheckedInputs, SequenceId};

/// A sequence is its caller's: two tenants that use the same id have two sequences.
type Key = (Option<Arc<str>>, SequenceId);

/// What a sequence remembers: one tensor for each state of the model.
type State = Arc<[Tensor]>;

type Sequences = SequenceQueue<Key, Request, State>;

/// A request of a sequence.
struct Request {
    /// In the order of the signature that clients see.
    inputs: Vec<NamedTensor>,
    /// The sequence's id as the model's control input has it.
    id: bytes::Bytes,
    /// For messages.
    shown_id: String,
    reply: oneshot::Sender<Result<Vec<NamedTensor>>>,
    queued: Instant,
    /// There while it waits.
    waiting: Option<Waiting>,
    /// Where its times are noted, if it is traced.
    trace: Option<Arc<Trace>>,
    span: tracing::Span,
}

impl Request {
    /// As a part of the job that its batch is.
    fn as_member(&self) -> worker::Member {
        worker::Member { queued: self.queued, trace: self.trace.clone() }
    }
}

/// The sequences of one model. Dropping it ends them, and its lanes.
pub(super) struct SequenceModel {
    model: Arc<str>,
    plan: Arc<Plan>,
    queue: Arc<Sequences>,
    clock: Arc<dyn Clock>,
    policy: SequencePolicy,
    statistics: Arc<Statistics>,
}

impl SequenceModel {
    /// Starts a lane for each instance of the model whose queue this is. Gives also what is
    /// left of the model's signature for its clients to see.
    ///
    /// # Errors
    /// What does not fit the model's file, or that a thread cannot be started.
    pub(super) fn start(
        config: &config::Model,
        file: &Signature,
        runs: &Arc<Queue<Job>>,
        clock: &Arc<dyn Clock>,
        metrics: &Arc<ModelMetrics>,
        statistics: &Arc<Statistics>,
    ) -> std::result::Result<(Option<Self>, Signature), String> {
        let Some(sequence) = &config.sequence else { return Ok((None, file.clone())) };
        let (plan, seen) = Plan::new(sequence, file, config.max_batch_size > 0)?;
        let plan = Arc::new(plan);
        let policy = policy(config, sequence);
        let slots = sequence.slots(config.max_batch_size);
        let observer = Told { model: Arc::clone(&config.name), metrics: Arc::clone(metrics) };
        let queue = SequenceQueue::new(
            config.instances,
            slots,
            policy.clone(),
            Arc::clone(clock),
            Box::new(observer),
        );
        let model = Arc::clone(&config.name);
        // Dropping it drains the queue, so that a start that fails leaves no thread behind.
        let (queue, clock, statistics) = (Arc::new(queue), Arc::clone(clock), Arc::clone(statistics));
        let started = Self { model, plan, queue, clock, policy, statistics };
        for number in 0..config.instances {
            let lane = Lane {
                number,
                model: Arc::clone(&started.model),
                plan: Arc::clone(&started.plan),
                sequences: Arc::clone(&started.queue),
                runs: Arc::clone(runs),
            };
            lane.spawn().map_err(|error| format!("cannot start a thread for sequences: {error}"))?;
        }
        Ok((Some(started), seen))
    }

    /// Says how many requests wait.
    pub(super) fn depth(&self) -> Arc<DepthOf> {
        let queue = Arc::clone(&self.queue);
        Arc::new(move || queue.counts().waiting)
    }

    /// Runs a request when it is its sequence's turn, and waits for the outputs.
    ///
    /// Cancel-safe: a request whose future is dropped before it runs has never been, for
    /// its sequence; one that runs is part of it.
    ///
    /// # Errors
    /// No id, no start, as many requests as may wait, or the run's own.
    pub(super) async fn infer(&self, inputs: CheckedInputs, call: &Call) -> Result<Vec<NamedTensor>> {
        let model = &self.model;
        let Some(sequence) = &call.options.sequence else {
            // Triton's words, here and below.
            let message = format!(
                "inference request to model '{model}' must specify a non-zero or non-empty correlation ID"
            );
            return Err(Error::new(Kind::BadRequest, message));
        };
        if inputs.rows != 1 {
            let message = format!(
                "inference request to model '{model}' must specify batch-size 1 due to requirements of \
                 sequence batcher"
            );
            return Err(Error::new(Kind::BadShape, message));
        }
        let shown_id = shown(&sequence.id);
        let id = self.plan.encode_id(&sequence.id).map_err(|what| {
            Error::new(
                Kind::BadRequest,
                format!("correlation ID {shown_id} does not fit model '{model}': {what}"),
            )
        })?;
        if let Some(trace) = &call.trace {
            trace.event("QUEUE_START");
            trace.tensors("TENSOR_QUEUE_INPUT", &inputs.inputs);
        }
        let (reply, answer) = oneshot::channel();
        let arrival = Arrival {
            key: (call.tenant.clone(), sequence.id.clone()),
            start: sequence.start,
            end: sequence.end,
            deadline: Some(self.deadline(call.deadline)),
            shape: scheduling::shape_key(&inputs.inputs, None),
            payload: Request {
                inputs: inputs.inputs,
                id,
                shown_id: shown_id.clone(),
                reply,
                queued: Instant::now(),
                waiting: Some(self.statistics.wait()),
                trace: call.trace.clone(),
                span: tracing::Span::current(),
            },
        };
        let queued = self.queue.submit(arrival).map_err(|(why, _)| refusal(why, model, &shown_id))?;
        // The lane drops a request only when its thread is going away.
        let outcome = answer.await.map_err(|_| Error::new(Kind::Draining, "the model was taken away"))?;
        queued.finish();
        outcome
    }

    /// The inputs of a model that clients see, completed as if each row began a sequence: for
    /// its warm-up.
    pub(super) fn complete(&self, inputs: &[NamedTensor]) -> std::result::Result<Vec<NamedTensor>, String> {
        self.plan.complete(inputs).map_err(|error| error.to_string())
    }

    /// Requests that may wait, from now on.
    pub(super) fn set_queue_size(&self, max_queue_size: usize) {
        self.queue.set_policy(SequencePolicy { max_queue_size, ..self.policy.clone() });
    }

    /// Takes the place of another version of the same model, whose sequences end: they are
    /// told why when they go on.
    pub(super) fn succeed(&self, before: &Self) {
        self.queue.succeed(&before.queue);
    }

    fn deadline(&self, deadline: Instant) -> Time {
        Time(self.clock.now().0 + deadline.saturating_duration_since(Instant::now()))
    }
}

impl Drop for SequenceModel {
    fn drop(&mut self) {
        self.queue.drain();
    }
}

fn policy(config: &config::Model, sequence: &config::Sequence) -> SequencePolicy {
    let max_queue_delay = sequence.max_queue_delay;
    let strategy = match &sequence.strategy {
        SequenceStrategy::Direct { minimum_slot_utilization } => {
            Strategy::Direct { max_queue_delay, minimum_slot_utilization: *minimum_slot_utilization }
        }
        SequenceStrategy::Oldest { preferred_batch_sizes, .. } => Strategy::Oldest {
            max_batch_size: config.max_batch_size,
            preferred_batch_sizes: preferred_batch_sizes.clone(),
            max_queue_delay,
        },
    };
    SequencePolicy { strategy, max_idle: sequence.max_idle, max_queue_size: config.batching.max_queue_size }
}

/// How the model's queue batches what comes from here: each entry is a batch, and there is at
/// most one for each instance.
pub(super) fn policy_of_runs(config: &config::Model) -> Policy {
    let (max_batch_size, max_queue_size) = (config.max_batch_size, config.instances);
    Policy { max_batch_size, max_queue_size, ..Policy::default() }
}

/// Answers those who leave without having run, and counts.
struct Told {
    model: Arc<str>,
    metrics: Arc<ModelMetrics>,
}

impl Observer<Request> for Told {
    fn unrun(&self, request: Request, why: Unrun) {
        let model = &self.model;
        let error = match why {
            Unrun::Deadline => Error::new(Kind::Deadline, "the request's deadline passed in the queue"),
            Unrun::NotStarted => not_started(model, &request.shown_id, Some(EndedBy::Start)),
            _ => gone(model),
        };
        // The caller may have left meanwhile.
        let _ = request.reply.send(Err(error));
    }

    fn counts(&self, counts: Counts) {
        self.metrics.sequences(counts.active, counts.slots, counts.backlog);
    }
}

fn refusal(why: Refused, model: &str, id: &str) -> Error {
    match why {
        Refused::NotStarted(ended) => not_started(model, id, ended),
        Refused::QueueFull => Error::new(Kind::QueueFull, format!("the queue of model '{model}' is full")),
        Refused::Draining => Error::new(Kind::Draining, format!("model '{model}' is being taken away")),
        _ => gone(model),
    }
}

fn gone(model: &str) -> Error {
    let message = format!("the instance of model '{model}' that ran this sequence is gone: start it again");
    Error::new(Kind::ModelUnavailable, message)
}

fn not_started(model: &str, id: &str, ended: Option<EndedBy>) -> Error {
    let why = match ended {
        None => "",
        Some(EndedBy::Request) => " (the sequence has ended)",
        Some(EndedBy::Idle) => " (the sequence was idle for too long and has ended)",
        Some(EndedBy::Start) => " (the first request of the sequence did not run)",
        Some(EndedBy::Instance) => " (the sequence has ended: the instance that ran it is gone)",
        Some(EndedBy::Reload) => " (the sequence has ended: the model was loaded anew)",
        Some(EndedBy::State) => " (the sequence has ended: its state grew beyond its bounds)",
        Some(_) => " (the sequence has ended)",
    };
    let message = format!(
        "inference request for sequence {id} to model '{model}' must specify the START flag on the first \
         request of the sequence{why}"
    );
    Error::new(Kind::BadRequest, message)
}

/// Characters of a sequence's id that a message repeats.
const SHOWN_CHARS_MAX: usize = 64;

fn shown(id: &SequenceId) -> String {
    match id {
        SequenceId::Number(number) => number.to_string(),
        SequenceId::Text(text) => {
            let plain = text.chars().map(|char| if char.is_control() { '?' } else { char });
            plain.take(SHOWN_CHARS_MAX).collect()
        }
    }
}
