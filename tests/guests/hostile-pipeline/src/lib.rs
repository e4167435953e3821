//! Calls models as the body says: `{"do": "infer", "model": "mlp", "amount": 3}`.
//!
//! Config, all optional: `{"input": "x", "columns": 1024}`.

use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Inputs, Pipeline, Request, Tensor, inference};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HostilePipeline {
    input: String,
    columns: u32,
}

impl Default for HostilePipeline {
    fn default() -> Self {
        Self { input: "x".to_owned(), columns: 1024 }
    }
}

#[derive(Deserialize)]
struct Order {
    #[serde(rename = "do")]
    what: String,
    #[serde(default)]
    model: String,
    #[serde(default = "one")]
    amount: u32,
}

fn one() -> u32 {
    1
}

impl HostilePipeline {
    fn inputs(&self, name: &str) -> Inputs {
        let mut row = Tensor::sparse_rows(self.columns);
        row.row([(0, 1.0)]);
        Inputs::new().with(name, row)
    }
}

impl Pipeline for HostilePipeline {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let order: Order = request.json()?;
        let submit = || inference::submit(&order.model, self.inputs(&self.input));
        match order.what.as_str() {
            // One after the other, for ever if that is the amount.
            "infer" => {
                for _ in 0..order.amount {
                    inference::infer(&order.model, self.inputs(&self.input))?;
                }
            }
            "infer-wrong" => drop(inference::infer(&order.model, self.inputs("no-such-input"))?),
            // Side by side, then all waited for.
            "submit" => {
                let pending: Vec<_> = (0..order.amount).map(|_| submit()).collect::<Result<_, _>>()?;
                for one in pending {
                    one.wait()?;
                }
            }
            // Started, and nobody waits.
            "abandon" => {
                for _ in 0..order.amount {
                    drop(submit()?);
                }
            }
            // Started, neither waited for nor dropped.
            "leak" => {
                for _ in 0..order.amount {
                    std::mem::forget(submit()?);
                }
            }
            "submit-and-loop" => {
                let _pending = submit()?;
                loop {
                    std::hint::black_box(());
                }
            }
            // An output goes back in as it is, by its handle.
            "pass-on" => {
                let outputs = inference::infer(&order.model, self.inputs(&self.input))?;
                return Ok(Answer::tensors(outputs.into_vec()));
            }
            what => return Err(Error::bad_request(format!("cannot do {what:?}"))),
        }
        Ok(Answer::text("done"))
    }
}

sluice_sdk::export_pipeline!(HostilePipeline);
