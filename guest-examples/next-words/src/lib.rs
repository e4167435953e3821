//! Goes on with a text, one word at a time: a pipeline that asks a model for the score of
//! every word it knows, sends the best one, and asks again. The caller reads the first
//! word while the second is chosen.
//!
//! Config: `{"model": "mlp", "words": ["sea", "shark"]}`; the gateway must grant the model,
//! which takes `x`, one row of hashed features for each word, and gives one score a row.
//! The body is `{"text_input": "the", "max_words": 5}`, as `generate_stream` takes it.

use example_common::{Fnv1a, WIDTH};
use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Inputs, Pipeline, Request, Tensor, inference, parts};

/// The most words of one answer.
const WORDS_MAX: u32 = 256;

/// The plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NextWords {
    model: String,
    words: Vec<String>,
}

#[derive(Deserialize)]
struct Prompt {
    text_input: String,
    #[serde(default = "some")]
    max_words: u32,
}

fn some() -> u32 {
    8
}

impl NextWords {
    /// The word that the model thinks most of after this one.
    fn next(&self, before: &str) -> Result<&str, Error> {
        let begun = Fnv1a::of(["after=", before, ",word="]);
        let mut rows = Tensor::sparse_rows(WIDTH);
        for word in &self.words {
            rows.row([(begun.and(word).index(WIDTH), 1.0)]);
        }
        let scores = inference::infer(&self.model, Inputs::new().with("x", rows))?;
        let best = scores.only()?.top_k(1)?;
        let index = best.first().map_or(0, |best| best.index as usize);
        self.words.get(index).map(String::as_str).ok_or_else(|| Error::internal("a model gave other rows"))
    }
}

impl Pipeline for NextWords {
    fn init(config: Config) -> Result<Self, String> {
        let plugin: Self = config.parse()?;
        if plugin.words.is_empty() {
            return Err("words is empty".to_owned());
        }
        Ok(plugin)
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let prompt: Prompt = request.json()?;
        let mut before = prompt.text_input.split_whitespace().last().unwrap_or_default().to_owned();
        parts::content_type("text/plain; charset=utf-8");
        for _ in 0..prompt.max_words.clamp(1, WORDS_MAX) {
            let word = self.next(&before)?;
            parts::send(format!("{word} "))?;
            before = word.to_owned();
        }
        Ok(Answer::Sent)
    }
}

sluice_sdk::export_pipeline!(NextWords);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::testing::{self, SentPart};
    use sluice_sdk::{HostTensor, Tensors};

    #[test]
    fn the_best_word_is_sent_and_the_next_is_asked_for() {
        testing::set_model("mlp", |_inputs| {
            let scores = HostTensor::from_values(&[2], &[0.1f32, 0.9]).expect("fits");
            Ok(Tensors::new([("logit", scores)]))
        });
        let config = r#"{"model": "mlp", "words": ["sea", "shark"]}"#;
        let mut plugin = NextWords::init(Config::from_json(config)).expect("words");
        let prompt = r#"{"text_input": "the big", "max_words": 2}"#;
        assert!(matches!(plugin.handle(Request::from_body(prompt)), Ok(Answer::Sent)));
        let sent = testing::sent_parts();
        assert_eq!(sent.len(), 2);
        assert!(sent.iter().all(|part| matches!(part, SentPart::Body(word) if word == b"shark ")));
    }
}
