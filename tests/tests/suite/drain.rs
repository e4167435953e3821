//! SIGTERM under load: no request fails, and the process ends with 0 (L1).

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sluice::lifecycle::drain::Drained;
use sluice_tests::client::Client;
use sluice_tests::{gateway, repository};

const CONFIG: &str = r#"
    [server]
    drain_ms = 5000
    drain_delay_ms = 300
    [models.slow]
    engine = "sim"
    file = "{repo}/tests/models/slow.sim.json"
    max_batch_size = 8
"#;

fn request(marker: i64) -> serde_json::Value {
    json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 2], "data": [marker, 0]}]})
}

/// Callers that go on until they are told that the gateway is leaving, or cannot
/// connect any more. Counts what was answered and what was lost.
async fn load(client: Client, leaving: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let answered = Arc::new(AtomicUsize::new(0));
    let mut callers = Vec::new();
    for caller in 0..16 {
        let (client, answered, leaving) = (client.clone(), Arc::clone(&answered), Arc::clone(&leaving));
        callers.push(tokio::spawn(async move {
            for number in 0..1000i64 {
                let marker = caller * 1000 + number;
                let path = "/v2/models/slow/infer";
                match client.try_send(http::Method::POST, path, &[], request(marker).to_string()).await {
                    Ok(reply) if reply.status == 200 => {
                        assert_eq!(reply.json()["outputs"][0]["data"], json!([marker, 0]));
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(reply) => return Some(format!("{}: {:?}", reply.status, reply.body)),
                    // Nobody listens any more: that is the end, not a lost request.
                    Err(error) if leaving.load(Ordering::Acquire) && error.contains("Connect") => {
                        return None;
                    }
                    Err(error) => return Some(error),
                }
            }
            None
        }));
    }
    let mut lost = Vec::new();
    for caller in callers {
        lost.extend(caller.await.expect("no panic"));
    }
    (answered.load(Ordering::Relaxed), lost)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_under_load_loses_no_request() {
    let mut gateway = gateway::start(CONFIG).await;
    let leaving = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(gateway.client.clone(), Arc::clone(&leaving)));
    tokio::time::sleep(Duration::from_millis(400)).await;
    leaving.store(true, Ordering::Release);
    let finished = gateway.stop();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ready = gateway.client.get("/v2/health/ready").await;
    assert_eq!(ready.status, 503, "readiness goes first");
    assert_eq!(gateway.client.get("/v2/health/live").await.status, 200);
    let (answered, lost) = load.await.expect("no panic");
    assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    assert!(answered > 30, "only {answered} answered");
    assert_eq!(finished.await.expect("no panic"), Drained::Clean);
}

/// A child that is killed with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn sluice() -> Command {
    Command::new(sluice_tests::program())
}

/// The address in a line of the table that the program prints.
pub(crate) fn address(line: &str) -> SocketAddr {
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next());
    address.and_then(|address| address.parse().ok()).expect("the table says where")
}

/// The real program, with where it serves this model.
pub(crate) fn serve(config: &str, model: &str) -> (tempfile::TempDir, Process, SocketAddr) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("sluice.toml");
    std::fs::write(&file, gateway::expand(config)).expect("written");
    let free = "127.0.0.1:0";
    let mut command = sluice();
    command.args(["serve", "--http", free, "--grpc", free, "--admin", free, "--config"]).arg(&file);
    let mut process = Process(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("started"));
    let table = BufReader::new(process.0.stdout.take().expect("piped"));
    let wanted = format!("/v2/models/{model}/infer");
    let line = table.lines().map_while(Result::ok).find(|line| line.contains(&wanted));
    let address = address(&line.expect("the table says what is served"));
    (folder, process, address)
}

fn signal(process: &Process, name: &str) {
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_program_at_once() {
    let config = "[models.quick]\nengine = \"sim\"\nfile = \"{repo}/tests/models/quick.sim.json\"\n\
                  max_batch_size = 8\n";
    for (first, second) in [("-TERM", "-TERM"), ("-INT", "-INT")] {
        let (_folder, mut process, address) = serve(config, "quick");
        let client = Client::new(address);
        // It hangs until its deadline, which is far.
        let body = json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [666]}]});
        let hanging = tokio::spawn(async move {
            let (method, path) = (http::Method::POST, "/v2/models/quick/infer");
            client.try_send(method, path, &[("x-request-timeout-ms", "25000")], body.to_string()).await
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        signal(&process, first);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(process.0.try_wait().expect("asked").is_none(), "the first one drains");
        let started = std::time::SystemTime::now();
        signal(&process, second);
        let status = tokio::task::spawn_blocking(move || process.0.wait()).await.expect("no panic");
        let took = started.elapsed().expect("time goes on");
        assert!(took < Duration::from_secs(10), "{took:?}");
        assert_ne!(status.expect("it ended").code(), Some(0), "a request was cut off");
        let _ = hanging.await.expect("no panic");
    }
}

/// The real program and the real signal.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_the_program_with_0_and_answers_everyone() {
    let (_folder, mut process, address) = serve(CONFIG, "slow");
    let leaving = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(Client::new(address), Arc::clone(&leaving)));
    tokio::time::sleep(Duration::from_millis(400)).await;
    leaving.store(true, Ordering::Release);
    signal(&process, "-TERM");
    let (answered, lost) = load.await.expect("no panic");
    assert!(lost.is_empty(), "{} lost: {lost:?}", lost.len());
    assert!(answered > 30, "only {answered} answered");
    let status =
        tokio::task::spawn_blocking(move || process.0.wait()).await.expect("no panic").expect("it ended");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_config_that_cannot_be_served_ends_with_its_own_code_and_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("sluice.toml");
    std::fs::write(&config, "[models.m]\nfile = \"none.onnx\"\nthreds = 1\n").expect("written");
    for command in ["serve", "check"] {
        let output = sluice().args([command, "--config"]).arg(&config).output().expect("it ran");
        assert_eq!(output.status.code(), Some(78), "{command}");
        let reason = String::from_utf8_lossy(&output.stderr);
        assert!(reason.contains("threds") && reason.contains('3'), "{command}: {reason}");
    }
}

#[test]
fn check_accepts_every_config_that_we_ship() {
    for name in ["demo.toml", "bench.toml"] {
        let mut command = sluice();
        command.args(["check", "--config"]).arg(repository().join("config").join(name));
        command.env("SLUICE_BENCH_DIR", gateway::bench_data());
        let output = command.output().expect("it ran");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
