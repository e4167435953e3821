//! Makes a model's inputs out of a request: numbers, scaled.

use serde::Deserialize;
use sluice_sdk::{Config, Error, Inputs, Prepared, Preprocessor, Request, Tensor};

/// The plugin, and its `config` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    #[serde(default = "one")]
    factor: f32,
}

fn one() -> f32 {
    1.0
}

/// What a caller sends.
#[derive(Deserialize)]
struct Body {
    numbers: Vec<f32>,
}

impl Preprocessor for Scale {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let body: Body = request.json()?;
        if body.numbers.is_empty() {
            return Err(Error::bad_request("numbers is empty"));
        }
        let scaled: Vec<f32> = body.numbers.iter().map(|number| number * self.factor).collect();
        Ok(Inputs::new().with("x", Tensor::f32(&[1, scaled.len()], scaled)?).into())
    }
}

sluice_sdk::export_preprocessor!(Scale);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scaled() {
        let mut plugin = Scale::init(Config::from_json(r#"{"factor": 2}"#)).unwrap();
        let prepared = plugin.preprocess(Request::from_body(r#"{"numbers": [1, 2]}"#)).unwrap();
        let Prepared::Run { inputs, .. } = prepared else { panic!("the model is wanted") };
        let (name, x) = inputs.into_vec().remove(0);
        assert_eq!((name.as_str(), x.into_host().to_f32().unwrap()), ("x", vec![2.0, 4.0]));
    }
}
