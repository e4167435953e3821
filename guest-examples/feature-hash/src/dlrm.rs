//! The inputs of a model with dense numbers and embedding look-ups.

use example_common::{Fnv1a, Question, candidate_prefix};
use sluice_sdk::json::Text;
use sluice_sdk::{Error, Inputs, Result, Tensor};

/// The first features are numbers.
const DENSE: usize = 8;
/// The others are ids.
const SPARSE: usize = 32;
/// Rows of each embedding table.
const TABLE_ROWS: u32 = 20_000;

pub(super) fn inputs(question: &Question<'_>) -> Result<Inputs> {
    let features = question.features.0.as_slice();
    let Some((numbers, texts)) = features.split_at_checked(DENSE).filter(|(_, texts)| texts.len() == SPARSE)
    else {
        let (wanted, got) = (DENSE + SPARSE, features.len());
        return Err(Error::bad_request(format!("{wanted} features are wanted, {got} were sent")));
    };
    let candidates = question.candidates.as_deref();
    let candidates = candidates.ok_or_else(|| Error::bad_request("candidates are wanted"))?;

    let dense: Vec<f32> =
        numbers.iter().map(|(name, value)| logarithm(name, value)).collect::<Result<_>>()?;
    let ids: Vec<i64> = texts.iter().map(|(name, value)| id(Fnv1a::of([name, "=", value]))).collect();
    let prefix = candidate_prefix();
    let rows = candidates.len();
    let mut sparse = Vec::with_capacity(rows * (SPARSE + 1));
    for candidate in candidates {
        sparse.extend_from_slice(&ids);
        sparse.push(id(prefix.and(candidate)));
    }
    Ok(Inputs::new()
        .with("dense", Tensor::f32(&[rows, DENSE], dense.repeat(rows))?)
        .with("sparse", Tensor::i64(&[rows, SPARSE + 1], sparse)?))
}

fn id(hash: Fnv1a) -> i64 {
    i64::from(hash.index(TABLE_ROWS))
}

/// `ln(1 + number)`, computed wide and then rounded, as the reference does.
#[expect(clippy::cast_possible_truncation, reason = "the model takes f32")]
fn logarithm(name: &Text<'_>, value: &Text<'_>) -> Result<f32> {
    let number = value.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
    let number =
        number.ok_or_else(|| Error::bad_request(format!("{name:.64} is no number of at least 0")))?;
    Ok(number.ln_1p() as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::Request;

    fn body(first: &str, count: usize) -> String {
        let features: Vec<String> = (0..count)
            .map(|at| format!(r#""f{at:02}":"{}""#, if at == 0 { first.to_owned() } else { at.to_string() }))
            .collect();
        format!(r#"{{"id":"r","features":{{{}}},"candidates":["a","b"]}}"#, features.join(","))
    }

    fn inputs_of(body: &str) -> Result<Inputs> {
        inputs(&Request::from_body(body).json()?)
    }

    #[test]
    fn numbers_go_dense_and_texts_become_ids() {
        let mut given = inputs_of(&body("0", 40)).expect("fits").into_vec().into_iter();
        let (_, dense) = given.next().expect("dense");
        let dense = dense.into_host();
        assert_eq!(dense.shape(), [2, 8]);
        let values = dense.values::<f32>().expect("floats");
        assert_eq!(values[..2], [0.0, std::f32::consts::LN_2]);
        assert_eq!(values[..8], values[8..]);
        let (_, sparse) = given.next().expect("sparse");
        let sparse = sparse.into_host();
        assert_eq!(sparse.shape(), [2, 33]);
        let ids = sparse.values::<i64>().expect("ids");
        assert_eq!(ids[0], i64::from(Fnv1a::of(["f08=8"]).value() % 20_000));
        assert_eq!(ids[65], i64::from(Fnv1a::of(["cand=b"]).value() % 20_000));
    }

    #[test]
    fn what_is_no_number_or_not_forty_is_refused() {
        for wrong in
            [body("x", 40), body("-1", 40), body("NaN", 40), body("inf", 40), body("0", 39), body("0", 41)]
        {
            assert_eq!(inputs_of(&wrong).expect_err(&wrong).code(), 400);
        }
    }
}
