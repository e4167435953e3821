//! Turns a model's logits into a score, or into the best candidates. The preprocessor
//! is `feature-hash`, which leaves what was asked in the carry.
//!
//! Config: `{"output": "logit"}` names the model's output; without it there must be
//! exactly one.

use example_common::{Asked, Ranking, Score, best};
use serde::Deserialize;
use sluice_sdk::{Answer, Carry, Config, Context, Error, Postprocessor, Tensors};

/// The plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RankTopK {
    #[serde(default)]
    output: Option<String>,
}

impl Postprocessor for RankTopK {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn postprocess(&mut self, _context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error> {
        let asked = Asked::read(&carry)?;
        let logits = match &self.output {
            Some(name) => outputs.get(name)?,
            None => outputs.only()?,
        };
        let (given, wanted) =
            (logits.shape().iter().product::<usize>(), asked.candidates.as_ref().map_or(1, Vec::len));
        if given != wanted {
            return Err(Error::internal(format!("the model gave {given} logits for {wanted} rows")));
        }
        match &asked.candidates {
            Some(candidates) => Answer::json(&Ranking::new(asked.id, candidates, &best(logits, asked.k)?)?),
            None => {
                let score = best(logits, 1)?.first().map_or(f64::NAN, |(_, score)| *score);
                Answer::json(&Score { id: asked.id, score })
            }
        }
    }
}

sluice_sdk::export_postprocessor!(RankTopK);

#[cfg(test)]
mod tests {
    use super::*;
    use example_common::Question;
    use sluice_sdk::{HostTensor, Request};

    fn answer(body: &str, logits: &[f32]) -> Result<String, Error> {
        let request = Request::from_body(body);
        let question: Question<'_> = request.json().expect("fits");
        let logits = HostTensor::from_values(&[logits.len(), 1], logits).expect("fits");
        let mut plugin = RankTopK::init(Config::from_json("")).expect("no config is needed");
        let outputs = Tensors::new([("logit", logits)]);
        let answer = plugin.postprocess(&Context::default(), Carry::new(question.carry()), outputs)?;
        Ok(String::from_utf8(answer.data().expect("a body").to_vec()).expect("JSON"))
    }

    #[test]
    fn one_logit_becomes_a_score() {
        assert_eq!(
            answer(r#"{"id":"r1","features":{}}"#, &[0.0]).expect("works"),
            r#"{"id":"r1","score":0.5}"#
        );
    }

    #[test]
    fn many_logits_become_the_best_first() {
        let body = r#"{"id":"r1","features":{},"candidates":["a","b","c"],"k":2}"#;
        let wanted = r#"{"id":"r1","ranking":[{"id":"b","score":0.5},{"id":"c","score":0.5}]}"#;
        assert_eq!(answer(body, &[-1.0, 0.0, 0.0]).expect("works"), wanted);
    }

    #[test]
    fn more_wanted_than_there_are_is_all_of_them() {
        let body = r#"{"id":"r1","features":{},"candidates":["a"],"k":99}"#;
        assert_eq!(answer(body, &[0.0]).expect("works"), r#"{"id":"r1","ranking":[{"id":"a","score":0.5}]}"#);
    }

    #[test]
    fn a_model_of_another_width_is_not_the_callers_fault() {
        assert_eq!(answer(r#"{"id":"r1","features":{}}"#, &[0.0, 1.0]).expect_err("two logits").code(), 500);
    }
}
