//! V2 over HTTP with a small model, against a bare echo that reads the same bytes and answers
//! with as many: what the gateway costs beside the wire.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use crate::bars::{Bar, Section, median};
use crate::client::Client;
use crate::requests::{Costed, Requests};
use crate::server::{Process, Setup, Variant};
use crate::setups;

/// The share of the echo's requests that the gateway should answer, at 64 connections.
const BAR: f64 = 0.60;

/// The connections that the bar is about.
const BARRED: usize = 64;

/// Load before each measurement.
const WARMUP: Duration = Duration::from_millis(200);

/// One way to ask, with what it cost in each round.
struct Way {
    name: &'static str,
    address: SocketAddr,
    server: Process,
    requests: Requests,
    rounds: Vec<Costed>,
}

/// Measures binary tensors, JSON and gRPC, the first two beside an echo of their own.
///
/// # Errors
/// A server fails, or answers wrongly.
#[expect(clippy::print_stderr, reason = "progress for people")]
pub async fn measure(rounds: usize, duration: Duration) -> Result<Section, String> {
    let config = setups::simple(1)?;
    let gateway = Setup::of(Variant::Fresh).config(&config.path());
    let mut ways = Vec::new();
    for (name, echo, requests) in [
        ("V2, binary tensors", "echo of that", Requests::simple_binary("simple-0")),
        ("V2, JSON", "echo of that", Requests::simple_json("simple-0")),
    ] {
        let server = Process::start(&gateway)?;
        requests.prove(server.http).await?;
        let answer = Client::connect(server.http).await?.expect(&requests, 0).await?.body.len();
        let same = Setup { answer_bytes: Some(answer), ..Setup::of(Variant::Echo) };
        let bare = Process::start(&same)?;
        ways.push(Way { name, address: server.http, server, requests: requests.clone(), rounds: Vec::new() });
        ways.push(Way { name: echo, address: bare.http, server: bare, requests, rounds: Vec::new() });
    }
    let (server, requests) = (Process::start(&gateway)?, Requests::simple_grpc("simple-0"));
    requests.prove(server.grpc).await?;
    ways.push(Way { name: "gRPC, raw contents", address: server.grpc, server, requests, rounds: Vec::new() });
    let mut section = Section::default();
    section.text.push_str(
        "## V2, a small model\n\nTriton's `simple`: two times sixteen INT32 in, sums and differences out. The echo is bare \
         hyper with the same request, and as many bytes in its answer. `CPU` is the server's own, user and system.\n\n\
         | what | connections | requests/s | of the echo | CPU µs a request | p50 ms | p99 ms | errors |\n|---|---|---|---|---|---|---|---|\n",
    );
    for connections in [1, BARRED] {
        for _ in 0..rounds {
            for way in &mut ways {
                eprintln!("bench: {}, {connections} connections", way.name);
                way.rounds.push(
                    way.requests
                        .load_with_cpu(&way.server, way.address, connections, WARMUP, duration)
                        .await?,
                );
            }
        }
        for (number, pair) in ways.chunks_mut(2).enumerate() {
            let bar = rows(&mut section.text, pair, connections);
            // Binary tensors are the first pair.
            if connections == BARRED && number == 0 {
                section.bars.extend(bar);
            }
        }
    }
    Ok(section)
}

/// The lines of a pair, and the ratio between them; of one that has no echo, its line. Takes
/// the rounds.
fn rows(text: &mut String, pair: &mut [Way], connections: usize) -> Option<Bar> {
    let rate = |round: &Costed| round.report.throughput_per_s;
    let ratio = match &*pair {
        [gateway, echo] => {
            let pairs = gateway.rounds.iter().zip(&echo.rounds);
            Some(median(pairs.map(|(own, bare)| rate(own) / rate(bare)).collect()))
        }
        _ => None,
    };
    for (number, way) in pair.iter_mut().enumerate() {
        let rounds = std::mem::take(&mut way.rounds);
        let of = |number: fn(&Costed) -> f64| median(rounds.iter().map(number).collect());
        let ratio =
            ratio.filter(|_| number == 0).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {connections} | {:.0} | {ratio} | {:.1} | {:.3} | {:.3} | {} |",
            way.name,
            of(rate),
            of(|round| round.cpu_us),
            of(|round| round.report.p50_us as f64 / 1e3),
            of(|round| round.report.p99_us as f64 / 1e3),
            rounds.iter().map(|round| round.report.errors).sum::<u64>(),
        );
    }
    let what = format!("V2 binary at {connections}, requests/s of a bare echo's");
    ratio.map(|ratio| Bar::at_least(what, ratio, BAR))
}
