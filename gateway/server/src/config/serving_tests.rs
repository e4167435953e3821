//! Models, repositories, steps and routes, key by key.

use std::time::Duration;

use sluice_batch::{Mode, TimeoutAction};

use super::tests::Folder;
use super::*;

#[test]
fn batching_is_checked_key_by_key_and_a_delay_is_kept_to() {
    let folder = Folder::new();
    let model = |text: &str| {
        let config = folder.load(&format!("[models.m]\nfile = \"m.onnx\"\n{text}")).expect("is fine");
        config.models["m"].batching.clone()
    };
    assert_eq!(model("").mode, Mode::Backpressure);
    assert_eq!(model("max_queue_delay_microseconds = 5").mode, Mode::Fixed);
    let levels = model(
        "[models.m.batching]\npriority_levels = 5\npreferred_batch_size = [8, 4, 8]\n\
         [models.m.batching.priority_queue_policy.2]\ntimeout_action = \"DELAY\"\n\
         default_timeout_microseconds = 7",
    );
    assert_eq!((levels.default_priority_level, &levels.preferred_batch_sizes[..]), (3, &[4, 8][..]));
    let policy = &levels.priority_queue_policy[&2];
    assert_eq!(
        (policy.timeout_action, policy.default_timeout),
        (TimeoutAction::Delay, Duration::from_micros(7))
    );
    let problems = folder.problems(
        "[models.m]\nfile = \"m.onnx\"\nmax_queue_delay_microseconds = 5\n[models.m.batching]\n\
         policy = \"backpressure\"\nlatency_objective_ms = 3\npreferred_batch_size = [65]\n\
         priority_levels = 2\ndefault_priority_level = 3\n\
         [models.m.batching.tenants]\na = 0\n[models.m.batching.priority_queue_policy.3]\n",
    );
    assert_eq!(problems.len(), 6, "{problems:#?}");
}

#[test]
fn shared_memory_is_off_and_for_loopback_addresses_only() {
    let folder = Folder::new();
    let memory = folder.load("").expect("is fine").server.shared_memory;
    assert_eq!((memory.enabled, memory.regions_max, memory.bytes_max), (false, 64, 1 << 30));
    let on = "[server.shared_memory]\nenabled = true\n";
    let memory = folder.load(&format!("{on}key_prefix = \"sluice_\"")).expect("is fine").server.shared_memory;
    assert_eq!((memory.enabled, &*memory.key_prefix), (true, "sluice_"));
    for listener in ["http", "grpc"] {
        for address in ["0.0.0.0:8123", "192.0.2.1:8123", "[::]:8123"] {
            let server = format!("[server]\n{listener} = \"{address}\"\n");
            assert!(folder.load(&server).is_ok(), "{server}");
            let problems = folder.problems(&format!("{server}{on}"));
            let told = format!("is for loopback addresses, and {listener} is {address}");
            assert!(problems.len() == 1 && problems[0].ends_with(&told), "{problems:?}");
        }
        let server = format!("[server]\n{listener} = \"[::1]:8123\"\n{on}");
        assert!(folder.load(&server).is_ok(), "{server}");
    }
    let bounds = "regions_max = 0\nbytes_max = 0\nkey_prefix = \"a/b\"\n";
    assert_eq!(folder.problems(&format!("{on}{bounds}")).len(), 3);
}

#[test]
fn repositories_are_checked_and_models_may_come_from_them() {
    let folder = Folder::new();
    let config = folder
        .load("[repositories.r]\npath = \"models\"\ncontrol = \"poll\"\n[pipelines.p]\nmodel = \"m\"\n")
        .expect("is fine");
    let repository = &config.repositories["r"];
    assert_eq!((repository.control, repository.poll), (ModelControl::Poll, Duration::from_secs(15)));
    assert!(repository.exit_on_error && repository.path.ends_with("models"));
    let problems = folder.problems(
        "[repositories.a]\n[repositories.b]\npath = \"m.onnx\"\nload = [\"*\"]\n\
         [repositories.c]\npath = \"nowhere\"\npoll_seconds = 0\n\
         [repositories.d]\npath = \"models\"\ncontrol = \"explicit\"\nload = [\"../m\"]\n",
    );
    assert_eq!(problems.len(), 7, "{problems:#?}");
    assert!(folder.problems("[pipelines.p]\nmodel = \"m\"\n")[0].contains("no model is named"));
}

