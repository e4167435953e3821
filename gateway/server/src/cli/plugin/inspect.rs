//! `sluice plugin inspect`: what a component is, what it asks for, and how to configure
//! it. Nothing of it runs.

mod imports;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use sluice_sandbox::verify::{self, SAMPLES_SECTION};
use sluice_sandbox::{ComponentFacts, World};

use super::{COMPONENT_BYTES_MAX, not_loaded};
use crate::catalog::samples;
use crate::cli::outcome::{Outcome, clean, print, size};
use crate::signature::find_embedded;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The component.
    #[arg(value_name = "COMPONENT")]
    component: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let path = &arguments.component;
    let component = super::component(path)?;
    let facts =
        verify::describe(&component, COMPONENT_BYTES_MAX).map_err(|error| not_loaded(path, &error))?;
    let found = Found { samples: samples_of(&component), signature: signature_of(&component, path) };
    if arguments.json {
        let imports: Vec<_> = facts.imports.iter().map(|name| imports::json(name)).collect();
        let answer = json!({
            "facts": facts, "imports": imports, "samples": found.samples, "signature": found.signature,
            "config": snippet(&facts, path),
        });
        return print(&format!("{answer:#}\n"));
    }
    print(&report(&facts, &found, path))
}

/// What lies in the component beside its code.
struct Found {
    samples: String,
    signature: String,
}

fn samples_of(component: &[u8]) -> String {
    match verify::custom_section(component, SAMPLES_SECTION) {
        Ok(None) => "none; `sluice plugin embed` puts them in".to_owned(),
        Err(error) => format!("NOT usable: {error}"),
        Ok(Some(json)) => match samples::parse(json) {
            Ok(cases) => {
                let names: Vec<&str> = cases.iter().map(|case| &*case.name).collect();
                format!("{}: {}", cases.len(), names.join(", "))
            }
            Err(error) => format!("NOT usable: {error}"),
        },
    }
}

fn signature_of(component: &[u8], path: &Path) -> String {
    let beside = super::sign::signature_file(path);
    match find_embedded(component) {
        Ok(Some(_)) => "embedded (wasmsign2); `sluice plugin verify` checks it".to_owned(),
        Err(error) => format!("NOT usable: {error}"),
        Ok(None) if beside.is_file() => format!("{}; `sluice plugin verify` checks it", beside.display()),
        Ok(None) => "none; `sluice plugin sign` makes one".to_owned(),
    }
}

fn report(facts: &ComponentFacts, found: &Found, path: &Path) -> String {
    let mut out = String::new();
    let mut line = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{key:10} {}", clean(value));
    };
    line("component", &path.display().to_string());
    line("size", &size(facts.size_bytes.try_into().unwrap_or(u64::MAX)));
    line("digest", &format!("sha256:{}", facts.digest));
    line("world", &format!("{} of contract {}: {}", facts.world, facts.contract, purpose(facts.world)));
    line(
        "memory",
        &format!(
            "{} at the start, in {} memories; {} elements in {} tables",
            size(facts.memory_bytes),
            facts.memories,
            facts.table_elements,
            facts.tables
        ),
    );
    let meta = &facts.metadata;
    let known = [
        ("name", &meta.name),
        ("version", &meta.version),
        ("about", &meta.description),
        ("authors", &meta.authors),
        ("licences", &meta.licenses),
        ("source", &meta.source),
        ("revision", &meta.revision),
    ];
    for (key, value) in known {
        if let Some(value) = value {
            line(key, value);
        }
    }
    let tools = meta.language.iter().chain(&meta.sdk).chain(&meta.processed_by);
    let tools: Vec<String> =
        tools.map(|tool| format!("{} {}", tool.name, tool.version).trim().to_owned()).collect();
    if !tools.is_empty() {
        line("made with", &tools.join(", "));
    }
    line("samples", &found.samples);
    line("signature", &found.signature);
    out.push_str("\nimports (its permission request):\n");
    if facts.imports.is_empty() {
        out.push_str("  none\n");
    }
    for name in &facts.imports {
        let _ = writeln!(out, "  {}\n      {}", clean(name), imports::meaning(name).describe());
    }
    let _ = write!(out, "\nconfiguration:\n\n{}", snippet(facts, path));
    out
}

/// What a plugin of this world is for.
fn purpose(world: World) -> &'static str {
    if world.has_preprocess() && world.has_postprocess() {
        "makes a model's inputs and its answer; `pre` and `post` of a pipeline"
    } else if world.has_preprocess() {
        "makes a model's inputs; the `pre` of a pipeline"
    } else if world.has_postprocess() {
        "makes the answer out of a model's outputs; the `post` of a pipeline"
    } else {
        "owns the whole request and calls models itself; the `plugin` of a pipeline"
    }
}

/// What to write into the configuration, to begin with.
fn snippet(facts: &ComponentFacts, path: &Path) -> String {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().replace('_', "-")).unwrap_or_default();
    let name = if sluice_tensor::check_name(&stem).is_ok() { stem } else { "example".to_owned() };
    // A name with a dot is a path in TOML, unless it is quoted.
    let key = if name.contains('.') { format!("\"{name}\"") } else { name.clone() };
    let mut out = format!("[plugins.{key}]\n");
    // A path of this machine, for the operator to adapt; TOML has JSON's strings.
    let _ = writeln!(out, "file = {}", serde_json::Value::from(path.display().to_string()));
    let mut keys: Vec<&str> = facts.imports.iter().filter_map(|name| imports::meaning(name).key).collect();
    keys.sort_unstable();
    keys.dedup();
    for key in keys {
        let _ = writeln!(out, "{key}");
    }
    let _ = writeln!(out, "\n[pipelines.{key}]");
    if facts.world.has_preprocess() || facts.world.has_postprocess() {
        if facts.world.has_preprocess() {
            let _ = writeln!(out, "pre = \"{name}\"");
        }
        let _ = writeln!(out, "model = \"…\"");
        if facts.world.has_postprocess() {
            let _ = writeln!(out, "post = \"{name}\"");
        }
    } else {
        let _ = writeln!(out, "plugin = \"{name}\"");
    }
    out
}
