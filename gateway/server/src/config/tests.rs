//! What the configuration promises.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::*;

/// A folder with the files that configurations name.
pub(super) struct Folder(pub(super) tempfile::TempDir);

impl Folder {
    pub(super) fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        for name in
            ["m.onnx", "p.wasm", "s.jsonl", "model.onnx", "plugin.wasm", "store.jsonl", "libonnxruntime.so"]
        {
            folder.write(name, "x");
        }
        for name in ["cert.pem", "key.pem", "ca.pem", "config.json", "state.bin", "labels.txt"] {
            folder.write(name, "x");
        }
        for name in ["data", "models"] {
            std::fs::create_dir(folder.0.path().join(name)).expect("a folder");
        }
        folder
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }

    pub(super) fn load(&self, text: &str) -> Result<Config, ConfigErrors> {
        load(&self.write("c.toml", text), &Overrides::default())
    }

    /// The problems, as `line key: message`.
    pub(super) fn problems(&self, text: &str) -> Vec<String> {
        lines(&self.load(text).expect_err("has problems"))
    }
}

fn lines(errors: &ConfigErrors) -> Vec<String> {
    let line = |problem: &Problem| problem.line.map_or_else(|| "-".to_owned(), |line| line.to_string());
    errors.problems.iter().map(|p| format!("{} {}: {}", line(p), p.key, p.message)).collect()
}

const WHOLE: &str = r#"
[server]
http = "127.0.0.1:0"
[stores.films]
file = "s.jsonl"
[models.ranker]
file = "m.onnx"
max_batch_size = 256
max_queue_delay_microseconds = 500
[plugins.pre]
file = "p.wasm"
stores = ["films"]
config = { k = [1, 2.5, "x"], deep = { on = true } }
[plugins.whole]
file = "p.wasm"
models = ["ranker"]
[pipelines.rank]
pre = "pre"
model = "ranker"
timeout_ms = 250
[pipelines.alone]
plugin = "whole"
"#;

#[test]
fn a_whole_file_becomes_a_complete_config() {
    let folder = Folder::new();
    let config = folder.load(WHOLE).expect("is fine");
    assert_eq!(config.source, folder.0.path().join("c.toml"));
    assert_eq!(config.server.http.port(), 0);
    assert_eq!(config.server.admin, defaults::ADMIN);
    assert_eq!(config.server.limits.body_bytes_max, 64 << 20);
    let model = &config.models["ranker"];
    assert_eq!(model.file, folder.0.path().join("m.onnx"));
    assert_eq!((model.max_batch_size, model.instances, &*model.version), (256, 1, "1"));
    assert_eq!(model.batching.max_queue_delay, Duration::from_micros(500));
    let plugin = &config.plugins["pre"];
    assert_eq!(plugin.config, serde_json::json!({"k": [1, 2.5, "x"], "deep": {"on": true}}));
    assert_eq!(plugin.stores, [std::sync::Arc::<str>::from("films")]);
    assert_eq!(config.plugins["whole"].config, serde_json::json!({}));
    let PipelineKind::Staged { pre, model, post } = &config.pipelines["rank"].kind else { panic!("staged") };
    assert_eq!((pre.as_deref(), &**model, post.as_deref()), (Some("pre"), "ranker", None));
    assert_eq!(config.pipelines["rank"].timeout, Some(Duration::from_millis(250)));
    assert_eq!(config.pipelines["alone"].kind, PipelineKind::Plugin { plugin: "whole".into() });
    assert_eq!(config.files().len(), 5);
}

#[test]
fn toml_yaml_and_json_mean_the_same() {
    let folder = Folder::new();
    let yaml = "# a comment\nmodels:\n  m:\n    file: m.onnx\n    version: \"2\"\nserver:\nplugins:\n  p: {file: p.wasm, config: {a: null}}\n";
    let json = r#"{"models": {"m": {"file": "m.onnx", "version": "2"}}, "plugins": {"p": {"file": "p.wasm", "config": {"a": null}}}}"#;
    let from_yaml = load(&folder.write("c.yaml", yaml), &Overrides::default()).expect("is fine");
    let from_json = load(&folder.write("c.json", json), &Overrides::default()).expect("is fine");
    let mut from_toml = folder
        .load("[models.m]\nfile = \"m.onnx\"\nversion = \"2\"\n[plugins.p]\nfile = \"p.wasm\"")
        .expect("is fine");
    assert_eq!(Config { source: from_json.source.clone(), ..from_yaml.clone() }, from_json);
    assert_eq!(from_yaml.plugins["p"].config, serde_json::json!({"a": null}));
    // TOML has no null.
    from_toml.plugins.get_mut("p").expect("there").config = serde_json::json!({"a": null});
    assert_eq!(Config { source: from_toml.source.clone(), ..from_yaml }, from_toml);
}

