//! How deep a plugin may recurse is the operator's to say, for each plugin.

use serde_json::json;
use sluice_tests::gateway;
use sluice_tests::process::Program;
use sluice_tests::versions::recursive;

/// Deep enough for some 250 KiB of native stack: a frame has 48 bytes and more.
const DEPTH: u32 = 5_000;

const CONFIG: &str = r#"
    [state]
    dir = "state"
    [models.wide]
    engine = "sim"
    file = "{repo}/tests/models/wide.sim.json"
    [plugins.shallow]
    stack_bytes = 131072
    [plugins.usual]
    [plugins.deep]
    stack_bytes = 1048576
    [pipelines.shallow]
    pre = "shallow"
    model = "wide"
    [pipelines.usual]
    pre = "usual"
    model = "wide"
    [pipelines.deep]
    pre = "deep"
    model = "wide"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn p10_a_plugin_recurses_as_deep_as_its_own_limit_lets_it() {
    let mut program = Program::start(CONFIG);
    for plugin in ["shallow", "usual", "deep"] {
        assert_eq!(program.upload(plugin, "1", &recursive("through", DEPTH)).await.status, 201);
        program.activate(plugin, "1").await.ok();
    }
    for round in 0..3 {
        let reply = program.client.predict("shallow", &json!({})).await;
        assert_eq!((reply.status.as_u16(), &*reply.code()), (502, "plugin_stack"), "round {round}");
        for plugin in ["usual", "deep"] {
            let reply = program.client.predict(plugin, &json!({})).await;
            assert_eq!(&reply.body[..], b"through", "{plugin}: {}", reply.status);
        }
    }
    // Three times as deep is too deep for what everybody has, and not for the largest.
    for plugin in ["usual", "deep"] {
        assert_eq!(program.upload(plugin, "2", &recursive("further", 3 * DEPTH)).await.status, 201);
        program.activate(plugin, "2").await.ok();
    }
    let reply = program.client.predict("usual", &json!({})).await;
    assert_eq!((reply.status.as_u16(), &*reply.code()), (502, "plugin_stack"));
    assert_eq!(&program.client.predict("deep", &json!({})).await.body[..], b"further");
    for (plugin, bytes) in [("shallow", 131_072), ("usual", 524_288), ("deep", 1_048_576)] {
        let version = program.admin.get(&format!("/admin/v1/plugins/{plugin}/versions/1")).await.ok();
        assert_eq!(version["limits"]["stack_bytes"], bytes, "{plugin}");
    }
    program.assert_alive().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_of_another_size_is_refused_by_its_field() {
    let refused = gateway::try_start(&CONFIG.replace("131072", "131073")).await.err().expect("refused");
    assert!(refused.contains("plugins.shallow.stack_bytes") && refused.contains("131072"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p16_a_plugin_that_traps_in_every_call_does_not_flood_the_gateways_log() {
    let mut program = Program::start(CONFIG);
    for (plugin, depth) in [("usual", 1), ("deep", 100_000)] {
        assert_eq!(program.upload(plugin, "1", &recursive("x", depth)).await.status, 201);
        program.activate(plugin, "1").await.ok();
    }
    for _ in 0..200 {
        assert_eq!(program.client.predict("deep", &json!({})).await.code(), "plugin_stack");
    }
    program.assert_alive().await;
    let log = program.log();
    let lines = log.lines().filter(|line| line.contains("plugin_stack")).count();
    assert!((1..=20).contains(&lines), "{lines} lines");
    let told = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while !program.log().contains("suppressed") {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
    told.await.expect("it is told how many are missing");
    // The plugin's own log has them all.
    let logs = program.admin.get("/admin/v1/plugins/deep/logs?limit=1000").await.ok();
    assert_eq!(logs["lines"].as_array().map(Vec::len), Some(200));
}
