//! An instance and its thread: takes a batch, runs it, hands out the results.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sluice_batch::{Batch, Entry, Expired, Lateness, Observed, Queue, Work};
use sluice_engine::{EngineError, Instance, Interrupt, Padding, Timings};
use sluice_tensor::NamedTensor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::guards::Caller;
use super::hung::RunWatch;
use super::outbox::{Outbox, Turn};
use crate::error::{Error, Kind, Result};
use crate::observe::{self, ModelMetrics, Phases, Statistics, Trace, Waiting};

/// One request's rows in a model's queue; or a batch of sequences, which is several requests.
pub(super) struct Job {
    pub(super) inputs: Vec<NamedTensor>,
    /// Rows that run: in a batch of sequences some may be nobody's.
    pub(super) rows: usize,
    /// The requests of a batch of sequences, of one row each. Else none: it is one request.
    pub(super) members: Vec<Member>,
    pub(super) reply: oneshot::Sender<Result<Vec<NamedTensor>>>,
    pub(super) caller: Arc<Caller>,
    pub(super) queued: Instant,
    /// How long it waited, once it has joined its batch: its requests together.
    pub(super) waited: Duration,
    /// There while it waits.
    pub(super) waiting: Option<Waiting>,
    /// Where its times are noted, if it is traced.
    pub(super) trace: Option<Arc<Trace>>,
    pub(super) span: tracing::Span,
    /// Open while the job waits for its batch.
    pub(super) queue_span: tracing::Span,
}

/// A request that shares its job with others.
pub(super) struct Member {
    pub(super) queued: Instant,
    /// Where its times are noted, if it is traced.
    pub(super) trace: Option<Arc<Trace>>,
}

impl Job {
    /// It has joined its batch.
    fn joined(&mut self, metrics: &ModelMetrics) {
        self.queue_span = tracing::Span::none();
        self.waiting = None;
        if self.members.is_empty() {
            self.waited = self.queued.elapsed();
            return metrics.queue_wait(self.waited);
        }
        self.waited = Duration::ZERO;
        for member in &self.members {
            let waited = member.queued.elapsed();
            metrics.queue_wait(waited);
            self.waited = self.waited.saturating_add(waited);
        }
    }

    /// Requests in it, and their rows.
    fn counts(&self) -> (usize, usize) {
        match self.members.len() {
            0 => (1, self.rows),
            members => (members, members),
        }
    }

    fn traces(&self) -> impl Iterator<Item = &Arc<Trace>> {
        self.trace.iter().chain(self.members.iter().filter_map(|member| member.trace.as_ref()))
    }
}

/// Interrupts a batch when the last caller who waits for it has left.
pub(super) struct BatchWatch {
    waiting: AtomicUsize,
    interrupt: Interrupt,
}

impl BatchWatch {
    pub(super) fn one_left(&self) {
        if self.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.interrupt.trigger();
        }
    }
}

/// An instance, and what its runs touch.
pub(super) struct Worker {
    /// Its number among the model's instances.
    pub(super) number: usize,
    /// The order in which answers leave.
    pub(super) outbox: Arc<Outbox>,
    pub(super) model_name: Arc<str>,
    pub(super) model: Arc<dyn sluice_engine::Model>,
    pub(super) instance: Box<dyn Instance>,
    /// How it pads.
    pub(super) padding: Option<Arc<Padding>>,
    pub(super) queue: Arc<Queue<Job>>,
    pub(super) ready_instances: Arc<AtomicUsize>,
    /// What it runs, for whoever looks after runs that do not return.
    pub(super) watch: Arc<RunWatch>,
    pub(super) metrics: Arc<ModelMetrics>,
    pub(super) statistics: Arc<Statistics>,
    /// Panics one after the other.
    pub(super) panics: usize,
}

/// Panics of one instance after which it is given up: a rebuilt session that
/// panics again and again only burns requests.
const PANICS_MAX: usize = 3;

impl Worker {
    /// Starts the instance's thread.
    pub(super) fn spawn(mut self) -> io::Result<()> {
        self.instance.pad(self.padding.clone());
        let ready_instances = Arc::clone(&self.ready_instances);
        ready_instances.fetch_add(1, Ordering::AcqRel);
        // Linux shows the first 15 bytes of a thread's name.
        let name = format!("run-{}-{}", self.number, self.model_name);
        let work = move || {
            // Batches are a little smaller without.
            let _ = sluice_sandbox::priority::wait_for_turns();
            while let Some(work) = self.queue.next(self.number) {
                if !self.serve(work) {
                    break;
                }
            }
            self.retire();
        };
        let started = std::thread::Builder::new().name(name).spawn(work);
        started.map(drop).inspect_err(|_| {
            ready_instances.fetch_sub(1, Ordering::AcqRel);
        })
    }

