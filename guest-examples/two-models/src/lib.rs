//! Asks two models at once and answers with the average of their scores: a pipeline
//! that calls models itself. Body and answer are those of `feature-hash`.
//!
//! Config: `{"models": ["mlp", "mlp-b"]}`, which the gateway must grant.

use example_common::{Question, Ranking, Score, best_of, sigmoid};
use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Inputs, Pipeline, Request, Tensors, inference};

/// The plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwoModels {
    models: [String; 2],
}

impl Pipeline for TwoModels {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let question: Question<'_> = request.json()?;
        question.check()?;
        let asked = question.asked();
        let rows = question.rows();
        let count = rows.rows();
        if count == 0 {
            return Answer::json(&Ranking::new(asked.id, &[], &[])?);
        }

        // Both are under way before either is waited for.
        let [first, second] = &self.models;
        let first = inference::submit(first, Inputs::new().with("x", rows.clone()))?;
        let second = inference::submit(second, Inputs::new().with("x", rows))?;
        let (first, second) = (scores(&first.wait()?, count)?, scores(&second.wait()?, count)?);
        let average: Vec<f64> = first.iter().zip(&second).map(|(left, right)| (left + right) / 2.0).collect();

        match &asked.candidates {
            Some(candidates) => {
                Answer::json(&Ranking::new(asked.id, candidates, &best_of(average, asked.k))?)
            }
            None => Answer::json(&Score { id: asked.id, score: average[0] }),
        }
    }
}

/// One score a row.
fn scores(outputs: &Tensors, rows: usize) -> Result<Vec<f64>, Error> {
    let logits = outputs.only()?.to_f32()?;
    let scores: Vec<f64> = logits.into_iter().map(|logit| sigmoid(f64::from(logit))).collect();
    if scores.len() != rows || scores.iter().any(|score| score.is_nan()) {
        return Err(Error::internal(format!("a model did not give {rows} scores")));
    }
    Ok(scores)
}

sluice_sdk::export_pipeline!(TwoModels);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::{HostTensor, testing};

    fn plugin() -> TwoModels {
        TwoModels::init(Config::from_json(r#"{"models": ["one", "two"]}"#)).expect("two models")
    }

    fn set_model(name: &str, logits: &'static [f32]) {
        testing::set_model(name, move |_inputs| {
            let logits = HostTensor::from_values(&[logits.len()], logits).expect("fits");
            Ok(Tensors::new([("logit", logits)]))
        });
    }

    const BODY: &str = r#"{"id":"r1","features":{},"candidates":["a","b","c"],"k":2}"#;

    #[test]
    fn the_scores_are_averaged() {
        // sigmoid(ln 3) = 0.75 and sigmoid(-ln 3) = 0.25, but for rounding.
        set_model("one", &[0.0, 1.098_612_3, -1.098_612_3]);
        set_model("two", &[0.0, 1.098_612_3, 1.098_612_3]);
        let answer = plugin().handle(Request::from_body(BODY)).expect("works");
        let answer = std::str::from_utf8(answer.data().expect("a body")).expect("JSON");
        assert!(answer.starts_with(r#"{"id":"r1","ranking":[{"id":"b","score":0.75"#), "{answer}");
        assert!(answer.contains(r#"{"id":"a","score":0.5}"#), "{answer}");
    }

    #[test]
    fn both_models_run_side_by_side() {
        testing::set_model("one", |_inputs| {
            assert_eq!(testing::submitted_models(), ["two"], "the second waits while the first runs");
            Err(inference::Error::Overloaded)
        });
        set_model("two", &[0.0; 3]);
        assert_eq!(plugin().handle(Request::from_body(BODY)).expect_err("overloaded").code(), 429);
    }

    #[test]
    fn a_model_that_is_not_there_is_not_the_callers_fault() {
        assert_eq!(plugin().handle(Request::from_body(BODY)).expect_err("no models").code(), 500);
    }
}
