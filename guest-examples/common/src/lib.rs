//! What the benchmark's plugins share: hashing, the request, the carry, the answer.

mod answer;
mod hash;
mod question;

pub use answer::{Ranking, Score, best, best_of, sigmoid};
pub use hash::Fnv1a;
pub use question::{Asked, CANDIDATES_MAX, K_DEFAULT, Question, WIDTH, candidate_prefix};
