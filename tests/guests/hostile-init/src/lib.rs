//! Misbehaves in `init`: config `{"do": "loop"}` and so on. Without one it is a plugin
//! that answers `ready`.

use std::hint::black_box;

use serde::Deserialize;
use sluice_sdk::{Answer, Config, Error, Prepared, Preprocessor, Request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(rename = "do", default)]
    what: String,
    #[serde(default)]
    amount: u32,
}

struct HostileInit;

impl Preprocessor for HostileInit {
    fn init(config: Config) -> Result<Self, String> {
        let settings: Settings = config.parse()?;
        match settings.what.as_str() {
            "" => {}
            "fail" => return Err("this plugin refuses to start".to_owned()),
            "long-failure" => return Err("é".repeat(settings.amount as usize)),
            "loop" => loop {
                black_box(());
            },
            "panic" => panic!("this plugin panics in init"),
            "trap" => std::process::abort(),
            "eat-memory" => std::mem::forget(black_box(vec![1u8; settings.amount as usize])),
            // About `amount` million steps: slow, and then fine.
            "slow" => drop(black_box((0..u64::from(settings.amount) * 1_000_000).map(black_box).max())),
            what => return Err(format!("cannot do {what:?}")),
        }
        Ok(Self)
    }

    fn preprocess(&mut self, _request: Request) -> Result<Prepared, Error> {
        Ok(Answer::text("ready").into())
    }
}

sluice_sdk::export_preprocessor!(HostileInit);
