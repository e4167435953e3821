//! The admin listener is what its OpenAPI document says, and tells teams nothing of others.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use sluice::auth::Access;
use sluice::auth::token::NewToken;
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};
use sluice_tests::openapi::Document;
use sluice_tests::versions::{self, named};

const CONFIG: &str = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.echo]
    file = "{repo}/tests/guests/dist/echo.wasm"
    owner = "team-a"
    bake_ms = 60000
    [plugins.late]
    [pipelines.echo]
    pre = "echo"
    model = "wide"
    post = "late"
"#;

/// A walk over the routes of a gateway: every answer is checked.
struct Tour {
    gateway: Running,
    document: Document,
    seen: BTreeSet<(String, String)>,
}

impl Tour {
    async fn start(config: &str) -> Self {
        let gateway = gateway::start(config).await;
        let document = Document::new(gateway.admin.get("/admin/v1/openapi.json").await.ok());
        Self { gateway, document, seen: BTreeSet::new() }
    }

    /// Asks a path, which has to be one of the route's template.
    async fn ask(&mut self, route: &str, path: &str, body: impl Into<Vec<u8>>, status: u16) -> Value {
        let (method, template) = route.split_once(' ').expect("a method and a template");
        let asked: Method = method.parse().expect("a method");
        let reply = self.gateway.admin.try_send(asked, path, &[], body.into()).await.expect("an answer");
        assert_eq!(reply.status, status, "{method} {path}: {:?}", reply.body);
        self.document.check(method, template, &reply).unwrap_or_else(|what| panic!("{path}: {what}"));
        if reply.status.is_success() {
            self.seen.insert((method.to_owned(), template.to_owned()));
        }
        serde_json::from_slice(&reply.body).unwrap_or_default()
    }
}

const PLUGIN: &str = "/admin/v1/plugins/{plugin}";
const VERSION: &str = "/admin/v1/plugins/{plugin}/versions/{version}";
const PIPELINE: &str = "/admin/v1/pipelines/{pipeline}";

#[tokio::test(flavor = "multi_thread")]
async fn every_route_answers_as_its_document_says() {
    let mut tour = Tour::start(CONFIG).await;
    for path in ["/livez", "/metrics", "/admin/v1/openapi.json", "/admin/v1/plugins", "/admin/v1/pipelines"] {
        tour.ask(&format!("GET {path}"), path, "", 200).await;
    }
    tour.ask("GET /readyz", "/readyz", "", 503).await;
    change_versions(&mut tour).await;
    change_traffic(&mut tour).await;
    let status = tour.ask("GET /admin/v1/status", "/admin/v1/status", "", 200).await;
    let baking = status["baking"].as_array().expect("a list");
    assert!(baking.iter().any(|bake| bake["plugin"] == "echo" && bake["version"] == "2"), "{baking:?}");
    assert_eq!(status["has_state_directory"], true);
    tour.ask("GET /readyz", "/readyz", "", 200).await;
    tour.ask(
        &format!("POST {VERSION}/profile"),
        "/admin/v1/plugins/echo/versions/1/profile?seconds=1",
        "",
        200,
    )
    .await;
    for (route, path) in [
        (format!("GET {PLUGIN}"), "/admin/v1/plugins/echo"),
        (format!("GET {PLUGIN}/logs"), "/admin/v1/plugins/echo/logs?version=1&limit=5"),
        (format!("GET {PIPELINE}"), "/admin/v1/pipelines/echo"),
        ("GET /admin/v1/audit".to_owned(), "/admin/v1/audit?after=1"),
    ] {
        tour.ask(&route, path, "", 200).await;
    }
    end(&mut tour).await;
    let table: BTreeSet<_> =
        sluice::admin::routes().iter().map(|row| (row.method.to_string(), row.path.to_owned())).collect();
    assert_eq!(table.difference(&tour.seen).collect::<Vec<_>>(), Vec::<&(String, String)>::new());
}

