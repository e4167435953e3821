//! The request: tastes, candidates, and how many to return.

use std::collections::HashSet;

use serde::Deserialize;
use sluice_sdk::json::Text;
use sluice_sdk::{Error, Result};

/// How many candidates one request may rank. Each is a look-up and a row of the model;
/// a thousand are several full batches already. More is answered 400.
pub(crate) const CANDIDATES_MAX: usize = 1_000;

/// How many items each list of tastes may have. Every liked film is compared with every
/// candidate, so this bounds the work of a request. More is answered 400.
pub(crate) const TASTES_MAX: usize = 100;

/// How many are returned where the caller does not say.
const K_DEFAULT: u32 = 5;

#[derive(Debug, Deserialize)]
pub(crate) struct Question<'a> {
    #[serde(borrow, default)]
    pub(crate) tastes: Tastes<'a>,
    #[serde(borrow)]
    pub(crate) candidates: Vec<Text<'a>>,
    #[serde(default = "k_default")]
    pub(crate) k: u32,
}

fn k_default() -> u32 {
    K_DEFAULT
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tastes<'a> {
    #[serde(borrow, default)]
    pub(crate) genres: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) directors: Vec<Text<'a>>,
    #[serde(borrow, default)]
    pub(crate) mpaa: Vec<Text<'a>>,
    #[serde(default)]
    pub(crate) decades: Vec<i64>,
    #[serde(borrow, default)]
    pub(crate) liked: Vec<Text<'a>>,
}

impl Question<'_> {
    /// Refuses what is too much.
    pub(crate) fn check(&self) -> Result<()> {
        let tastes = &self.tastes;
        for (what, count, most) in [
            ("candidates", self.candidates.len(), CANDIDATES_MAX),
            ("tastes.genres", tastes.genres.len(), TASTES_MAX),
            ("tastes.directors", tastes.directors.len(), TASTES_MAX),
            ("tastes.mpaa", tastes.mpaa.len(), TASTES_MAX),
            ("tastes.decades", tastes.decades.len(), TASTES_MAX),
            ("tastes.liked", tastes.liked.len(), TASTES_MAX),
        ] {
            if count > most {
                return Err(Error::bad_request(format!(
                    "{what} has {count} items, at most {most} are allowed"
                )));
            }
        }
        Ok(())
    }

    /// Every title that must be looked up, once.
    pub(crate) fn titles(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let all = self.candidates.iter().chain(&self.tastes.liked).map(Text::as_str);
        all.filter(|title| seen.insert(*title)).collect()
    }
}
