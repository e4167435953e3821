//! Routes of pipelines' own: the plugin owns the body, both ways.

use http::Method;
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
