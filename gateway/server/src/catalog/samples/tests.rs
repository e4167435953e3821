//! What the sample cases promise, against a hook that answers as it is told.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{
    Answer, CallContext, CallError, Failure, HttpAnswer, HttpBody, Inference, InferenceError, Prepared,
    Request, World,
};
use sluice_tensor::{NamedTensor, Shape, Signature, Tensor};

use super::*;
use crate::pipeline::{Hook, HookResult};

/// A plugin that answers a body with itself, "400" with a refusal, and tensors with the
/// same tensors.
struct Mirror;

#[async_trait]
impl Hook for Mirror {
    fn name(&self) -> &str {
        "mirror"
    }

    async fn preprocess(&self, _: CallContext, request: Request) -> HookResult<Prepared> {
        match request {
            Request::Tensors(inputs) => Ok(Prepared::Run { inputs, carry: Bytes::from_static(b"left") }),
            Request::Body(body) => answer(body.data).map(Prepared::Answer),
        }
    }

    async fn postprocess(
        &self,
        _: CallContext,
        carry: Bytes,
        outputs: Vec<NamedTensor>,
    ) -> HookResult<Answer> {
        if carry == "tensors" { Ok(Answer::Tensors(outputs)) } else { answer(carry) }
    }

    async fn handle(&self, _: CallContext, request: Request) -> HookResult<Answer> {
        match request {
            Request::Tensors(tensors) => Ok(Answer::Tensors(tensors)),
            Request::Body(HttpBody { data, .. }) => answer(data),
        }
    }
}

fn answer(data: Bytes) -> HookResult<Answer> {
    match &data[..] {
        b"400" => {
            let message = "no".to_owned();
            Err(CallError::Failure(Failure { status: 400, message, retry_after_seconds: None }))
        }
        b"trap" => Err(CallError::Trap("unreachable".to_owned())),
        _ => Ok(Answer::Body(HttpAnswer { status: 200, content_type: "text/plain".to_owned(), data })),
    }
}

fn context() -> CallContext {
    CallContext {
        request_id: "sample".into(),
        pipeline: "".into(),
        plugin_version: "".into(),
        routing_key: None,
        priority: 0,
        tenant: None,
        parameters: std::sync::Arc::default(),
        route: None,
        deadline: tokio::time::Instant::now() + Duration::from_secs(5),
        span: tracing::Span::none(),
    }
}

/// The diffs of all cases, in order.
fn diffs(world: World, json: &str) -> Vec<Vec<String>> {
    let cases = parse(json.as_bytes()).expect("valid cases");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let run = |case: &Case| runtime.block_on(super::run(&Mirror, world, case, context())).diff;
    cases.iter().map(run).collect()
}

fn diff(world: World, json: &str) -> Vec<String> {
    diffs(world, json).remove(0)
}

const GOOD: [&str; 0] = [];

