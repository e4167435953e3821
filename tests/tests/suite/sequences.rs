//! Requests that belong together: sequences, and what a model remembers of them.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use sluice_tests::client::{Client, Reply};
use sluice_tests::gateway::{self, Running};
use sluice_tests::repository;

/// A model that sums up what came in a sequence, and says which controls it saw.
fn accumulator(strategy: &str) -> String {
    format!(
        r#"
        [models.sums]
        file = "{{repo}}/gateway/engine/tests/fixtures/accumulator.onnx"
        max_batch_size = 4
        max_queue_size = 64
        [models.sums.sequence]
        {strategy}
        [models.sums.sequence.controls]
        START = {{ kind = "start", fp32_false_true = [0, 1] }}
        READY = {{ kind = "ready" }}
        END = {{ kind = "end" }}
        CORRID = {{ kind = "corrid", datatype = "INT64" }}
        [models.sums.sequence.states.STATE]
        output = "NEXT_STATE"
    "#
    )
}

const DIRECT: &str = "strategy = \"direct\"\nmax_sequence_idle_microseconds = 20000000";
const OLDEST: &str =
    "strategy = \"oldest\"\nmax_candidate_sequences = 200\nmax_sequence_idle_microseconds = 20000000";

/// A model that gives back what came before: each run takes 20 ms.
const PREVIOUS: &str = r#"
    [models.previous]
    engine = "sim"
    file = "{repo}/tests/models/previous.sim.json"
    max_batch_size = 4
    max_queue_size = 8
    [models.previous.sequence]
    strategy = "oldest"
    max_sequence_idle_microseconds = 20000000
    [models.previous.sequence.states.past]
    output = "present"
"#;

/// Sends one request of a sequence; `flags` has S for its start, E for its end.
async fn send(client: &Client, model: &str, id: impl Into<Value>, flags: &str, value: i64) -> Reply {
    let (name, datatype) = if model == "previous" { ("x", "INT32") } else { ("INPUT", "FP32") };
    let (start, end) = (flags.contains('S'), flags.contains('E'));
    let request = json!({
        "parameters": {"sequence_id": id.into(), "sequence_start": start, "sequence_end": end},
        "inputs": [{"name": name, "datatype": datatype, "shape": [1, 1], "data": [value]}],
    });
    client.infer(model, &request).await
}

fn output(answer: &Value, name: &str) -> Vec<i64> {
    let outputs = answer["outputs"].as_array().expect("outputs");
    let found = outputs.iter().find(|output| output["name"] == name);
    let data =
        found.and_then(|output| output["data"].as_array()).unwrap_or_else(|| panic!("{name}: {answer}"));
    // The model gives floats that are whole numbers.
    data.iter()
        .map(|value| format!("{:.0}", value.as_f64().expect("a number")).parse().expect("whole"))
        .collect()
}

async fn sum(gateway: &Running, id: i64, flags: &str, value: i64) -> i64 {
    let answer = send(&gateway.client, "sums", id, flags, value).await.ok();
    output(&answer, "SUM")[0]
}

