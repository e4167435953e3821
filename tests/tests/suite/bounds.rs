//! Nothing that a request says sizes memory, a loop, or the time of others.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use tokio::time::{Instant, timeout};

/// Much longer than what is asked here takes, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

const LENGTHS: &str = r#"
    [models.lengths]
    engine = "sim"
    file = "{repo}/tests/models/lengths.sim.json"
    max_batch_size = 8
    [models.lengths.padding]
    inputs = ["ids"]
    sizes = [4, 8]
    mask = "mask"
    [models.whole]
    engine = "sim"
    file = "{repo}/tests/models/lengths.sim.json"
    max_batch_size = 0
"#;

async fn ask(gateway: &Running, model: &str, name: &str, shape: Value, data: Value) -> Reply {
    let input = |name: &str| json!({"name": name, "datatype": "INT64", "shape": shape, "data": data});
    let inputs = if model == "whole" { vec![input("ids"), input("mask")] } else { vec![input(name)] };
    let body = json!({ "inputs": inputs });
    timeout(LIMIT, gateway.client.infer(model, &body)).await.expect("an answer in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_tensor_says_neither_how_much_memory_is_taken_nor_how_far_a_model_counts() {
    let gateway = gateway::start(LENGTHS).await;
    let shapes = [
        // The mask would have a dimension that nobody has checked.
        json!([1, 1_000_000_000_000_u64, 0]),
        // Padded, it would not be empty any more.
        json!([1_000_000_000_000_u64, 0]),
        json!([0, 1_000_000_000_000_u64]),
        json!([2_000_000, 0]),
    ];
    for (model, shape) in
        ["lengths", "whole"].iter().flat_map(|model| shapes.iter().map(move |it| (model, it)))
    {
        let reply = ask(&gateway, model, "ids", shape.clone(), json!([])).await;
        let got = (reply.status.as_u16(), reply.code());
        assert_eq!(got, (400, "bad_shape".to_owned()), "{model} {shape}: {reply:?}");
    }
    // What is empty and small is as good as anything else.
    ask(&gateway, "whole", "ids", json!([3, 0]), json!([])).await.ok();
    ask(&gateway, "lengths", "ids", json!([1, 3]), json!([1, 2, 3])).await.ok();
}

async fn quick(client: &Client, name: &str, value: i64) -> Reply {
    let body = json!({"inputs": [{"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [value]}]});
    let timeout_ms = if value == 666 { "500" } else { "10000" };
    let (path, header) = (format!("/v2/models/{name}/infer"), ("x-request-timeout-ms", timeout_ms));
    client.try_send(http::Method::POST, &path, &[header], body.to_string()).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_turns_out_not_to_be_quick_keeps_its_deadline_and_holds_nobody_up() {
    let model = |name: &str| {
        format!(
            "[models.{name}]\nengine = \"sim\"\nfile = \"{{repo}}/tests/models/quick.sim.json\"\n\
             max_batch_size = 8\n"
        )
    };
    // As many as there are threads that serve.
    let names = ["one", "two", "three"];
    let gateway = gateway::start(&names.map(model).concat()).await;
    for name in names {
        // Runs are known to be quick now.
        for value in 0..20 {
            quick(&gateway.client, name, value).await.ok();
        }
    }
    let hanging = names.map(|name| {
        let client = gateway.client.clone();
        tokio::spawn(async move {
            let before = Instant::now();
            let reply = quick(&client, name, 666).await;
            (reply.status.as_u16(), reply.code(), before.elapsed())
        })
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let live = timeout(Duration::from_secs(5), gateway.client.get("/v2/health/live"));
    assert_eq!(live.await.expect("others are served meanwhile").status.as_u16(), 200);
    for hung in hanging {
        let (status, code, took) = timeout(LIMIT, hung).await.expect("a deadline is kept").expect("no panic");
        assert_eq!((status, code.as_str()), (504, "deadline"));
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
    for name in names {
        // The run was interrupted, and the instance takes the next one.
        let answer = timeout(LIMIT, quick(&gateway.client, name, 7)).await.expect("an answer").ok();
        assert_eq!(answer["outputs"][0]["data"], json!([7]));
    }
}
