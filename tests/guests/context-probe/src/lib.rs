//! Uses what version 0.2 of the contract added: `{"do": "context"}` and so on. V2 tensors
//! are answered with chosen rows of the first, and the same as numbers.

use serde::{Deserialize, Serialize};
use sluice_sdk::trace::span;
use sluice_sdk::{Answer, Config, Error, Inputs, Payload, Pipeline, Request, Tensor, deadline, inference};

struct ContextProbe;

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

#[derive(Serialize)]
struct Seen<'a> {
    request_id: &'a str,
    pipeline: &'a str,
    plugin_version: &'a str,
    routing_key: Option<&'a str>,
    tenant: Option<&'a str>,
    /// Whether there was time when the call began, and there is no more now.
    has_time: bool,
    is_less_now: bool,
}

/// The last row, the first, and the last again; and all numbers of that.
fn choose(request: Request) -> Result<Answer, Error> {
    let (name, tensor) = request.into_tensors()?.into_vec().remove(0);
    let last = u32::try_from(tensor.shape()[0]).unwrap_or(u32::MAX) - 1;
    let chosen = tensor.gather(&[last, 0, last]);
    let numbers = chosen.to_f32()?;
    Ok(Answer::tensors([
        (name, Tensor::Handle(chosen)),
        ("numbers".to_owned(), Tensor::f32(&[numbers.len()], numbers)?),
    ]))
}

impl Pipeline for ContextProbe {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        if matches!(request.payload, Payload::Tensors(_)) {
            return choose(request);
        }
        let order: Order = request.json()?;
        match order.what.as_str() {
            "context" => {
                let context = &request.context;
                let left = deadline::left();
                Answer::json(&Seen {
                    request_id: &context.request_id,
                    pipeline: &context.pipeline,
                    plugin_version: &context.plugin_version,
                    routing_key: context.routing_key.as_deref(),
                    tenant: context.tenant.as_deref(),
                    has_time: !context.time_left.is_zero() && !left.is_zero(),
                    is_less_now: left <= context.time_left,
                })
            }
            "spans" => {
                let outer = span!(
                    "guest-outer",
                    rows = order.amount,
                    model = &order.model,
                    exact = true,
                    share = 0.5
                );
                let _inner = span!("guest-inner\n");
                let x = Tensor::f32(&[1, 4], [1.0; 4])?;
                inference::infer(&order.model, Inputs::new().with("x", x))?;
                outer.event("guest-event", [("attempt", 1.into())]);
                Ok(Answer::text("traced"))
            }
            "many-spans" => {
                for number in 0..order.amount {
                    let span = span!("guest-many", number = number);
                    for key in 0..order.amount {
                        span.set(&format!("key-{key}"), "é".repeat(1_000));
                        span.event("guest-many-event", []);
                    }
                }
                Ok(Answer::text("traced"))
            }
            "leak-spans" => {
                std::mem::forget(span!("guest-leaked"));
                Ok(Answer::text("leaked"))
            }
            "retry" => Err(Error::too_many_requests("not so fast", order.amount)),
            what => Err(Error::bad_request(format!("cannot do {what:?}"))),
        }
    }
}

sluice_sdk::export_pipeline!(ContextProbe);
