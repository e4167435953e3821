//! `config/sluice.toml` has every key, and its defaults are the real ones.

use super::file::{
    BatchingFile, CacheFile, ConfigFile, EgressFile, EngineFile, KeyFile, LimitsFile, ModelFile, OciFile,
    PaddingFile, PipelineFile, PluginFile, QueuePolicyFile, RepositoryFile, SandboxFile, ServerFile,
    SharedMemoryFile, StateFile, StoreFile, TelemetryFile, TlsFile, TokenFile, VerifyFile,
};
use super::tests::{Folder, example, fields};
use super::*;

/// The example with every setting made real: `#key = …` and `#[table]` lose their `#`.
pub(super) fn uncommented() -> String {
    let text = std::fs::read_to_string(example("sluice.toml")).expect("the example");
    let is_setting = |line: &str| {
        let after = line.strip_prefix('#').and_then(|rest| rest.chars().next());
        after.is_some_and(|first| first == '[' || first.is_ascii_lowercase())
    };
    text.lines().map(|line| if is_setting(line) { &line[1..] } else { line }).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_key_is_in_the_example_file() {
    let keys = locate::keys(&uncommented(), locate::Format::Toml);
    let tables: [(&str, &[&str]); 25] = [
        ("", fields::<ConfigFile>()),
        ("server", fields::<ServerFile>()),
        ("server.tls", fields::<TlsFile>()),
        ("server.admin_tls", fields::<TlsFile>()),
        ("server.limits", fields::<LimitsFile>()),
        ("server.shared_memory", fields::<SharedMemoryFile>()),
        ("engine", fields::<EngineFile>()),
        ("sandbox", fields::<SandboxFile>()),
        ("telemetry", fields::<TelemetryFile>()),
        ("state", fields::<StateFile>()),
        ("cache", fields::<CacheFile>()),
        ("verify", fields::<VerifyFile>()),
        ("egress", fields::<EgressFile>()),
        ("oci", fields::<OciFile>()),
        ("tokens.*", fields::<TokenFile>()),
        ("keys.*", fields::<KeyFile>()),
        ("stores.*", fields::<StoreFile>()),
        ("repositories.*", fields::<RepositoryFile>()),
        ("models.*", fields::<ModelFile>()),
        ("models.example.batching", fields::<BatchingFile>()),
        ("models.example.padding", fields::<PaddingFile>()),
        ("models.example.batching.default_queue_policy", fields::<QueuePolicyFile>()),
        ("plugins.*", fields::<PluginFile>()),
        ("pipelines.*", fields::<PipelineFile>()),
        ("server", &["tls", "admin_tls"]),
    ];
    for (table, known) in tables {
        assert!(!known.is_empty());
        for field in known {
            let is_there = keys.iter().any(|(path, _)| match table.strip_suffix(".*") {
                _ if table.is_empty() => path.first().is_some_and(|first| first == field),
                Some(kind) => path.len() == 3 && path[0] == kind && path[2] == *field,
                None => path.join(".").starts_with(&format!("{table}.{field}")),
            });
            assert!(is_there, "{table}.{field} is not in config/sluice.toml");
        }
    }
}

#[test]
fn the_example_file_is_valid_as_it_stands_and_with_everything_in_it() {
    let folder = Folder::new();
    let as_it_stands = std::fs::read_to_string(example("sluice.toml")).expect("the example");
    let bare = folder.load(&as_it_stands).expect("serves nothing");
    assert!(bare.models.is_empty() && bare.pipelines.is_empty());
    let full = folder.load(&uncommented()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!((full.models.len(), full.plugins.len(), full.pipelines.len()), (4, 2, 3));
}

#[test]
fn the_defaults_that_the_example_file_shows_are_the_real_ones() {
    let folder = Folder::new();
    let shown = folder.load(&uncommented()).expect("is fine");
    let bare = "[stores.example]\nfile=\"store.jsonl\"\n[models.example]\nfile=\"model.onnx\"\n\
                [plugins.example]\nfile=\"plugin.wasm\"\nconfig={mode=\"example\"}\nstores=[\"example\"]\nmodels=[\"example\"]\n";
    let mut real = folder.load(bare).expect("is fine");
    // These have no default: the file shows an example.
    real.engine.onnxruntime_library.clone_from(&shown.engine.onnxruntime_library);
    real.sandbox.cache_dir.clone_from(&shown.sandbox.cache_dir);
    real.telemetry.otlp_endpoint.clone_from(&shown.telemetry.otlp_endpoint);
    real.telemetry.triton_trace_file.clone_from(&shown.telemetry.triton_trace_file);
    real.state.dir.clone_from(&shown.state.dir);
    real.egress.ca.clone_from(&shown.egress.ca);
    real.oci.credentials.clone_from(&shown.oci.credentials);
    real.server.tls.clone_from(&shown.server.tls);
    real.server.admin_tls.clone_from(&shown.server.admin_tls);
    (real.tokens, real.keys) = (shown.tokens.clone(), shown.keys.clone());
    real.stores.insert("sessions".into(), shown.stores["sessions"].clone());
    real.plugins.insert("pulled".into(), shown.plugins["pulled"].clone());
    let (example, seen) = (real.plugins.get_mut("example").expect("there"), &shown.plugins["example"]);
    example.owner.clone_from(&seen.owner);
    example.http_hosts.clone_from(&seen.http_hosts);
    example.files.clone_from(&seen.files);
    let (model, seen) = (real.models.get_mut("example").expect("there"), &shown.models["example"]);
    model.batching.tenants.clone_from(&seen.batching.tenants);
    model.batching.latency_objective = seen.batching.latency_objective;
    model.batching.mode = seen.batching.mode;
    model.batching.resources.clone_from(&seen.batching.resources);
    model.padding.clone_from(&seen.padding);
    for name in ["stateful", "stateful-oldest", "several"] {
        real.models.insert(name.into(), shown.models[name].clone());
    }
    real.older_versions.clone_from(&shown.older_versions);
    real.engine.resources.clone_from(&shown.engine.resources);
    real.repositories.clone_from(&shown.repositories);
    real.pipelines.clone_from(&shown.pipelines);
    assert_eq!(shown, real);
}

#[test]
fn demo_and_bench_are_well_formed() {
    let overrides =
        Overrides::default().with_environment([("SLUICE_BENCH_DIR".to_owned(), "/nowhere".to_owned())]);
    for name in ["demo.toml", "bench.toml"] {
        if let Err(errors) = load(&example(name), &overrides) {
            // Models and plugins are built later; nothing but their absence may be wrong.
            for problem in &errors.problems {
                assert!(problem.message.starts_with("cannot read "), "{name}: {problem}");
            }
        }
    }
}
