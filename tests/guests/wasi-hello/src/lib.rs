//! Built for `wasm32-wasip2`, with all that Rust's standard library offers there: tries
//! each and tells what it reached. The gateway must run it, and it must reach nothing
//! but the clock and the log.

use std::time::SystemTime;

use serde::Serialize;
use sluice_sdk::{Answer, Config, Error, Prepared, Preprocessor, Request};

struct WasiHello;

#[derive(Serialize)]
struct Reached {
    environment: Vec<String>,
    arguments: usize,
    etc_passwd: Result<usize, String>,
    root_folder: Result<usize, String>,
    write_file: Result<(), String>,
    seconds_since_1970: u64,
    body_bytes: usize,
}

fn reach() -> Reached {
    let denied = |error: std::io::Error| error.kind().to_string();
    Reached {
        environment: std::env::vars().map(|(name, _value)| name).collect(),
        arguments: std::env::args().count(),
        etc_passwd: std::fs::read_to_string("/etc/passwd").map(|text| text.len()).map_err(denied),
        root_folder: std::fs::read_dir("/").map(Iterator::count).map_err(denied),
        write_file: std::fs::write("/tmp/wasi-hello", "hello").map_err(denied),
        seconds_since_1970: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |past| past.as_secs()),
        body_bytes: 0,
    }
}

impl Preprocessor for WasiHello {
    fn init(_config: Config) -> Result<Self, String> {
        Ok(Self)
    }

    fn preprocess(&mut self, request: Request) -> Result<Prepared, Error> {
        println!("hello from standard output");
        eprintln!("hello from standard error");
        let reached = Reached { body_bytes: request.bytes()?.len(), ..reach() };
        Ok(Answer::json(&reached)?.into())
    }
}

sluice_sdk::export_preprocessor!(WasiHello);
