//! Ten thousand mixed requests, each with its own marker, some cancelled on the
//! way: nobody ever gets another's rows (E9).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use sluice_tests::client::Client;
use sluice_tests::gateway;

const REQUESTS: i64 = 10_000;
const CALLERS: i64 = 64;

/// Sends one request whose rows only its marker explains; the rows vary in number.
async fn send(client: &Client, marker: i64) -> Result<(), String> {
    let rows = 1 + marker % 4;
    let data: Vec<i64> = (0..rows).flat_map(|row| [marker, row]).collect();
    if marker % 3 == 0 {
        // Through the plugins: they must hand back the same bytes.
        let reply = client.predict("echo", &json!({ "marker": marker })).await;
        let answer = reply.ok();
        return if answer["body"].as_str() == Some(&json!({ "marker": marker }).to_string()) {
            Ok(())
        } else {
            Err(format!("{answer} for {marker}"))
        };
    }
    let request = json!({"id": marker.to_string(), "inputs": [
        {"name": "x", "datatype": "INT64", "shape": [rows, 2], "data": data}]});
    let answer = client.infer("marker", &request).await.ok();
    let right = answer["id"] == json!(marker.to_string()) && answer["outputs"][0]["data"] == json!(data);
    if right { Ok(()) } else { Err(format!("{answer} for {marker}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_mixed_requests_get_their_own_answers() {
    let gateway = gateway::start(
        r#"
        [models.marker]
        engine = "sim"
        file = "{repo}/tests/models/marker.sim.json"
        max_batch_size = 32
        max_queue_delay_microseconds = 500
        instances = 2
        [plugins.echo]
        file = "{repo}/tests/guests/dist/echo.wasm"
        call_timeout_ms = 5000
        [pipelines.echo]
        pre = "echo"
        model = "marker"
    "#,
    )
    .await;
    let (next, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let (client, next, cancelled) = (gateway.client.clone(), Arc::clone(&next), Arc::clone(&cancelled));
        callers.push(tokio::spawn(async move {
            loop {
                let marker = i64::try_from(next.fetch_add(1, Ordering::Relaxed)).expect("small");
                if marker >= REQUESTS {
                    return;
                }
                if marker % 17 == 0 {
                    // Dropping the future closes the connection in the middle.
                    let patience = Duration::from_micros(u64::try_from(marker % 900).expect("positive"));
                    if tokio::time::timeout(patience, send(&client, marker)).await.is_err() {
                        cancelled.fetch_add(1, Ordering::Relaxed);
                    }
                    continue;
                }
                send(&client, marker).await.unwrap_or_else(|wrong| panic!("cross-talk: {wrong}"));
            }
        }));
    }
    for caller in callers {
        caller.await.expect("no cross-talk");
    }
    assert!(cancelled.load(Ordering::Relaxed) > 50, "enough callers left in the middle");
    let shared = gateway.metric("sluice_queue_wait_seconds_count", "").await
        - gateway.metric("sluice_batch_rows_count", "").await;
    assert!(shared > 500.0, "batches were shared: {shared}");
    for _ in 0..100 {
        if gateway.metric("sluice_requests_in_flight", "").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("requests are still counted as in flight");
}
