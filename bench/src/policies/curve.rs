//! What a run costs by its requests.

use std::time::Duration;

/// The measured cost of a request, by how many share a run; a run between two costs what lies
/// on the line between their runs.
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

/// Made up, not measured: an accelerator, for which a large batch is hardly dearer than a
/// small one.
pub(super) const ACCELERATOR: Curve = Curve {
    name: "accelerator",
    points: [(1, 2_013.0), (2, 1_013.0), (4, 513.0), (8, 263.0), (16, 138.0), (64, 44.25)],
};

impl Curve {
    /// A run of so many requests.
    pub(super) fn cost(&self, requests: usize) -> Duration {
        let above =
            self.points.iter().position(|(size, _)| *size >= requests).unwrap_or(self.points.len() - 1);
        let (below, above) = (self.points[above.saturating_sub(1)], self.points[above]);
        let [low, high] = [below, above].map(|(size, each)| size as f64 * each);
        let whole = if below.0 == above.0 {
            high * requests as f64 / above.0 as f64
        } else {
            low + (high - low) * (requests as f64 - below.0 as f64) / (above.0 as f64 - below.0 as f64)
        };
        Duration::from_secs_f64(whole * 1e-6)
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
