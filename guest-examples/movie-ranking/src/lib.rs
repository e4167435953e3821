//! Turns the ranking model's scores into the best titles. The preprocessor is
//! `movie-features`.
//!
//! Config, optional: `{"output": "score"}`.

use serde::{Deserialize, Serialize};
use sluice_sdk::json::Text;
use sluice_sdk::{Answer, Carry, Config, Context, Error, Postprocessor, Ranked, Tensors};

/// The plugin's settings, and the plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MovieRanking {
    /// The name of the model's output.
    output: String,
}

impl Default for MovieRanking {
    fn default() -> Self {
        Self { output: "score".to_owned() }
    }
}

/// What `movie-features` left: the titles of the rows, and those that got none.
#[derive(Debug, Deserialize)]
struct Carried<'a> {
    k: u32,
    #[serde(borrow)]
    titles: Vec<Text<'a>>,
    #[serde(borrow)]
    unknown: Vec<Text<'a>>,
}

#[derive(Debug, Serialize)]
struct Ranking<'a> {
    ranking: Vec<Scored<'a>>,
    unknown: Vec<Text<'a>>,
}

#[derive(Debug, Serialize)]
struct Scored<'a> {
    title: &'a str,
    score: f64,
}

impl Postprocessor for MovieRanking {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn postprocess(&mut self, _context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error> {
        let carried: Carried<'_> = carry.json()?;
        let scores = outputs.get(&self.output)?;
        let (given, wanted) = (scores.shape().iter().product::<usize>(), carried.titles.len());
        if given != wanted {
            return Err(Error::internal(format!("the model gave {given} scores for {wanted} films")));
        }
        let named = |ranked: &Ranked| {
            let title = carried.titles.get(ranked.index).filter(|_| ranked.value.is_finite());
            let title =
                title.ok_or_else(|| Error::internal("the model gave a score that is not a number"))?;
            Ok(Scored { title, score: rounded(ranked.value) })
        };
        let ranking = scores.top_k(carried.k)?.iter().map(named).collect::<Result<_, Error>>()?;
        Answer::json(&Ranking { ranking, unknown: carried.unknown.clone() })
    }
}

/// To four digits after the point: all that such a model can mean.
fn rounded(score: f64) -> f64 {
    (score * 10_000.0).round() / 10_000.0
}

sluice_sdk::export_postprocessor!(MovieRanking);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::HostTensor;

    fn answer(carry: &str, scores: &[f32]) -> Result<String, Error> {
        let scores = HostTensor::from_values(&[scores.len(), 1], scores).expect("fits");
        let mut plugin = MovieRanking::init(Config::from_json("")).expect("all settings have defaults");
        let outputs = Tensors::new([("score", scores)]);
        let answer = plugin.postprocess(&Context::default(), Carry::new(carry), outputs)?;
        Ok(String::from_utf8(answer.data().expect("a body").to_vec()).expect("JSON"))
    }

    #[test]
    fn the_best_titles_come_first_and_ties_keep_the_callers_order() {
        let carry = r#"{"k":2,"titles":["Jaws","Alien","Fargo"],"unknown":["Nope"]}"#;
        let wanted =
            r#"{"ranking":[{"title":"Alien","score":7.25},{"title":"Jaws","score":6.1}],"unknown":["Nope"]}"#;
        assert_eq!(answer(carry, &[6.1, 7.25, 6.1]).expect("works"), wanted);
    }

    #[test]
    fn a_model_that_does_not_fit_is_not_the_callers_fault() {
        let carry = r#"{"k":2,"titles":["Jaws"],"unknown":[]}"#;
        assert_eq!(answer(carry, &[1.0, 2.0]).expect_err("two scores for one film").code(), 500);
        assert_eq!(answer(carry, &[f32::NAN]).expect_err("no number").code(), 500);
        assert_eq!(answer("", &[1.0]).expect_err("no carry").code(), 500);
    }
}
