//! Gives its input back piece by piece, each after a delay: a pipeline with many answers
//! to one request, as Triton's `repeat_int32`.
//!
//! Inputs, as tensors or as the keys of a JSON body: `IN` (INT32, the pieces), `DELAY`
//! (UINT32, milliseconds before each piece; none if absent), `WAIT` (UINT32, milliseconds
//! before the first; none if absent). Each answer has `OUT` (the piece) and `IDX` (which).

use std::time::Duration;

use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Payload, Pipeline, Request, Tensor, parts};

/// The most pieces of one request.
const PIECES_MAX: usize = 10_000;

/// The plugin.
#[derive(Debug)]
pub struct Repeat;

#[derive(Deserialize)]
struct Wanted {
    #[serde(rename = "IN")]
    pieces: Vec<i32>,
    #[serde(rename = "DELAY", default)]
    delays: Vec<u32>,
    #[serde(rename = "WAIT", default)]
    wait: OneOrMany,
}

/// A number, alone or in a list of one.
#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl OneOrMany {
    fn first(&self) -> u32 {
        match self {
            Self::One(number) => *number,
            Self::Many(numbers) => numbers.first().copied().unwrap_or(0),
        }
    }
}

fn wanted(request: &Request) -> Result<Wanted, Error> {
    if matches!(request.payload, Payload::Body(_)) {
        return request.json();
    }
    let tensors = request.tensors()?;
    let numbers = |name| match tensors.get(name) {
        Ok(tensor) => tensor.values::<u32>(),
        Err(_) => Ok(Vec::new()),
    };
    let pieces = tensors.get("IN")?.values::<i32>()?;
    Ok(Wanted { pieces, delays: numbers("DELAY")?, wait: OneOrMany::Many(numbers("WAIT")?) })
}

impl Pipeline for Repeat {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let wanted = wanted(&request)?;
        let count = wanted.pieces.len();
        if count == 0 || count > PIECES_MAX {
            return Err(Error::bad_request(format!("IN has 1 to {PIECES_MAX} elements")));
        }
        if !wanted.delays.is_empty() && wanted.delays.len() != count {
            return Err(Error::bad_request("DELAY has as many elements as IN, or is left out"));
        }
        pause(wanted.wait.first());
        for (index, piece) in wanted.pieces.into_iter().enumerate() {
            pause(wanted.delays.get(index).copied().unwrap_or(0));
            let index = u32::try_from(index).unwrap_or(u32::MAX);
            parts::send_tensors([
                ("OUT", Tensor::from_values(&[1], [piece])?),
                ("IDX", Tensor::from_values(&[1], [index])?),
            ])?;
        }
        Ok(Answer::Sent)
    }
}

fn pause(milliseconds: u32) {
    if milliseconds > 0 {
        parts::pause(Duration::from_millis(milliseconds.into()));
    }
}

sluice_sdk::export_pipeline!(Repeat);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::testing::{SentPart, sent_parts};

    #[test]
    fn every_piece_is_an_answer_of_its_own() {
        let body = r#"{"IN": [7, 8, 9], "DELAY": [1, 1, 1], "WAIT": 5}"#;
        assert!(matches!(Repeat.handle(Request::from_body(body)), Ok(Answer::Sent)));
        let sent = sent_parts();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|part| matches!(part, SentPart::Tensors(tensors) if tensors.len() == 2)));
    }

    #[test]
    fn delays_that_do_not_fit_are_refused() {
        for body in [r#"{"IN": [1], "DELAY": [1, 2]}"#, r#"{"IN": []}"#, "{}"] {
            assert_eq!(Repeat.handle(Request::from_body(body)).expect_err(body).code(), 400);
        }
    }
}
