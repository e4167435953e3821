//! Types: what the schema takes, and what it refuses where.

use serde_json::json;

use super::super::pbtxt::parse;
use super::super::schema::MODEL_CONFIG;
use super::*;

fn decoded(source: &str) -> Result<Json, TextError> {
    text(&parse(source)?, &MODEL_CONFIG).map(Json::Object)
}

fn refused(source: &str) -> String {
    decoded(source).expect_err(source).to_string()
}

#[test]
fn a_config_of_tritons_documentation_is_read() {
    let source = r#"
        name: "simple" platform: "onnxruntime_onnx" max_batch_size: 8
        input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 16 ] },
                { name: "INPUT1" data_type: 8 dims: 16 dims: 0x10 } ]
        output { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 16 ] label_filename: "l.txt" }
        version_policy: { specific { versions: [1, 3] } }
        dynamic_batching { preferred_batch_size: [ 4, 8 ] priority_queue_policy { key: 1 value { max_queue_size: 5 } } }
        parameters { key: "a" value: { string_value: "b" } }
        parameters [ { key: "c" value: { string_value: "d" "e" } } ]
        optimization { cuda { graphs: true } }
    "#;
    let config = decoded(source).expect("valid");
    assert_eq!(config["input"][1]["data_type"], "TYPE_INT32");
    assert_eq!(config["input"][1]["dims"], json!([16, 16]));
    assert_eq!(config["dynamic_batching"]["priority_queue_policy"]["1"]["max_queue_size"], 5);
    assert_eq!(config["parameters"], json!({ "a": { "string_value": "b" }, "c": { "string_value": "de" } }));
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    assert!(
        refused("max_batch_sizes: 8")
            .starts_with("line 1, column 1: ModelConfig has no field 'max_batch_sizes'")
    );
    assert_eq!(refused("name: \"a\"\nname: \"b\""), "line 2, column 1: 'name' is set twice");
    assert_eq!(refused("name: a"), "line 1, column 1: 'name' of ModelConfig is a quoted string");
    assert!(refused("max_batch_size: 3000000000").contains("32 bits"));
    assert!(refused("max_batch_size: [1]").contains("32 bits"));
    assert!(refused("input { dims: [1, x] }").starts_with("line 1, column 19: 'dims' of ModelInput"));
    assert!(refused("input { data_type: TYPE_INT }").contains("TYPE_BF16"));
    assert!(refused("input: 3").contains("a message"));
    assert!(refused("dynamic_batching {} sequence_batching {}").contains("exclude each other"));
    assert!(refused("parameters { value { } }").contains("the key is missing"));
    assert!(refused("optimization { priority: 7 }").contains("PRIORITY_MIN"));
    assert!(refused("sequence_batching { direct { minimum_slot_utilization: nan } }").contains("finite"));
}

#[test]
fn json_says_the_same_as_text() {
    let source = json!({
        "maxBatchSize": 16, "input": [{ "name": "x", "data_type": "TYPE_FP32", "dims": ["3", -1] }],
        "dynamicBatching": { "max_queue_delay_microseconds": "100" }, "parameters": { "a": { "string_value": "b" } },
        "version_policy": { "latest": { "num_versions": 2 } }, "runtime": null,
    });
    let config = Json::Object(json(&source, &MODEL_CONFIG).expect("valid"));
    assert_eq!(config["max_batch_size"], 16);
    assert_eq!(config["input"][0]["dims"], json!([3, -1]));
    assert_eq!(config["dynamic_batching"]["max_queue_delay_microseconds"], 100);
    for bad in [
        json!([]),
        json!({ "x": 1 }),
        json!({ "input": {} }),
        json!({ "name": 7 }),
        json!({ "input": [[1]] }),
    ] {
        assert!(json(&bad, &MODEL_CONFIG).is_err(), "{bad}");
    }
}

#[test]
fn the_whole_configuration_has_every_default() {
    let set =
        text(&parse("name: \"x\" input { name: \"a\" } dynamic_batching { }").expect("valid"), &MODEL_CONFIG);
    let whole = complete(&set.expect("valid"), &MODEL_CONFIG);
    assert_eq!(whole["max_batch_size"], 0);
    assert_eq!(whole["input"][0]["format"], "FORMAT_NONE");
    assert_eq!(whole["input"][0]["optional"], false);
    assert_eq!(whole["output"], json!([]));
    assert_eq!(whole["metric_tags"], json!({}));
    assert_eq!(whole["dynamic_batching"]["preserve_ordering"], false);
    assert!(whole.get("sequence_batching").is_none() && whole.get("optimization").is_none());
}
