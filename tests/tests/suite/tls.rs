//! TLS and client certificates on both listeners, and new certificates while it runs.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sluice::auth::token::NewToken;
use sluice_tests::gateway::{self, Running};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// An authority that was made for a test.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("signed");
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for 127.0.0.1, and its key.
    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let mut params = CertificateParams::new(names).expect("valid");
        params.insert_extended_key_usage(usage);
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// Writes a server's certificate and key, and gives the certificate.
    fn write_server(&self, folder: &Path) -> CertificateDer<'static> {
        let (certificate, key) = self.issue(ExtendedKeyUsagePurpose::ServerAuth);
        std::fs::write(folder.join("cert.pem"), certificate.pem()).expect("written");
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).expect("written");
        certificate.der().clone()
    }

    /// A client that trusts this authority, with a certificate of another one if given.
    fn client(&self, by: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("valid");
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        match by {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let (certificate, key) = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
                let key = PrivatePkcs8KeyDer::from(key.serialize_der());
                builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).expect("fits")
            }
        }
    }
}

/// A gateway with TLS on both listeners, from files in a folder.
struct Served {
    gateway: Running,
    folder: TempDir,
    authority: Authority,
    certificate: CertificateDer<'static>,
    token: String,
}

async fn serve(client_ca: Option<&Authority>) -> Served {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let certificate = authority.write_server(folder.path());
    let at = |name: &str| folder.path().join(name).display().to_string();
    let mut tls = format!("certificate = \"{}\"\nkey = \"{}\"\n", at("cert.pem"), at("key.pem"));
    if let Some(ca) = client_ca {
        std::fs::write(folder.path().join("ca.pem"), ca.certificate.pem()).expect("written");
        tls.push_str(&format!("client_ca = \"{}\"\n", at("ca.pem")));
    }
    let token = NewToken::generate().expect("random");
    let config = format!(
        "[server.limits]\nheader_timeout_ms = 700\n[server.tls]\n{tls}[server.admin_tls]\n{tls}\
         [tokens.me]\nhash = \"{}\"\nscopes = [\"admin\"]\n\
         [models.wide]\nengine = \"sim\"\nfile = \"{{repo}}/tests/models/wide.sim.json\"\n",
        token.hash()
    );
    let gateway = gateway::start_guarded(&config).await;
    Served { gateway, folder, authority, certificate, token: token.reveal().to_owned() }
}

async fn connect(to: SocketAddr, config: ClientConfig) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The status of `GET path` over TLS; an error if the connection is refused, which a
/// client of TLS 1.3 may only notice as it reads.
async fn get(to: SocketAddr, config: ClientConfig, path: &str, bearer: &str) -> std::io::Result<u16> {
    let mut stream = connect(to, config).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer {bearer}\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    // The peer may close without saying so first.
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    match (status, read) {
        (Some(status), _) => Ok(status),
        (None, Err(error)) => Err(error),
        (None, Ok(_)) => Err(std::io::ErrorKind::UnexpectedEof.into()),
    }
}

impl Served {
    fn addresses(&self) -> [(SocketAddr, &'static str); 2] {
        [(self.gateway.client.address(), "/v2"), (self.gateway.admin.address(), "/admin/v1/status")]
    }

    /// The certificate that a listener presents.
    async fn presented(&self, to: SocketAddr) -> CertificateDer<'static> {
        let stream = connect(to, self.authority.client(None)).await.expect("a handshake");
        stream.get_ref().1.peer_certificates().expect("one")[0].clone().into_owned()
    }

    async fn reload(&self) -> serde_json::Value {
        let client = reqwest_client(self.authority.client(None));
        let url = format!("https://{}/admin/v1/reload", self.gateway.admin.address());
        let reply = client.post(url).bearer_auth(&self.token).send().await.expect("an answer");
        serde_json::from_str(&reply.text().await.expect("a body")).expect("JSON")
    }
}

/// A client that nobody here wrote.
fn reqwest_client(config: ClientConfig) -> reqwest::Client {
    reqwest::Client::builder().tls_backend_preconfigured(config).build().expect("a client")
}