#[test]
fn c1_every_problem_of_form_is_listed_with_its_line_and_key() {
    let folder = Folder::new();
    let text = r#"[server]
http = "nonsense"
prot = 1
[server.limits]
headers_max = "many"
[models."a.b"]
file = "m.onnx"
instances = -1
threads = 1.5
[telemetry]
log_format = "xml"
[unknown]
"#;
    let problems = folder.problems(text);
    let starts = [
        "2 server.http: ",
        "3 server.prot: unknown key, expected one of `http`",
        "5 server.limits.headers_max: expected u64, found string \"many\"",
        "8 models.\"a.b\".instances: ",
        "9 models.\"a.b\".threads: ",
        "11 telemetry.log_format: unknown value `xml`, expected one of `auto`",
        "12 unknown: unknown key, expected one of `server`",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem:?} does not start with {start:?}");
    }
}

#[test]
fn c1_syntax_errors_have_their_line_in_every_format() {
    let folder = Folder::new();
    for (name, text) in [
        ("c.toml", "[server]\n\nhttp = = 1\n"),
        ("d.toml", "[models.a]\nfile=\"m.onnx\"\n[models.a]\n"),
        ("c.json", "{\n\"server\": {},\n}"),
        ("c.yaml", "server:\n  http: x\n bad: [\n"),
    ] {
        let errors = load(&folder.write(name, text), &Overrides::default()).expect_err("is malformed");
        assert_eq!(errors.problems.len(), 1, "{errors}");
        assert_eq!(errors.problems[0].line, Some(3), "{name}: {errors}");
        assert!(!errors.to_string().contains('\n'), "{errors}");
    }
}

#[test]
fn c1_values_out_of_range_are_named_with_what_is_allowed() {
    let folder = Folder::new();
    let text = r#"server.admin = "0.0.0.0:8002"
server.grpc = "127.0.0.1:8000"
[server.limits]
in_flight_bytes_max = 10
request_timeout_max_ms = 0
json_depth_max = 3
[telemetry]
sample_ratio = 1.5
otlp_endpoint = "https://collector"
log_filter = "sluice=loud"
[models.m]
file = "m.onnx"
instances = 65
max_queue_delay_microseconds = 10000001
version = "../1"
[plugins.p]
file = "p.wasm"
reuse = 0
memory_bytes = 536870913
"#;
    let problems = folder.problems(text);
    let starts = [
        "1 server.admin: 0.0.0.0:8002 is not a loopback address: it needs [server.admin_tls]",
        "1 server.admin: 0.0.0.0:8002 is not a loopback address: it needs a token",
        "2 server.grpc: 127.0.0.1:8000 is the address of http too",
        "4 server.limits.in_flight_bytes_max: is below body_bytes_max",
        "5 server.limits.request_timeout_max_ms: is 0 ms, allowed are 1 to 3600000 ms",
        "6 server.limits.json_depth_max: is 3, allowed are 4 to 127",
        "8 telemetry.sample_ratio: is 1.5, allowed are 0 to 1",
        "9 telemetry.otlp_endpoint: is not an http:// address",
        "10 telemetry.log_filter: ",
        "13 models.m.instances: is 65, allowed are 1 to 64",
        "14 models.m.max_queue_delay_microseconds: is 10000001",
        "15 models.m.version: ",
        "18 plugins.p.reuse: is 0, allowed are 1",
        "19 plugins.p.memory_bytes: is 536870913, allowed are 65536 to 536870912",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem:?} does not start with {start:?}");
    }
}