#[test]
fn a_case_without_an_expectation_just_must_not_fail() {
    let ask =
        |text: &str| diff(World::Pipeline, &format!(r#"[{{"name":"a","request":{{"text":"{text}"}}}}]"#));
    assert_eq!(ask("anything"), GOOD);
    assert_eq!(ask("400"), ["the plugin refused the request with 400: no"]);
    assert_eq!(ask("trap"), ["plugin trapped: unreachable"]);
}

#[test]
fn json_is_compared_by_path_with_a_tolerance_for_fractions_only() {
    let ask = |wanted: &str, got: &str| {
        let case = format!(r#"[{{"name":"a","request":{{"json":{got}}},"expect":{{"json":{wanted}}}}}]"#);
        diff(World::Pipeline, &case)
    };
    assert_eq!(ask(r#"{"a":[1,0.5],"b":null}"#, r#"{"b":null,"a":[1,0.5000001]}"#), GOOD);
    assert_eq!(ask("1", "1.0"), GOOD);
    assert_eq!(ask("null", "null"), GOOD);
    assert_eq!(ask("1000000", "1000001"), ["$: expected 1000000, got 1000001"], "whole numbers are exact");
    assert_eq!(
        ask(r#"{"ranking":[{"id":"b","score":0.71}]}"#, r#"{"ranking":[{"id":"b","score":0.93}]}"#),
        ["$.ranking[0].score: expected 0.71, got 0.93"]
    );
    assert_eq!(
        ask(r#"{"a":1,"b":2}"#, r#"{"a":1,"c d":"x"}"#),
        ["$.b: expected 2, is missing", "$[\"c d\"]: not expected, got \"x\""]
    );
    assert_eq!(ask("[1,2]", "[1]"), ["$: expected 2 elements, got 1"]);
    assert_eq!(ask("{}", "[]"), ["$: expected {}, got []"]);
}

#[test]
fn a_diff_is_bounded_in_lines_and_width() {
    let numbers: Vec<u32> = (0..1000).collect();
    let wanted: Vec<u32> = numbers.iter().map(|number| number + 1).collect();
    let case = format!(r#"[{{"name":"a","request":{{"json":{numbers:?}}},"expect":{{"json":{wanted:?}}}}}]"#);
    let lines = diff(World::Pipeline, &case);
    assert_eq!(lines.len(), DIFF_LINES_MAX);
    assert_eq!(lines.last().map(String::as_str), Some("and 991 more differences"));
    let long = "é".repeat(5000);
    let case = format!(r#"[{{"name":"a","request":{{"text":"{long}"}},"expect":{{"text":"x"}}}}]"#);
    assert!(diff(World::Pipeline, &case)[0].len() < 300);
}

#[test]
fn text_is_compared_exactly_and_says_where_it_differs() {
    let case = r#"[{"name":"a","request":{"text":"hello world"},"expect":{"text":"hello World"}}]"#;
    assert_eq!(
        diff(World::Pipeline, case),
        [r#"text differs at character 6: expected "World", got "world""#]
    );
}

#[test]
fn a_status_is_met_by_a_refusal_or_an_answer() {
    let ask = |text: &str, status: u16| {
        let case =
            format!(r#"[{{"name":"a","request":{{"text":"{text}"}},"expect":{{"status":{status}}}}}]"#);
        diff(World::Pipeline, &case)
    };
    assert_eq!(ask("400", 400), GOOD);
    assert_eq!(ask("fine", 200), GOOD);
    assert_eq!(ask("400", 422), ["status: expected 422, got 400: no"]);
    assert_eq!(ask("fine", 400), ["status: expected 400, got 200"]);
    assert_eq!(ask("trap", 502), ["plugin trapped: unreachable"], "a crash is never what is expected");
}

const X: &str = r#"{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2,3,4]}"#;

#[test]
fn tensors_are_compared_by_name_type_shape_and_value() {
    let ask = |wanted: &str| {
        let case =
            format!(r#"[{{"name":"a","request":{{"tensors":[{X}]}},"expect":{{"inputs":[{wanted}]}}}}]"#);
        diff(World::Preprocessor, &case)
    };
    assert_eq!(ask(X), GOOD);
    assert_eq!(ask(&X.replace("[1,2,3,4]", "[1,2,3.00001,4]")), GOOD);
    assert_eq!(ask(&X.replace("[1,2,3,4]", "[1,2,3.1,4]")), ["input 'x'[1, 0]: expected 3.1, got 3"]);
    assert_eq!(ask(&X.replace("[2,2]", "[4,1]")), ["input 'x': expected shape [4,1], got [2,2]"]);
    assert_eq!(ask(&X.replace("FP32", "INT32")), ["input 'x': expected datatype INT32, got FP32"]);
    assert_eq!(
        ask(&X.replace("\"x\"", "\"y\"")),
        ["input 'y': expected FP32 of [2,2], is missing", "input 'x': not expected, got FP32 of [2,2]"]
    );
    let words = r#"{"name":"w","datatype":"BYTES","shape":[2],"data":["a","b"]}"#;
    let other = words.replace(r#""b""#, r#""c""#);
    let case =
        format!(r#"[{{"name":"a","request":{{"tensors":[{words}]}},"expect":{{"tensors":[{other}]}}}}]"#);
    assert_eq!(diff(World::Pipeline, &case), [r#"output 'w'[1]: expected "c", got "b""#]);
}

#[test]
fn a_transformer_hands_its_carry_from_one_hook_to_the_other() {
    let both = format!(
        r#"[{{"name":"both","request":{{"tensors":[{X}]}},"outputs":[{X}],"expect":{{"text":"left"}}}},
            {{"name":"given","outputs":[{X}],"carry_base64":"dGVuc29ycw==","expect":{{"tensors":[{X}]}}}},
            {{"name":"answered at once","request":{{"text":"hi"}},"outputs":[{X}],"expect":{{"text":"hi"}}}}]"#
    );
    assert_eq!(diffs(World::Transformer, &both), [GOOD, GOOD, GOOD]);
}

#[test]
fn a_case_for_another_world_says_so() {
    let with_outputs = format!(r#"[{{"name":"a","outputs":[{X}]}}]"#);
    let with_request = r#"[{"name":"a","request":{"text":"x"}}]"#;
    for (world, case, word) in [
        (World::Preprocessor, with_outputs.as_str(), "no request"),
        (World::Postprocessor, with_request, "no outputs"),
        (World::Pipeline, &with_outputs, "none"),
    ] {
        let lines = diff(world, case);
        assert!(lines[0].contains(word), "{world}: {lines:?}");
    }
}

#[test]
fn malformed_cases_are_refused_with_the_case_and_the_reason() {
    let case = |rest: &str| format!(r#"[{{"name":"a",{rest}}}]"#);
    let request = r#""request":{"text":"x"}"#;
    for (json, word) in [
        ("".to_owned(), "not valid"),
        ("{}".to_owned(), "not valid"),
        (case(""), "not valid"),
        (r#"[{"name":"a"}]"#.to_owned(), "neither a request nor outputs"),
        (case(r#""request":{}"#), "exactly one of json"),
        (case(r#""request":{"text":"x","json":1}"#), "exactly one of json"),
        (case(r#""request":{"base64":"!"}"#), "not base64"),
        (case(r#""request":{"txt":"x"}"#), "txt"),
        (case(r#""request":{"tensors":[]}"#), "request.tensors"),
        (case(&format!(r#"{request},"expect":{{}}"#)), "exactly one of json, text"),
        (case(&format!(r#"{request},"expect":{{"status":99}}"#)), "99"),
        (case(&format!(r#"{request},"tolerance":2"#)), "tolerance"),
        (case(&format!(r#"{request},"models":{{"a/b":[]}}"#)), "a/b"),
        (format!(r#"[{{"name":"",{request}}}]"#), "number 1"),
        (format!(r#"[{{"name":"a\u001b",{request}}}]"#), "number 1"),
        (format!(r#"[{{"name":"a",{request}}},{{"name":"a",{request}}}]"#), "twice"),
        ("[".repeat(100_000), "deeper"),
        (" ".repeat(SAMPLES_BYTES_MAX + 1), "at most"),
        (format!("[{}]", vec![format!(r#"{{"name":"a",{request}}}"#); 65].join(",")), "65"),
    ] {
        let error = parse(json.as_bytes()).expect_err(&json[..json.len().min(80)]).to_string();
        assert!(error.contains(word), "{}: {error}", &json[..json.len().min(80)]);
    }
    assert_eq!(parse(b"[]").map(|cases| cases.len()), Ok(0));
}

#[test]
fn a_case_answers_for_the_models_that_it_names() {
    struct Real;
    #[async_trait]
    impl Inference for Real {
        fn signature(&self, _: &str) -> Option<Signature> {
            Some(Signature::default())
        }

        async fn infer(
            &self,
            _: &CallContext,
            model: &str,
            _: Vec<NamedTensor>,
        ) -> Result<Vec<NamedTensor>, InferenceError> {
            Err(InferenceError::Failed(format!("{model} is real")))
        }
    }
    let json = format!(r#"[{{"name":"a","request":{{"text":"x"}},"models":{{"fake":[{X}]}}}}]"#);
    let case = parse(json.as_bytes()).expect("valid").remove(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let ask = |models: &CaseModels, name| runtime.block_on(models.infer(&context(), name, Vec::new()));
    let models = CaseModels::new(Some(std::sync::Arc::new(Real)));
    assert!(ask(&models, "fake").is_err(), "no case yet");
    models.serve(&case);
    let outputs = ask(&models, "fake").expect("given by the case");
    let wanted = Tensor::from_f32(Shape::new(&[2, 2]).expect("fits"), &[1.0, 2.0, 3.0, 4.0]).expect("valid");
    assert_eq!(outputs[0].tensor, wanted);
    assert_eq!(ask(&models, "other").err(), Some(InferenceError::Failed("other is real".to_owned())));
    models.stand_aside();
    assert_eq!(ask(&models, "fake").err(), Some(InferenceError::Failed("fake is real".to_owned())));
    let alone = CaseModels::default();
    assert_eq!(ask(&alone, "other").err(), Some(InferenceError::NotFound("other".to_owned())));
}
