//! From logits to the benchmark's answers.

use serde::Serialize;
use sluice_sdk::{Error, HostTensor, Result};

/// The answer without candidates.
#[derive(Debug, Serialize)]
pub struct Score<'a> {
    /// The caller's own name for the request.
    pub id: &'a str,
    /// Between 0 and 1.
    pub score: f64,
}

/// The answer with candidates: the best ones, best first.
#[derive(Debug, Serialize)]
pub struct Ranking<'a> {
    /// The caller's own name for the request.
    pub id: &'a str,
    /// Each under its candidate's name.
    pub ranking: Vec<Score<'a>>,
}

impl<'a> Ranking<'a> {
    /// Names the best of the candidates.
    ///
    /// # Errors
    /// 500 for a position past the last candidate.
    pub fn new(id: &'a str, candidates: &[&'a str], best: &[(usize, f64)]) -> Result<Self> {
        let named = best.iter().map(|(at, score)| {
            let id = candidates.get(*at).ok_or_else(|| Error::internal("a score without its candidate"))?;
            Ok(Score { id, score: *score })
        });
        Ok(Self { id, ranking: named.collect::<Result<_>>()? })
    }
}

/// The logistic function, in the order of operations of the reference.
pub fn sigmoid(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// Above this, neighbouring `f32` logits can have the same `f64` score: 1 minus the
/// score comes near the resolution of 1. Below it, the order of the logits is the
/// order of the scores.
const SATURATED: f64 = 20.0;

/// Positions and scores of the `k` best logits: by score, ties by position. The host
/// searches; only where scores saturate are all logits read and compared.
///
/// # Errors
/// 500 if the model gave something that is not a number.
pub fn best(logits: &HostTensor, k: u32) -> Result<Vec<(usize, f64)>> {
    let top = logits.top_k(k)?;
    let best: Vec<(usize, f64)> = if top.first().is_some_and(|first| first.value > SATURATED) {
        let all = logits.to_f32()?;
        best_of(all.into_iter().map(|logit| sigmoid(f64::from(logit))).collect(), k)
    } else {
        top.iter().map(|ranked| (ranked.index, sigmoid(ranked.value))).collect()
    };
    if best.iter().any(|(_, score)| score.is_nan()) {
        return Err(Error::internal("the model gave a score that is not a number"));
    }
    Ok(best)
}

/// Positions and scores of the `k` best scores: by score, ties by position, NaN last.
pub fn best_of(scores: Vec<f64>, k: u32) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = scores.into_iter().enumerate().collect();
    ranked.sort_by(|(_, left), (_, right)| {
        left.is_nan().cmp(&right.is_nan()).then_with(|| right.total_cmp(left))
    });
    ranked.truncate(k as usize);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logits(values: &[f32]) -> HostTensor {
        HostTensor::from_values(&[values.len(), 1], values).expect("fits")
    }

    fn positions(values: &[f32], k: u32) -> Vec<usize> {
        best(&logits(values), k).expect("numbers").into_iter().map(|(at, _)| at).collect()
    }

    #[test]
    fn equal_scores_keep_the_order_of_the_body() {
        assert_eq!(positions(&[0.5, 2.0, 0.5, -1.0], 3), [1, 0, 2]);
    }

    #[test]
    fn saturated_scores_are_equal_even_where_logits_are_not() {
        // 50 and 60 both score exactly 1: the first in the body comes first.
        assert_eq!(positions(&[1.0, 50.0, 60.0], 2), [1, 2]);
        assert_eq!(positions(&[1.0, 50.0, 60.0], 1), [1]);
    }

    #[test]
    fn no_number_is_no_score() {
        assert_eq!(best(&logits(&[1.0, f32::NAN]), 2).expect_err("NaN").code(), 500);
        assert_eq!(positions(&[1.0, f32::NAN], 1), [0]);
    }
}
