//! Looks the candidate films up and hashes what is known about each, and how it meets
//! the caller's tastes, into the ranking model's input. The definition of the features
//! is `../movies/FEATURES.md`; the postprocessor is `movie-ranking`.
//!
//! Config, all optional: `{"store": "movies", "input": "features"}`.

mod features;
mod film;
mod question;
mod taste;

use serde::{Deserialize, Serialize};
use sluice_sdk::{Answer, Config, Error, Inputs, Prepared, Preprocessor, Request, Tensor, kv};

use film::Catalogue;
use question::Question;
use taste::Taste;

/// The plugin's settings, and the plugin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MovieFeatures {
    /// The key-value store that holds the films.
    store: String,
    /// The name of the model's input.
    input: String,
}

impl Default for MovieFeatures {
    fn default() -> Self {
        Self { store: "movies".to_owned(), input: "features".to_owned() }
    }
}

/// What the postprocessor gets: the rows' titles, and what it must say besides.
#[derive(Debug, Serialize)]
struct Carried<'a> {
    k: u32,
    titles: Vec<&'a str>,
    unknown: Vec<&'a str>,
}

/// The answer when no candidate is known.
#[derive(Debug, Serialize)]
struct NothingToRank<'a> {
    ranking: [(); 0],
    unknown: Vec<&'a str>,
}

impl Preprocessor for MovieFeatures {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let question: Question<'_> = request.json()?;
        question.check()?;
        let titles = question.titles();
        let records = kv::open(&self.store)?.get_many(&titles)?;
        let films = Catalogue::read(&titles, &records)?;

        let taste = Taste::new(&question.tastes, &films);
        let mut rows = Tensor::sparse_rows(features::WIDTH).with_capacity(question.candidates.len());
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for candidate in &question.candidates {
            match films.get(candidate) {
                Some(film) => {
                    rows.row(features::of(candidate, film, &taste));
                    known.push(candidate.as_str());
                }
                None => unknown.push(candidate.as_str()),
            }
        }
        if known.is_empty() {
            return Ok(Answer::json(&NothingToRank { ranking: [], unknown })?.into());
        }
        Inputs::new().with(self.input.as_str(), rows).carry_json(&Carried {
            k: question.k,
            titles: known,
            unknown,
        })
    }
}

sluice_sdk::export_preprocessor!(MovieFeatures);

#[cfg(test)]
mod tests;
