//! Answers in parts, as many and as odd as the body says: `{"do": "bytes", "amount": 3}`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_sdk::{Answer, Config, Error, Parameter, Pipeline, Request, Tensor, parts};

struct PartsProbe;

#[derive(Deserialize)]
struct Order {
    #[serde(rename = "do")]
    what: String,
    /// How many parts.
    #[serde(default = "one")]
    amount: u32,
    /// Bytes of each; with 0 each is its own number.
    #[serde(default)]
    bytes: usize,
    /// Milliseconds before each.
    #[serde(default)]
    pause_ms: u32,
    /// These instead.
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    content_type: Option<String>,
    /// What to do in the end.
    #[serde(default)]
    then: String,
}

fn one() -> u32 {
    1
}

#[derive(Serialize)]
struct Seen {
    in_parts: bool,
    parameters: Vec<String>,
    route: Option<String>,
}

fn part(order: &Order, number: u32) -> Vec<u8> {
    match order.texts.get(number as usize) {
        Some(text) => text.clone().into_bytes(),
        None if order.bytes > 0 => vec![b'x'; order.bytes],
        None => format!("{number};").into_bytes(),
    }
}

fn send(order: &Order) -> Result<(), Error> {
    if let Some(content_type) = &order.content_type {
        parts::content_type(content_type);
    }
    let amount = order.amount.max(u32::try_from(order.texts.len()).unwrap_or(u32::MAX));
    for number in 0..amount {
        if order.pause_ms > 0 {
            parts::pause(Duration::from_millis(order.pause_ms.into()));
        }
        if order.what == "tensors" {
            parts::send_tensors([("n", Tensor::from_values(&[1], [number])?)])?;
        } else {
            parts::send(part(order, number))?;
        }
    }
    Ok(())
}

fn seen(request: &Request) -> Result<Answer, Error> {
    let context = &request.context;
    let shown = |(name, value): &(String, Parameter)| format!("{name}={value:?}");
    Answer::json(&Seen {
        in_parts: context.in_parts,
        parameters: context.parameters.iter().map(shown).collect(),
        route: context.route.as_ref().map(|route| format!("{route:?}")),
    })
}

impl Pipeline for PartsProbe {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let order: Order = request.json()?;
        match order.what.as_str() {
            "context" => return seen(&request),
            "whole" => return Ok(Answer::text("whole")),
            "bytes" | "tensors" => send(&order)?,
            "mixed" => {
                parts::send("a")?;
                parts::send_tensors([("n", Tensor::from_values(&[1], [1u32])?)])?;
            }
            // As much as there is, and never an end.
            "endless" => loop {
                parts::send(part(&order, 0))?;
            },
            "nothing" => {}
            what => return Err(Error::bad_request(format!("cannot do {what:?}"))),
        }
        match order.then.as_str() {
            "" => Ok(Answer::Sent),
            "fail" => Err(Error::status(422, "changed its mind")),
            "trap" => panic!("as told"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "last" => Ok(Answer::text("last")),
            "type" => {
                parts::content_type("text/plain");
                Ok(Answer::Sent)
            }
            then => Err(Error::bad_request(format!("cannot do {then:?} then"))),
        }
    }
}

sluice_sdk::export_pipeline!(PartsProbe);
