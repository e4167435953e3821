//! Looks up what the body says: `{"store": "movies", "keys": ["Jaws"]}`. With
//! `"one_by_one": true` one call a key. With `"repeat": n` the keys n times over.

use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Prepared, Preprocessor, Request, kv};

struct KvProbe;

#[derive(Deserialize)]
struct Order {
    store: String,
    keys: Vec<String>,
    #[serde(default)]
    one_by_one: bool,
    #[serde(default = "one")]
    repeat: usize,
}

fn one() -> usize {
    1
}

impl Preprocessor for KvProbe {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        let order: Order = request.json()?;
        let bucket = kv::open(&order.store)?;
        let keys: Vec<&str> =
            std::iter::repeat_n(&order.keys, order.repeat).flatten().map(String::as_str).collect();
        let values = if order.one_by_one {
            keys.iter().map(|key| bucket.get(key)).collect::<Result<Vec<_>, _>>()?
        } else {
            bucket.get_many(&keys)?
        };
        let text = |value: Option<Vec<u8>>| value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let values: Vec<Option<String>> = values.into_iter().map(text).collect();
        Ok(Answer::json(&values)?.into())
    }
}

sluice_sdk::export_preprocessor!(KvProbe);