#[test]
fn steps_make_a_pipeline_and_a_repository_needs_no_file() {
    let folder = Folder::new();
    let step = "{ model = \"m\", inputs = { x = \"a\" }, outputs = { y = \"b\" } }";
    let text = |more: &str| format!("[models.m]\nfile = \"m.onnx\"\n[pipelines.p]\nsteps = [{step}]\n{more}");
    let config = folder.load(&text("outputs = [\"b\"]")).expect("is fine");
    let PipelineKind::Ensemble(ensemble) = &config.pipelines["p"].kind else { panic!("an ensemble") };
    assert_eq!((ensemble.steps.len(), ensemble.outputs.len()), (1, 1));
    let config = folder.load(&text("versions = [4, 3]")).expect("is fine");
    let PipelineKind::Ensemble(ensemble) = &config.pipelines["p"].kind else { panic!("an ensemble") };
    assert_eq!(ensemble.versions, ["3", "4"]);
    for wrong in ["[0]", "[1, 1]"] {
        let problems = folder.problems(&text(&format!("versions = {wrong}")));
        assert!(problems[0].contains("pipelines.p.versions: must be different"), "{problems:?}");
    }
    let staged = "[models.m]\nfile = \"m.onnx\"\n[pipelines.p]\nmodel = \"m\"\nversions = [1]\n";
    assert!(folder.problems(staged)[0].contains("is for pipelines of steps"));
    assert_eq!(folder.problems(&text("model = \"m\"\non_failure = \"fail\"")).len(), 2);
    assert!(
        folder.problems(&text("").replace("model = \"m\"", "model = \"n\""))[0].contains("no model is named")
    );
    let models = folder.0.path().join("models");
    let overrides = Overrides::default().without_file().flag("repositories.models.path", models.display());
    let config = load(&folder.0.path().join("none.toml"), &overrides).expect("is fine");
    assert_eq!(config.repositories["models"].path, models);
}

#[test]
fn routes_that_could_be_taken_for_others_are_refused() {
    let folder = Folder::new();
    let with = |first: &str, second: &str| {
        format!(
            "[models.m]\nfile = \"m.onnx\"\n[plugins.p]\nfile = \"p.wasm\"\n[pipelines.a]\nplugin = \"p\"\n\
             routes = [{first}]\n[pipelines.b]\npre = \"p\"\nmodel = \"m\"\nroutes = [{second}]\n"
        )
    };
    let route = |method: &str, path: &str| format!("{{ method = \"{method}\", path = \"{path}\" }}");
    let fine = with(&route("GET", "/a/{x}"), &route("POST", "/a/b"));
    let config = folder.load(&fine).expect("is fine");
    assert_eq!(config.pipelines["a"].routes[0].to_string(), "GET /a/{x}");
    for (first, second, word) in [
        (route("GET", "/a/{x}"), route("GET", "/a/b"), "cannot be told from"),
        (route("GET", "/v2/x"), String::new(), "which the protocols own"),
        (route("GET", "/{any}/models"), String::new(), "which the protocols own"),
        (route("TRACE", "/a"), String::new(), "method must be"),
        (route("GET", "a"), String::new(), "must begin with"),
        (vec![route("GET", "/v2/x"); 17].join(","), String::new(), "more than 16"),
    ] {
        let problems = folder.problems(&with(&first, &second)).join("\n");
        assert!(problems.contains(word), "{first} {second}: {problems}");
    }
    let bare = "[models.m]\nfile = \"m.onnx\"\n[pipelines.a]\nmodel = \"m\"\nroutes = [{ method = \"GET\", path = \"/a\" }]\n";
    assert!(folder.problems(bare).join("\n").contains("need a plugin"));
}
