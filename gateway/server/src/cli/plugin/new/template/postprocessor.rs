//! Makes the answer out of a model's outputs: the best of its scores.

use serde::{Deserialize, Serialize};
use sluice_sdk::{Answer, Carry, Config, Context, Error, Postprocessor, Tensors};

/// The plugin, and its `config` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Best {
    #[serde(default = "three")]
    count: u32,
}

fn three() -> u32 {
    3
}

/// One of the best.
#[derive(Serialize)]
struct Scored {
    index: usize,
    score: f64,
}

impl Postprocessor for Best {
    fn init(config: Config) -> Result<Self, String> {
        config.parse()
    }

    fn postprocess(&mut self, _context: &Context, _carry: Carry, outputs: Tensors) -> Result<Answer, Error> {
        // The host searches: only the best of them are copied.
        let best = outputs.only()?.top_k(self.count)?;
        let best: Vec<Scored> =
            best.iter().map(|ranked| Scored { index: ranked.index, score: ranked.value }).collect();
        Answer::json(&best)
    }
}

sluice_sdk::export_postprocessor!(Best);

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_sdk::HostTensor;

    #[test]
    fn the_best_come_first() {
        let mut plugin = Best::init(Config::from_json(r#"{"count": 2}"#)).unwrap();
        let scores = HostTensor::from_values(&[3], [0.25f32, 1.0, 0.5]).unwrap();
        let outputs = Tensors::new([("y", scores)]);
        let answer = plugin.postprocess(&Context::default(), Carry::new(Vec::new()), outputs).unwrap();
        let wanted = r#"[{"index":1,"score":1.0},{"index":2,"score":0.5}]"#;
        assert_eq!(answer.data().unwrap(), wanted.as_bytes());
    }
}
