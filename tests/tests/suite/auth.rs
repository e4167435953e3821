//! Who may do what: every route of both listeners, with every kind of token (A1–A3, A7).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use http::{Method, StatusCode};
use serde_json::json;
use sluice::auth::Access;
use sluice::auth::token::NewToken;
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};

/// The kinds of callers, one for each column of the table.
const CALLERS: [&str; 9] =
    ["nobody", "malformed", "unknown", "expired", "in the url", "predict", "team-a", "team-b", "admin"];

/// Tokens by the name of their caller, and the config that knows them.
struct Tokens {
    config: String,
    by_name: Vec<(&'static str, String)>,
}

impl Tokens {
    fn new() -> Self {
        let kinds = [
            ("expired", r#"scopes = ["admin"]"#, "expires = \"2020-01-01T00:00:00Z\""),
            ("in the url", r#"scopes = ["admin"]"#, ""),
            ("predict", r#"scopes = ["predict"]"#, ""),
            ("team-a", r#"scopes = ["plugins:deploy"]"#, "owner = \"team-a\""),
            ("team-b", r#"scopes = ["plugins:deploy"]"#, "owner = \"team-b\""),
            ("metrics", r#"scopes = ["metrics"]"#, ""),
            ("admin", r#"scopes = ["admin"]"#, "expires = \"2999-01-01T00:00:00+01:00\""),
        ];
        let mut config = CONFIG.to_owned();
        let mut by_name = vec![
            ("malformed", "sluice_x".to_owned()),
            ("unknown", NewToken::generate().expect("random").reveal().to_owned()),
        ];
        for (name, scopes, more) in kinds {
            let token = NewToken::generate().expect("random");
            let key = name.replace(' ', "-");
            config.push_str(&format!("[tokens.{key}]\nhash = \"{}\"\n{scopes}\n{more}\n", token.hash()));
            by_name.push((name, token.reveal().to_owned()));
        }
        Self { config, by_name }
    }

    fn of(&self, name: &str) -> &str {
        let found = self.by_name.iter().find(|(known, _)| *known == name);
        found.map_or_else(|| panic!("{name}"), |(_, token)| token)
    }

    /// Sends a request as somebody. Each has an address of its own, so that nobody's bad
    /// tokens count for others.
    async fn send(&self, to: SocketAddr, caller: &str, method: &Method, path: &str, row: u8) -> Reply {
        let column = CALLERS.iter().position(|known| *known == caller).unwrap_or(100);
        let local = Ipv4Addr::new(127, 1, u8::try_from(column).expect("few"), row + 1);
        let client = Client::from_local(to, IpAddr::V4(local));
        let bearer = format!("Bearer {}", if caller == "nobody" { "" } else { self.of(caller) });
        let mut headers = vec![("x-request-id", "same")];
        let mut path = path.to_owned();
        match caller {
            "nobody" => {}
            "in the url" => path = format!("{path}?access_token={}", self.of(caller)),
            _ => headers.push(("authorization", &bearer)),
        }
        client.try_send(method.clone(), &path, &headers, "").await.expect("an answer")
    }
}

const CONFIG: &str = r#"
    [server]
    predict_needs_token = true
    [server.shared_memory]
    enabled = true
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.mine]
    file = "{repo}/tests/guests/dist/echo.wasm"
    owner = "team-a"
    [pipelines.served]
    pre = "mine"
    model = "wide"
"#;

/// A path of a template: names that exist, and are team-a's.
fn path(template: &str) -> String {
    [
        ("{plugin}", "mine"),
        ("{pipeline}", "served"),
        ("{model}", "wide"),
        ("{version}", "1"),
        ("{target}", "wide:predict"),
        ("{region}", "none"),
    ]
    .iter()
    .fold(template.to_owned(), |path, (name, value)| path.replace(name, value))
}

/// What a cell of the table is answered.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Unauthenticated,
    Forbidden,
    LetIn,
}

fn verdict(reply: &Reply) -> Verdict {
    match reply.status {
        StatusCode::UNAUTHORIZED => Verdict::Unauthenticated,
        StatusCode::FORBIDDEN => Verdict::Forbidden,
        StatusCode::TOO_MANY_REQUESTS => panic!("the limit of bad tokens is not under test here"),
        _ => Verdict::LetIn,
    }
}

/// The table: who may use a route. None where a handler looks closer.
fn expected(access: Access, template: &str, caller: &str) -> Option<Verdict> {
    use Verdict::{Forbidden, LetIn, Unauthenticated};
    let is_somebody = matches!(caller, "predict" | "team-a" | "team-b" | "admin");
    Some(match (access, caller) {
        (Access::Public, _) => LetIn,
        _ if !is_somebody => Unauthenticated,
        (_, "admin") | (Access::Known, _) | (Access::Predict, "predict") => LetIn,
        (Access::Deploy, "team-b") if template.contains("{plugin}") => Forbidden,
        // Whose pipeline it is depends on its plugins.
        (Access::Deploy, "team-a" | "team-b") if template.contains("{pipeline}") => return None,
        (Access::Deploy, "team-a" | "team-b") => LetIn,
        _ => Forbidden,
    })
}

async fn check_table(tokens: &Tokens, to: SocketAddr, table: &[(Method, &'static str, Access)]) {
    let mut wrong = Vec::new();
    for (row, (method, template, access)) in table.iter().enumerate() {
        for caller in CALLERS {
            let row = u8::try_from(row).expect("few routes");
            let reply = tokens.send(to, caller, method, &path(template), row).await;
            let found = verdict(&reply);
            if expected(*access, template, caller).is_some_and(|expected| expected != found) {
                wrong.push(format!("{method} {template} as {caller}: {} {found:?}", reply.status));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn start(tokens: &Tokens) -> Running {
    gateway::start_guarded(&tokens.config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_every_admin_route_lets_in_whom_its_row_names() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    let table: Vec<_> =
        sluice::admin::routes().iter().map(|row| (row.method.clone(), row.path, row.access)).collect();
    assert!(table.iter().any(|(_, path, access)| *path == "/metrics" && *access == Access::Metrics));
    check_table(&tokens, gateway.admin.address(), &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_every_prediction_route_lets_in_whom_its_row_names() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    let table: Vec<_> = sluice::ingress::http::routes()
        .iter()
        .map(|row| (row.method.clone(), row.path, row.access))
        .collect();
    check_table(&tokens, gateway.client.address(), &table).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_no_listener_answers_for_the_other_and_odd_paths_are_no_way_round() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    let (http, admin) = (gateway.client.address(), gateway.admin.address());
    let admin_routes = sluice::admin::routes();
    let only_admin = admin_routes.iter().filter(|route| route.access != Access::Public);
    let on_http = only_admin.map(|route| (http, route.method.clone(), route.path));
    let http_routes = sluice::ingress::http::routes();
    let on_admin = http_routes.iter().map(|route| (admin, route.method.clone(), route.path));
    for (row, (to, method, template)) in (0u8..).zip(on_http.chain(on_admin)) {
        for (caller, expected) in [("admin", 404), ("nobody", 401)] {
            let reply = tokens.send(to, caller, &method, &path(template), row).await;
            assert_eq!(reply.status, expected, "{method} {template} on the other listener");
        }
    }
    for alias in [
        "//metrics",
        "/metrics/",
        "/./metrics",
        "/Metrics",
        "/%6detrics",
        "/livez/../metrics",
        "/livez/..%2fmetrics",
    ] {
        for caller in ["nobody", "predict", "unknown"] {
            let reply = tokens.send(admin, caller, &Method::GET, alias, 200).await;
            assert!(reply.status.is_client_error(), "{alias} as {caller}: {}", reply.status);
        }
    }
    let wrong_method = tokens.send(admin, "nobody", &Method::DELETE, "/livez", 201).await;
    assert_eq!(wrong_method.status, 401, "nobody learns which methods there are");
    let wrong_method = tokens.send(admin, "predict", &Method::DELETE, "/livez", 201).await;
    assert_eq!(wrong_method.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_every_way_to_have_no_good_token_looks_the_same() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    for (to, path) in
        [(gateway.admin.address(), "/admin/v1/status"), (gateway.client.address(), "/v2/models/wide")]
    {
        let first = tokens.send(to, "nobody", &Method::GET, path, 0).await;
        assert_eq!((first.status, &*first.code()), (StatusCode::UNAUTHORIZED, "unauthenticated"));
        assert_eq!(first.headers["www-authenticate"], "Bearer");
        for caller in ["malformed", "unknown", "expired", "in the url"] {
            let reply = tokens.send(to, caller, &Method::GET, path, 0).await;
            assert_eq!((reply.status, &reply.body), (first.status, &first.body), "{caller}");
            let names = |reply: &Reply| reply.headers.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&reply), names(&first), "{caller}");
        }
        let good = format!("Bearer {}", tokens.of("admin"));
        for (name, value) in
            [("authorization", "Basic YTpi"), ("authorization", "Bearer"), ("cookie", &*good)]
        {
            let client = Client::from_local(to, IpAddr::from([127, 2, 0, 1]));
            let headers = [(name, value), ("x-request-id", "same")];
            let reply = client.try_send(Method::GET, path, &headers, "").await.expect("an answer");
            assert_eq!((reply.status, &reply.body), (first.status, &first.body), "{name}: {value}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_a_scope_of_their_own_and_may_be_open() {
    let tokens = Tokens::new();
    let mut gateway = start(&tokens).await;
    let admin = gateway.admin.address();
    assert_eq!(tokens.send(admin, "metrics", &Method::GET, "/metrics", 0).await.status, 200);
    assert_eq!(tokens.send(admin, "metrics", &Method::GET, "/admin/v1/status", 0).await.status, 403);
    let stopped = gateway.stop();
    stopped.await.expect("no panic");
    let open = tokens.config.replace("[server]", "[server]\nmetrics_without_token = true");
    let gateway = gateway::start_guarded(&open).await;
    assert_eq!(gateway.admin.get("/metrics").await.status, 200);
    assert_eq!(gateway.admin.get("/admin/v1/status").await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_unknown_to_the_next_request() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    let admin = gateway.admin.address();
    assert_eq!(tokens.send(admin, "metrics", &Method::GET, "/metrics", 0).await.status, 200);
    let (before, from) = tokens.config.split_once("[tokens.metrics]").expect("it is there");
    let (_, after) = from.split_once("[tokens.").expect("another follows");
    let without = format!("{before}[tokens.{after}");
    std::fs::write(&gateway.config, gateway::whole(&without)).expect("written");
    let reply = tokens.send(admin, "admin", &Method::POST, "/admin/v1/reload", 0).await;
    assert_eq!(reply.status, 200, "{:?}", reply.body);
    assert_eq!(tokens.send(admin, "metrics", &Method::GET, "/metrics", 0).await.status, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_needing_a_token_predictions_take_everybody() {
    let tokens = Tokens::new();
    let gateway = gateway::start_guarded(&tokens.config.replace("predict_needs_token = true", "")).await;
    let input = json!({"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]});
    let body = json!({"inputs": [input]}).to_string();
    for headers in [&[][..], &[("authorization", "Bearer of-something-else")]] {
        let reply =
            gateway.client.try_send(Method::POST, "/v2/models/wide/infer", headers, body.clone()).await;
        let reply = reply.expect("an answer");
        assert!(!matches!(reply.status.as_u16(), 401 | 403), "{}", reply.status);
    }
    assert_eq!(gateway.admin.get("/admin/v1/status").await.status, 401, "admin is another matter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a7_a_flood_of_bad_tokens_is_limited_for_its_peer_alone() {
    let tokens = Tokens::new();
    let gateway = start(&tokens).await;
    let (http, admin) = (gateway.client.address(), gateway.admin.address());
    let flood = Client::from_local(admin, IpAddr::from([127, 3, 0, 1]));
    let bearer = format!("Bearer {}", tokens.of("unknown"));
    let (mut refused, mut limited) = (0, 0);
    for number in 0..1000 {
        let headers = [("authorization", &*bearer)];
        let reply = flood.try_send(Method::GET, "/admin/v1/status", &headers, "").await.expect("an answer");
        match reply.status.as_u16() {
            401 => refused += 1,
            429 => {
                assert_eq!(reply.code(), "tenant_limit");
                assert!(reply.headers.contains_key("retry-after"));
                limited += 1;
            }
            other => panic!("{other}"),
        }
        if number % 250 == 100 {
            let others = tokens.send(admin, "admin", &Method::GET, "/admin/v1/status", 7).await;
            assert_eq!(others.status, 200, "another peer");
            let predictions = tokens.send(http, "predict", &Method::GET, "/v2/models/wide", 7).await;
            assert_eq!(predictions.status, 200, "predictions");
        }
    }
    assert!(refused >= 30 && limited > refused, "{refused} refused, {limited} limited");
    // The peer's good token has to wait too: whether it is good is not looked at.
    let good = format!("Bearer {}", tokens.of("admin"));
    let headers = [("authorization", &*good)];
    let reply = flood.try_send(Method::GET, "/admin/v1/status", &headers, "").await.expect("an answer");
    assert_eq!(reply.status, 429);
    // It comes back with time; no token is no guess, and is not limited.
    assert_eq!(flood.get("/admin/v1/status").await.status, 401);
    assert_eq!(flood.get("/livez").await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    let reply = flood.try_send(Method::GET, "/admin/v1/status", &headers, "").await.expect("an answer");
    assert_eq!(reply.status, 200);
}
