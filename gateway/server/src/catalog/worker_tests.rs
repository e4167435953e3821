//! What an instance promises, with an engine that does as it is told.

use std::sync::atomic::AtomicBool;

use sluice_batch::{MonotonicClock, Policy, Reason, Time};
use sluice_engine::{BatchOutput, Model};
use sluice_tensor::Signature;

use super::*;
use crate::observe::{Metrics, SpanCounters};

/// A model whose runs give nothing, or panic; and which may panic instead of giving another
/// instance.
struct Told {
    signature: Signature,
    runs_panic: bool,
    is_broken: AtomicBool,
}

struct Run {
    panics: bool,
}

impl Model for Told {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn instance(&self) -> Result<Box<dyn Instance>, EngineError> {
        assert!(!self.is_broken.swap(true, Ordering::SeqCst), "there is no second instance");
        Ok(Box::new(Run { panics: self.runs_panic }))
    }
}

impl Instance for Run {
    fn run(&mut self, members: &[&[NamedTensor]], _: &Interrupt) -> Result<BatchOutput, EngineError> {
        assert!(!self.panics, "told to panic");
        let members = members.iter().map(|_| Vec::new()).collect();
        Ok(BatchOutput { members, timings: Timings::default() })
    }

    fn pad(&mut self, _: Option<Arc<Padding>>) {}
}

fn worker(runs_panic: bool) -> Worker {
    let metrics = Metrics::new(SpanCounters::default());
    let told = Told { signature: Signature::default(), runs_panic, is_broken: AtomicBool::new(false) };
    let model: Arc<dyn Model> = Arc::new(told);
    let clock = Arc::new(MonotonicClock::new());
    let ready_instances = Arc::default();
    let watch = RunWatch::new(&ready_instances, &metrics.model("told"));
    Worker {
        number: 0,
        outbox: Arc::default(),
        model_name: "told".into(),
        instance: model.instance().expect("the first one"),
        model,
        padding: None,
        queue: Arc::new(Queue::new(Policy::default(), clock)),
        ready_instances,
        watch,
        metrics: metrics.model("told"),
        statistics: metrics.statistics(&"told".into(), "1"),
        panics: 0,
    }
}

fn job(rows: usize, members: usize) -> (Job, oneshot::Receiver<Result<Vec<NamedTensor>>>) {
    let (reply, answer) = oneshot::channel();
    let queued = Instant::now();
    let job = Job {
        inputs: Vec::new(),
        rows,
        members: (0..members).map(|_| Member { queued, trace: None }).collect(),
        reply,
        caller: Arc::default(),
        queued,
        waited: Duration::ZERO,
        waiting: None,
        trace: None,
        span: tracing::Span::none(),
        queue_span: tracing::Span::none(),
    };
    (job, answer)
}

fn batch(jobs: Vec<Job>) -> Batch<Job> {
    let rows = jobs.iter().map(|job| job.rows).sum();
    Batch {
        entries: jobs.into_iter().map(|job| Entry::new(job.rows, 0, job)).collect(),
        rows,
        shape: 0,
        reason: Reason::Full,
        oldest_wait: Duration::ZERO,
        released: Time::START,
        number: 0,
        is_ordered: false,
    }
}

#[test]
fn rows_of_callers_who_left_are_not_counted() {
    let mut worker = worker(false);
    let (jobs, _answers): (Vec<_>, Vec<_>) = [3, 4, 5].map(|rows| job(rows, 0)).into_iter().unzip();
    jobs[1].caller.leave();
    assert!(worker.run(batch(jobs)).is_ok());
    let read = worker.statistics.read("told", "1");
    assert_eq!((read.inference_count, read.execution_count), (8, 1));
    assert_eq!(read.batch_stats.iter().map(|size| size.batch_size).collect::<Vec<_>>(), [8]);
    assert_eq!(read.inference_stats.compute_infer.count, 2);
}

#[test]
fn a_batch_of_sequences_counts_as_its_requests_and_nobodys_rows_do_not() {
    let mut worker = worker(false);
    // Two sequences, in the rows 3 and 7 of a batch.
    let (job, _answer) = job(8, 2);
    assert!(worker.run(batch(vec![job])).is_ok());
    let read = worker.statistics.read("told", "1");
    assert_eq!((read.inference_count, read.execution_count), (2, 1));
    let stats = &read.inference_stats;
    assert_eq!((stats.queue.count, stats.compute_infer.count), (2, 2));
}

#[test]
fn an_instance_that_panics_while_it_is_rebuilt_is_given_up_and_its_model_says_so() {
    let worker = worker(true);
    let (queue, ready) = (Arc::clone(&worker.queue), Arc::clone(&worker.ready_instances));
    worker.spawn().expect("a thread");
    assert_eq!(ready.load(Ordering::Acquire), 1);
    let (job, answer) = job(1, 0);
    let _queued = queue.submit(Entry::new(1, 0, job)).map_err(|(why, _)| why).expect("admitted");
    assert_eq!(answer.blocking_recv().expect("an answer").expect_err("it panics").kind(), Kind::Engine);
    let clock = MonotonicClock::new();
    while ready.load(Ordering::Acquire) > 0 {
        assert!(sluice_batch::Clock::now(&clock).0 < Duration::from_secs(30), "still said to be ready");
        std::thread::yield_now();
    }
}
