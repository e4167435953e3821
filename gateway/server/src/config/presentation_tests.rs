//! Versions, and how a model looks to clients.

use sluice_tensor::DType;

use super::tests::Folder;
use super::*;

const SEVERAL: &str = r#"
[models.m]
versions = { 2 = "m.onnx", 10 = "model.onnx", 1 = "m.onnx" }
max_batch_size = 8
labels = { y = "labels.txt" }
inputs = [{ name = "x", datatype = "FP32", dims = [-1, 4] }]
outputs = [{ name = "y", datatype = "INT64", dims = [2, 2], reshape = [4] }]
warmup = [
    { batch_size = 8, count = 3, inputs = { x = { datatype = "FP32", dims = [3, 4], data = "zero" } } },
    { name = "file", inputs = { x = { datatype = "FP32", dims = [3, 4], file = "state.bin" } } },
]
"#;

#[test]
fn the_highest_number_is_the_latest_version_and_all_have_the_rest_in_common() {
    let config = Folder::new().load(SEVERAL).expect("is fine");
    let (latest, older) = (&config.models["m"], &config.older_versions["m"]);
    let versions: Vec<&str> = older.iter().chain([latest]).map(|model| model.version.as_str()).collect();
    assert_eq!(versions, ["1", "2", "10"]);
    assert!(latest.file.ends_with("model.onnx") && older.iter().all(|model| model.file.ends_with("m.onnx")));
    let differing = Model { version: latest.version.clone(), file: latest.file.clone(), ..older[0].clone() };
    assert_eq!(differing, *latest);
    assert_eq!(config.files().len(), 4, "all of them are watched");
}

#[test]
fn what_clients_see_is_read_as_a_repository_has_it() {
    let config = Folder::new().load(SEVERAL).expect("is fine");
    let seen = &config.models["m"].presentation;
    assert_eq!(seen.labels["y"], label_lines("x"));
    let input =
        DeclaredTensor { name: "x".into(), dtype: DType::F32, dims: vec![None, Some(4)], reshape: None };
    assert_eq!(seen.inputs, [input]);
    let reshape = Some(vec![Some(4)]);
    let output = DeclaredTensor { name: "y".into(), dtype: DType::I64, dims: vec![Some(2); 2], reshape };
    assert_eq!(seen.outputs, [output]);
    let [first, second] = seen.warmup.as_slice() else { panic!("two: {:?}", seen.warmup) };
    assert_eq!(
        (&*first.name, first.rows, first.count, &first.inputs[0].data),
        ("1", 8, 3, &WarmupData::Zero)
    );
    assert_eq!((&*second.name, second.rows, second.count), ("file", 1, 1));
    assert_eq!(second.inputs[0].data, WarmupData::File("x".into()));
    assert_eq!(seen.triton.as_ref().expect("set")["version_policy"]["specific"]["versions"][2], 10);
}

#[test]
fn what_no_repository_could_say_is_refused_by_its_key() {
    let folder = Folder::new();
    for (from, to, told) in [
        ("1 = \"m.onnx\"", "01 = \"m.onnx\"", "models.m.versions.01: is not a number from 1"),
        ("1 = \"m.onnx\"", "1 = \"none.onnx\"", "models.m.versions.1: cannot read"),
        ("max_batch_size", "version = \"3\"\nmax_batch_size", "models.m.version: does not go with versions"),
        ("max_batch_size", "file = \"m.onnx\"\nmax_batch_size", "models.m.file: does not go with versions"),
        ("\"labels.txt\"", "\"none.txt\"", "models.m.labels: cannot read"),
        ("[-1, 4]", "[0, 4]", "models.m.inputs: `x` has a dimension 0"),
        ("[-1, 4]", "[]", "models.m.inputs: `x` has no dims"),
        ("\"INT64\"", "\"INT65\"", "models.m.outputs: datatype is no datatype"),
        ("dims = [2, 2], reshape", "reshape", "models.m.outputs: an entry needs"),
        ("batch_size = 8, count", "batch_size = 9, count", "models.m.warmup: has batch_size 9"),
        ("count = 3", "count = 0", "models.m.warmup: has count 0"),
        ("data = \"zero\"", "data = \"zero\", file = \"state.bin\"", "has one of data and file"),
        (
            "max_batch_size",
            "padding = { inputs = [\"x\"], sizes = [4] }\nmax_batch_size",
            "models.m.padding: does not",
        ),
    ] {
        assert!(SEVERAL.contains(from), "{from}");
        let problems = folder.problems(&SEVERAL.replacen(from, to, 1)).join("\n");
        assert!(problems.contains(told), "{told} is not in {problems}");
    }
    let staged =
        "[models.m]\nfile = \"m.onnx\"\n[pipelines.p]\nmodel = \"m\"\nlabels = { y = \"labels.txt\" }\n";
    assert!(folder.problems(staged).join("\n").contains("pipelines.p.labels: is for pipelines of steps"));
}
