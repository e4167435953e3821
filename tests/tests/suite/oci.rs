//! Plugins in registries: a real one, and one that lies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::json;
use sluice::oci::{
    self, CredentialSource, Description, Digest, OciError, OciSettings, Reference, SIGNATURE_ANNOTATION,
};
use sluice_tests::{gateway, services};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0 as if it were a component";
const BYTES_MAX: u64 = 1 << 20;

fn description() -> Description {
    Description {
        imports: vec!["wasi:keyvalue/store@0.2.0-draft".to_owned()],
        exports: vec!["sluice:plugin/preprocess@0.1.0".to_owned()],
        annotations: [("org.opencontainers.image.title".to_owned(), "ranker".to_owned())].into(),
        signature: Some("team:c2lnbmF0dXJl".to_owned()),
        created: "2026-01-02T03:04:05Z".to_owned(),
    }
}

fn reference(server: &services::Server, rest: &str) -> Reference {
    Reference::parse(&format!("oci://{}/team/ranker{rest}", server.address)).expect("a reference")
}

async fn push(server: &services::Server) -> Digest {
    let component = Bytes::from_static(COMPONENT);
    oci::push(&reference(server, ":1"), component, &description(), &OciSettings::default())
        .await
        .expect("pushed")
}

/// The file in which the registry keeps a blob.
fn blob(data: &Path, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    data.join(format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pushed_is_pulled_by_tag_and_by_digest() {
    let Some(server) = services::registry(None) else { return };
    let digest = push(&server).await;
    assert_eq!(push(&server).await, digest, "pushing again changes nothing");
    for rest in [":1".to_owned(), format!("@{digest}")] {
        let pulled =
            oci::pull(&reference(&server, &rest), &OciSettings::default(), BYTES_MAX).await.expect("pulled");
        assert_eq!(&pulled.component[..], COMPONENT);
        assert_eq!((pulled.manifest, pulled.digest), (digest, Digest::of(COMPONENT)));
        assert_eq!(pulled.signature.as_deref(), Some("team:c2lnbmF0dXJl"));
        assert_eq!(pulled.annotations["org.opencontainers.image.title"], "ranker");
        assert!(pulled.annotations.contains_key(SIGNATURE_ANNOTATION));
    }
    for rest in [":2".to_owned(), format!("@{}", Digest::of(b"other"))] {
        let error = oci::pull(&reference(&server, &rest), &OciSettings::default(), BYTES_MAX).await;
        assert!(matches!(error, Err(OciError::NotFound { .. })), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_altered_in_the_registry_is_refused() {
    let Some(server) = services::registry(None) else { return };
    let digest = push(&server).await;
    let mut altered = COMPONENT.to_vec();
    altered[20] ^= 1;
    std::fs::write(blob(server.data(), Digest::of(COMPONENT)), altered).expect("altered");
    let pulled =
        oci::pull(&reference(&server, &format!("@{digest}")), &OciSettings::default(), BYTES_MAX).await;
    assert!(matches!(pulled, Err(OciError::Digest { what: "component", .. })), "{pulled:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_above_the_limit_is_refused_before_it_is_fetched() {
    let Some(server) = services::registry(None) else { return };
    let digest = push(&server).await;
    std::fs::remove_file(blob(server.data(), Digest::of(COMPONENT))).expect("removed");
    let pulled = oci::pull(&reference(&server, &format!("@{digest}")), &OciSettings::default(), 10).await;
    assert_eq!(pulled, Err(OciError::TooLarge { what: "component", bytes_max: 10 }));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_pulled_needs_no_registry_the_next_time() {
    let Some(mut server) = services::registry(None) else { return };
    let digest = push(&server).await;
    let pinned = reference(&server, &format!("@{digest}"));
    let cache = server.folder.path().join("cache");
    let settings = OciSettings { cache: Some(cache.clone()), ..OciSettings::default() };
    let first = oci::pull(&pinned, &settings, BYTES_MAX).await.expect("pulled");
    server.stop();
    assert_eq!(oci::pull(&pinned, &settings, BYTES_MAX).await, Ok(first.clone()));
    let away = oci::pull(&reference(&server, ":1"), &settings, BYTES_MAX).await;
    let Err(OciError::Unreachable { host, why }) = away else { panic!("{away:?}") };
    assert_eq!(host, server.address.to_string());
    assert!(why.contains("refused"), "{why}");
    // A damaged copy is not used, and made good when the registry is back.
    std::fs::write(cache.join(first.digest.hex()), b"damaged").expect("written");
    assert!(matches!(oci::pull(&pinned, &settings, BYTES_MAX).await, Err(OciError::Unreachable { .. })));
    server.start();
    assert_eq!(oci::pull(&pinned, &settings, BYTES_MAX).await, Ok(first));
    assert_eq!(std::fs::read(cache.join(Digest::of(COMPONENT).hex())).expect("there"), COMPONENT);
}

/// `user` with the password `secret`.
const USERS: &str = "user:$2b$04$t6SwLqJz.KDAL1h/ODpVNeDsRaduW4GPvc2ncxZuNcZt1AAKAqU6W\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_asks_for_a_password_gets_the_one_of_dockers_config() {
    let Some(server) = services::registry(Some(USERS)) else { return };
    let component = || Bytes::from_static(COMPONENT);
    let with = |name: &str, auth: &str| {
        let file = server.folder.path().join(name);
        let config = format!("{{\"auths\": {{\"{}\": {{\"auth\": \"{auth}\"}}}}}}", server.address);
        std::fs::write(&file, config).expect("written");
        OciSettings { credentials: CredentialSource::File(file), ..OciSettings::default() }
    };
    // user:secret and user:wrong.
    let (right, wrong) = (with("right.json", "dXNlcjpzZWNyZXQ="), with("wrong.json", "dXNlcjp3cm9uZw=="));
    let tag = reference(&server, ":1");
    for settings in [&OciSettings::default(), &wrong] {
        let pushed = oci::push(&tag, component(), &description(), settings).await;
        assert!(matches!(pushed, Err(OciError::Denied { .. })), "{pushed:?}");
        let pulled = oci::pull(&tag, settings, BYTES_MAX).await;
        assert!(matches!(pulled, Err(OciError::Denied { .. })), "{pulled:?}");
    }
    oci::push(&tag, component(), &description(), &right).await.expect("pushed");
    assert_eq!(&oci::pull(&tag, &right, BYTES_MAX).await.expect("pulled").component[..], COMPONENT);
}

/// A registry that gives the same answer to everything but the question for manifests.
async fn lying(manifest: String, blob: &'static [u8], is_endless: bool) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let manifest = manifest.clone();
            tokio::spawn(async move {
                let mut buffer = vec![0; 8192];
                let count = stream.read(&mut buffer).await.unwrap_or(0);
                let asked = String::from_utf8_lossy(&buffer[..count]).into_owned();
                let body = if asked.contains("/manifests/") { manifest.as_bytes() } else { blob };
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                let mut open =
                    stream.write_all(head.as_bytes()).await.is_ok() && stream.write_all(body).await.is_ok();
                while open && is_endless && asked.contains("/blobs/") {
                    open = stream.write_all(blob).await.is_ok();
                }
            });
        }
    });
    address
}

fn manifest(component: &[u8]) -> String {
    let layer = format!(
        "{{\"mediaType\": \"application/wasm\", \"digest\": \"{}\", \"size\": {}}}",
        Digest::of(component),
        component.len()
    );
    let config = layer.replace("application/wasm", "application/vnd.wasm.config.v0+json");
    format!("{{\"schemaVersion\": 2, \"config\": {config}, \"layers\": [{layer}]}}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_is_found_out() {
    let pull = async |address, rest: &str| {
        let reference = Reference::parse(&format!("oci://{address}/a{rest}")).expect("a reference");
        oci::pull(&reference, &OciSettings::default(), BYTES_MAX).await
    };
    let honest = lying(manifest(COMPONENT), COMPONENT, false).await;
    assert_eq!(&pull(honest, ":1").await.expect("pulled").component[..], COMPONENT);
    let other = pull(honest, &format!("@{}", Digest::of(b"another manifest"))).await;
    assert!(matches!(other, Err(OciError::Digest { what: "manifest", .. })), "{other:?}");
    let endless = lying(manifest(COMPONENT), COMPONENT, true).await;
    let size = COMPONENT.len() as u64;
    assert_eq!(pull(endless, ":1").await, Err(OciError::TooLarge { what: "component", bytes_max: size }));
    let short = lying(manifest(COMPONENT), &COMPONENT[1..], false).await;
    assert!(matches!(pull(short, ":1").await, Err(OciError::Digest { what: "component", .. })));
    let huge = lying(" ".repeat(300 << 10), COMPONENT, false).await;
    assert!(matches!(pull(huge, ":1").await, Err(OciError::TooLarge { what: "manifest", .. })));
    let html = lying("<html>".to_owned(), COMPONENT, false).await;
    assert!(matches!(pull(html, ":1").await, Err(OciError::NotPlugin(_))));
}

/// A registry whose service for tokens is at this URL.
async fn asking_for_tokens(realm: String) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = vec![0; 8192];
            let _ = stream.read(&mut buffer).await;
            let head = format!(
                "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer realm=\"{realm}\"\r\nconnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes()).await;
        }
    });
    address
}

/// A service for tokens that sends this again and again, with a pause between.
async fn dripping(bytes: &'static [u8], pause: Duration) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 8192]).await;
                let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.is_ok();
                while open {
                    open = stream.write_all(bytes).await.is_ok();
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_costs_a_bounded_time_and_a_bounded_answer() {
    let pull = async |realm: String| {
        let registry = asking_for_tokens(realm).await;
        let reference = Reference::parse(&format!("oci://{registry}/a:1")).expect("a reference");
        oci::pull(&reference, &OciSettings::default(), BYTES_MAX).await
    };
    let begun = tokio::time::Instant::now();
    let slow = pull(format!("http://{}/token", dripping(b" ", Duration::from_secs(1)).await)).await;
    let Err(OciError::Unreachable { why, .. }) = slow else { panic!("{slow:?}") };
    assert!(why.contains("too long"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let endless = pull(format!("http://{}/token", dripping(&[b' '; 4096], Duration::ZERO).await)).await;
    assert!(matches!(&endless, Err(OciError::Protocol { why, .. }) if why.contains("bytes")), "{endless:?}");
    let elsewhere = pull("file:///etc/passwd".to_owned()).await;
    assert!(
        matches!(&elsewhere, Err(OciError::Protocol { why, .. }) if why.contains("TLS")),
        "{elsewhere:?}"
    );
}

/// A gateway with a plugin out of a registry.
fn pulled_plugin(reference: &Reference, state: &Path) -> String {
    format!(
        r#"
        [state]
        dir = "{}"
        [models.wide]
        engine = "sim"
        file = "{{repo}}/tests/models/wide.sim.json"
        [plugins.wasi]
        plugin = "{reference}"
        call_timeout_ms = 5000
        [pipelines.wasi]
        pre = "wasi"
        model = "wide"
    "#,
        state.display()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_serves_a_plugin_out_of_a_registry_and_restarts_without_it() {
    let Some(mut server) = services::registry(None) else { return };
    let file = sluice_tests::repository().join("tests/guests/dist/wasi_hello.wasm");
    let component = Bytes::from(std::fs::read(file).expect("a component"));
    let tag = reference(&server, ":1");
    let unsigned = Description { signature: None, ..description() };
    let digest = oci::push(&tag, component, &unsigned, &OciSettings::default()).await.expect("pushed");
    let folder = tempfile::tempdir().expect("a folder");
    let config = pulled_plugin(&tag.at(digest), folder.path());
    let mut gateway = gateway::start(&config).await;
    assert_eq!(gateway.client.predict("wasi", &json!({})).await.ok()["body_bytes"], 2);
    gateway.stop().await.expect("stopped");
    server.stop();
    let gateway = gateway::start(&config).await;
    assert_eq!(gateway.client.predict("wasi", &json!({})).await.ok()["body_bytes"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_served_as_soon_as_its_registry_is_back() {
    let Some(mut server) = services::registry(None) else { return };
    let file = sluice_tests::repository().join("tests/guests/dist/wasi_hello.wasm");
    let component = Bytes::from(std::fs::read(file).expect("a component"));
    let tag = reference(&server, ":1");
    let unsigned = Description { signature: None, ..description() };
    let digest = oci::push(&tag, component, &unsigned, &OciSettings::default()).await.expect("pushed");
    server.stop();
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = gateway::start(&pulled_plugin(&tag.at(digest), folder.path())).await;
    assert_eq!(gateway.client.predict("wasi", &json!({})).await.status, StatusCode::SERVICE_UNAVAILABLE);
    server.start();
    let mut waited = Duration::ZERO;
    while gateway.client.predict("wasi", &json!({})).await.status != StatusCode::OK {
        assert!(waited < Duration::from_secs(60), "it is tried again by itself");
        tokio::time::sleep(Duration::from_millis(200)).await;
        waited += Duration::from_millis(200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_cannot_be_pulled_is_not_served_and_the_rest_is() {
    let nobody = services::free_address();
    let missing =
        Reference::parse(&format!("oci://{nobody}/team/a@{}", Digest::of(b"x"))).expect("a reference");
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = gateway::start(&pulled_plugin(&missing, folder.path())).await;
    assert_eq!(gateway.client.get("/v2/models/wide/ready").await.status, StatusCode::OK);
    let refused = gateway.client.predict("wasi", &json!({})).await;
    assert_eq!((refused.status, &*refused.code()), (StatusCode::SERVICE_UNAVAILABLE, "model_unavailable"));
    assert!(!String::from_utf8_lossy(&refused.body).contains(&nobody.to_string()));
}

fn sluice(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(sluice_tests::program())
        .args(arguments)
        .env("DOCKER_CONFIG", "/nonexistent")
        .env("SOURCE_DATE_EPOCH", "1767323045")
        .output()
        .expect("it runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_pushes_and_pulls_and_says_what_a_config_needs() {
    let Some(mut server) = services::registry(None) else { return };
    let component = sluice_tests::repository().join("tests/guests/dist/kv_probe.wasm").display().to_string();
    let target = format!("oci://{}/team/probe:1", server.address);
    let (code, out, err) = sluice(&["plugin", "push", &target, &component]);
    assert_eq!(code, 0, "{err}");
    let pinned = out.lines().find_map(|line| line.split_once("plugin = \"")).expect("a reference").1;
    let (reference, digest) = Reference::parse_pinned(pinned.trim_end_matches('"')).expect("pinned");
    let pulled = oci::pull(&reference, &OciSettings::default(), 16 << 20).await.expect("pulled");
    assert_eq!(pulled.manifest, digest);
    assert_eq!(pulled.component, std::fs::read(&component).expect("there"));

    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pulled.wasm").display().to_string();
    let (code, out, err) = sluice(&["plugin", "pull", &target, "-o", &file, "--json"]);
    assert_eq!(code, 0, "{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(answer["reference"], reference.to_string());
    assert_eq!(std::fs::read(&file).expect("there"), pulled.component);

    let (code, _, err) = sluice(&["plugin", "push", &target, &component, "--activate"]);
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = sluice(&["plugin", "pull", &target.replace(":1", ":2"), "-o", &file]);
    assert_eq!(code, 1, "{err}");
    server.stop();
    let (code, _, err) = sluice(&["plugin", "pull", &target, "-o", &file]);
    assert_eq!(code, 69, "{err}");
    assert!(err.contains("cannot be reached"), "{err}");
    assert_eq!(std::fs::read(&file).expect("there"), pulled.component, "a pull that failed changes nothing");
}