#[tokio::test(flavor = "multi_thread")]
async fn both_listeners_speak_tls_in_both_versions_of_http() {
    let served = serve(None).await;
    for (to, path) in served.addresses() {
        let url = format!("https://{to}{path}");
        let client = reqwest_client(served.authority.client(None));
        let reply = client.get(&url).bearer_auth(&served.token).send().await.expect("an answer");
        assert_eq!(reply.status(), 200, "{url}");
        for (offered, chosen) in [(&b"h2"[..], &b"h2"[..]), (b"http/1.1", b"http/1.1")] {
            let mut config = served.authority.client(None);
            config.alpn_protocols = vec![offered.to_vec()];
            let stream = connect(to, config).await.expect("a handshake");
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen));
            if offered == b"h2" {
                let io = hyper_util::rt::TokioIo::new(stream);
                let executor = hyper_util::rt::TokioExecutor::new();
                let (mut sender, connection) =
                    hyper::client::conn::http2::handshake(executor, io).await.expect("HTTP/2");
                tokio::spawn(connection);
                let request =
                    http::Request::get(&url).header("authorization", format!("Bearer {}", served.token));
                let request = request.body(http_body_util::Empty::<bytes::Bytes>::new()).expect("valid");
                assert_eq!(sender.send_request(request).await.expect("an answer").status(), 200);
            }
        }
        let stranger = reqwest_client(Authority::new().client(None));
        assert!(stranger.get(&url).send().await.is_err(), "who does not know the authority does not connect");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_clients_of_the_named_authority_get_in() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let served = serve(Some(&ours)).await;
    for (to, path) in served.addresses() {
        let good = served.authority.client(Some(&ours));
        assert_eq!(get(to, good, path, &served.token).await.expect("let in"), 200);
        for by in [None, Some(&theirs)] {
            let refused = get(to, served.authority.client(by), path, &served.token).await;
            assert!(refused.is_err(), "{refused:?}");
        }
    }
    // A certificate opens the connection; it is no token.
    let admin = served.gateway.admin.address();
    let good = served.authority.client(Some(&ours));
    assert_eq!(get(admin, good, "/admin/v1/status", "sluice_none").await.expect("let in"), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn h2_who_does_not_finish_a_handshake_is_closed_in_time() {
    let served = serve(None).await;
    for (to, _) in served.addresses() {
        for opening in [
            &b""[..],
            b"\x16\x03\x01\x02",
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            let mut stream = TcpStream::connect(to).await.expect("connected");
            stream.write_all(opening).await.expect("sent");
            let (start, mut rest) = (Instant::now(), Vec::new());
            let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "{opening:?} was left open");
            assert!(start.elapsed() < Duration::from_secs(2));
            assert!(!rest.starts_with(b"HTTP"), "nothing is served without TLS");
        }
        // The head of the first request has what is left of the same time.
        let mut stream = connect(to, served.authority.client(None)).await.expect("a handshake");
        stream.write_all(b"GET /v2 HT").await.expect("sent");
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "a half head was left open");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_certificates_are_served_without_a_restart_and_broken_ones_are_not() {
    let served = serve(None).await;
    let folder = served.folder.path();
    for (to, _) in served.addresses() {
        assert_eq!(served.presented(to).await, served.certificate);
    }
    let next = served.authority.write_server(folder);
    assert_ne!(next, served.certificate);
    // The watcher may have been faster.
    let outcome = served.reload().await;
    assert!(outcome["outcome"] == "applied" || outcome["outcome"] == "unchanged", "{outcome}");
    for (to, _) in served.addresses() {
        assert_eq!(served.presented(to).await, next);
    }
    let other_key = KeyPair::generate().expect("a key").serialize_pem();
    let good_key = std::fs::read_to_string(folder.join("key.pem")).expect("there");
    for (file, content) in [("cert.pem", "nonsense"), ("key.pem", ""), ("key.pem", &*other_key)] {
        let good = std::fs::read_to_string(folder.join(file)).expect("there");
        std::fs::write(folder.join(file), content).expect("written");
        let outcome = served.reload().await;
        assert_eq!(outcome["outcome"], "refused", "{file}: {outcome}");
        assert!(
            outcome["problems"].to_string().contains(file)
                || outcome["problems"].to_string().contains("cert.pem"),
            "{outcome}"
        );
        assert!(!outcome.to_string().contains("PRIVATE KEY"), "{outcome}");
        for (to, _) in served.addresses() {
            assert_eq!(served.presented(to).await, next, "the old one stays");
        }
        std::fs::write(folder.join(file), good).expect("written");
    }
    assert_eq!(std::fs::read_to_string(folder.join("key.pem")).expect("there"), good_key);
    assert_eq!(served.reload().await["outcome"], "unchanged");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_noticed_by_itself_and_a_dropped_authority_lets_nobody_in() {
    let (old, new) = (Authority::new(), Authority::new());
    let served = serve(Some(&old)).await;
    let http = served.gateway.client.address();
    assert_eq!(get(http, served.authority.client(Some(&old)), "/v2", "").await.expect("let in"), 200);
    std::fs::write(served.folder.path().join("ca.pem"), new.certificate.pem()).expect("written");
    let deadline = Instant::now() + Duration::from_secs(15);
    while get(http, served.authority.client(Some(&new)), "/v2", "").await.is_err() {
        assert!(Instant::now() < deadline, "the new authority was not noticed");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(get(http, served.authority.client(Some(&old)), "/v2", "").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_cannot_be_served_keep_the_gateway_from_starting() {
    let folder = tempfile::tempdir().expect("a folder");
    Authority::new().write_server(folder.path());
    let key = folder.path().join("key.pem").display().to_string();
    let config = format!("[server.tls]\ncertificate = \"{key}\"\nkey = \"{key}\"\n");
    let error = gateway::try_start(&config).await.err().expect("refused");
    assert!(error.contains("tls") && error.contains("no certificate"), "{error}");
}

/// The `grpc-status` of a health check over TLS.
async fn check_health(to: SocketAddr, mut config: ClientConfig) -> Option<String> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TokioIo::new(connect(to, config).await.ok()?);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.ok()?;
    tokio::spawn(connection);
    let request = http::Request::post("https://127.0.0.1/grpc.health.v1.Health/Check")
        .header("content-type", "application/grpc")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .expect("valid");
    let response = sender.send_request(request).await.ok()?;
    let body = response.into_body().collect().await.ok()?;
    Some(body.trailers()?.get("grpc-status")?.to_str().ok()?.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_has_the_same_certificates_and_lets_in_the_same_clients() {
    let served = serve(None).await;
    let config = served.authority.client(None);
    assert_eq!(check_health(served.gateway.grpc, config).await.as_deref(), Some("0"));
    assert_eq!(check_health(served.gateway.grpc, Authority::new().client(None)).await, None);
    let clients = Authority::new();
    let served = serve(Some(&clients)).await;
    let with = |by| served.authority.client(by);
    assert_eq!(check_health(served.gateway.grpc, with(Some(&clients))).await.as_deref(), Some("0"));
    assert_eq!(check_health(served.gateway.grpc, with(None)).await, None);
    assert_eq!(check_health(served.gateway.grpc, with(Some(&Authority::new()))).await, None);
}
