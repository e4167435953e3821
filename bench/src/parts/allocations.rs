//! What a request allocates, on warm connections: the child counts, between two readings.

use std::fmt::Write as _;

use tokio::task::JoinSet;

use crate::bars::Section;
use crate::client::Client;
use crate::requests::Requests;
use crate::server::{Process, Setup, Variant};
use crate::{setups, workload};

/// Requests that are counted, of all connections together.
const COUNTED: usize = 3_200;

/// Requests before that, on each connection.
const WARMUP: usize = 100;

/// What is counted: a name, the server, and the pipeline; none for the small model.
const CASES: [(&str, Variant, Option<&str>); 8] = [
    ("score-fresh", Variant::Fresh, Some("score")),
    ("score-reuse", Variant::Reuse, Some("score")),
    ("score-native", Variant::Native, Some("score")),
    ("rank-fresh", Variant::Fresh, Some("rank")),
    ("rank-reuse", Variant::Reuse, Some("rank")),
    ("rank-native", Variant::Native, Some("rank")),
    ("v2-binary", Variant::Fresh, None),
    ("v2-json", Variant::Fresh, None),
];

/// A server that counts, and what is sent to it.
struct Case {
    server: Process,
    requests: Requests,
    _config: Option<setups::Written>,
}

/// Counts all cases.
///
/// # Errors
/// A server fails.
pub async fn measure() -> Result<Section, String> {
    let mut text = String::from(
        "## Allocations\n\n| request | connections | allocations a request | bytes a request |\n|---|---|---|---|\n",
    );
    for case in CASES {
        let mut open = open(case).await?;
        for connections in [1, 64] {
            let (calls, bytes) = count(&mut open, connections, None).await?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {} | {connections} | {calls:.1} | {bytes:.0} |", case.0);
        }
    }
    Ok(Section { text, bars: Vec::new() })
}

/// Where one case allocates.
///
/// # Errors
/// There is no such case, or its server fails.
pub async fn sites(name: &str, connections: usize) -> Result<String, String> {
    let known = || CASES.map(|(name, ..)| name).join(", ");
    let case = CASES.into_iter().find(|(case, ..)| *case == name);
    let mut open = open(case.ok_or_else(|| format!("there is no {name}, only {}", known()))?).await?;
    let (calls, bytes) = count(&mut open, connections, None).await?;
    count(&mut open, connections, Some(SAMPLED)).await?;
    let mut text = format!("{name}: {calls:.1} allocations and {bytes:.0} bytes a request; where:\n");
    let mut line = open.server.ask("sites")?;
    while line.trim_end() != "." {
        text.push_str(&line);
        line = open.server.hear()?;
    }
    Ok(text)
}

/// One call in so many is looked at: a prime, so that it is not the same one of each request.
const SAMPLED: usize = 67;

async fn open((name, variant, pipeline): (&str, Variant, Option<&'static str>)) -> Result<Case, String> {
    let config = if pipeline.is_none() { Some(setups::simple(1)?) } else { None };
    let requests = match pipeline {
        Some(pipeline) => Requests::pipeline(&workload::read(pipeline)?, pipeline),
        None if name == "v2-json" => Requests::simple_json("simple-0"),
        None => Requests::simple_binary("simple-0"),
    };
    let path = config.as_ref().map(setups::Written::path);
    let setup = Setup { config: path, count: true, ..Setup::of(variant) };
    Ok(Case { server: Process::start(&setup)?, requests, _config: config })
}

/// Calls and bytes of one request.
async fn count(case: &mut Case, connections: usize, sampled: Option<usize>) -> Result<(f64, f64), String> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(case.server.http).await?);
    }
    let clients = send(clients, &case.requests, WARMUP).await?;
    if let Some(every) = sampled {
        case.server.ask(&format!("sample {every}"))?;
    }
    let before = read(&mut case.server)?;
    let each = COUNTED / connections;
    send(clients, &case.requests, each).await?;
    let after = read(&mut case.server)?;
    let requests = (each * connections) as f64;
    Ok(((after.0 - before.0) / requests, (after.1 - before.1) / requests))
}

/// So many requests on each connection, all at once; gives the connections back.
async fn send(clients: Vec<Client>, requests: &Requests, count: usize) -> Result<Vec<Client>, String> {
    let mut sending = JoinSet::new();
    for (start, mut client) in clients.into_iter().enumerate() {
        let requests = requests.clone();
        sending.spawn(async move {
            for number in 0..count {
                client.expect(&requests, start + number).await?;
            }
            Ok::<_, String>(client)
        });
    }
    let mut clients = Vec::new();
    while let Some(done) = sending.join_next().await {
        clients.push(done.map_err(|error| error.to_string())??);
    }
    Ok(clients)
}

fn read(server: &mut Process) -> Result<(f64, f64), String> {
    let line = server.ask("count")?;
    let mut numbers = line.split_whitespace().map(str::parse::<f64>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(calls)), Some(Ok(bytes))) => Ok((calls, bytes)),
        _ => Err(format!("the server counts '{line}'")),
    }
}
