//! Programs: they know nothing of the gateway, and are run as they are.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use sluice_sandbox::{
    Answer, CallContext, CallError, Grants, HttpAnswer, Inference, InferenceError, LoadError, Plugin,
    PluginOptions, Request, WasiPolicy, World,
};
use sluice_tensor::{DType, Dim, NamedTensor, Shape, Signature, Tensor, TensorSpec};
use tempfile::TempDir;

use crate::support::{body, context, dist, options, sandbox};

/// A model with one input `data` of four numbers a row; its output is twice as large.
struct Doubling;

#[async_trait]
impl Inference for Doubling {
    fn signature(&self, model: &str) -> Option<Signature> {
        let dims = || vec![Dim::Any(None), Dim::Fixed(4)];
        let spec = |name: &str| TensorSpec { name: name.into(), dtype: DType::F32, dims: dims() };
        (model == "mobilenet").then(|| Signature { inputs: vec![spec("data")], outputs: vec![spec("out")] })
    }

    async fn infer(
        &self,
        _: &CallContext,
        model: &str,
        inputs: Vec<NamedTensor>,
    ) -> Result<Vec<NamedTensor>, InferenceError> {
        assert_eq!(model, "mobilenet");
        assert_eq!(&*inputs[0].name, "data", "the model's name for it");
        let data = inputs[0].tensor.to_dense();
        let values = data.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let doubled: Vec<f32> = values.map(|value| value * 2.0).collect();
        let tensor = Tensor::from_f32(*inputs[0].tensor.shape(), &doubled).unwrap();
        Ok(vec![NamedTensor { name: "out".into(), tensor }])
    }
}

fn program_options(arguments: &[&str]) -> PluginOptions {
    let mut options = options();
    options.wasi = WasiPolicy::Empty;
    options.limits.call_timeout = Duration::from_secs(5);
    options.grants = Grants {
        inference: Some(Arc::new(Doubling)),
        arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
        ..Grants::default()
    };
    options
}

fn program(arguments: &[&str]) -> Plugin {
    sandbox().load(&dist("nn_command"), program_options(arguments)).unwrap()
}

async fn run(plugin: &Plugin, input: impl Into<Bytes>) -> Result<HttpAnswer, CallError> {
    match plugin.handle(context(), body(input)).await? {
        Answer::Body(answer) => Ok(answer),
        Answer::Tensors(_) => panic!("a body was expected"),
    }
}

async fn text(plugin: &Plugin, input: impl Into<Bytes>) -> String {
    String::from_utf8(run(plugin, input).await.unwrap().data.to_vec()).unwrap()
}

fn four_numbers() -> Vec<u8> {
    [3.0_f32, 1.0, 4.0, 1.5].into_iter().flat_map(f32::to_le_bytes).collect()
}

const RANKED: &str = "out TensorType::Fp32 [1, 4]: [(2, 8.0), (0, 6.0), (3, 3.0), (1, 2.0)]\n";

#[tokio::test]
async fn a_program_reads_its_input_calls_a_model_by_name_and_prints_the_answer() {
    let plugin = program(&["mobilenet", "data", "1x4"]);
    assert_eq!(plugin.info().world, World::Command);
    assert!(plugin.info().world.is_pipeline());
    let answer = run(&plugin, four_numbers()).await.unwrap();
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "text/plain; charset=utf-8"));
    assert_eq!(answer.data, RANKED);
}

#[tokio::test]
async fn a_program_of_a_third_party_finds_its_file_and_its_only_input() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("tensor.bgr"), four_numbers()).unwrap();
    let mut options = program_options(&["mobilenet", "input", "1x4", "fixture/tensor.bgr"]);
    options.grants.files = vec![(folder.path().to_owned(), "fixture".to_owned())];
    let plugin = sandbox().load(&dist("nn_command"), options).unwrap();
    assert_eq!(text(&plugin, "").await, RANKED);
}

