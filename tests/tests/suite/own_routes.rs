//! Routes of pipelines' own: the plugin owns the body, both ways.

use http::Method;
use serde_json::{Value, json};
use sluice_tests::gateway;

const CONFIG: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.piped]
    file = "{repo}/tests/guests/dist/nn_command.wasm"
    call_timeout_ms = 5000
    models = ["wide"]
    arguments = ["wide", "x", "1x4"]
    [pipelines.piped]
    plugin = "piped"
    routes = [
        { method = "POST", path = "/v1/users/{user}/rank" },
        { method = "PUT", path = "/rankings:new" },
    ]
"#;

const RANKED: &str = "y TensorType::Fp32 [1, 4]: [(2, 4.0), (0, 3.0), (3, 1.5), (1, 1.0)]\n";

fn four_numbers() -> Vec<u8> {
    [3.0_f32, 1.0, 4.0, 1.5].into_iter().flat_map(f32::to_le_bytes).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_answers_its_own_routes_with_the_plugins_body() {
    let gateway = gateway::start(CONFIG).await;
    let send = async |method, path: &str| {
        gateway.client.try_send(method, path, &[], four_numbers()).await.expect("an answer")
    };
    for (method, path) in [(Method::POST, "/v1/users/me%2Fyou/rank?top=3"), (Method::PUT, "/rankings:new")] {
        let reply = send(method, path).await;
        assert_eq!(reply.status, 200, "{path}: {:?}", reply.body);
        assert_eq!(reply.body, RANKED);
        assert_eq!(reply.headers["content-type"], "text/plain; charset=utf-8");
        assert!(reply.headers.contains_key("x-request-id"));
    }
    let reply = send(Method::DELETE, "/rankings:new").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (405, "method_not_allowed"));
    assert_eq!(reply.headers["allow"], "PUT");
    for path in ["/v1/users//rank", "/v1/users/a/rank/", "/v1/users/%ff/rank", "/rankings"] {
        let reply = send(Method::POST, path).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (404, "not_found"), "{path}");
    }
    assert!(gateway.metric("sluice_requests_total", "piped").await >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_own_route_asks_for_the_scope_of_predictions() {
    let secret = "a".repeat(40);
    let gateway = gateway::start(&format!("[server]\npredict_needs_token = true\n{CONFIG}")).await;
    let headers = [("authorization", format!("Bearer {secret}"))];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for headers in [&[][..], &headers] {
        let sent = gateway.client.try_send(Method::PUT, "/rankings:new", headers, four_numbers()).await;
        assert_eq!(sent.expect("an answer").status, 401);
    }
}

const PARTS: &str = r#"
    [plugins.probe]
    file = "{repo}/tests/guests/dist/parts_probe.wasm"
    call_timeout_ms = 5000
    [pipelines.probe]
    plugin = "probe"
    routes = [{ method = "POST", path = "/v1/probes/{probe}" }, { method = "PUT", path = "/probe" }]
"#;

#[tokio::test(flavor = "multi_thread")]
async fn an_own_route_streams_what_its_plugin_sends_in_parts() {
    let gateway = gateway::start(PARTS).await;
    let send = async |headers: &[(&str, &str)], order: Value| {
        let body = order.to_string();
        gateway.client.try_send(Method::POST, "/v1/probes/7", headers, body).await
    };
    let order = json!({ "do": "bytes", "amount": 3, "content_type": "text/csv" });
    let reply = send(&[], order.clone()).await.expect("an answer");
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"0;1;2;"[..]));
    assert_eq!(reply.headers["content-type"], "text/csv");
    assert!(!reply.headers.contains_key("content-length"), "{reply:?}");
    let events = send(&[("accept", "text/event-stream")], order).await.expect("an answer");
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.body, "data: 0;\n\ndata: 1;\n\ndata: 2;\n\n");
    let failing = json!({ "do": "bytes", "amount": 1, "then": "fail" });
    assert!(send(&[], failing.clone()).await.is_err(), "only a connection that breaks can say it");
    let events = send(&[("accept", "text/event-stream")], failing).await.expect("an answer");
    let text = String::from_utf8_lossy(&events.body).into_owned();
    assert!(text.starts_with("data: 0;\n\nevent: error\ndata: {"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sees_which_of_its_routes_was_called_and_how() {
    let gateway = gateway::start(PARTS).await;
    let order = json!({ "do": "context" }).to_string();
    let seen = async |method: Method, path: &str| {
        let reply = gateway.client.try_send(method, path, &[], order.clone()).await.expect("an answer");
        reply.ok()["route"].as_str().map(str::to_owned)
    };
    let route = seen(Method::POST, "/v1/probes/a%20b?deep=1&x=%2F").await.expect("a route");
    for part in ["POST", "/v1/probes/a%20b", "deep=1&x=%2F", "\"probe\"", "\"a b\""] {
        assert!(route.contains(part), "{part} is not in {route}");
    }
    let route = seen(Method::PUT, "/probe").await.expect("a route");
    assert!(route.contains("PUT") && route.contains("None"), "{route}");
    assert_eq!(seen(Method::POST, "/v1/models/probe:predict").await, None);
}
