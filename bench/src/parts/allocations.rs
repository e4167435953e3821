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

/// What is counted: a name, the server, and the pipeline; none for the small model. Neighbours
/// with the same server share it.
const CASES: [(&str, Variant, Option<&str>); 8] = [
    ("score-fresh", Variant::Fresh, Some("score")),
    ("rank-fresh", Variant::Fresh, Some("rank")),
    ("score-reuse", Variant::Reuse, Some("score")),
    ("rank-reuse", Variant::Reuse, Some("rank")),
    ("score-native", Variant::Native, Some("score")),
    ("rank-native", Variant::Native, Some("rank")),
    ("v2-binary", Variant::Fresh, None),
    ("v2-json", Variant::Fresh, None),
];

/// A server that counts.
struct Counted {
    server: Process,
    variant: Variant,
    is_simple: bool,
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
    let mut open: Option<Counted> = None;
    for (name, variant, pipeline) in CASES {
        let requests = requests(name, pipeline)?;
        let same = open.take().filter(|open| open.variant == variant && open.is_simple == pipeline.is_none());
        let mut counted = same.map_or_else(|| start(variant, pipeline.is_none()), Ok)?;
        for connections in [1, 64] {
            let (calls, bytes) = count(&mut counted.server, &requests, connections, None).await?;
            // Writing to a string cannot fail.
            let _ = writeln!(text, "| {name} | {connections} | {calls:.1} | {bytes:.0} |");
        }
        open = Some(counted);
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
    let (name, variant, pipeline) = case.ok_or_else(|| format!("there is no {name}, only {}", known()))?;
    let (requests, mut counted) = (requests(name, pipeline)?, start(variant, pipeline.is_none())?);
    let server = &mut counted.server;
    let (calls, bytes) = count(server, &requests, connections, None).await?;
    count(server, &requests, connections, Some(SAMPLED)).await?;
    let mut text = format!("{name}: {calls:.1} allocations and {bytes:.0} bytes a request; where:\n");
    let mut line = server.ask("sites")?;
    while line.trim_end() != "." {
        text.push_str(&line);
        line = server.hear()?;
    }
    Ok(text)
}

/// One call in so many is looked at: a prime, so that it is not the same one of each request.
const SAMPLED: usize = 67;

fn requests(name: &str, pipeline: Option<&'static str>) -> Result<Requests, String> {
    Ok(match pipeline {
        Some(pipeline) => Requests::pipeline(&workload::read(pipeline)?, pipeline),
        None if name == "v2-json" => Requests::simple_json("simple-0"),
        None => Requests::simple_binary("simple-0"),
    })
}

fn start(variant: Variant, is_simple: bool) -> Result<Counted, String> {
    let config = if is_simple { Some(setups::simple(1)?) } else { None };
    let path = config.as_ref().map(setups::Written::path);
    let setup = Setup { config: path, count: true, ..Setup::of(variant) };
    Ok(Counted { server: Process::start(&setup)?, variant, is_simple, _config: config })
}

/// Calls and bytes of one request.
async fn count(
    server: &mut Process,
    requests: &Requests,
    connections: usize,
    sampled: Option<usize>,
) -> Result<(f64, f64), String> {
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::connect(server.http).await?);
    }
    let clients = send(clients, requests, WARMUP).await?;
    if let Some(every) = sampled {
        server.ask(&format!("sample {every}"))?;
    }
    let before = read(server)?;
    let each = COUNTED / connections;
    send(clients, requests, each).await?;
    let after = read(server)?;
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
