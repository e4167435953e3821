//! Hashes a request's features, and each candidate, into a model's inputs.
//!
//! Config: `{"mode": "mlp"}` gives `x` of `[rows, 1024]`; `{"mode": "dlrm"}` gives
//! `dense` of `[rows, 8]` and `sparse` ids of `[rows, 33]`. One row for each candidate,
//! or one if there are none. The postprocessor is `rank-topk`.

mod dlrm;

use example_common::{Question, Ranking};
use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Inputs, Prepared, Preprocessor, Request};

/// Which model the inputs are for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Mlp,
    Dlrm,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    mode: Mode,
}

/// The plugin.
pub struct FeatureHash {
    mode: Mode,
}

impl Preprocessor for FeatureHash {
    fn init(config: Config) -> Result<Self, String> {
        let settings: Settings = config.parse()?;
        Ok(Self { mode: settings.mode })
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let question: Question<'_> = request.json()?;
        question.check()?;
        if question.candidates.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Answer::json(&Ranking::new(&question.id, &[], &[])?)?.into());
        }
        let inputs = match self.mode {
            Mode::Mlp => Inputs::new().with("x", question.rows()),
            Mode::Dlrm => dlrm::inputs(&question)?,
        };
        Ok(inputs.carry(question.carry()))
    }
}

sluice_sdk::export_preprocessor!(FeatureHash);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::Tensor;

    fn prepare(mode: &str, body: &str) -> Result<Prepared, Error> {
        let config = Config::from_json(format!(r#"{{"mode": "{mode}"}}"#));
        FeatureHash::init(config).expect("a known mode").preprocess(Request::from_body(body))
    }

    #[test]
    fn one_plugin_serves_scores_and_rankings() {
        for (candidates, rows) in [("", 1), (r#","candidates":["a","b","c"]"#, 3)] {
            let body = format!(r#"{{"id":"r1","features":{{"f00":"v1"}}{candidates}}}"#);
            let Prepared::Run { inputs, .. } = prepare("mlp", &body).expect("fits") else {
                panic!("no answer yet")
            };
            let Some(Tensor::Sparse(x)) = inputs.get("x") else { panic!("sparse rows") };
            assert_eq!(x.rows(), rows);
        }
    }

    #[test]
    fn nothing_to_rank_is_answered_without_the_model() {
        let prepared = prepare("mlp", r#"{"id":"r1","features":{},"candidates":[]}"#).expect("fits");
        let Prepared::Answer(answer) = prepared else { panic!("an answer") };
        assert_eq!(answer.data(), Some(br#"{"id":"r1","ranking":[]}"#.as_slice()));
    }

    #[test]
    fn what_does_not_fit_is_the_callers_fault() {
        let many = format!(r#"{{"id":"r","features":{{}},"candidates":[{}"x"]}}"#, r#""x","#.repeat(1_000));
        for body in [
            "",
            "[]",
            r#"{"id":1,"features":{}}"#,
            r#"{"features":{}}"#,
            r#"{"id":"r","features":[]}"#,
            &many,
        ] {
            assert_eq!(prepare("mlp", body).expect_err(body).code(), 400);
        }
    }

    #[test]
    fn an_unknown_mode_is_refused_by_name() {
        let refusal = FeatureHash::init(Config::from_json(r#"{"mode":"mpl"}"#)).err().expect("unknown");
        assert!(refusal.contains("mpl"), "{refusal}");
        assert!(FeatureHash::init(Config::from_json("")).is_err());
    }
}
