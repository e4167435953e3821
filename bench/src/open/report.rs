//! What an open loop has seen.

use std::time::Duration;

/// Statuses of a server that has too much to do: it is not the request's fault.
const REFUSALS: [u16; 3] = [429, 503, 504];

/// The numbers of a run. Times are counted from when a request was due.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenReport {
    /// Requests a second that did leave.
    pub offered_per_s: f64,
    /// Answers with status 200 within the deadline, a second.
    pub good_per_s: f64,
    /// Answers with status 200 after it, also if only because they left late.
    pub late: u64,
    /// Answers with 429, 503 or 504.
    pub refused: u64,
    /// Other answers, none, and connections that broke.
    pub failed: u64,
    /// Requests that never found an idle connection.
    pub unsent: u64,
    /// Answers with status 200.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Answers that refuse.
    pub refused_p50_ms: f64,
    /// The same.
    pub refused_p99_ms: f64,
    /// How much later than due requests left.
    pub lateness_p50_ms: f64,
    /// The same.
    pub lateness_p99_ms: f64,
    /// The first thing that went wrong.
    pub first_error: Option<String>,
}

/// What the sender, or one reader, has seen.
#[derive(Default)]
pub(super) struct Seen {
    sent: u64,
    unsent: u64,
    lateness: Vec<Duration>,
    good: u64,
    ok: Vec<Duration>,
    refused: Vec<Duration>,
    other: u64,
    first_error: Option<String>,
}

impl Seen {
    pub(super) fn sent(&mut self, counts: bool, lateness: Duration) {
        if counts {
            self.sent += 1;
            self.lateness.push(lateness);
        }
    }

    pub(super) fn unsent(&mut self, counts: bool) {
        self.unsent += u64::from(counts);
    }

    pub(super) fn answered(&mut self, counts: bool, status: u16, took: Duration, deadline: Duration) {
        if !counts {
            return;
        }
        match status {
            200 => {
                self.good += u64::from(took <= deadline);
                self.ok.push(took);
            }
            status if REFUSALS.contains(&status) => self.refused.push(took),
            status => {
                self.other += 1;
                self.fail(format!("status {status}"));
            }
        }
    }

    pub(super) fn fail(&mut self, reason: String) {
        self.first_error.get_or_insert(reason);
    }

    pub(super) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.lateness.extend(other.lateness);
        self.good += other.good;
        self.ok.extend(other.ok);
        self.refused.extend(other.refused);
        self.other += other.other;
        self.first_error = self.first_error.take().or(other.first_error);
    }

    pub(super) fn report(mut self, seconds: f64) -> OpenReport {
        for times in [&mut self.lateness, &mut self.ok, &mut self.refused] {
            times.sort_unstable();
        }
        let (ok, refused) = (self.ok.len() as u64, self.refused.len() as u64);
        OpenReport {
            offered_per_s: self.sent as f64 / seconds,
            good_per_s: self.good as f64 / seconds,
            late: ok - self.good,
            refused,
            failed: self.sent.saturating_sub(ok + refused),
            unsent: self.unsent,
            p50_ms: milliseconds(&self.ok, 50),
            p99_ms: milliseconds(&self.ok, 99),
            refused_p50_ms: milliseconds(&self.refused, 50),
            refused_p99_ms: milliseconds(&self.refused, 99),
            lateness_p50_ms: milliseconds(&self.lateness, 50),
            lateness_p99_ms: milliseconds(&self.lateness, 99),
            first_error: self.first_error,
        }
    }
}

/// The smallest of the sorted times that `percent` of them do not exceed; not a number if
/// there are none.
fn milliseconds(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let time = rank.checked_sub(1).and_then(|place| sorted.get(place));
    time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_that_left_ends_as_one_thing_only() {
        let (deadline, soon, late) =
            (Duration::from_millis(10), Duration::from_millis(1), Duration::from_millis(20));
        let mut seen = Seen::default();
        for _ in 0..6 {
            seen.sent(true, Duration::ZERO);
        }
        seen.sent(false, Duration::ZERO);
        seen.unsent(true);
        seen.answered(false, 200, soon, deadline);
        seen.answered(true, 200, soon, deadline);
        seen.answered(true, 200, late, deadline);
        seen.answered(true, 429, soon, deadline);
        seen.answered(true, 504, late, deadline);
        seen.answered(true, 500, soon, deadline);
        // The sixth is never answered.
        let report = seen.report(2.0);
        assert_eq!((report.late, report.refused, report.failed, report.unsent), (1, 2, 2, 1));
        assert!((report.good_per_s - 0.5).abs() < 1e-9 && (report.offered_per_s - 3.0).abs() < 1e-9);
        assert!((report.refused_p99_ms - 20.0).abs() < 1e-9 && (report.refused_p50_ms - 1.0).abs() < 1e-9);
        assert_eq!(report.first_error.as_deref(), Some("status 500"));
    }
}
