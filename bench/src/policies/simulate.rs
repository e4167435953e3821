//! One instance, one queue, virtual time.

use std::time::Duration;

use sluice_batch::{Batcher, Entry, Observed, Policy, ShapeKey, Step, Time};

use super::arrivals::Random;
use super::curve::Curve;

/// Noise of the cost of a run, either way.
const NOISE: f64 = 0.05;

/// All requests are alike.
const SHAPE: ShapeKey = 0;

/// What came of a history; times in milliseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outcome {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Requests of a batch on average.
    pub(super) batch: f64,
    /// Share of the time that the engine ran.
    pub(super) busy: f64,
}

/// A batch that runs.
struct Run {
    end: Time,
    cost: Duration,
    oldest_wait: Duration,
    requests: Vec<usize>,
}

/// Serves these arrivals by this policy.
pub(super) fn run(arrivals: &[Duration], curve: &Curve, policy: Policy) -> Outcome {
    let mut batcher = Batcher::new(policy);
    let mut noise = Random::new(99);
    let mut latencies = Vec::with_capacity(arrivals.len());
    let (mut running, mut wake) = (None::<Run>, None::<Time>);
    let (mut batches, mut busy, mut now, mut next) = (0_usize, Duration::ZERO, Time::START, 0);
    loop {
        let arrival = arrivals.get(next).map(|at| Time(*at));
        let end = running.as_ref().map(|run| run.end);
        let timer = wake.filter(|_| running.is_none());
        let Some(event) = [arrival, end, timer].into_iter().flatten().min() else { break };
        now = now.max(event);
        while let Some(at) = arrivals.get(next)
            && *at <= now.0
        {
            batcher.set_idle(usize::from(running.is_none()));
            // The queue is longer than any history.
            let _ = batcher.push(now, Entry::new(1, SHAPE, next));
            next += 1;
        }
        if let Some(run) = running.take_if(|run| run.end <= now) {
            latencies
                .extend(run.requests.iter().map(|number| (now.0 - arrivals[*number]).as_secs_f64() * 1e3));
            let (rows, oldest_wait) = (run.requests.len(), run.oldest_wait);
            batcher.observe(now, &Observed { shape: SHAPE, rows, took: run.cost, oldest_wait });
        }
        wake = None;
        if running.is_none() {
            batcher.set_idle(1);
            match batcher.poll(now, 0) {
                Step::Release(batch) => {
                    let factor = 1.0 + NOISE * (2.0 * noise.unit() - 1.0);
                    let cost = curve.cost(batch.rows).mul_f64(factor);
                    let requests = batch.entries.iter().map(|entry| entry.payload).collect();
                    batches += 1;
                    busy += cost;
                    let oldest_wait = batch.oldest_wait;
                    running = Some(Run { end: now.after(cost), cost, oldest_wait, requests });
                }
                Step::WaitUntil(until) => wake = Some(until),
                Step::Expired(_) | Step::Idle | Step::Drained => {}
            }
        }
    }
    let batch = latencies.len() as f64 / batches.max(1) as f64;
    outcome(latencies, batch, busy.as_secs_f64() / now.0.as_secs_f64())
}

/// What no policy can beat: see the page of the module above.
pub(super) fn bound(arrivals: &[Duration], curve: &Curve, requests_max: usize) -> Outcome {
    let (alone, least) = (curve.alone(), curve.least(requests_max));
    let (mut done, mut latencies) = (Duration::ZERO, Vec::with_capacity(arrivals.len()));
    for at in arrivals {
        done = done.max(*at) + least;
        latencies.push((done - *at).max(alone).as_secs_f64() * 1e3);
    }
    let work = least.as_secs_f64() * arrivals.len() as f64;
    let best = (1..=requests_max).min_by(|one, other| {
        let each = |requests: usize| curve.cost(requests).as_secs_f64() / requests as f64;
        each(*one).total_cmp(&each(*other))
    });
    outcome(latencies, best.unwrap_or(1) as f64, work / done.as_secs_f64())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
fn outcome(mut latencies: Vec<f64>, batch: f64, busy: f64) -> Outcome {
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let mean = latencies.iter().sum::<f64>() / latencies.len().max(1) as f64;
    Outcome { mean, p50: at(0.5), p99: at(0.99), batch, busy }
}