async fn error(gateway: &Running, model: &str, id: i64, flags: &str) -> (u16, String) {
    let reply = send(&gateway.client, model, id, flags, 1).await;
    (reply.status.as_u16(), reply.json()["error"].as_str().expect("an error").to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sequence_has_its_own_sum_whatever_the_strategy() {
    for strategy in [DIRECT, OLDEST] {
        let gateway = gateway::start(&accumulator(strategy)).await;
        for (id, flags, value, expected) in [
            (1, "S", 5, 5),
            (2, "S", 100, 100),
            (1, "", 6, 11),
            (2, "", 1, 101),
            (1, "E", 7, 18),
            (2, "S", 3, 3),
            (2, "E", 4, 7),
            (1, "SE", 9, 9),
        ] {
            assert_eq!(sum(&gateway, id, flags, value).await, expected, "{id} {flags} {value}");
        }
        assert_eq!(gateway.metric("sluice_sequences", "active").await, 0.0);
        let text = send(&gateway.client, "sums", "abc", "SE", 1).await;
        assert_eq!(text.status, 400, "the model takes numbers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_sees_controls_that_its_clients_do_not() {
    let gateway = gateway::start(&accumulator(DIRECT)).await;
    let metadata = gateway.client.get("/v2/models/sums").await.ok();
    let names = |kind: &str| -> Vec<String> {
        let tensors = metadata[kind].as_array().expect("tensors");
        tensors.iter().map(|tensor| tensor["name"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(names("inputs"), ["INPUT"]);
    assert_eq!(names("outputs"), ["SUM", "COMPANY", "FLAGS", "WHO"]);
    // Start, ready, end.
    for (flags, expected) in [("S", [1, 1, 0]), ("", [0, 1, 0]), ("E", [0, 1, 1]), ("SE", [1, 1, 1])] {
        let answer = send(&gateway.client, "sums", 77, flags, 1).await.ok();
        assert_eq!(output(&answer, "FLAGS"), expected, "{flags}");
        assert_eq!(output(&answer, "WHO"), [77]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_interleaved_sequences_share_a_batch_and_an_absent_one_is_not_ready() {
    let strategy = format!("{DIRECT}\nminimum_slot_utilization = 0.5\nmax_queue_delay_microseconds = 400000");
    let gateway = gateway::start(&accumulator(&strategy)).await;
    // Two of four slots run at once.
    let both = |flags: &'static str, one: i64, two: i64| {
        let client = gateway.client.clone();
        async move {
            let (one, two) =
                tokio::join!(send(&client, "sums", 1, flags, one), send(&client, "sums", 2, flags, two));
            (one.ok(), two.ok())
        }
    };
    let mut expected = (0, 0);
    for (flags, one, two) in [("S", 1, 10), ("", 2, 20), ("", 3, 30)] {
        let answers = both(flags, one, two).await;
        expected = (expected.0 + one, expected.1 + two);
        assert_eq!((output(&answers.0, "SUM")[0], output(&answers.1, "SUM")[0]), expected);
        assert_eq!((output(&answers.0, "COMPANY")[0], output(&answers.1, "COMPANY")[0]), (2, 2), "one batch");
    }
    // One alone runs when its delay has ended; nobody is in the other row.
    let alone = send(&gateway.client, "sums", 2, "", 40).await.ok();
    assert_eq!((output(&alone, "SUM")[0], output(&alone, "COMPANY")[0]), (100, 1));
    let batches = gateway.metric("sluice_batch_rows_count", "sums").await;
    assert_eq!(batches, 4.0, "batches");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sequences_at_once_have_exact_sums() {
    for strategy in [OLDEST, DIRECT] {
        let gateway = gateway::start(&accumulator(strategy)).await;
        let mut clients = Vec::new();
        for id in 1..=100_i64 {
            let client = gateway.client.clone();
            clients.push(tokio::spawn(async move {
                let mut expected = 0;
                for step in 0..20_i64 {
                    let value = id * 31 % 17 + step;
                    let flags = ["S", "", "E"][usize::from(step > 0) + usize::from(step == 19)];
                    // A slot that is not free yet is waited for; a queue that is full is tried again.
                    let answer = loop {
                        let reply = send(&client, "sums", id, flags, value).await;
                        if reply.status != 429 {
                            break reply.ok();
                        }
                        tokio::time::sleep(Duration::from_millis(3)).await;
                    };
                    expected += value;
                    assert_eq!(output(&answer, "SUM")[0], expected, "sequence {id}, step {step}");
                    assert_eq!(output(&answer, "WHO")[0], id);
                }
            }));
        }
        for client in clients {
            client.await.expect("exact");
        }
        // Whoever has the last answer of a sequence finds it ended.
        assert_eq!(gateway.metric("sluice_sequences", "active").await, 0.0);
        assert_eq!(gateway.metric("sluice_queue_depth", "sums").await, 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_belong_to_no_sequence_are_refused_in_tritons_words() {
    let gateway = gateway::start(&accumulator(OLDEST)).await;
    let input = json!([{"name": "INPUT", "datatype": "FP32", "shape": [1, 1], "data": [1]}]);
    let without = gateway.client.infer("sums", &json!({"inputs": input})).await;
    assert_eq!(without.status, 400);
    assert_eq!(
        without.json()["error"],
        "inference request to model 'sums' must specify a non-zero or non-empty correlation ID"
    );
    let start = "inference request for sequence 5 to model 'sums' must specify the START flag on the first \
                 request of the sequence";
    assert_eq!(error(&gateway, "sums", 5, "").await, (400, start.to_owned()));
    assert_eq!(error(&gateway, "sums", 5, "E").await, (400, start.to_owned()));
    sum(&gateway, 5, "SE", 1).await;
    let (status, message) = error(&gateway, "sums", 5, "").await;
    assert!(status == 400 && message.starts_with(start) && message.ends_with("has ended)"), "{message}");
    let two = json!({"parameters": {"sequence_id": 1, "sequence_start": true},
        "inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [2, 1], "data": [1, 2]}]});
    let two = gateway.client.infer("sums", &two).await;
    assert_eq!(two.status, 400);
    let message = two.json()["error"].as_str().expect("an error").to_owned();
    assert!(message.contains("must specify batch-size 1"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sequence_ends_and_its_slot_goes_to_one_that_waits() {
    let strategy =
        "strategy = \"oldest\"\nmax_candidate_sequences = 1\nmax_sequence_idle_microseconds = 300000";
    let gateway = gateway::start(&accumulator(strategy)).await;
    assert_eq!(sum(&gateway, 1, "S", 5).await, 5);
    // The only slot is the first one's until that has been silent for long enough.
    let waits = std::time::Duration::from_millis(100);
    let early = tokio::time::timeout(waits, sum(&gateway, 2, "S", 7)).await;
    assert!(early.is_err(), "it had no slot");
    assert_eq!(sum(&gateway, 3, "S", 8).await, 8);
    let (status, message) = error(&gateway, "sums", 1, "").await;
    assert!(status == 400 && message.contains("idle for too long"), "{message}");
    // The one whose caller left before it ran has never been.
    assert_eq!(error(&gateway, "sums", 2, "").await.0, 400);
    for _ in 0..100 {
        if gateway.metric("sluice_sequences", "active").await == 0.0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("an idle sequence kept its slot");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_may_wait_is_refused_at_once_and_the_rest_is_exact() {
    let gateway = gateway::start(PREVIOUS).await;
    let mut callers = Vec::new();
    for id in 1..=40_i64 {
        let client = gateway.client.clone();
        callers.push(tokio::spawn(async move { send(&client, "previous", id, "SE", id).await }));
    }
    let mut refused = 0;
    for caller in callers {
        let reply = caller.await.expect("an answer");
        if reply.status == 429 {
            assert_eq!(reply.code(), "queue_full");
            refused += 1;
        } else {
            assert_eq!(output(&reply.ok(), "previous"), [0]);
        }
    }
    assert!((1..40).contains(&refused), "{refused} refused");
    assert_eq!(gateway.metric("sluice_queue_depth", "previous").await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_given_up_before_it_runs_has_never_been() {
    let gateway = gateway::start(PREVIOUS).await;
    let client = &gateway.client;
    assert_eq!(output(&send(client, "previous", 1, "S", 10).await.ok(), "previous"), [0]);
    // While the first of these runs (20 ms), the second waits for its turn, and is given up.
    let first = {
        let client = client.clone();
        tokio::spawn(async move { send(&client, "previous", 1, "", 11).await })
    };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let body = json!({
        "parameters": {"sequence_id": 1},
        "inputs": [{"name": "x", "datatype": "INT32", "shape": [1, 1], "data": [12]}],
    });
    // A connection of its own, which closes in the middle.
    let other = Client::new(client.address());
    let path = "/v2/models/previous/infer";
    let given_up = other.try_send(Method::POST, path, &[], body.to_string());
    let given_up = tokio::time::timeout(Duration::from_millis(4), given_up).await;
    drop(other);
    assert_eq!(output(&first.await.expect("an answer").ok(), "previous"), [10]);
    tokio::time::sleep(Duration::from_millis(60)).await;
    let next = output(&send(client, "previous", 1, "", 13).await.ok(), "previous");
    // A slow machine may have begun to run it: then it is part of the sequence, and nothing else is.
    assert!(next == [11] || next == [12] || given_up.is_ok(), "{next:?}");
    assert_eq!(output(&send(client, "previous", 1, "E", 14).await.ok(), "previous"), [13]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_fails_hurts_no_other_sequence_and_not_its_own() {
    let gateway = gateway::start(PREVIOUS).await;
    for id in 1..=4 {
        send(&gateway.client, "previous", id, "S", id).await.ok();
    }
    // All four in one batch, one of them poisonous.
    let client = &gateway.client;
    let (one, two, three, four) = tokio::join!(
        send(client, "previous", 1, "", 21),
        send(client, "previous", 2, "", 666),
        send(client, "previous", 3, "", 23),
        send(client, "previous", 4, "", 24)
    );
    assert_eq!((two.status.as_u16(), two.code()), (500, "engine_error".to_owned()));
    for (reply, expected) in [(one, 1), (three, 3), (four, 4)] {
        assert_eq!(output(&reply.ok(), "previous"), [expected]);
    }
    // The one that failed is where it was.
    assert_eq!(output(&send(client, "previous", 2, "", 22).await.ok(), "previous"), [2]);
    // One that fails at its start has not started. (It takes the slot of one that ends.)
    send(&gateway.client, "previous", 1, "E", 31).await.ok();
    assert_eq!(send(client, "previous", 9, "S", 666).await.status, 500);
    let (status, message) = error(&gateway, "previous", 9, "").await;
    assert!(status == 400 && message.contains("must specify the START flag"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sequences_end_with_an_instance_that_is_given_up_and_are_told_so() {
    let gateway = gateway::start(&format!("{PREVIOUS}\n[models.previous.batching]\n")).await;
    send(&gateway.client, "previous", 1, "S", 5).await.ok();
    for id in [2, 3, 4] {
        assert_eq!(send(&gateway.client, "previous", id, "S", 999).await.status, 500);
    }
    for _ in 0..100 {
        let (status, message) = error(&gateway, "previous", 1, "").await;
        if status == 503 {
            return;
        }
        assert!(status == 200 || message.contains("START"), "{status} {message}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the only instance is gone, and the model still serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_grows_is_kept_within_its_bounds() {
    let gateway = gateway::start(
        r#"
        [models.history]
        file = "{repo}/gateway/engine/tests/fixtures/history.onnx"
        max_batch_size = 4
        [models.history.sequence]
        strategy = "oldest"
        state_bytes_max = 20
        max_sequence_idle_microseconds = 20000000
        [models.history.sequence.states.PAST]
        output = "PRESENT"
    "#,
    )
    .await;
    let client = &gateway.client;
    // A float at the start, and one more with each request: five fit.
    for (step, expected) in [(1, 1), (2, 3), (3, 6), (4, 10)] {
        let flags = if step == 1 { "S" } else { "" };
        let answer = send(client, "history", 1, flags, step).await.ok();
        assert_eq!(output(&answer, "SUM"), [expected]);
    }
    let reply = send(client, "history", 1, "", 5).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (413, "too_large".to_owned()));
    let (status, message) = error(&gateway, "history", 1, "").await;
    assert!(status == 400 && message.contains("grew beyond its bounds"), "{message}");
    assert_eq!(output(&send(client, "history", 1, "SE", 7).await.ok(), "SUM"), [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_the_sequences_of_an_unchanged_model_and_ends_those_of_a_changed_one() {
    let config = accumulator(OLDEST);
    let gateway = gateway::start(&config).await;
    assert_eq!(sum(&gateway, 1, "S", 5).await, 5);
    // Another model comes, and the queue of this one changes: it is not loaded again.
    let more = config.replace("max_queue_size = 64", "max_queue_size = 65") + PREVIOUS;
    gateway.apply(&more).await;
    assert_eq!(sum(&gateway, 1, "", 6).await, 11);
    let changed = more.replace("max_candidate_sequences = 200", "max_candidate_sequences = 100");
    gateway.apply(&changed).await;
    let (status, message) = error(&gateway, "sums", 1, "").await;
    assert!(status == 400 && message.contains("the model was loaded anew"), "{message}");
    assert_eq!(sum(&gateway, 1, "S", 1).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sequence_that_does_not_fit_its_model_is_refused_before_it_is_served() {
    for (from, to, expected) in [
        ("START = ", "NOPE = ", "no input 'NOPE'"),
        ("output = \"NEXT_STATE\"", "output = \"NOPE\"", "no output 'NOPE'"),
        ("datatype = \"INT64\"", "datatype = \"UINT64\"", "declared as UINT64"),
        ("fp32_false_true = [0, 1]", "int32_false_true = [0, 1]", "FP32"),
        ("kind = \"ready\"", "kind = \"end\"", "two control inputs"),
        ("strategy = \"oldest\"", "strategy = \"direct\"", "does not go with this strategy"),
        ("max_candidate_sequences = 200", "max_candidate_sequences = 0", "allowed are"),
        ("strategy = \"oldest\"", "strategy = \"oldest\"\nminimum_slot_utilization = 2.0", "does not go"),
    ] {
        let error = gateway::try_start(&accumulator(OLDEST).replace(from, to)).await.map(drop).expect_err(to);
        assert!(error.contains(expected), "{error}");
    }
}

/// A folder of models as Triton lays it out, with one model in it.
fn triton_repository(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("sums");
    std::fs::create_dir_all(model.join("1")).expect("made");
    std::fs::create_dir_all(model.join("initial_state")).expect("made");
    let file = repository().join("gateway/engine/tests/fixtures/accumulator.onnx");
    std::fs::copy(file, model.join("1/model.onnx")).expect("copied");
    std::fs::write(model.join("initial_state/ten"), 10_f32.to_le_bytes()).expect("written");
    std::fs::write(model.join("config.pbtxt"), config).expect("written");
    folder
}

const CONFIG_PBTXT: &str = r#"
    name: "sums"
    platform: "onnxruntime_onnx"
    max_batch_size: 4
    input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 1 ] } ]
    output [ { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] } ]
    sequence_batching {
      max_sequence_idle_microseconds: 20000000
      oldest { max_candidate_sequences: 8 preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 }
      control_input [
        { name: "START" control [ { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] },
        { name: "READY" control [ { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } ] },
        { name: "END" control [ { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } ] },
        { name: "CORRID" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } ] }
      ]
      state [ {
        input_name: "STATE" output_name: "NEXT_STATE" data_type: TYPE_FP32 dims: [ 1 ]
        initial_state: { data_type: TYPE_FP32 dims: [ 1 ] name: "ten" data_file: "ten" }
      } ]
    }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_triton_repositorys_sequences_serve_as_they_are() {
    let serve = |text: &str| {
        let folder = triton_repository(text);
        let config =
            format!("[repositories.models]\npath = \"{}\"\nexit_on_error = true\n", folder.path().display());
        (folder, config)
    };
    let (_folder, config) = serve(CONFIG_PBTXT);
    let gateway = gateway::start(&config).await;
    // START multiplies the state by 0, whatever it is at the start.
    for (flags, value, expected) in [("S", 5, 5), ("", 6, 11), ("E", 7, 18)] {
        assert_eq!(sum(&gateway, 3, flags, value).await, expected);
    }
    // Without START the model sees what is in the file.
    let (_folder, config) = serve(&CONFIG_PBTXT.replace(
        "fp32_false_true: [ 0, 1 ] } ] },\n        { name: \"READY\"",
        "fp32_false_true: [ 0, 0 ] } ] },\n        { name: \"READY\"",
    ));
    let gateway = gateway::start(&config).await;
    assert_eq!(sum(&gateway, 3, "S", 5).await, 15);
    let direct = "direct { minimum_slot_utilization: 0.5 max_queue_delay_microseconds: 1000 }";
    let oldest = "oldest { max_candidate_sequences: 8 preferred_batch_size: [ 2, 4 ] max_queue_delay_microseconds: 100 }";
    let (_folder, config) = serve(&CONFIG_PBTXT.replace(oldest, direct));
    let gateway = gateway::start(&config).await;
    assert_eq!(sum(&gateway, 3, "S", 5).await, 5);
    assert_eq!(gateway.metric("sluice_sequence_slots", "sums").await, 4.0);
    for (from, to, expected) in [
        (oldest, &*format!("{oldest} iterative_sequence: true"), "iterative_sequence"),
        ("data_file: \"ten\"", "data_file: \"../../ten\"", "ten"),
        ("data_type: TYPE_INT64 } ] }", "data_type: TYPE_UINT64 } ] }", "declared as UINT64"),
        ("output_name: \"NEXT_STATE\"", "output_name: \"NOPE\"", "no output 'NOPE'"),
    ] {
        let (_folder, config) = serve(&CONFIG_PBTXT.replace(from, to));
        let error = gateway::try_start(&config).await.map(drop).expect_err(to);
        assert!(error.contains(expected), "{error}");
    }
}