#[test]
fn c2_missing_references_and_shared_names_are_listed_together() {
    let folder = Folder::new();
    let text = r#"[models.m]
file = "m.onnx"
[models."-bad"]
file = "m.onnx"
[models.nofile]
[plugins.p]
file = "absent.wasm"
stores = ["nostore"]
models = ["m", "nomodel", "m"]
[pipelines.m]
model = "m"
[pipelines.a]
pre = "noplugin"
model = "p"
[pipelines.b]
model = "m"
plugin = "p"
[pipelines.c]
[pipelines.d]
plugin = "p"
post = "p"
"#;
    let problems = folder.problems(text);
    let starts = [
        "3 models.-bad: ",
        "5 models.nofile.file: is missing",
        "7 plugins.p.file: cannot read ",
        "8 plugins.p.stores: no store is named `nostore`",
        "9 plugins.p.models: no model is named `nomodel`; there is `-bad`, `m`, `nofile`",
        "9 plugins.p.models: `m` is there twice",
        "10 pipelines.m: a model has this name too",
        "13 pipelines.a.pre: no plugin is named `noplugin`",
        "14 pipelines.a.model: no model is named `p`",
        "17 pipelines.b.plugin: and model exclude each other",
        "18 pipelines.c.model: is missing",
        "20 pipelines.d.plugin: stands alone",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem:?} does not start with {start:?}");
    }
}

#[test]
fn c2_duplicate_names_are_refused_in_every_format() {
    let folder = Folder::new();
    let json = "{\"models\": {\n\"m\": {\"file\": \"m.onnx\"},\n\"m\": {\"file\": \"m.onnx\"}}}";
    let yaml = "models:\n  m:\n    file: m.onnx\n  m: \n    file: m.onnx\n";
    for (name, text, line) in [("c.json", json, 3), ("c.yaml", yaml, 4)] {
        let errors = load(&folder.write(name, text), &Overrides::default()).expect_err("is ambiguous");
        assert_eq!(lines(&errors)[0], format!("{line} models.m: is set twice"), "{errors}");
    }
}

#[test]
fn c3_files_that_cannot_be_a_configuration_are_refused() {
    let folder = Folder::new();
    let huge = vec![b'#'; usize::try_from(defaults::CONFIG_BYTES_MAX).expect("fits") + 1];
    for (name, bytes, message) in [
        ("huge.toml", huge.as_slice(), "is larger than 1048576 bytes"),
        ("latin.toml", b"# caf\xe9", "is not UTF-8 at byte 5"),
        ("c.ini", b"", "ends in .toml"),
    ] {
        let errors = load(&folder.write(name, bytes), &Overrides::default()).expect_err("is refused");
        assert!(errors.to_string().contains(message), "{errors}");
    }
    let absent = load(&folder.0.path().join("absent.toml"), &Overrides::default()).expect_err("is absent");
    assert!(absent.to_string().contains("absent.toml: cannot read the file"), "{absent}");
    let directory = load(&folder.write("x.toml", "").with_file_name(""), &Overrides::default());
    assert!(directory.is_err());
    // The largest that is allowed is read.
    let full = vec![b'#'; usize::try_from(defaults::CONFIG_BYTES_MAX).expect("fits")];
    load(&folder.write("full.toml", full), &Overrides::default()).expect("is a comment");
}

#[test]
fn a_hostile_number_of_problems_is_cut() {
    let folder = Folder::new();
    let mut text = String::from("[server]\n");
    for number in 0..1000 {
        writeln!(text, "k{number} = 1").expect("a string");
    }
    let errors = folder.load(&text).expect_err("is nonsense");
    assert_eq!(errors.problems.len(), defaults::PROBLEMS_MAX);
    assert!(errors.left_out > 0);
}

