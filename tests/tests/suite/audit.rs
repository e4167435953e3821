//! Who changed what, and who tried to: the audit log has every change of the admin listener
//! that was refused, wherever it was refused, and nobody can fill it.

use http::Method;
use serde_json::{Value, json};
use sluice::auth::Access;
use sluice::auth::token::NewToken;
use sluice_tests::client::Reply;
use sluice_tests::gateway::{self, Running};

const CONFIG: &str = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.mine]
    owner = "team-a"
    [pipelines.served]
    pre = "mine"
    model = "wide"
"#;

/// A gateway whose admin listener knows an operator, a team and somebody who may only predict.
struct Guarded {
    gateway: Running,
    tokens: [(&'static str, String); 3],
}

impl Guarded {
    async fn start() -> Self {
        let mut config = CONFIG.to_owned();
        let rights = [
            ("operator", "scopes = [\"admin\"]"),
            ("team-a", "scopes = [\"plugins:deploy\"]\nowner = \"team-a\""),
            ("caller", "scopes = [\"predict\"]"),
        ];
        let tokens = rights.map(|(name, rights)| {
            let token = NewToken::generate().expect("random");
            config.push_str(&format!("[tokens.{name}]\nhash = \"{}\"\n{rights}\n", token.hash()));
            (name, token.reveal().to_owned())
        });
        Self { gateway: gateway::start_guarded(&config).await, tokens }
    }

    async fn ask(&self, who: &str, method: &Method, path: &str, body: &str) -> Reply {
        let token = self.tokens.iter().find(|(name, _)| *name == who).map(|(_, token)| token);
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let sent = self.gateway.admin.try_send(method.clone(), path, &headers, body.to_owned());
        sent.await.expect("an answer")
    }

    async fn lines(&self) -> Vec<Value> {
        let path = "/admin/v1/audit?limit=1000";
        let audit = self.ask("operator", &Method::GET, path, "").await.ok();
        audit["entries"].as_array().expect("a list").clone()
    }
}

/// The admin listener's routes that change something, each with a path of it.
fn changes() -> Vec<(Method, &'static str, String, Access)> {
    let named = |path: &str| {
        let names = [("{plugin}", "mine"), ("{pipeline}", "served"), ("{version}", "1")];
        names.iter().fold(path.to_owned(), |path, (from, to)| path.replace(from, to))
    };
    let routes = sluice::admin::routes();
    let changing = routes.iter().filter(|route| route.method != Method::GET);
    changing.map(|route| (route.method.clone(), route.path, named(route.path), route.access)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_that_is_refused_at_the_door_leaves_an_audit_line() {
    let guarded = Guarded::start().await;
    let changes = changes();
    assert!(changes.len() > 10);
    for (method, _, path, _) in &changes {
        assert_eq!(guarded.ask("caller", method, path, "").await.status, 403, "{method} {path}");
        assert_eq!(guarded.ask("nobody", method, path, "").await.status, 401, "{method} {path}");
    }
    // To read is not to change, and what is no route changes nothing.
    assert_eq!(guarded.ask("caller", &Method::GET, "/admin/v1/audit", "").await.status, 403);
    assert_eq!(guarded.ask("nobody", &Method::POST, "/admin/v1/nothing", "").await.status, 401);
    let lines = guarded.lines().await;
    assert_eq!(lines.len(), 2 * changes.len(), "{lines:?}");
    for ((method, template, path, _), pair) in changes.iter().zip(lines.chunks(2)) {
        let action = format!("{method} {template}");
        for (line, actor, outcome) in
            [(&pair[0], "caller", "forbidden"), (&pair[1], "(no valid token) 127.0.0.1", "unauthenticated")]
        {
            let seen = [&line["actor"], &line["action"], &line["target"], &line["outcome"]];
            assert_eq!(seen, [&json!(actor), &json!(action), &json!(path), &json!(outcome)]);
            assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_refused_for_what_it_says_leaves_an_audit_line() {
    let guarded = Guarded::start().await;
    let split = "/admin/v1/pipelines/served/split";
    assert_eq!(guarded.ask("team-a", &Method::PUT, split, "{").await.status, 400);
    let upload = "/admin/v1/plugins/mine/versions/1?colour=red";
    assert_eq!(guarded.ask("team-a", &Method::PUT, upload, "x").await.status, 400);
    std::fs::write(&guarded.gateway.config, "[nonsense").expect("written");
    assert_eq!(guarded.ask("operator", &Method::POST, "/admin/v1/reload", "").await.status, 422);
    let page = [("origin", "https://elsewhere.example")];
    let reload = guarded.gateway.admin.try_send(Method::POST, "/admin/v1/reload", &page, "");
    assert_eq!(reload.await.expect("an answer").status, 403);
    let lines = guarded.lines().await;
    let seen = |line: &Value| {
        ["actor", "action", "outcome"].map(|key| line[key].as_str().unwrap_or_default().to_owned()).join(" ")
    };
    assert_eq!(
        lines.iter().map(seen).collect::<Vec<_>>(),
        [
            "team-a PUT /admin/v1/pipelines/{pipeline}/split bad_json",
            "team-a PUT /admin/v1/plugins/{plugin}/versions/{version} bad_request",
            "operator reload invalid",
            "(browser) 127.0.0.1 POST forbidden",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_changes_does_not_push_out_of_the_audit_what_others_did() {
    let guarded = Guarded::start().await;
    let path = "/admin/v1/plugins/mine/rollback";
    for _ in 0..300 {
        assert_eq!(guarded.ask("caller", &Method::POST, path, "").await.status, 403);
        assert_eq!(guarded.ask("nobody", &Method::POST, path, "").await.status, 401);
    }
    assert_eq!(guarded.lines().await.len(), 20, "ten of each");
    // Another token, and another route of the same, have lines of their own.
    assert_eq!(guarded.ask("caller", &Method::POST, "/admin/v1/reload", "").await.status, 403);
    assert_eq!(guarded.ask("team-a", &Method::POST, "/admin/v1/reload", "").await.status, 403);
    assert_eq!(guarded.lines().await.len(), 22);
}
