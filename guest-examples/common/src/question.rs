//! The benchmark's request, and what of it travels to the postprocessor.

use serde::Deserialize;
use sluice_sdk::json::{Entries, Text};
use sluice_sdk::{Carry, CarryWriter, Error, Result, SparseRows, Tensor};

use crate::Fnv1a;

/// Columns of the model's input.
pub const WIDTH: u32 = 1024;

/// How many candidates one request may rank. Each is a row of the model; a thousand
/// rows are several full batches already. More is answered 400.
pub const CANDIDATES_MAX: usize = 1_000;

/// How many are returned where the caller does not say.
pub const K_DEFAULT: u32 = 10;

/// The body: `{"id", "features": {name: text}, "candidates": [text], "k"}`. Without
/// candidates it asks for one score. Texts borrow from the body.
#[derive(Debug, Deserialize)]
pub struct Question<'a> {
    /// The caller's own name for the request, given back in the answer.
    #[serde(borrow)]
    pub id: Text<'a>,
    /// Names and values, in the body's order.
    #[serde(borrow)]
    pub features: Entries<'a, Text<'a>>,
    /// What to rank.
    #[serde(borrow, default)]
    pub candidates: Option<Vec<Text<'a>>>,
    /// How many to return.
    #[serde(default)]
    pub k: Option<u32>,
}

impl Question<'_> {
    /// Refuses what is too much.
    ///
    /// # Errors
    /// 400 for too many candidates.
    pub fn check(&self) -> Result<()> {
        let count = self.candidates.as_ref().map_or(0, Vec::len);
        if count > CANDIDATES_MAX {
            return Err(Error::bad_request(format!(
                "{count} candidates: at most {CANDIDATES_MAX} are ranked at once"
            )));
        }
        Ok(())
    }

    /// The model's input: ones where a feature hashes to, shared by all rows, and in
    /// each row one for its candidate.
    pub fn rows(&self) -> SparseRows {
        let candidates = self.candidates.as_deref();
        let mut rows = Tensor::sparse_rows(WIDTH).with_capacity(candidates.map_or(1, <[_]>::len));
        for (name, value) in &self.features.0 {
            rows.shared(Fnv1a::of([name, "=", value]).index(WIDTH), 1.0);
        }
        match candidates {
            None => drop(rows.row([])),
            Some(candidates) => {
                let prefix = candidate_prefix();
                for candidate in candidates {
                    rows.row([(prefix.and(candidate).index(WIDTH), 1.0)]);
                }
            }
        }
        rows
    }

    /// What the postprocessor needs.
    pub fn carry(&self) -> Vec<u8> {
        let candidates = self.candidates.as_deref().unwrap_or_default();
        let bytes =
            self.id.len() + candidates.iter().map(|candidate| candidate.len() + 4).sum::<usize>() + 16;
        let mut writer = CarryWriter::with_capacity(bytes);
        // One more than the candidates, so that 0 says that there is no list.
        let count = self.candidates.as_ref().map_or(0, |list| list.len() + 1);
        writer.str(&self.id).u32(self.k.unwrap_or(K_DEFAULT)).u32(u32::try_from(count).unwrap_or(u32::MAX));
        for candidate in candidates {
            writer.str(candidate);
        }
        writer.finish()
    }

    /// The same, for a plugin that does both sides itself.
    pub fn asked(&self) -> Asked<'_> {
        let candidates = self.candidates.as_deref();
        Asked {
            id: &self.id,
            k: self.k.unwrap_or(K_DEFAULT),
            candidates: candidates.map(|list| list.iter().map(Text::as_str).collect()),
        }
    }
}

/// The hash of what every candidate's feature begins with.
pub fn candidate_prefix() -> Fnv1a {
    Fnv1a::of(["cand="])
}

/// What was asked, as the postprocessor sees it.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The caller's own name for the request.
    pub id: &'a str,
    /// How many to return.
    pub k: u32,
    /// What was ranked, if it was not a question for one score.
    pub candidates: Option<Vec<&'a str>>,
}

impl<'a> Asked<'a> {
    /// Reads what [`Question::carry`] wrote.
    ///
    /// # Errors
    /// 500 if something else wrote it.
    pub fn read(carry: &'a Carry) -> Result<Self> {
        let mut reader = carry.reader();
        let (id, k, count) = (reader.str()?, reader.u32()?, reader.u32()?);
        let candidates = match count {
            0 => None,
            // Not reserved by the count, which a foreign carry could make absurd.
            _ => Some((1..count).map(|_| reader.str()).collect::<Result<Vec<_>>>()?),
        };
        Ok(Self { id, k, candidates })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::Request;

    fn asked_again(body: &str) -> (Carry, usize) {
        let request = Request::from_body(body);
        let question: Question<'_> = request.json().expect("fits");
        (Carry::new(question.carry()), question.rows().rows())
    }

    #[test]
    fn the_carry_keeps_id_k_and_candidates() {
        let (carry, rows) = asked_again(r#"{"id":"r1","features":{},"candidates":["a\u0062","c"],"k":7}"#);
        let asked = Asked::read(&carry).expect("ours");
        assert_eq!(asked, Asked { id: "r1", k: 7, candidates: Some(vec!["ab", "c"]) });
        assert_eq!(rows, 2);
    }

    #[test]
    fn no_candidates_and_an_empty_list_are_different_questions() {
        let (carry, rows) = asked_again(r#"{"id":"r1","features":{}}"#);
        assert_eq!(Asked::read(&carry).expect("ours"), Asked { id: "r1", k: K_DEFAULT, candidates: None });
        assert_eq!(rows, 1);
        let (carry, rows) = asked_again(r#"{"id":"r1","features":{},"candidates":[]}"#);
        assert_eq!(Asked::read(&carry).expect("ours").candidates, Some(vec![]));
        assert_eq!(rows, 0);
    }

    #[test]
    fn features_add_up_where_their_hashes_say() {
        let request =
            Request::from_body(r#"{"id":"r","features":{"f00":"v1","f01":"v2"},"candidates":["x"]}"#);
        let question: Question<'_> = request.json().expect("fits");
        let mut wanted = vec![0.0f32; WIDTH as usize];
        for text in ["f00=v1", "f01=v2", "cand=x"] {
            wanted[Fnv1a::of([text]).index(WIDTH) as usize] += 1.0;
        }
        assert_eq!(question.rows().to_dense(), wanted);
    }

    #[test]
    fn a_carry_of_another_plugin_is_refused() {
        assert_eq!(Asked::read(&Carry::new(*b"{}")).expect_err("foreign").code(), 500);
        let mut writer = CarryWriter::default();
        writer.str("r").u32(1).u32(u32::MAX);
        assert_eq!(Asked::read(&Carry::new(writer.finish())).expect_err("cut short").code(), 500);
    }
}
