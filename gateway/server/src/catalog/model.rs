//! A model that is served: its queue, and the instance threads behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use sluice_batch::{Clock, Demand, Entry, Limiter, Policy, Queue, Rejected, Time, User};
use sluice_engine::{EngineKind, Instance};
use sluice_tensor::{NamedTensor, Signature};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::cache::ModelCache;
use super::coming::Announced;
use super::exposed::Exposed;
use super::guards::{Caller, LeaveOnDrop};
use super::hung::RunWatch;
use super::outbox::Outbox;
use super::scheduling::{self, PaddedModel};
use super::sequence::{self, SequenceModel};
use super::warmup;
use super::worker::{Job, UNREACHABLE, Worker, expire};
use crate::config::{self, Batching};
use crate::error::{Error, Kind, Result};
use crate::observe::{DepthOf, Failure, ModelMetrics, PipelineMetrics, Statistics};
use crate::pipeline::{Call, CheckedInputs};

/// A loaded model. Dropping it drains its queue and ends its threads.
pub struct Model {
    config: config::Model,
    digest: String,
    engine: EngineKind,
    /// The file's, without what sequences have for themselves.
    signature: Signature,
    /// What clients see, if it is not the file's.
    exposed: Option<Exposed>,
    pub(super) queue: Arc<Queue<Job>>,
    /// Its configuration now, if how it is batched has changed since it was loaded.
    current: ArcSwap<config::Model>,
    padded: Option<PaddedModel>,
    user: Arc<User>,
    /// Requests whose inputs are being made.
    pub(super) announced: Announced,
    /// Where its requests come in sequences.
    pub(super) sequences: Option<SequenceModel>,
    clock: Arc<dyn Clock>,
    /// Instance threads that can still take a batch.
    ready_instances: Arc<AtomicUsize>,
    /// What its instances run, by their numbers.
    watches: Vec<Arc<RunWatch>>,
    metrics: Arc<ModelMetrics>,
    /// Says how many requests wait, for as long as the model is there.
    _waiting: Arc<DepthOf>,
    statistics: Arc<Statistics>,
    /// Answers that may be given again, if it was opted in.
    pub(super) cache: Option<ModelCache>,
    request_metrics: Arc<PipelineMetrics>,
}

/// What a [`Model`] is made from.
pub(super) struct Loaded {
    pub(super) config: config::Model,
    pub(super) digest: String,
    pub(super) engine: EngineKind,
    pub(super) model: Arc<dyn sluice_engine::Model>,
    /// How long the warm-up of an instance may take.
    pub(super) load_timeout: Duration,
    /// What bounds the runs of all models together, and what a run of this one takes of it.
    pub(super) limiter: Arc<Limiter>,
    pub(super) demand: Demand,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<ModelMetrics>,
    pub(super) statistics: Arc<Statistics>,
    pub(super) cache: Option<ModelCache>,
    pub(super) request_metrics: Arc<PipelineMetrics>,
}

impl Model {
    /// Starts the instance threads of a model that was loaded.
    pub(super) fn start(loaded: Loaded) -> std::result::Result<Arc<Self>, String> {
        let Loaded {
            config,
            digest,
            engine,
            model,
            load_timeout,
            limiter,
            demand,
            clock,
            metrics,
            statistics,
            cache,
            request_metrics,
        } = loaded;
        if config.max_batch_size > 0 && !model.signature().is_batchable() {
            return Err("its inputs and outputs have no common first dimension that may vary: \
                        set max_batch_size = 0 to serve it without batches"
                .to_owned());
        }
        let policy = policy(&config, &config.batching);
        let user = Arc::new(User::default());
        user.set(demand);
        let queue = Queue::new(policy, Arc::clone(&clock)).for_instances(config.instances);
        let queue = Arc::new(queue.limited_by(limiter, Arc::clone(&user)));
        let (sequences, signature) =
            SequenceModel::start(&config, model.signature(), &queue, &clock, &metrics, &statistics)?;
        let waiting = match &sequences {
            Some(sequences) => sequences.depth(),
            None => {
                let queue = Arc::clone(&queue);
                Arc::new(move || queue.depth())
            }
        };
        metrics.watch(&waiting);
        let exposed = Exposed::new(&signature, &config.presentation, config.max_batch_size > 0)?;
        let padded =
            config.padding.as_ref().map(|padding| PaddedModel::new(&signature, padding)).transpose()?;
        let ready_instances = Arc::new(AtomicUsize::new(0));
        let watches = (0..config.instances).map(|_| RunWatch::new(&ready_instances, &metrics)).collect();
        // Dropping the model drains its queue, so that a start that fails leaves no
        // thread behind.
        let started = Arc::new(Self {
            current: ArcSwap::from_pointee(config.clone()),
            padded,
            user,
            config,
            digest,
            engine,
            signature,
            exposed,
            queue,
            announced: Announced::default(),
            sequences,
            clock,
            ready_instances,
            watches,
            metrics,
            _waiting: waiting,
            statistics,
            cache,
            request_metrics,
        });
        started.start_instances(&model, load_timeout)?;
        Ok(started)
    }