    /// Does one piece of work. `false` if the instance is to be given up.
    fn serve(&mut self, work: Work<Job>) -> bool {
        match work {
            Work::Expired(entries) => expire(entries),
            Work::Run(batch, _permit) => {
                if self.run(batch).is_ok() {
                    self.panics = 0;
                } else {
                    self.panics += 1;
                    if self.panics >= PANICS_MAX || !self.rebuild() {
                        tracing::error!(model = %self.model_name, "instance is given up after a panic");
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Answers what only this instance could run; and everything, if it was the last.
    fn retire(&self) {
        answer_all(self.queue.abandon(self.number), &unavailable());
        if self.ready_instances.fetch_sub(1, Ordering::AcqRel) == 1 {
            // Nobody is left to answer what is queued.
            self.queue.drain();
            while let Some(work) = self.queue.next(self.number) {
                match work {
                    Work::Expired(entries) => expire(entries),
                    Work::Run(batch, _) => {
                        drop(self.outbox.turn(batch.number, false));
                        answer_all(batch.entries, &unavailable());
                    }
                }
            }
        }
    }

    /// A fresh instance in place of one that panicked.
    fn rebuild(&mut self) -> bool {
        let (model, padding) = (&self.model, &self.padding);
        let rebuilt = catch_unwind(AssertUnwindSafe(|| {
            let mut instance = model.instance()?;
            instance.pad(padding.clone());
            Ok::<_, EngineError>(instance)
        }));
        let error = match rebuilt {
            Ok(Ok(instance)) => {
                self.instance = instance;
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        tracing::error!(model = %self.model_name, error, "cannot rebuild the instance");
        false
    }

    fn run(&mut self, batch: Batch<Job>) -> Result<(), Panicked> {
        let watch = Arc::new(BatchWatch {
            waiting: AtomicUsize::new(batch.entries.len()),
            interrupt: Interrupt::default(),
        });
        let mut turn = self.outbox.turn(batch.number, batch.is_ordered);
        let started = Instant::now();
        let (reason, shape, oldest_wait) = (batch.reason.as_str(), batch.shape, batch.oldest_wait);
        let mut jobs = Vec::with_capacity(batch.entries.len());
        for Entry { payload: mut job, .. } in batch.entries {
            if job.caller.join(&watch) {
                job.joined(&self.metrics);
                jobs.push(job);
            } else {
                watch.one_left();
            }
        }
        if jobs.is_empty() {
            return Ok(());
        }
        // Some may have left while it waited: what runs is what counts.
        let rows: usize = jobs.iter().map(|job| job.rows).sum();
        // The batch belongs to all of its members; its span hangs below the first and
        // links to the others.
        let span = tracing::debug_span!(parent: &jobs[0].span, "execute", model = %self.model_name, rows,
            requests = jobs.len(), reason);
        let _entered = span.enter();
        jobs.iter().skip(1).for_each(|job| {
            span.follows_from(&job.span);
        });
        match self.attempt(&jobs, reason, &watch.interrupt) {
            Ok(outputs) => {
                reply(&mut turn, jobs, outputs);
                let observed = Observed { shape, rows, took: started.elapsed(), oldest_wait };
                let best_rows = self.queue.observe(&observed);
                self.metrics.best_rows(best_rows);
                Ok(())
            }
            Err(error) if jobs.len() == 1 => self.refuse(&mut turn, jobs, error),
            Err(error @ (Failure::Panicked | Failure::Engine(EngineError::Interrupted))) => {
                self.refuse(&mut turn, jobs, error)
            }
            Err(Failure::Engine(error)) => {
                if observe::is_failure_written(Some(&self.model_name), "batch_failed") {
                    tracing::warn!(model = %self.model_name, %error, "batch failed, its members run apart");
                }
                self.run_apart(&mut turn, jobs, &watch.interrupt)
            }
        }
    }

    /// One poisonous request must hurt only itself: each member runs apart, once.
    fn run_apart(&mut self, turn: &mut Turn, jobs: Vec<Job>, interrupt: &Interrupt) -> Result<(), Panicked> {
        let mut rest = jobs.into_iter();
        while let Some(job) = rest.next() {
            match self.attempt(std::slice::from_ref(&job), "apart", interrupt) {
                Ok(outputs) => reply(turn, vec![job], outputs),
                Err(error) => {
                    if let Err(panicked) = self.refuse(turn, vec![job], error) {
                        self.refuse(turn, rest.collect(), Failure::Panicked)?;
                        return Err(panicked);
                    }
                }
            }
        }
        Ok(())
    }

    fn attempt(
        &mut self,
        jobs: &[Job],
        reason: &'static str,
        interrupt: &Interrupt,
    ) -> Result<Vec<Vec<NamedTensor>>, Failure> {
        let members: Vec<&[NamedTensor]> = jobs.iter().map(|job| job.inputs.as_slice()).collect();
        let started = Instant::now();
        let instance = &mut self.instance;
        let under_way = self.watch.begin();
        let ran = catch_unwind(AssertUnwindSafe(|| instance.run(&members, interrupt)));
        drop(under_way);
        match ran {
            Ok(Ok(output)) => {
                let Timings { gather, compute, scatter } = output.timings;
                let counts = jobs.iter().map(Job::counts);
                let (requests, rows) = counts.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
                self.metrics.batch(reason, rows, gather, compute, scatter);
                let waited = jobs.iter().map(|job| job.waited).sum();
                let phases = Phases { input: gather, infer: compute, output: scatter };
                self.statistics.executed(requests, rows, waited, phases);
                note(jobs, &output.members, started, phases);
                Ok(output.members)
            }
            Ok(Err(error)) => Err(Failure::Engine(error)),
            Err(_) => Err(Failure::Panicked),
        }
    }

    /// Answers the jobs of a failed run. A panic is passed on: the instance's
    /// state is unknown after it.
    fn refuse(&self, turn: &mut Turn, jobs: Vec<Job>, failure: Failure) -> Result<(), Panicked> {
        let name = &self.model_name;
        match failure {
            Failure::Engine(error) => {
                refuse_jobs(turn, jobs, &self.to_error(&error));
                Ok(())
            }
            Failure::Panicked => {
                tracing::error!(model = %name, "an engine thread panicked");
                refuse_jobs(turn, jobs, &Error::new(Kind::Engine, format!("model '{name}' failed to run")));
                Err(Panicked)
            }
        }
    }

    fn to_error(&self, error: &EngineError) -> Error {
        let name = &self.model_name;
        let answer = match error {
            EngineError::Input(what) => Error::new(Kind::BadShape, what.clone()),
            EngineError::Interrupted => {
                return Error::new(Kind::Deadline, "nobody waited for the run any more");
            }
            EngineError::OutOfMemory(_) => {
                Error::new(Kind::Engine, format!("model '{name}' ran out of memory"))
            }
            _ => Error::new(Kind::Engine, format!("model '{name}' failed to run")),
        };
        if observe::is_failure_written(Some(name), "run_failed") {
            tracing::warn!(model = %name, %error, "run failed");
        }
        answer.with_detail(error.to_string())
    }
}

/// Notes the times of a run for those of its members that are traced.
fn note(jobs: &[Job], outputs: &[Vec<NamedTensor>], started: Instant, phases: Phases) {
    for (job, outputs) in jobs.iter().zip(outputs) {
        let gathered = started + phases.input;
        for trace in job.traces() {
            trace.event_at("COMPUTE_START", started);
            trace.event_at("COMPUTE_INPUT_END", gathered);
            trace.event_at("COMPUTE_OUTPUT_START", gathered + phases.infer);
            trace.event("COMPUTE_END");
        }
        // Whose outputs are whose is cut apart later where a job has members.
        if let Some(trace) = &job.trace {
            trace.tensors("TENSOR_BACKEND_OUTPUT", outputs);
        }
    }
}

/// Why a run has no result.
enum Failure {
    Engine(EngineError),
    Panicked,
}

/// The instance panicked: its state is unknown.
struct Panicked;

fn unavailable() -> Error {
    Error::new(Kind::ModelUnavailable, "the model's instances are gone")
}

fn reply(turn: &mut Turn, jobs: Vec<Job>, outputs: Vec<Vec<NamedTensor>>) {
    for (job, outputs) in jobs.into_iter().zip(outputs) {
        turn.answer(job, Ok(outputs));
    }
}

fn refuse_jobs(turn: &mut Turn, jobs: Vec<Job>, error: &Error) {
    for job in jobs {
        turn.answer(job, Err(error.clone()));
    }
}

fn answer_all(entries: Vec<Entry<Job>>, error: &Error) {
    for entry in entries {
        let _ = entry.payload.reply.send(Err(error.clone()));
    }
}

pub(super) fn expire(expired: Vec<Expired<Job>>) {
    for Expired { entry, why } in expired {
        let error = match why {
            // Triton's words.
            Lateness::Timeout => Error::new(Kind::QueueTimeout, "Request timeout expired"),
            Lateness::Unreachable => Error::new(Kind::Deadline, UNREACHABLE),
            _ => Error::new(Kind::Deadline, "the request's deadline passed in the queue"),
        };
        let _ = entry.payload.reply.send(Err(error));
    }
}

/// For the caller, when no run can end in time.
pub(super) const UNREACHABLE: &str = "the request's deadline cannot be met: a run takes longer";

#[cfg(test)]
#[path = "worker_tests.rs"]
mod tests;
