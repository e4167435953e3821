//! The worked examples of `FEATURES.md`, and the plugin's behaviour around them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use sluice_sdk::{Config, Prepared, Preprocessor, Request, SparseRows, Tensor, testing};

use super::MovieFeatures;

#[derive(Deserialize)]
struct Vectors {
    width: u32,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    note: String,
    tastes: Box<RawValue>,
    candidate: String,
    store: BTreeMap<String, Box<RawValue>>,
    row: Vec<(usize, f32)>,
}

fn prepare(body: &str) -> Result<Prepared, sluice_sdk::Error> {
    let mut plugin = MovieFeatures::init(Config::from_json("")).expect("all settings have defaults");
    plugin.preprocess(Request::from_body(body))
}

fn rows(prepared: Prepared) -> (SparseRows, String) {
    let Prepared::Run { inputs, carry } = prepared else { panic!("the model is wanted") };
    let carry = String::from_utf8(carry).expect("JSON");
    let (name, tensor) = inputs.into_vec().remove(0);
    assert_eq!(name, "features");
    let Tensor::Sparse(rows) = tensor else { panic!("sparse rows") };
    (rows, carry)
}

fn answer(prepared: Prepared) -> String {
    let Prepared::Answer(answer) = prepared else { panic!("an answer is wanted") };
    String::from_utf8(answer.data().expect("a body").to_vec()).expect("JSON")
}

#[test]
fn every_worked_example_comes_out_exactly() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../../movies/vectors.json")).expect("the committed vectors");
    assert_eq!(vectors.width, super::features::WIDTH);
    assert!(!vectors.cases.is_empty());
    for case in vectors.cases {
        testing::set_store("movies", case.store.iter().map(|(key, value)| (key.clone(), value.get())));
        let candidate = serde_json::to_string(&case.candidate).expect("a text");
        let body = format!(r#"{{"tastes": {}, "candidates": [{candidate}]}}"#, case.tastes.get());
        let (rows, _) = rows(prepare(&body).expect(&case.note));
        let mut wanted = vec![0.0f32; vectors.width as usize];
        for (column, amount) in case.row {
            wanted[column] = amount;
        }
        assert_eq!(rows.to_dense(), wanted, "{}", case.note);
    }
}

#[test]
fn unknown_titles_get_no_row_and_are_named() {
    testing::set_store("movies", [("Jaws", "{}"), ("Alien", "{}")]);
    let body = r#"{"candidates": ["Alien", "Nope", "Jaws", "Alien"], "k": 2}"#;
    let (rows, carry) = rows(prepare(body).expect("two are known"));
    assert_eq!(rows.rows(), 3);
    assert_eq!(carry, r#"{"k":2,"titles":["Alien","Jaws","Alien"],"unknown":["Nope"]}"#);
}

#[test]
fn nothing_known_is_answered_without_the_model() {
    testing::set_store("movies", [("Jaws", "{}")]);
    assert_eq!(answer(prepare(r#"{"candidates": []}"#).expect("fits")), r#"{"ranking":[],"unknown":[]}"#);
    let unknown = prepare(r#"{"candidates": ["Nope"], "tastes": {"liked": ["Jaws"]}}"#).expect("fits");
    assert_eq!(answer(unknown), r#"{"ranking":[],"unknown":["Nope"]}"#);
}

#[test]
fn too_much_or_misspelt_is_the_callers_fault() {
    let candidates =
        format!(r#"{{"candidates": [{}"x"]}}"#, r#""x","#.repeat(super::question::CANDIDATES_MAX));
    let liked = format!(
        r#"{{"candidates": [], "tastes": {{"liked": [{}"x"]}}}}"#,
        r#""x","#.repeat(super::question::TASTES_MAX)
    );
    for body in [
        "{}",
        r#"{"candidates": "Jaws"}"#,
        r#"{"candidates": [], "tastes": {"genre": []}}"#,
        &candidates,
        &liked,
    ] {
        assert_eq!(prepare(body).expect_err(body).code(), 400);
    }
}

#[test]
fn a_broken_store_is_not_the_callers_fault() {
    assert_eq!(prepare(r#"{"candidates": ["Jaws"]}"#).expect_err("no store").code(), 500);
    testing::set_store("movies", [("Jaws", "[]")]);
    assert_eq!(prepare(r#"{"candidates": ["Jaws"]}"#).expect_err("no film").code(), 500);
    assert!(testing::log_lines()[0].1.contains("Jaws"));
}