    fn start_instances(
        &self,
        model: &Arc<dyn sluice_engine::Model>,
        load_timeout: Duration,
    ) -> std::result::Result<(), String> {
        let outbox = Arc::new(Outbox::default());
        for (number, watch) in self.watches.iter().enumerate() {
            let instance = model.instance().map_err(|error| error.to_string())?;
            let instance = self.warm_up(instance, load_timeout)?;
            let worker = Worker {
                model_name: Arc::clone(&self.config.name),
                model: Arc::clone(model),
                instance,
                padding: self.padded.as_ref().map(|padded| Arc::clone(&padded.padding)),
                number,
                outbox: Arc::clone(&outbox),
                queue: Arc::clone(&self.queue),
                ready_instances: Arc::clone(&self.ready_instances),
                watch: Arc::clone(watch),
                metrics: Arc::clone(&self.metrics),
                statistics: Arc::clone(&self.statistics),
                panics: 0,
            };
            worker.spawn().map_err(|error| format!("cannot start an instance thread: {error}"))?;
        }
        Ok(())
    }

    /// The public name.
    pub fn name(&self) -> &Arc<str> {
        &self.config.name
    }

    /// How it was configured.
    pub fn config(&self) -> &config::Model {
        &self.config
    }

    /// The SHA-256 of the model's file, in hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// What runs it.
    pub fn engine(&self) -> EngineKind {
        self.engine
    }

    /// Inputs and outputs, as clients see them: without those that sequences have for
    /// themselves.
    pub fn signature(&self) -> &Signature {
        self.exposed.as_ref().map_or(&self.signature, Exposed::signature)
    }

    /// The names of an output's classes, if it has some.
    pub fn labels(&self, output: &str) -> Option<&Arc<[Arc<str>]>> {
        self.config.presentation.labels.get(output)
    }

    /// Its configuration as Triton shows it, with every default.
    pub fn triton_config(&self) -> serde_json::Value {
        super::repository::resolve::completed(self)
    }

    /// Its version, where that is a number.
    pub(super) fn version_number(&self) -> Option<u64> {
        self.config.version.parse().ok()
    }

    /// The instances whose run goes on for longer than that, which were not told before, and for
    /// how long it does: they are given up.
    pub(super) fn hanging(&self, longest: Duration) -> impl Iterator<Item = (usize, Duration)> {
        let watches = self.watches.iter().enumerate();
        watches.filter_map(move |(number, watch)| Some((number, watch.look(longest)?)))
    }

    /// Runs what is to be run before it is ready, in so much time.
    fn warm_up(
        &self,
        instance: Box<dyn Instance>,
        load_timeout: Duration,
    ) -> std::result::Result<Box<dyn Instance>, String> {
        let to_file = |inputs: Vec<NamedTensor>| {
            let inputs = match &self.exposed {
                Some(exposed) => exposed.to_file(&inputs).map_err(|error| error.message().to_owned())?,
                None => inputs,
            };
            self.sequences.as_ref().map_or(Ok(inputs.clone()), |sequences| sequences.complete(&inputs))
        };
        let warmups = &self.config.presentation.warmup;
        let runs = warmup::runs(warmups, self.signature(), &to_file, self.config.max_batch_size)?;
        warmup::run(instance, runs, load_timeout)
    }

