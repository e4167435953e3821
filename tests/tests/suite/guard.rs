//! The admin listener against browsers, proxies and careless configurations, and tokens
//! against being seen (A4–A6, H15).

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Method;
use sluice::auth::token::NewToken;
use sluice_tests::client::Client;
use sluice_tests::gateway;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::drain::{Process, sluice};

const CONFIG: &str = r#"
    [server]
    admin_without_tokens = true
    admin_hosts = ["admin.example"]
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
"#;

/// Sends bytes and gives the status of the answer; 0 if the connection is only closed.
async fn status(to: SocketAddr, request: &str) -> u16 {
    let mut stream = TcpStream::connect(to).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.matches("HTTP/1.1 ").count() <= 1, "one answer for one request: {answer}");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a6_browsers_and_foreign_hosts_are_refused_on_every_path() {
    let gateway = gateway::start(CONFIG).await;
    let admin = gateway.admin.address();
    let get =
        |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n");
    for host in ["127.0.0.1", "localhost:8002", "admin.example", "ADMIN.example:443"] {
        assert_eq!(status(admin, &get("/metrics", &format!("host: {host}\r\n"))).await, 200, "{host}");
    }
    for path in ["/metrics", "/livez", "/admin/v1/status", "/nothing"] {
        for headers in [
            "host: evil.example\r\n",
            "host: 127.0.0.1.evil.example\r\n",
            "host: 10.0.0.1\r\n",
            "host: localhost\r\norigin: http://evil.example\r\n",
            "host: localhost\r\norigin: http://localhost:8002\r\n",
            "host: localhost\r\norigin: null\r\n",
            "host: localhost\r\nsec-fetch-site: cross-site\r\n",
        ] {
            assert_eq!(status(admin, &get(path, headers)).await, 403, "{path} {headers}");
        }
        for headers in ["", "host: localhost\r\nhost: localhost\r\n"] {
            assert_eq!(status(admin, &get(path, headers)).await, 400, "{path} {headers}");
            assert_eq!(status(gateway.client.address(), &get(path, headers)).await, 400, "{path} {headers}");
        }
    }
    let preflight = "OPTIONS /admin/v1/reload HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n\
        origin: http://evil.example\r\naccess-control-request-method: POST\r\n\r\n";
    assert_eq!(status(admin, preflight).await, 403);
    let posted = "POST /admin/v1/reload HTTP/1.1\r\nconnection: close\r\nhost: localhost\r\n\
        origin: null\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(status(admin, posted).await, 403);
    // Predictions are for browsers too: there it is the caller's own gateway that decides.
    let http = gateway.client.address();
    assert_eq!(status(http, &get("/v2", "host: any.example\r\norigin: http://any.example\r\n")).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn h15_what_is_meant_for_proxies_is_refused_on_every_listener() {
    let gateway = gateway::start(CONFIG).await;
    for to in [gateway.admin.address(), gateway.client.address()] {
        for (request, expected) in [
            ("TRACE /livez HTTP/1.1\r\nhost: localhost\r\n", 405),
            ("CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n", 405),
            ("GET http://localhost/livez HTTP/1.1\r\nhost: localhost\r\n", 400),
            ("GET http://127.0.0.1/v2/health/live HTTP/1.1\r\nhost: localhost\r\n", 400),
        ] {
            let request = format!("{request}connection: close\r\n\r\n");
            assert_eq!(status(to, &request).await, expected, "{request}");
        }
    }
    // An upgrade is not taken up: the answer is an ordinary one.
    let upgrade =
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n";
    assert_eq!(status(gateway.admin.address(), upgrade).await, 200);
}

/// A program that serves, and all that it will have logged.
struct Serving {
    process: Process,
    log: std::thread::JoinHandle<String>,
    http: SocketAddr,
    admin: SocketAddr,
}

/// Runs the program with a config until its table is printed.
fn serve(config: &str, more: &[&str]) -> Serving {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let path = folder.join("sluice.toml");
    std::fs::write(&path, gateway::expand(config)).expect("written");
    let mut command = sluice();
    command
        .env("SLUICE_LOG", "trace")
        .args(["serve", "--http", "127.0.0.1:0", "--config"])
        .arg(&path)
        .args(more);
    let mut process =
        Process(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started"));
    // Read from the start: a program whose log fills the pipe stands still.
    let mut stderr = process.0.stderr.take().expect("piped");
    let log = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let table = BufReader::new(process.0.stdout.take().expect("piped"));
    let address = |line: &str| line.split("://").nth(1)?.split('/').next()?.parse().ok();
    let (mut http, mut admin) = (None, None);
    for line in table.lines().map_while(Result::ok) {
        if line.contains("/infer") {
            http = address(&line);
        }
        if line.contains("/metrics") {
            admin = address(&line);
            break;
        }
    }
    Serving { process, log, http: http.expect("it serves"), admin: admin.expect("it serves") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_after_a_full_run_no_token_and_no_hash_is_anywhere() {
    let good = NewToken::generate().expect("random");
    let bad = NewToken::generate().expect("random");
    let config = format!("{CONFIG}\n[tokens.me]\nhash = \"{}\"\nscopes = [\"admin\"]", good.hash());
    let config = config.replace("admin_without_tokens = true", "predict_needs_token = true");
    let Serving { mut process, log, http, admin } = serve(&config, &["--admin", "127.0.0.1:0"]);
    let mut seen = String::new();
    for token in [&bad, &good] {
        let bearer = format!("Bearer {}", token.reveal());
        for (to, path) in [
            (admin, "/admin/v1/status"),
            (admin, "/metrics"),
            (admin, "/nothing"),
            (admin, &*format!("/metrics?token={}", token.reveal())),
            (http, "/v2/models/wide"),
            (http, "/v2/models/none"),
        ] {
            let headers = [("authorization", &*bearer)];
            let reply = Client::new(to).try_send(Method::GET, path, &headers, "").await.expect("an answer");
            seen.push_str(&format!("{:?} {}\n", reply.headers, String::from_utf8_lossy(&reply.body)));
            seen.push_str(&over_http2(to, path, &bearer).await);
        }
    }
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
    tokio::task::spawn_blocking(move || process.0.wait()).await.expect("no panic").expect("it ended");
    let log = log.join().expect("read");
    assert!(log.contains("no good token"), "the log was at its finest: {log:.300}");
    assert!(
        seen.contains("sluice_requests_rejected_total") && seen.contains("\"generation\""),
        "{seen:.300}"
    );
    for text in [&seen, &log] {
        for secret in [&good, &bad] {
            let (token, hash) = (secret.reveal(), secret.hash());
            assert!(!text.contains(&token["sluice_".len()..]), "a token was shown");
            assert!(!text.contains(&hash["sha256:".len()..]), "a hash was shown");
        }
    }
}

async fn over_http2(to: SocketAddr, path: &str, bearer: &str) -> String {
    let io = hyper_util::rt::TokioIo::new(TcpStream::connect(to).await.expect("connected"));
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::get(format!("http://{to}{path}")).header("authorization", bearer);
    let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("valid");
    let response = sender.send_request(request).await.expect("an answer");
    format!("{:?}\n", response.headers())
}

#[test]
fn a4_a_token_in_place_of_its_hash_is_refused_and_not_repeated() {
    let token = NewToken::generate().expect("random");
    for key in ["hash", "token", "owner", "expires"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sluice.toml");
        let text = format!("[tokens.me]\n{key} = \"{}\"\nscopes = [\"admin\"]\n", token.reveal());
        std::fs::write(&path, text).expect("written");
        let output = sluice().args(["check", "--config"]).arg(&path).output().expect("it ran");
        assert_eq!(output.status.code(), Some(78), "{key}");
        let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("tokens.me"), "{said}");
        if key != "owner" {
            assert!(!said.contains(token.reveal()), "{key}: {said}");
        }
    }
}

#[test]
fn a5_an_unprotected_admin_address_refuses_to_start() {
    let token = NewToken::generate().expect("random");
    let with_token = format!("[tokens.me]\nhash = \"{}\"\nscopes = [\"admin\"]\n", token.hash());
    let predict_only = with_token.replace("admin", "predict");
    for (config, reason) in [
        ("", "admin_tls"),
        ("[server]\nadmin_without_tokens = true", "admin_without_tokens"),
        (&*with_token, "admin_tls"),
        (&*predict_only, "scope `admin`"),
    ] {
        for address in ["0.0.0.0:0", "[::]:0"] {
            let folder = tempfile::tempdir().expect("a folder");
            let path = folder.path().join("sluice.toml");
            std::fs::write(&path, config).expect("written");
            let mut command = sluice();
            command
                .args([
                    "serve",
                    "--http",
                    "127.0.0.1:0",
                    "--grpc",
                    "127.0.0.1:0",
                    "--admin",
                    address,
                    "--config",
                ])
                .arg(&path);
            let output = command.output().expect("it ran");
            assert_eq!(output.status.code(), Some(78), "{config} on {address}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(reason), "{config} on {address}: {said}");
            assert!(output.stdout.is_empty(), "no port was opened");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_on_loopback_without_tokens_nobody_administers_unless_the_config_says_so() {
    let config = CONFIG.replace("admin_without_tokens = true", "");
    let gateway = gateway::start_guarded(&config).await;
    assert_eq!(gateway.admin.get("/livez").await.status, 200);
    for path in ["/metrics", "/admin/v1/status", "/nothing"] {
        assert_eq!(gateway.admin.get(path).await.status, 401, "{path}");
    }
    assert_eq!(gateway.admin.post("/admin/v1/reload", "").await.status, 401);
    let gateway = gateway::start_guarded(CONFIG).await;
    assert_eq!(gateway.admin.get("/admin/v1/status").await.status, 200);
    let bearer = [("authorization", "Bearer sluice_bad")];
    let reply = gateway.admin.try_send(Method::GET, "/metrics", &bearer, "").await.expect("an answer");
    assert_eq!(reply.status, 401, "a bad token is no missing token");
}

#[test]
fn the_program_makes_tokens_that_its_config_takes() {
    let arguments = ["token", "new", "--name", "ci", "--scope", "plugins:deploy", "--scope", "admin"];
    let output =
        sluice().args(arguments).args(["--owner", "team-a", "--expires", "2999-01-01T00:00:00Z"]).output();
    let output = output.expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let (token, entry) = text.split_once('\n').expect("a line and an entry");
    assert!(token.starts_with("sluice_") && token.len() == 50, "{token}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sluice.toml");
    std::fs::write(&path, entry).expect("written");
    let checked = sluice().args(["check", "--config"]).arg(&path).output().expect("it ran");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for wrong in [
        &["--scope", "root"][..],
        &["--scope", "plugins:deploy"],
        &["--expires", "tomorrow", "--scope", "admin"],
    ] {
        let output = sluice().args(["token", "new", "--name", "x"]).args(wrong).output().expect("it ran");
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}");
    }
}
