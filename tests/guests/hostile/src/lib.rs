//! Misbehaves on demand: body `{"do": "loop"}`, or `{"do": "loop", "hook": "post"}` to
//! behave until the postprocessor. `amount` scales what has a size.
//!
//! Config, all optional: `{"input": "x", "columns": 1024}`, the input of the model that
//! `post` needs.

mod compute;
mod tensors;
mod words;

use serde::{Deserialize, Serialize};
use sluice_sdk::{
    Answer, Carry, Config, Context, Error, Inputs, Prepared, Request, Tensor, Tensors, Transformer,
};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Hostile {
    input: String,
    columns: u32,
}

impl Default for Hostile {
    fn default() -> Self {
        Self { input: "x".to_owned(), columns: 1024 }
    }
}

#[derive(Deserialize, Serialize)]
struct Order {
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    hook: Hook,
    #[serde(default = "one")]
    amount: u32,
}

#[derive(Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Hook {
    #[default]
    Pre,
    Post,
}

fn one() -> u32 {
    1
}

impl Hostile {
    /// One row that fits the model.
    fn fitting(&self) -> Inputs {
        let mut row = Tensor::sparse_rows(self.columns);
        row.row([(0, 1.0)]);
        Inputs::new().with(self.input.as_str(), row)
    }
}

impl Transformer for Hostile {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let order: Order = request.json()?;
        if order.hook == Hook::Post {
            return self.fitting().carry_json(&order);
        }
        if order.what == "huge-carry" {
            return Ok(self.fitting().carry(vec![0; order.amount as usize]));
        }
        if let Some(inputs) = tensors::wrong_inputs(&order.what, &self.input, self.columns) {
            return Ok(inputs?.into());
        }
        act(&order).map(Prepared::Answer)
    }

    fn postprocess(&mut self, _context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error> {
        let order: Order = carry.json()?;
        match tensors::misread(&order.what, &outputs) {
            Some(answer) => answer,
            None => act(&order),
        }
    }
}

/// What either hook can do; returns only if that is the behaviour.
fn act(order: &Order) -> Result<Answer, Error> {
    match order.what.as_str() {
        "nothing" => Ok(Answer::text("nothing")),
        "loop" => compute::spin(),
        "trap" => compute::trap(),
        "panic" => panic!("this plugin panics with amount {}", order.amount),
        "overflow-stack" => Ok(Answer::text(compute::deep(u64::MAX, order.amount).to_string())),
        "eat-memory" => Ok(Answer::text(compute::eat().to_string())),
        "work" => Ok(Answer::text(compute::work(order.amount).to_string())),
        what => words::say(what, order.amount)
            .or_else(|| tensors::waste(what, order.amount))
            .unwrap_or_else(|| Err(Error::bad_request(format!("cannot do {what:?}")))),
    }
}

sluice_sdk::export_transformer!(Hostile);
