//! What a run costs by its requests.

use std::time::Duration;

/// The measured cost of a request, by how many share a run; on the line between two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Curve {
    pub(super) name: &'static str,
    /// Requests of a run, and microseconds of each.
    points: [(usize, f64); 6],
}

/// One-row requests of a small model: batching pays four- to fivefold.
pub(super) const SCORE: Curve =
    Curve { name: "score", points: [(1, 34.0), (2, 13.0), (4, 7.8), (8, 6.8), (16, 6.1), (64, 5.9)] };

/// Requests of 64 dense rows: beyond four of them the input leaves the cache.
pub(super) const RANK: Curve = Curve {
    name: "rank",
    points: [(1, 382.0), (2, 369.0), (4, 359.0), (8, 504.0), (16, 523.0), (64, 494.0)],
};

impl Curve {
    /// A run of so many requests.
    pub(super) fn cost(&self, requests: usize) -> Duration {
        let above =
            self.points.iter().position(|(size, _)| *size >= requests).unwrap_or(self.points.len() - 1);
        let ((less, low), (more, high)) = (self.points[above.saturating_sub(1)], self.points[above]);
        let each = if more == less {
            high
        } else {
            let share = (requests as f64 - less as f64) / (more as f64 - less as f64);
            low + (high - low) * share.clamp(0.0, 1.0)
        };
        Duration::from_secs_f64(each * requests as f64 * 1e-6)
    }

    /// A run of one request.
    pub(super) fn alone(&self) -> Duration {
        self.cost(1)
    }

    /// A request in the best batch of at most so many.
    pub(super) fn least(&self, requests_max: usize) -> Duration {
        let each = (1..=requests_max).map(|requests| self.cost(requests).as_secs_f64() / requests as f64);
        Duration::from_secs_f64(each.fold(f64::INFINITY, f64::min))
    }
}
