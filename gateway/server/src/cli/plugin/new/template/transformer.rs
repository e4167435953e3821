//! Both sides of a model: numbers become its inputs, its outputs an answer that names
//! who asked.

use serde::{Deserialize, Serialize};
use sluice_sdk::{
    Answer, Carry, Config, Context, Error, Inputs, Prepared, Request, Tensor, Tensors, Transformer,
};

/// The plugin.
struct Both;

/// What a caller sends.
#[derive(Deserialize)]
struct Body {
    id: String,
    numbers: Vec<f32>,
}

/// What the caller gets.
#[derive(Serialize)]
struct Scores<'a> {
    id: &'a str,
    scores: Vec<f32>,
}

impl Transformer for Both {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let body: Body = request.json()?;
        if body.numbers.is_empty() {
            return Err(Error::bad_request("numbers is empty"));
        }
        let inputs = Inputs::new().with("x", Tensor::f32(&[1, body.numbers.len()], body.numbers)?);
        // The two hooks of a request may run in different instances: what the second
        // needs is handed over.
        Ok(inputs.carry(body.id.into_bytes()))
    }

    fn postprocess(&mut self, _context: &Context, carry: Carry, outputs: Tensors) -> Result<Answer, Error> {
        let id = std::str::from_utf8(carry.bytes()).map_err(|_| Error::internal("the id is not text"))?;
        Answer::json(&Scores { id, scores: outputs.only()?.to_f32()? })
    }
}

sluice_sdk::export_transformer!(Both);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::HostTensor;

    #[test]
    fn the_id_comes_back_with_the_scores() {
        let prepared = Both.preprocess(Request::from_body(r#"{"id": "r1", "numbers": [1]}"#)).unwrap();
        assert!(matches!(prepared, Prepared::Run { .. }));
        let outputs = Tensors::new([("y", HostTensor::from_values(&[1], [0.5f32]).unwrap())]);
        let answer = Both.postprocess(&Context::default(), Carry::new(b"r1".to_vec()), outputs).unwrap();
        assert_eq!(answer.data().unwrap(), br#"{"id":"r1","scores":[0.5]}"#);
    }
}
