//! Host services by their standard interfaces: configuration, counters, outgoing HTTP.

use std::collections::BTreeMap;
use std::future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use sluice_sandbox::{
    Answer, CallContext, CallError, Grants, KeyValue, LoadError, MemoryStore, Outgoing, OutgoingError,
    OutgoingLimits, PluginOptions, WasiPolicy,
};
use tokio::time::Instant;

use crate::support::{CALL_TIMEOUT, Hanging, body, context, dist, options, sandbox};

/// How long a host service may take in these tests.
const WAIT_MAX: Duration = Duration::from_millis(600);

fn granted(arguments: &[&str], http: Arc<dyn Outgoing>) -> PluginOptions {
    let store: Arc<dyn KeyValue> = Arc::new(MemoryStore::new(BTreeMap::new(), false));
    let hanging: Arc<dyn KeyValue> = Arc::new(Hanging);
    let values = [("name", "a \"b\""), ("top", "10")];
    let mut options = options();
    options.wasi = WasiPolicy::Empty;
    options.limits.host_wait_max = WAIT_MAX;
    options.grants = Grants {
        keyvalue: BTreeMap::from([("counters".to_owned(), store), ("hanging".to_owned(), hanging)]),
        http: Some(http),
        config: values.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        ..Grants::default()
    };
    options
}

async fn told_with(options: PluginOptions) -> Result<String, CallError> {
    let plugin = sandbox().load(&dist("services_probe"), options).unwrap();
    match plugin.handle(context(), body("")).await? {
        Answer::Body(answer) => Ok(String::from_utf8(answer.data.to_vec()).unwrap()),
        Answer::Tensors(_) => panic!("a body was expected"),
    }
}

async fn told(arguments: &[&str]) -> String {
    told_with(granted(arguments, Arc::new(Servers))).await.unwrap()
}

/// Some servers, each known for what it does.
struct Servers;

#[async_trait]
impl Outgoing for Servers {
    async fn send(
        &self,
        call: &CallContext,
        request: Request<Bytes>,
        limits: OutgoingLimits,
    ) -> Result<Response<Bytes>, OutgoingError> {
        assert_eq!(&*call.request_id, "req-1");
        assert!(limits.timeout <= WAIT_MAX, "{limits:?}");
        match request.uri().host().unwrap() {
            "echo" => {
                let told = format!("{} {} ", request.method(), request.uri());
                Ok(Response::new([told.as_bytes(), request.body()].concat().into()))
            }
            "slow" => {
                tokio::time::sleep(CALL_TIMEOUT * 2).await;
                Ok(Response::new(Bytes::from_static(b"at last")))
            }
            "hanging" => future::pending().await,
            "large" => Ok(Response::new(vec![b'x'; limits.response_bytes_max + 1].into())),
            "inside" => Err(OutgoingError::AddressProhibited),
            _ => Err(OutgoingError::Denied),
        }
    }
}

#[tokio::test]
async fn a_plugin_reads_its_configuration_value_by_value() {
    assert_eq!(told(&["config", "name"]).await, r#"Ok(Some("a \"b\""))"#);
    assert_eq!(told(&["config", "none"]).await, "Ok(None)");
    assert_eq!(told(&["config"]).await, r#"Ok([("name", "a \"b\""), ("top", "10")])"#);
}

#[tokio::test]
async fn a_plugin_counts_in_a_store() {
    assert_eq!(told(&["count", "counters", "n", "3"]).await, "Ok(6)");
    assert!(told(&["count", "other", "n", "3"]).await.contains("NoSuchStore"));
}

#[tokio::test]
async fn a_store_that_hangs_answers_an_error_in_time() {
    let start = Instant::now();
    let error = told(&["count", "hanging", "n", "1"]).await;
    assert!(error.contains("did not answer in time"), "{error}");
    assert!(start.elapsed() >= WAIT_MAX, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_request_goes_out_whole_and_its_answer_comes_back() {
    assert_eq!(told(&["http", "https://echo:8443/a?b=c"]).await, r#"Ok("200 GET https://echo:8443/a?b=c ")"#);
    let long = "x".repeat(10_000);
    let answer = told(&["http", "http://echo/", &long]).await;
    assert_eq!(answer, format!(r#"Ok("200 POST http://echo/ {long}")"#));
}

#[tokio::test]
async fn waiting_for_a_server_does_not_use_the_budget_but_has_its_own_limit() {
    assert_eq!(told(&["http", "http://slow/"]).await, r#"Ok("200 at last")"#);
    let start = Instant::now();
    assert!(told(&["http", "http://hanging/"]).await.contains("HttpResponseTimeout"));
    assert!(start.elapsed() >= WAIT_MAX, "{:?}", start.elapsed());
}

#[tokio::test]
async fn what_is_denied_or_too_large_is_an_error_of_its_kind() {
    assert!(told(&["http", "http://elsewhere/"]).await.contains("HttpRequestDenied"));
    assert!(told(&["http", "http://inside/"]).await.contains("DestinationIpProhibited"));
    let mut options = granted(&["http", "http://large/"], Arc::new(Servers));
    options.limits.hostcall_bytes = 1 << 20;
    assert!(told_with(options).await.unwrap().contains("HttpResponseBodySize"));
}

#[tokio::test]
async fn requests_under_way_are_bounded() {
    let answer = told(&["many", "http://slow/", "20"]).await;
    assert!(answer.starts_with("16 of 20") && answer.contains("ConnectionLimitReached"), "{answer}");
}

#[test]
fn each_service_needs_its_grant() {
    let refused = |change: fn(&mut PluginOptions)| {
        let mut options = granted(&["config"], Arc::new(Servers));
        change(&mut options);
        match sandbox().load(&dist("services_probe"), options) {
            Err(LoadError::ForbiddenImport { name, why }) => (name, why),
            other => panic!("{other:?}"),
        }
    };
    let (name, why) = refused(|options| options.grants.http = None);
    assert!(name.starts_with("wasi:http/") && why.contains("http_hosts"), "{name} {why}");
    let (name, why) = refused(|options| options.grants.keyvalue.clear());
    assert!(name.starts_with("wasi:keyvalue/") && why.contains("stores"), "{name} {why}");
}