#[tokio::test]
async fn a_folder_is_read_and_never_written_nor_left() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("inner")).unwrap();
    fs::write(folder.path().join("secret"), four_numbers()).unwrap();
    std::os::unix::fs::symlink("../secret", folder.path().join("inner/link")).unwrap();
    let with = |arguments: &[&str]| {
        let mut options = program_options(arguments);
        options.grants.files = vec![(folder.path().join("inner"), "fixture".to_owned())];
        sandbox().load(&dist("nn_command"), options).unwrap()
    };
    for path in ["fixture/../secret", "fixture/link", "/etc/passwd", "secret"] {
        let error = run(&with(&["mobilenet", "data", "1x4", path]), "").await.expect_err(path);
        assert_eq!(error, CallError::Trap("program ended with exit code 1".to_owned()), "{path}");
    }
    run(&with(&["write", "fixture/new"]), "").await.expect_err("it is read-only");
    assert!(!folder.path().join("inner/new").try_exists().unwrap());
    let mut missing = program_options(&["args"]);
    missing.grants.files = vec![(folder.path().join("none"), "fixture".to_owned())];
    let error = sandbox().load(&dist("nn_command"), missing).expect_err("no such folder");
    assert!(matches!(error, LoadError::Io(_)), "{error:?}");
}

#[tokio::test]
async fn a_program_has_its_arguments_and_an_environment_only_if_granted() {
    assert_eq!(text(&program(&["args", "a", "b"]), "").await, "a,b \n");
    let mut options = program_options(&["args"]);
    options.grants.environment = vec![("LEVEL".to_owned(), "3".to_owned())];
    let plugin = sandbox().load(&dist("nn_command"), options).unwrap();
    assert_eq!(text(&plugin, "").await, " LEVEL=3\n");
}

#[tokio::test]
async fn an_exit_code_is_a_failure_of_the_program_and_each_call_runs_it_afresh() {
    let plugin = program(&["exit", "3"]);
    for _ in 0..3 {
        let error = run(&plugin, "").await.expect_err("it failed");
        // WASI has but one code for all kinds of failure.
        assert_eq!(error, CallError::Trap("program ended with exit code 1".to_owned()));
    }
    assert_eq!(run(&program(&["exit", "0"]), "").await.unwrap().data, "");
}

#[tokio::test]
async fn output_without_end_is_cut_off() {
    let mut options = program_options(&["flood"]);
    options.limits.hostcall_bytes = 1 << 20;
    let plugin = sandbox().load(&dist("nn_command"), options).unwrap();
    let error = run(&plugin, "").await.expect_err("too much");
    assert!(matches!(&error, CallError::Output(message) if message.contains("1048576")), "{error:?}");
}

#[tokio::test]
async fn a_program_takes_no_tensors() {
    let tensor = Tensor::from_f32(Shape::new(&[1]).unwrap(), &[1.0]).unwrap();
    let request = Request::Tensors(vec![NamedTensor { name: "data".into(), tensor }]);
    let error = program(&["args"]).handle(context(), request).await.expect_err("tensors");
    assert!(matches!(&error, CallError::Failure(failure) if failure.status == 415), "{error:?}");
}

#[tokio::test]
async fn errors_of_wasi_nn_have_a_code_and_a_text() {
    // The program prints them to its log, and ends with 1.
    let lines = Arc::new(crate::support::Lines::default());
    let of = async |arguments: &[&str], input: Vec<u8>| {
        let mut options = program_options(arguments);
        options.log = Arc::<crate::support::Lines>::clone(&lines);
        let plugin = sandbox().load(&dist("nn_command"), options).unwrap();
        run(&plugin, input).await.expect_err("it fails");
        lines.all().pop().unwrap()
    };
    let line = of(&["other", "data", "1x4"], four_numbers()).await;
    assert!(line.contains("NotFound"), "{line}");
    let line = of(&["load"], Vec::new()).await;
    assert!(line.contains("UnsupportedOperation"), "{line}");
    let line = of(&["mobilenet", "data", "1x5"], four_numbers()).await;
    assert!(line.contains("InvalidArgument"), "{line}");
}

#[test]
fn a_strict_plugin_has_only_what_is_granted_by_name() {
    let mut options = program_options(&["args"]);
    options.wasi = WasiPolicy::Refuse;
    let refused = |options: PluginOptions| match sandbox().load(&dist("nn_command"), options) {
        Err(LoadError::ForbiddenImport { name, .. }) => name.split_once('/').unwrap().0.to_owned(),
        other => panic!("{other:?}"),
    };
    assert!(["wasi:clocks", "wasi:random", "wasi:filesystem"].contains(&&*refused(options.clone())));
    let folder = TempDir::new().unwrap();
    options.grants.files = vec![(folder.path().to_owned(), "fixture".to_owned())];
    options.grants.clocks = Some(true);
    options.grants.random = Some(true);
    sandbox().load(&dist("nn_command"), options.clone()).expect("everything is granted");
    options.grants.inference = None;
    assert_eq!(refused(options), "wasi:nn");
}
