//! Owns the whole request: asks a model and answers with the sum of its outputs.

use serde::{Deserialize, Serialize};
use sluice_sdk::{Answer, Config, Error, Inputs, Pipeline, Request, Tensor, inference};

/// The plugin, and its `config` table. The gateway grants the model: `models = ["…"]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    #[serde(default = "your_model")]
    model: String,
}

fn your_model() -> String {
    "your-model".to_owned()
}

/// What a caller sends.
#[derive(Deserialize)]
struct Body {
    numbers: Vec<f32>,
}

/// What the caller gets.
#[derive(Serialize)]
struct Sum {
    sum: f32,
}

impl Pipeline for Ask {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn handle(&mut self, request: Request) -> Result<Answer, Error> {
        let body: Body = request.json()?;
        let x = Tensor::f32(&[1, body.numbers.len()], body.numbers)?;
        // Waits without holding a thread; with `submit` several models run side by side.
        let outputs = inference::infer(&self.model, Inputs::new().with("x", x))?;
        Answer::json(&Sum { sum: outputs.only()?.to_f32()?.iter().sum() })
    }
}

sluice_sdk::export_pipeline!(Ask);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::{HostTensor, Tensors, testing};

    #[test]
    fn the_outputs_are_summed() {
        testing::set_model("your-model", |_inputs| {
            Ok(Tensors::new([("y", HostTensor::from_values(&[2], [1.0f32, 2.5]).unwrap())]))
        });
        let mut plugin = Ask::init(Config::from_json("{}")).unwrap();
        let answer = plugin.handle(Request::from_body(r#"{"numbers": [1]}"#)).unwrap();
        assert_eq!(answer.data().unwrap(), br#"{"sum":3.5}"#);
    }
}