#[test]
fn environment_wins_over_file_and_flags_over_environment() {
    let folder = Folder::new();
    let path = folder.write("c.toml", "[server]\ndrain_ms = 1\n[models.movie-ranker]\nfile = \"m.onnx\"\n[telemetry]\nservice_name = \"file\"\n");
    let environment = [
        ("SLUICE_SERVER__DRAIN_MS", "2"),
        ("SLUICE_SERVER__DRAIN_DELAY_MS", "3"),
        ("SLUICE_MODELS__MOVIE_RANKER__INSTANCES", "4"),
        ("SLUICE_MODELS__MOVIE_RANKER__VERSION", "5"),
        ("SLUICE_TELEMETRY__SERVICE_NAME", "true"),
        ("SLUICE_LOG", "sluice=debug,warn"),
        ("SLUICE_BENCH_DIR", "ignored"),
        ("OTHER__KEY", "ignored"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let overrides = Overrides::default()
        .with_environment(environment)
        .flag("server.drain_ms", 6)
        .flag("server.http", "[::1]:0")
        .flag("engine.default", "sim");
    let config = load(&path, &overrides).expect("is fine");
    assert_eq!(config.server.drain, Duration::from_millis(6));
    assert_eq!(config.server.drain_delay, Duration::from_millis(3));
    assert!(config.server.http.is_ipv6());
    let model = &config.models["movie-ranker"];
    assert_eq!((model.instances, &*model.version, model.engine), (4, "5", EngineChoice::Sim));
    assert_eq!(config.telemetry.service_name, "true");
    assert_eq!(config.telemetry.log_filter, "sluice=debug,warn");
}

#[test]
fn problems_of_overrides_name_the_variable_or_flag() {
    let folder = Folder::new();
    let path = folder.write("c.toml", "[server]\ndrain_ms = 1\n");
    let variables = [("SLUICE_SERVER__HTPP", "1"), ("SLUICE_ENGINE__THREADS", "5000")];
    let overrides = Overrides::default()
        .with_environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .flag("server.drain_ms", "soon");
    let text = load(&path, &overrides).expect_err("is wrong").to_string();
    for start in [
        "environment SLUICE_SERVER__HTPP: server.htpp: unknown key",
        "environment SLUICE_ENGINE__THREADS: engine.threads: is 5000",
        "flag server.drain_ms: server.drain_ms: expected u64, found string \"soon\"",
    ] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
    }
}

#[test]
fn paths_take_variables_and_missing_ones_are_problems() {
    let folder = Folder::new();
    let path = folder
        .write("c.toml", "[models.a]\nfile = \"${DIR}/m.onnx\"\n[models.b]\nfile = \"${NO:-.}/m.onnx\"\n");
    let directory = folder.0.path().to_str().expect("UTF-8").to_owned();
    let overrides = Overrides::default().with_environment([("DIR".to_owned(), directory)]);
    let config = load(&path, &overrides).expect("is fine");
    assert_eq!(config.models["a"].file, folder.0.path().join("m.onnx"));
    let errors = load(&path, &Overrides::default()).expect_err("DIR is missing");
    assert_eq!(lines(&errors), ["2 models.a.file: the environment variable `DIR` is not set"]);
}

#[test]
fn the_cache_follows_the_xdg_rules() {
    let folder = Folder::new();
    let path = folder.write("c.toml", "");
    let cache = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load(&path, &Overrides::default().with_environment(pairs)).expect("is fine").sandbox.cache_dir
    };
    let dir = |text: &str| Some(PathBuf::from(text));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]), dir("/x/sluice/compiled"));
    assert_eq!(cache(&[("XDG_CACHE_HOME", "relative"), ("HOME", "/h")]), dir("/h/.cache/sluice/compiled"));
    assert_eq!(cache(&[]), None);
}

#[test]
fn how_long_a_plugin_waits_and_what_crosses_at_once_is_the_operators_to_say() {
    let folder = Folder::new();
    let text = |more: &str| format!("[plugins.p]\nfile = \"plugin.wasm\"\n{more}\n");
    let config = folder
        .load(&text("host_wait_max_ms = 250\npermit_wait_max_ms = 20\nhostcall_bytes = 1048576"))
        .expect("is fine");
    let plugin = &config.plugins["p"];
    assert_eq!((plugin.host_wait_max.as_millis(), plugin.permit_wait_max.as_millis()), (250, 20));
    assert_eq!(plugin.hostcall_bytes, 1 << 20);
    for bad in ["host_wait_max_ms = 0", "permit_wait_max_ms = 0", "hostcall_bytes = 1000"] {
        let problems = folder.problems(&text(bad));
        assert!(problems.len() == 1 && problems[0].contains(&bad[..8]), "{problems:?}");
    }
}

