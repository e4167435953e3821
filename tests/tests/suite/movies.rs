//! The demo: real films, a trained model, two plugins.

use serde_json::{Value, json};
use sluice_tests::{gateway, repository};

fn demo_request() -> Value {
    let text = std::fs::read_to_string(repository().join("config/demo-request.json")).expect("there");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_ranks_real_films_by_taste() {
    let gateway = gateway::start_config("demo.toml").await;
    let answer = gateway.client.predict("rank-movies", &demo_request()).await.ok();
    let ranking = answer["ranking"].as_array().expect("a list");
    assert_eq!(ranking.len(), 5);
    let scores: Vec<f64> = ranking.iter().map(|film| film["score"].as_f64().expect("a score")).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b), "{scores:?}");
    assert!(scores.iter().all(|score| (1.0..=12.0).contains(score)), "{scores:?}");
    // The same film is worth more to who likes its kind.
    let score = async |tastes: Value| {
        let request = json!({"tastes": tastes, "candidates": ["Jurassic Park"], "k": 1});
        gateway.client.predict("rank-movies", &request).await.ok()["ranking"][0]["score"]
            .as_f64()
            .expect("a score")
    };
    let fan = score(json!({"directors": ["Steven Spielberg"], "decades": [1990]})).await;
    let stranger = score(json!({"directors": ["Woody Allen"], "decades": [1970]})).await;
    assert!(fan > stranger, "{fan} {stranger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_titles_are_named_and_cost_nothing() {
    let gateway = gateway::start_config("demo.toml").await;
    let request = json!({"candidates": ["No Such Film", "Jaws", "Nor This"], "k": 9});
    let answer = gateway.client.predict("rank-movies", &request).await.ok();
    assert_eq!(answer["ranking"].as_array().map(Vec::len), Some(1));
    assert_eq!(answer["ranking"][0]["title"], "Jaws");
    assert_eq!(answer["unknown"], json!(["No Such Film", "Nor This"]));
}

/// ONNX Runtime and the embedded engine agree on the films' scores.
#[tokio::test(flavor = "multi_thread")]
async fn both_engines_rank_the_same() {
    let mut rankings = Vec::new();
    for engine in ["onnxruntime", "embedded"] {
        let demo = std::fs::read_to_string(repository().join("config/demo.toml")).expect("there");
        let config = demo
            .replace("\"../", "\"{repo}/")
            .replace("[models.movie-ranker]", &format!("[models.movie-ranker]\nengine = \"{engine}\""));
        let gateway = gateway::start(&config).await;
        rankings.push(gateway.client.predict("rank-movies", &demo_request()).await.ok()["ranking"].take());
    }
    let films = |ranking: &Value| -> Vec<(String, f64)> {
        let films = ranking.as_array().expect("a list").iter();
        films.map(|film| (film["title"].to_string(), film["score"].as_f64().expect("a score"))).collect()
    };
    for (one, other) in films(&rankings[0]).iter().zip(films(&rankings[1])) {
        assert_eq!(one.0, other.0);
        assert!((one.1 - other.1).abs() < 1e-4, "{one:?} {other:?}");
    }
}

/// A client that knows only V2 can call it too: the body travels as one string.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_answers_over_v2_as_well() {
    let gateway = gateway::start_config("demo.toml").await;
    let metadata = gateway.client.get("/v2/models/rank-movies").await.ok();
    assert_eq!(metadata["inputs"][0]["datatype"], "BYTES");
    let request = json!({"inputs": [{"name": "body", "datatype": "BYTES", "shape": [1],
        "data": [demo_request().to_string()]}]});
    let answer = gateway.client.infer("rank-movies", &request).await.ok();
    let body: Value =
        serde_json::from_str(answer["outputs"][0]["data"][0].as_str().expect("text")).expect("JSON");
    assert_eq!(body, gateway.client.predict("rank-movies", &demo_request()).await.ok());
}

#[test]
fn the_readme_has_the_line_that_the_demo_prints() {
    let readme = std::fs::read_to_string(repository().join("README.md")).expect("there");
    let demo = std::fs::read_to_string(repository().join("scripts/demo.sh")).expect("there");
    let line = "/v1/models/rank-movies:predict -H 'content-type: application/json' -d @";
    assert!(readme.contains(line) && demo.contains(line));
}