async fn change_versions(tour: &mut Tour) {
    let put = format!("PUT {VERSION}");
    for (plugin, version) in [("echo", "1"), ("echo", "2"), ("new", "1")] {
        let path = format!("/admin/v1/plugins/{plugin}/versions/{version}?owner=team-c");
        tour.ask(&put, &path, named(version), 201).await;
        tour.ask(&put, &path, named(version), 200).await;
        tour.ask(&put, &path, named("another"), 409).await;
    }
    tour.ask(&put, "/admin/v1/plugins/late/versions/1?activate=true", versions::pair("x"), 201).await;
    tour.ask(&put, "/admin/v1/plugins/echo/versions/3", "nonsense", 422).await;
    tour.ask(&put, "/admin/v1/plugins/echo/versions/file", named("3"), 400).await;
    tour.ask(&put, "/admin/v1/plugins/echo/versions/3?owner=a%20b", named("3"), 400).await;
    let activate = format!("POST {PLUGIN}/activate");
    for (body, status) in [
        (r#"{"version": "1"}"#, 200),
        (r#"{"version": "2"}"#, 200),
        (r#"{"version": "9"}"#, 404),
        (r#"{"version": 1}"#, 400),
        ("", 400),
        (&*" ".repeat(20 << 10), 413),
    ] {
        tour.ask(&activate, "/admin/v1/plugins/echo/activate", body, status).await;
    }
    tour.gateway.client.predict("echo", &json!({})).await;
    tour.ask(&format!("GET {VERSION}"), "/admin/v1/plugins/echo/versions/2", "", 200).await;
    tour.ask(&format!("GET {VERSION}"), "/admin/v1/plugins/echo/versions/file", "", 200).await;
    tour.ask(&format!("GET {VERSION}/component"), "/admin/v1/plugins/echo/versions/2/component", "", 200)
        .await;
    let back = tour.ask(&format!("POST {PLUGIN}/rollback"), "/admin/v1/plugins/echo/rollback", "", 200).await;
    assert_eq!(back["active"], "1");
    tour.ask(&format!("DELETE {VERSION}"), "/admin/v1/plugins/echo/versions/1", "", 409).await;
}

async fn change_traffic(tour: &mut Tour) {
    let split = format!("PUT {PIPELINE}/split");
    let path = "/admin/v1/pipelines/echo/split";
    versions::until(|| async {
        let view = tour.gateway.admin.get("/admin/v1/plugins/echo/versions/2").await.ok();
        view["state"] == "ready"
    })
    .await;
    let many: serde_json::Map<_, _> = (0..17).map(|number| (number.to_string(), json!(1))).collect();
    for (body, status) in [
        (json!({ "plugin": "echo", "weights": { "1": 1, "2": 3 } }), 200),
        (json!({ "plugin": "echo", "weights": { "1": 1.0, "2": 3 } }), 200),
        (json!({ "plugin": "echo", "weights": { "1": 1.5, "2": 3 } }), 400),
        (json!({ "plugin": "echo", "weights": { "1": -1, "2": 3 } }), 400),
        (json!({ "plugin": "echo", "weights": { "1": 1, "9": 3 } }), 404),
        (json!({ "plugin": "echo", "weights": { "1": 0 } }), 400),
        (json!({ "plugin": "echo", "weights": { "1": 1_000_001 } }), 400),
        (json!({ "plugin": "echo", "weights": many }), 400),
        (json!({ "plugin": "echo", "weights": {}, "more": 1 }), 400),
        (json!({ "plugin": "new", "weights": { "1": 1 } }), 404),
        (json!({ "plugin": "nobodys", "weights": { "1": 1 } }), 404),
    ] {
        tour.ask(&split, path, body.to_string(), status).await;
    }
    let shadow = format!("PUT {PIPELINE}/shadow");
    let path = "/admin/v1/pipelines/echo/shadow";
    for (sample, status) in [(0.5, 200), (0.0, 400), (1.5, 400)] {
        let body = json!({ "plugin": "echo", "version": "2", "sample": sample });
        tour.ask(&shadow, path, body.to_string(), status).await;
    }
    let view = tour.ask(&format!("GET {PIPELINE}"), "/admin/v1/pipelines/echo", "", 200).await;
    assert_eq!(view["plugins"][0]["shadow"]["version"], "2");
}

async fn end(tour: &mut Tour) {
    for what in ["split", "shadow"] {
        let route = format!("DELETE {PIPELINE}/{what}");
        let path = format!("/admin/v1/pipelines/echo/{what}");
        for (query, status) in [
            ("?plugin=echo", 200),
            ("?plugin=echo", 200),
            ("?plugin=nobodys", 404),
            ("?plugin=new", 404),
            ("", 400),
            ("?plugin=echo&plugin=echo", 400),
        ] {
            tour.ask(&route, &format!("{path}{query}"), "", status).await;
        }
    }
    let retire = format!("POST {VERSION}/retire");
    tour.ask(&retire, "/admin/v1/plugins/echo/versions/2/retire", "", 200).await;
    let body = json!({ "plugin": "echo", "weights": { "2": 1 } });
    tour.ask(&format!("PUT {PIPELINE}/split"), "/admin/v1/pipelines/echo/split", body.to_string(), 409).await;
    tour.ask(&format!("DELETE {VERSION}"), "/admin/v1/plugins/echo/versions/2", "", 204).await;
    tour.ask(&format!("DELETE {VERSION}"), "/admin/v1/plugins/echo/versions/2", "", 404).await;
    let reload = "POST /admin/v1/reload";
    tour.ask(reload, "/admin/v1/reload", "", 200).await;
    std::fs::write(&tour.gateway.config, "nonsense").expect("written");
    tour.ask(reload, "/admin/v1/reload", "", 422).await;
    tour.ask("GET /admin/v1/status", "/admin/v1/status", "", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_numbers_names_and_queries_are_400_or_404_under_the_requests_id() {
    let mut tour = Tour::start(CONFIG).await;
    let (logs, profile) = (format!("GET {PLUGIN}/logs"), format!("POST {VERSION}/profile"));
    for number in ["-1", "1.5", "1e3", "", "%20", "18446744073709551616", "18446744073709551615", "null"] {
        for (route, path) in [
            (&*logs, "/admin/v1/plugins/echo/logs?limit="),
            (&*logs, "/admin/v1/plugins/echo/logs?after="),
            ("GET /admin/v1/audit", "/admin/v1/audit?limit="),
            ("GET /admin/v1/audit", "/admin/v1/audit?after="),
            (&*profile, "/admin/v1/plugins/echo/versions/file/profile?seconds="),
        ] {
            tour.ask(route, &format!("{path}{number}"), "", 400).await;
        }
    }
    for query in ["limit=0", "limit=1001", "after=9223372036854775808", "before=1", "limit=1&limit=1"] {
        tour.ask(&logs, &format!("/admin/v1/plugins/echo/logs?{query}"), "", 400).await;
        tour.ask("GET /admin/v1/audit", &format!("/admin/v1/audit?{query}"), "", 400).await;
    }
    for name in ["%00", "%0a", "..%2f..", "%c3%a9", "a%20b", &*"x".repeat(2000)] {
        tour.ask(&format!("GET {PLUGIN}"), &format!("/admin/v1/plugins/{name}"), "", 404).await;
        let path = format!("/admin/v1/plugins/{name}/versions/1");
        tour.ask(&format!("PUT {VERSION}"), &path, named("1"), 400).await;
        let path = format!("/admin/v1/plugins/echo/versions/{name}/retire");
        tour.ask(&format!("POST {VERSION}/retire"), &path, "", 404).await;
    }
    let ids = [("x-request-id", "mine")];
    for (method, path, status) in [
        (Method::GET, "/admin/v1/plugins/%ff", 400),
        (Method::GET, "/admin/v1/plugins/nothing", 404),
        (Method::PATCH, "/admin/v1/plugins/echo", 405),
        (Method::GET, "/admin/v1/nothing", 404),
    ] {
        let reply = tour.gateway.admin.try_send(method, path, &ids, "").await.expect("an answer");
        assert_eq!((reply.status.as_u16(), &reply.json()["request_id"]), (status, &json!("mine")), "{path}");
        assert_eq!(reply.headers.contains_key("allow"), status == 405, "{path}");
    }
}

/// Two teams in one pipeline, and a pipeline of one of them.
const TEAMS: &str = r#"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.mine]
    file = "{repo}/tests/guests/dist/echo.wasm"
    owner = "team-a"
    [plugins.theirs]
    file = "{theirs}"
    owner = "team-b"
    [pipelines.served]
    pre = "mine"
    model = "wide"
    [pipelines.shared]
    pre = "mine"
    model = "wide"
    post = "theirs"
"#;

async fn as_team_b(
    gateway: &Running,
    token: &NewToken,
    method: &Method,
    path: &str,
    body: &str,
) -> (Reply, String) {
    let bearer = format!("Bearer {}", token.reveal());
    let headers = [("authorization", &*bearer), ("x-request-id", "same")];
    let reply = gateway.admin.try_send(method.clone(), path, &headers, body.to_owned()).await;
    let reply = reply.expect("an answer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    (reply, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_to_a_team_what_is_anothers_looks_like_what_does_not_exist() {
    let token = NewToken::generate().expect("random");
    let entry = format!(
        "[tokens.team-b]\nhash = \"{}\"\nscopes = [\"plugins:deploy\"]\nowner = \"team-b\"\n",
        token.hash()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("theirs.wasm");
    std::fs::write(&file, versions::pair("t")).expect("written");
    let teams = TEAMS.replace("{theirs}", &file.display().to_string());
    for state in ["", "[state]\ndir = \"state\"\n"] {
        let gateway = gateway::start_guarded(&format!("{state}{teams}{entry}")).await;
        for row in sluice::admin::routes().iter().filter(|row| row.access == Access::Deploy) {
            // A new name belongs to whoever uploads to it first: that it is taken, shows.
            let is_upload = row.method == Method::PUT && row.path == VERSION;
            if is_upload || !row.path.contains('{') {
                continue;
            }
            let ask = async |plugin: &str, pipeline: &str| {
                let path = row.path.replace("{plugin}", plugin).replace("{pipeline}", pipeline);
                let path = path.replace("{version}", "file");
                let (path, body) = match (&row.method, row.path.contains("{pipeline}/")) {
                    (&Method::DELETE, true) => (format!("{path}?plugin={plugin}"), String::new()),
                    (_, true) if path.ends_with("split") => {
                        (path, json!({ "plugin": plugin, "weights": { "file": 1 } }).to_string())
                    }
                    (_, true) => (path, json!({ "plugin": plugin, "version": "file" }).to_string()),
                    _ => (path, json!({ "version": "file" }).to_string()),
                };
                let (reply, text) = as_team_b(&gateway, &token, &row.method, &path, &body).await;
                let text = text.replace(&format!("'{pipeline}'"), "'…'");
                (reply.status, reply.headers.keys().cloned().collect::<Vec<_>>(), text)
            };
            let (others, none) = (ask("mine", "served").await, ask("nothing", "nowhere").await);
            assert_eq!(others, none, "{} {}", row.method, row.path);
            assert_eq!(others.0, 403, "{} {}", row.method, row.path);
            if row.path.contains("{pipeline}") {
                let (others, none) = (ask("theirs", "served").await, ask("theirs", "nowhere").await);
                assert_eq!(others, none, "{} {} with a plugin of their own", row.method, row.path);
            }
        }
        for path in ["/admin/v1/plugins", "/admin/v1/pipelines", "/admin/v1/pipelines/shared"] {
            let (reply, text) = as_team_b(&gateway, &token, &Method::GET, path, "").await;
            assert_eq!(reply.status, 200, "{path}");
            assert!(text.contains("theirs") && !text.contains("mine"), "{path}: {text}");
            assert!(!text.contains("served"), "{path}: {text}");
        }
    }
}