#[test]
fn models_inherit_the_engine_and_plugins_the_strictness() {
    let folder = Folder::new();
    let text = "[engine]\ndefault = \"embedded\"\nthreads = 3\nspinning = true\n[models.a]\nfile = \"m.onnx\"\n\
                [models.b]\nfile = \"m.onnx\"\nengine = \"sim\"\nthreads = 1\nspinning = false\n\
                [sandbox]\nstrict = true\n[plugins.p]\nfile = \"p.wasm\"\nstrict = false\n";
    let config = folder.load(text).expect("is fine");
    let of =
        |name: &str| (config.models[name].engine, config.models[name].threads, config.models[name].spinning);
    assert_eq!(of("a"), (EngineChoice::Embedded, 3, true));
    assert_eq!(of("b"), (EngineChoice::Sim, 1, false));
    assert!(config.plugins["p"].strict);
}

#[test]
fn c6_keys_that_need_a_restart_are_named_and_others_are_not() {
    let folder = Folder::new();
    let old = folder.load(WHOLE).expect("is fine");
    assert_eq!(restart_keys(&old, &old), Vec::<String>::new());
    let text = format!(
        "{}\n[sandbox]\nepoch_tick_ms = 9\nstrict = true\n[telemetry]\nsample_ratio = 0.5\n[engine]\nthreads = 1\n",
        WHOLE.replace("127.0.0.1:0", "127.0.0.1:9999")
    );
    let new = folder.load(&text).expect("is fine");
    assert_eq!(restart_keys(&old, &new), ["server.http", "sandbox.epoch_tick_ms", "telemetry.sample_ratio"]);
}

#[test]
fn limits_and_drain_times_need_a_restart_too() {
    let folder = Folder::new();
    let old = folder.load(WHOLE).expect("is fine");
    let text = WHOLE.replace("[server]", "[server]\ndrain_ms = 1\nlimits = { headers_max = 7 }");
    assert_eq!(
        restart_keys(&old, &folder.load(&text).expect("is fine")),
        ["server.limits", "server.drain_ms"]
    );
}

/// The keys of a table's type, from its own refusal of an unknown one.
pub(super) fn fields<T: DeserializeOwned + std::fmt::Debug>() -> &'static [&'static str] {
    let unknown = figment::value::Dict::from([("?".to_owned(), 1.into())]);
    let error = T::deserialize(&figment::value::Value::from(unknown)).expect_err("refuses unknown keys");
    match error.kind {
        figment::error::Kind::UnknownField(_, known) => known,
        other => panic!("{other}"),
    }
}

pub(super) fn example(name: &str) -> PathBuf {
    // The crate is two folders below the repository, wherever that is.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("a repository");
    root.join("config").join(name)
}

#[test]
fn lines_are_found_behind_long_values_and_quoted_names() {
    let text = "a = \"\"\"\n[not.a.table]\nx = 1\n\"\"\"\nlist = [ # ] [\n  \"]\", 'x',\n]\n[\"q.r\".s]\n  k.l = { m = 1 }\n";
    let keys = locate::keys(text, locate::Format::Toml);
    let found: Vec<(String, usize)> = keys.iter().map(|(path, line)| (path.join("/"), *line)).collect();
    let expected = [("a", 1), ("list", 5), ("q.r/s", 8), ("q.r/s/k/l", 9)];
    assert_eq!(found, expected.map(|(path, line)| (path.to_owned(), line)));
    let path = ["q.r", "s", "k", "l", "m"].map(str::to_owned);
    assert_eq!(locate::line_of(&keys, &path), Some(9));

    let yaml = "a:\n  b: |\n    c: d\n  e:\n    - f: 1\n      g: 2\n  h: 1\n";
    let found: Vec<(String, usize)> =
        locate::keys(yaml, locate::Format::Yaml).iter().map(|(path, line)| (path.join("/"), *line)).collect();
    assert_eq!(found, [("a", 1), ("a/b", 2), ("a/e", 4), ("a/h", 7)].map(|(p, l)| (p.to_owned(), l)));

    let json = "{\"a\": {\"b\": [1, {\"c\": \"}\\\"\"}, {\"c\": 1}],\n\"d\": 2}, \"e\": {\n\"d\": 3}}";
    let found = locate::keys(json, locate::Format::Json);
    assert!(locate::duplicates(&found).is_empty(), "{found:?}");
    for (path, line) in [(["a", "d"], 2), (["e", "d"], 3)] {
        assert_eq!(locate::line_of(&found, &path.map(str::to_owned)), Some(line));
    }
}
