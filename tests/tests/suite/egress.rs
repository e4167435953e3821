//! Outgoing HTTP of plugins, against scripted servers on this machine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use sluice::services::egress::{AllowedHost, Egress, EgressError, EgressSettings, PluginEgress};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::runtime::Handle;

/// A server that answers every request alike, and remembers what it was asked.
struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    requests: tokio::sync::mpsc::Receiver<String>,
}

/// Serves `answer` as it stands; nothing at all if it is empty.
async fn scripted(answer: &'static [u8]) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, requests) = tokio::sync::mpsc::channel(100);
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(serve(stream, answer, asked.clone()));
        }
    });
    Scripted { address, connections, requests }
}

async fn serve<S>(mut stream: S, answer: &'static [u8], asked: tokio::sync::mpsc::Sender<String>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let Ok(count @ 1..) = stream.read(&mut buffer).await else { return };
        seen.extend_from_slice(&buffer[..count]);
        if !is_whole(&seen) {
            continue;
        }
        let request = String::from_utf8_lossy(&std::mem::take(&mut seen)).into_owned();
        if asked.send(request).await.is_err() || stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

fn settings() -> EgressSettings {
    EgressSettings {
        connect_timeout: Duration::from_secs(2),
        timeout: Duration::from_secs(5),
        body_bytes_max: 1000,
        allow_private: false,
    }
}

fn plugin(settings: EgressSettings, hosts: &[&str]) -> PluginEgress {
    let egress = Egress::new(settings, None, Handle::current()).expect("certificates");
    let hosts: Vec<_> = hosts.iter().map(|host| AllowedHost::parse(host).expect(host)).collect();
    egress.for_plugin(&"team".into(), hosts)
}

fn get(uri: &str) -> Request<Bytes> {
    Request::get(uri).body(Bytes::new()).expect("a request")
}

async fn send(plugin: &PluginEgress, request: Request<Bytes>) -> Result<Response<Bytes>, EgressError> {
    plugin.send(request, Duration::from_secs(5), 1000).await
}

const HELLO: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-own: 1\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\nhello";

#[tokio::test]
async fn a_granted_server_gets_the_plugins_request_and_nothing_else() {
    let mut server = scripted(HELLO).await;
    let plugin = plugin(settings(), &[&format!("http://{}", server.address)]);
    let request = Request::post(format!("http://{}/a?b=c", server.address))
        .header("host", "inner.example.com")
        .header("authorization", "Bearer of-the-plugin")
        .header("connection", "x-hidden")
        .header("x-hidden", "1")
        .header("transfer-encoding", "chunked")
        .header("expect", "100-continue")
        .body(Bytes::from_static(b"question"))
        .expect("a request");
    let answer = send(&plugin, request).await.expect("an answer");
    assert_eq!((answer.status(), &answer.body()[..]), (StatusCode::OK, &b"hello"[..]));
    assert_eq!(answer.headers()["x-own"], "1");
    assert!(!answer.headers().contains_key("x-hop") && !answer.headers().contains_key("connection"));
    let asked = server.requests.recv().await.expect("a request");
    let mut lines: Vec<_> = asked.lines().collect();
    assert_eq!(lines.remove(0), "POST /a?b=c HTTP/1.1");
    lines.sort_unstable();
    let host = format!("host: {}", server.address);
    assert_eq!(lines, ["", "authorization: Bearer of-the-plugin", "content-length: 8", &host, "question"]);
}

#[tokio::test]
async fn connections_are_used_again_by_the_plugins_of_an_owner() {
    let server = scripted(HELLO).await;
    let host = AllowedHost::parse(&format!("http://{}", server.address)).expect("a host");
    let egress = Egress::new(settings(), None, Handle::current()).expect("certificates");
    for _ in 0..5 {
        let plugin = egress.for_plugin(&"team".into(), vec![host.clone()]);
        let other = egress.for_plugin(&"team".into(), vec![host.clone()]);
        for plugin in [&plugin, &other] {
            send(plugin, get(&format!("http://{}/", server.address))).await.expect("an answer");
        }
        std::mem::forget(plugin);
    }
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
    let stranger = egress.for_plugin(&"stranger".into(), vec![host]);
    send(&stranger, get(&format!("http://{}/", server.address))).await.expect("an answer");
    assert_eq!(server.connections.load(Ordering::Relaxed), 2, "owners share no connection");
}

#[tokio::test]
async fn what_is_not_granted_is_never_dialled() {
    let server = scripted(HELLO).await;
    let port = server.address.port();
    let plugin = plugin(settings(), &["api.example.com", &format!("http://localhost:{port}")]);
    let denied = Err(EgressError::Denied);
    for uri in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("https://localhost:{port}/"),
    ] {
        assert_eq!(send(&plugin, get(&uri)).await.map(drop), denied, "{uri}");
    }
    let connect = Request::builder().method(Method::CONNECT).uri(format!("http://localhost:{port}/"));
    assert_eq!(send(&plugin, connect.body(Bytes::new()).expect("a request")).await.map(drop), denied);
    let hidden = format!("http://localhost:{port}@127.0.0.1:{port}/");
    assert_eq!(send(&plugin, get(&hidden)).await.map(drop), Err(EgressError::BadUri));
    // Granted by name, and the name leads to this machine.
    let uri = format!("http://localhost:{port}/");
    assert_eq!(send(&plugin, get(&uri)).await.map(drop), Err(EgressError::AddressProhibited));
    assert_eq!(server.connections.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_name_may_lead_inside_where_the_operator_says_so() {
    let server = scripted(HELLO).await;
    let port = server.address.port();
    let settings = EgressSettings { allow_private: true, ..settings() };
    let plugin = plugin(settings, &[&format!("http://localhost:{port}")]);
    let answer = send(&plugin, get(&format!("http://localhost:{port}/"))).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_not_followed() {
    let mut server =
        scripted(b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n")
            .await;
    let plugin = plugin(settings(), &[&format!("http://{}", server.address)]);
    let answer = send(&plugin, get(&format!("http://{}/", server.address))).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::FOUND);
    assert!(server.requests.recv().await.is_some());
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn bodies_are_bounded_both_ways() {
    let declared = scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n").await;
    let chunked = scripted(CHUNKED).await;
    for server in [&declared, &chunked] {
        let plugin = plugin(settings(), &[&format!("http://{}", server.address)]);
        let started = tokio::time::Instant::now();
        let answer = send(&plugin, get(&format!("http://{}/", server.address))).await;
        assert_eq!(answer.map(drop), Err(EgressError::ResponseTooLarge));
        assert!(started.elapsed() < Duration::from_secs(2), "it does not read on");
    }
    let plugin = plugin(settings(), &["http://192.0.2.1"]);
    let request = Request::post("http://192.0.2.1/").body(Bytes::from(vec![0; 1001])).expect("a request");
    assert_eq!(send(&plugin, request).await.map(drop), Err(EgressError::RequestTooLarge));
}

/// 1,008 bytes, and no end.
const CHUNKED: &[u8] = &{
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3F0\r\n";
    let mut answer = [b'x'; 54 + 1008];
    let mut i = 0;
    while i < head.len() {
        answer[i] = head[i];
        i += 1;
    }
    answer
};

#[tokio::test]
async fn a_server_that_does_not_answer_costs_the_timeout_only() {
    let silent = scripted(b"").await;
    let stalled = scripted(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
    for server in [&silent, &stalled] {
        let plugin = plugin(settings(), &[&format!("http://{}", server.address)]);
        let started = tokio::time::Instant::now();
        let request = get(&format!("http://{}/", server.address));
        let answer = plugin.send(request, Duration::from_millis(200), 1000).await;
        assert_eq!(answer.map(drop), Err(EgressError::Timeout));
        assert!(started.elapsed() < Duration::from_secs(2));
    }
}

#[tokio::test]
async fn nonsense_and_nobody_are_told_apart() {
    let nonsense = scripted(b"SSH-2.0-OpenSSH\r\n\r\n").await;
    let plugin_of = |address: SocketAddr| plugin(settings(), &[&format!("http://{address}")]);
    let answer = send(&plugin_of(nonsense.address), get(&format!("http://{}/", nonsense.address))).await;
    assert!(matches!(answer, Err(EgressError::Protocol(_))), "{answer:?}");
    let nobody = sluice_tests::services::free_address();
    let answer = send(&plugin_of(nobody), get(&format!("http://{nobody}/"))).await;
    assert!(matches!(answer, Err(EgressError::Unreachable(_))), "{answer:?}");
    let unknown = plugin(settings(), &["nobody.invalid"]);
    let answer = send(&unknown, get("https://nobody.invalid/")).await;
    assert_eq!(answer.map(drop), Err(EgressError::NotResolved));
}

#[tokio::test]
async fn a_certificate_must_be_vouched_for() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).expect("written");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a config");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (asked, _requests) = tokio::sync::mpsc::channel(100);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                tokio::spawn(serve(stream, HELLO, asked.clone()));
            }
        }
    });
    let host = format!("https://{address}");
    let answer = send(&plugin(settings(), &[&host]), get(&format!("{host}/"))).await;
    assert!(matches!(answer, Err(EgressError::Tls(_))), "{answer:?}");
    let egress = Egress::new(settings(), Some(&ca), Handle::current()).expect("certificates");
    let trusting = egress.for_plugin(&"team".into(), vec![AllowedHost::parse(&host).expect("a host")]);
    let answer = send(&trusting, get(&format!("{host}/"))).await.expect("an answer");
    assert_eq!(&answer.body()[..], b"hello");
    std::fs::write(&ca, "nothing").expect("written");
    assert!(Egress::new(settings(), Some(&ca), Handle::current()).is_err());
}

#[tokio::test]
async fn an_owner_has_so_many_requests_under_way_and_no_more() {
    let silent = scripted(b"").await;
    let plugin = Arc::new(plugin(settings(), &[&format!("http://{}", silent.address)]));
    let uri = format!("http://{}/", silent.address);
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let (plugin, uri) = (Arc::clone(&plugin), uri.clone());
            tokio::spawn(async move { send(&plugin, get(&uri)).await.map(drop) })
        })
        .collect();
    while silent.connections.load(Ordering::Relaxed) < 64 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(send(&plugin, get(&uri)).await.map(drop), Err(EgressError::Overloaded));
    // A call that is cancelled gives its place back.
    for task in waiting {
        task.abort();
        assert!(task.await.is_err());
    }
    let late = plugin.send(get(&uri), Duration::from_millis(100), 1000).await;
    assert_eq!(late.map(drop), Err(EgressError::Timeout));
}