    /// Most rows of a batch; 0 for a model that takes none.
    pub fn max_batch_size(&self) -> usize {
        self.config.max_batch_size
    }

    /// Where requests that call it directly are counted.
    pub(super) fn request_metrics(&self) -> &Arc<PipelineMetrics> {
        &self.request_metrics
    }

    /// What Triton's statistics extension shows of it.
    pub fn statistics(&self) -> &Arc<Statistics> {
        &self.statistics
    }

    /// Whether an instance can take a batch.
    pub fn is_ready(&self) -> bool {
        self.ready_instances.load(Ordering::Acquire) > 0
    }

    /// Runs rows in a batch with other requests' rows, and waits for the outputs.
    ///
    /// Cancel-safe: dropping the future takes the rows out of the queue; once they
    /// are on the engine it abandons the result, and the run itself is interrupted
    /// when nobody waits for it any more.
    ///
    /// # Errors
    /// Queue full, shutting down, deadline passed, model not ready, engine failed.
    pub async fn infer(&self, inputs: CheckedInputs, call: &Call) -> Result<Vec<NamedTensor>> {
        let counted = self.statistics.request(call.deadline);
        let outcome = match &self.cache {
            // What a sequence answers depends on what came before.
            Some(cache) if call.options.sequence.is_none() => {
                cache.through(inputs, |inputs| self.run_exposed(inputs, call)).await
            }
            _ => self.run_exposed(inputs, call).await,
        };
        counted.finished(outcome.as_ref().map(drop).map_err(|error| Failure::of(error.kind())));
        outcome
    }

    async fn run_exposed(&self, mut inputs: CheckedInputs, call: &Call) -> Result<Vec<NamedTensor>> {
        let Some(exposed) = &self.exposed else { return self.run(inputs, call).await };
        inputs.inputs = exposed.to_file(&inputs.inputs)?;
        exposed.as_declared(&self.run(inputs, call).await?)
    }

    async fn run(&self, inputs: CheckedInputs, call: &Call) -> Result<Vec<NamedTensor>> {
        if !self.is_ready() {
            return Err(Error::new(
                Kind::ModelUnavailable,
                format!("model '{}' is not ready", self.config.name),
            ));
        }
        if let Some(sequences) = &self.sequences {
            return sequences.infer(inputs, call).await;
        }
        let (reply, answer) = oneshot::channel();
        let caller = Arc::new(Caller::default());
        let (rows, shape) = (inputs.rows, scheduling::shape_key(&inputs.inputs, self.padded.as_ref()));
        let weight = scheduling::weight(self.current.load().batching.weight, &inputs, &call.options);
        let job = Job {
            rows,
            inputs: inputs.inputs,
            members: Vec::new(),
            reply,
            caller: Arc::clone(&caller),
            queued: Instant::now(),
            waited: Duration::ZERO,
            waiting: Some(self.statistics.wait()),
            trace: call.trace.clone(),
            span: tracing::Span::current(),
            queue_span: tracing::debug_span!("queue"),
        };
        if let Some(trace) = &job.trace {
            trace.event("QUEUE_START");
            trace.tensors("TENSOR_QUEUE_INPUT", &job.inputs);
        }
        let entry = Entry {
            deadline: Some(self.queue_deadline(call.deadline)),
            timeout: call.options.timeout,
            weight,
            priority: call.options.priority,
            tenant: scheduling::tenant_key(call.tenant.as_deref()),
            ..Entry::new(rows, shape, job)
        };
        let _leave = LeaveOnDrop(caller);
        let queued = self.queue.submit(entry).map_err(|(why, _)| self.refusal(&why))?;
        let outcome = self.answer(answer, queued.timeout()).await;
        // The worker drops a job only when its thread is going away.
        let outcome = outcome.map_err(|_| Error::new(Kind::Draining, "the model was taken away"))?;
        queued.finish();
        outcome
    }

    /// Waits for the answer, and answers itself when the time in the queue is over: all
    /// instances may be busy then.
    async fn answer(
        &self,
        mut answer: oneshot::Receiver<Result<Vec<NamedTensor>>>,
        timeout: Option<Time>,
    ) -> std::result::Result<Result<Vec<NamedTensor>>, oneshot::error::RecvError> {
        if let Some(timeout) = timeout {
            let left = timeout.since(self.clock.now());
            match tokio::time::timeout(left, &mut answer).await {
                Ok(outcome) => return outcome,
                Err(_) => expire(self.queue.take_expired()),
            }
        }
        answer.await
    }

