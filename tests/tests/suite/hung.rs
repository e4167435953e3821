//! Runs that never return, and cannot be interrupted (E2): nobody waits for them.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway;
use sluice_tests::versions::until;

use crate::drain::serve;

const DEAF: &str = r#"
    [server.limits]
    request_timeout_max_ms = 1000
    request_timeout_default_ms = 1000
    [models.deaf]
    engine = "sim"
    file = "{repo}/tests/models/deaf.sim.json"
    max_batch_size = 1
"#;

fn request(value: i64) -> Value {
    json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [value]}]})
}

async fn infer(client: &Client, value: i64) -> Reply {
    client.infer("deaf", &request(value)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_whose_run_never_returns_is_given_up_and_its_model_says_so() {
    let config = format!(
        "{DEAF}    [models.two]\n    engine = \"sim\"\n    file = \"{{repo}}/tests/models/deaf.sim.json\"\n\
         max_batch_size = 1\n    instances = 2\n"
    );
    let gateway = gateway::start(&config).await;
    infer(&gateway.client, 1).await.ok();
    for model in ["deaf", "two"] {
        let late = gateway.client.infer(model, &request(666)).await;
        assert_eq!((late.status.as_u16(), late.code().as_str()), (504, "deadline"), "{late:?}");
    }
    until(|| async { gateway.client.get("/v2/models/deaf/ready").await.status == 503 }).await;
    let refused = infer(&gateway.client, 1).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (503, "model_unavailable"));
    until(|| async { gateway.metric("sluice_model_instances_hung", "two").await > 0.5 }).await;
    // The other instance serves on.
    assert_eq!(gateway.client.get("/v2/models/two/ready").await.status, 200);
    for value in 1..9 {
        gateway.client.infer("two", &request(value)).await.ok();
    }
    assert_eq!(gateway.client.get("/v2/health/live").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_program_ends_with_its_own_code_for_a_run_that_never_returns_where_it_is_told_to() {
    let config = format!("[server]\nexit_when_hung = true\ndrain_ms = 1000\n{DEAF}");
    let (_folder, mut process, address) = serve(&config, "deaf");
    let late = infer(&Client::new(address), 666).await;
    assert_eq!(late.status.as_u16(), 504);
    let status = tokio::task::spawn_blocking(move || process.0.wait()).await.expect("no panic");
    assert_eq!(status.expect("it ended").code(), Some(70));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_up_that_never_ends_fails_its_load_and_holds_up_no_other_change() {
    let limit = "[engine]\nload_timeout_ms = 500\n";
    let gateway = gateway::start(&format!("{limit}{DEAF}")).await;
    let warmup =
        r#"warmup = [{ name = "zero", inputs = { x = { datatype = "INT64", dims = [1], data = "zero" } } }]"#;
    let next = DEAF.replace("max_batch_size = 1", &format!("max_batch_size = 1\n    {warmup}"));
    let started = tokio::time::Instant::now();
    let outcome = gateway.reload(&format!("{limit}{next}")).await;
    assert_eq!((&outcome["outcome"], &outcome["reason"]), (&json!("refused"), &json!("failed")), "{outcome}");
    assert!(outcome.to_string().contains("took longer than 500 ms"), "{outcome}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
    // What was served is, and the next change has its turn.
    infer(&gateway.client, 1).await.ok();
    gateway.apply(&format!("{limit}{DEAF}\n# again\n")).await;
}