    /// Changes how it is batched; what is queued stays queued.
    pub(super) fn take_over(&self, config: &config::Model, engine: &config::Engine) {
        let batching = &config.batching;
        if let Some(sequences) = &self.sequences {
            sequences.set_queue_size(batching.max_queue_size);
        }
        self.queue.set_policy(policy(&self.config, batching));
        self.user.set(scheduling::demand(engine, batching));
        self.current.store(Arc::new(self.batched_as(config)));
    }

    /// Its configuration, if it is batched from now on as another one says.
    pub(super) fn batched_as(&self, config: &config::Model) -> config::Model {
        let mut current = self.config.clone();
        current.batching.clone_from(&config.batching);
        current.presentation.triton.clone_from(&config.presentation.triton);
        current
    }

    /// Takes the place of the same model as it was before. Sequences that go on are told
    /// that theirs has ended.
    pub(super) fn succeed(&self, before: &Self) {
        if let (Some(sequences), Some(before)) = (&self.sequences, &before.sequences) {
            sequences.succeed(before);
        }
    }

    /// Its configuration now: how it is batched in [`Self::config`] may be of before the last
    /// change.
    pub fn current(&self) -> Arc<config::Model> {
        self.current.load_full()
    }

    /// Checks inputs against the signature, puts them in its order, and makes what a request
    /// may leave out. Nothing is made before what says its size is checked.
    ///
    /// # Errors
    /// [`Kind::BadShape`], naming the input.
    pub(crate) fn check(&self, mut inputs: Vec<NamedTensor>) -> Result<CheckedInputs> {
        let (name, signature) = (self.name(), self.signature());
        if let Some(padded) = &self.padded {
            padded.complete(name, signature, &mut inputs)?;
        }
        let rows = signature
            .check_inputs(name, &mut inputs, self.max_batch_size())
            .map_err(|error| Error::new(Kind::BadShape, error.to_string()))?;
        if let Some(padded) = &self.padded {
            padded.check(&inputs)?;
        }
        Ok(CheckedInputs { inputs, rows })
    }

    /// Whether loading it again would change nothing but how it is batched.
    pub(super) fn is_same_but_batching(&self, config: &config::Model, digest: &str) -> bool {
        // What a `config.pbtxt` sets is only shown; all that has an effect is compared too.
        let mut same = self.batched_as(config);
        if same.presentation.is_batching_open && config.presentation.is_batching_open {
            same.max_batch_size = config.max_batch_size;
        }
        self.digest == digest && same == *config
    }

    pub(super) fn queue_deadline(&self, deadline: Instant) -> Time {
        Time(self.clock.now().0 + deadline.saturating_duration_since(Instant::now()))
    }

    pub(super) fn refusal(&self, why: &Rejected) -> Error {
        let name = &self.config.name;
        match why {
            Rejected::QueueFull => {
                Error::new(Kind::QueueFull, format!("the queue of model '{name}' is full"))
            }
            Rejected::TenantFull => Error::new(
                Kind::TenantLimit,
                format!("your requests take all of the queue of model '{name}' that one tenant may have"),
            ),
            Rejected::Unreachable => Error::new(Kind::Deadline, UNREACHABLE),
            Rejected::Behind => Error::new(
                Kind::QueueFull,
                format!("more waits for model '{name}' than it can run before the deadline"),
            ),
            Rejected::InstanceGone => Error::new(
                Kind::ModelUnavailable,
                format!("the instance of model '{name}' that this is bound to is gone"),
            ),
            Rejected::Draining => Error::new(Kind::Draining, format!("model '{name}' is being taken away")),
            _ => Error::new(Kind::BadShape, format!("more rows than model '{name}' takes")),
        }
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        self.queue.drain();
    }
}

/// How the queue batches: a sequence's batches come whole.
fn policy(config: &config::Model, batching: &Batching) -> Policy {
    match &config.sequence {
        Some(_) => sequence::policy_of_runs(config),
        None => scheduling::policy(config.max_batch_size, batching),
    }
}
