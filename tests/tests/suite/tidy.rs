//! The house rules that no linter checks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sluice_tests::repository;

/// Lines of a file that are not tests.
const FILE_LINES_MAX: usize = 500;

/// Lines of a function.
const FUNCTION_LINES_MAX: usize = 70;

fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["gateway", "sdk", "guest-examples", "tests", "bench"]
        .iter()
        .map(|name| repository().join(name))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        {
            let path = entry.expect("readable").path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 60, "the walk found only {} files", files.len());
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(repository()).unwrap_or(path).display().to_string()
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_file_is_short_and_says_what_it_is_for() {
    let mut found = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        if !text.starts_with("//!") {
            found.push(format!("{}: no `//!` line at the top", shown(&path)));
        }
        let is_test = path.ends_with("tests.rs")
            || shown(&path).contains("tests/")
            || shown(&path).ends_with("_tests.rs");
        let lines = if is_test { 0 } else { without_tests(&text).lines().count() };
        if lines > FILE_LINES_MAX {
            found.push(format!("{}: {lines} lines", shown(&path)));
        }
    }
    assert_none("files that break the rules", &found);
}

#[test]
fn every_function_fits_on_a_screen() {
    let mut found = Vec::new();
    for path in rust_files() {
        let text = read(&path);
        let mut open: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            match &open {
                // rustfmt closes a function at the indent it was opened at.
                Some((at, start, name)) if indent == *at && line.trim_start().starts_with('}') => {
                    if number - start + 1 > FUNCTION_LINES_MAX {
                        found.push(format!(
                            "{}:{}: {} lines: {name}",
                            shown(&path),
                            start + 1,
                            number - start + 1
                        ));
                    }
                    open = None;
                }
                // A trait's method without a body ends where its parameters do.
                Some((at, ..)) if indent == *at && line.trim_end().ends_with(';') => open = None,
                Some(_) => {}
                None if is_function(line) && !line.trim_end().ends_with(['}', ';']) => {
                    open = Some((indent, number, line.trim().to_owned()));
                }
                None => {}
            }
        }
    }
    assert_none("functions that are too long", &found);
}

fn is_function(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take(5).collect();
    let qualifiers = ["pub", "pub(super)", "pub(crate)", "const", "async", "unsafe", "extern", "\"C\""];
    words.iter().find(|word| !qualifiers.contains(word)).is_some_and(|word| *word == "fn")
}

/// `tensor <- {batch, sandbox, engine} <- server <- tests`, read off the manifests.
#[test]
fn crates_depend_only_downwards() {
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("tensor", &[][..]),
        ("batch", &["sluice-tensor"]),
        ("engine", &["sluice-tensor"]),
        ("sandbox", &["sluice-tensor"]),
        ("server", &["sluice-tensor", "sluice-batch", "sluice-engine", "sluice-sandbox"]),
    ]);
    let mut found = Vec::new();
    for (name, allowed) in allowed {
        let manifest = read(&repository().join("gateway").join(name).join("Cargo.toml"));
        let dependencies = manifest.lines().filter(|line| line.starts_with("sluice"));
        for line in dependencies {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or(line);
            if !allowed.contains(&dependency) {
                found.push(format!("gateway/{name} names {dependency}"));
            }
        }
    }
    assert_none("dependencies against the rule", &found);
}

#[test]
fn a_big_dependency_is_named_by_one_crate_only() {
    let homes = [
        ("wasmtime", "gateway/sandbox"),
        ("ort", "gateway/engine"),
        ("rten", "gateway/engine"),
        ("opentelemetry", "gateway/server/src/observe"),
    ];
    let mut found = Vec::new();
    for path in rust_files() {
        let place = shown(&path);
        let text = read(&path);
        for (name, home) in homes {
            let uses = [format!("use {name}::"), format!(" {name}::"), format!("({name}::")];
            if !place.starts_with(home)
                && place.starts_with("gateway")
                && uses.iter().any(|use_| text.contains(use_))
            {
                found.push(format!("{place} names {name}, which belongs to {home}"));
            }
        }
        // The benchmark counts allocations, which only an allocator can.
        let unsafe_home = place.starts_with("gateway/engine")
            || place.starts_with("gateway/sandbox")
            || place == "bench/src/counting.rs";
        let names_unsafe = text.lines().any(|line| {
            let code = line.split("//").next().unwrap_or(line);
            code.contains("unsafe {") || code.contains("unsafe impl") || code.contains("unsafe fn")
        });
        let is_guest_side =
            place.starts_with("sdk") || place.starts_with("guest-examples") || place.starts_with("tests");
        if names_unsafe && !unsafe_home && !is_guest_side {
            found.push(format!("{place} has unsafe code"));
        }
    }
    assert_none("names away from home", &found);
}

#[test]
fn ingress_and_admin_meet_only_in_the_catalog() {
    let mut found = Vec::new();
    for path in rust_files() {
        let (place, text) = (shown(&path), read(&path));
        let forbidden: &[&str] = if place.starts_with("gateway/server/src/ingress") {
            &["crate::admin::", "crate::admin;"]
        } else if place.starts_with("gateway/server/src/admin") {
            &["crate::ingress::"]
        } else if place.starts_with("gateway/server/src/pipeline") {
            &["crate::ingress", "crate::admin"]
        } else {
            &[]
        };
        found.extend(
            forbidden.iter().filter(|name| text.contains(**name)).map(|name| format!("{place} names {name}")),
        );
    }
    assert_none("rooms that know too much", &found);
}

#[test]
fn every_metric_name_stands_in_one_file() {
    let home = "gateway/server/src/observe/metrics";
    let found: Vec<String> = rust_files()
        .iter()
        .filter(|path| shown(path).starts_with("gateway/server/src") && !shown(path).starts_with(home))
        .filter(|path| {
            // Tokens begin with the same word, but have no small letter behind it.
            let text = read(path);
            let mut rests = text.split("\"sluice_").skip(1);
            rests.any(|rest| rest.starts_with(|next: char| next.is_ascii_lowercase()))
        })
        .map(|path| shown(path))
        .collect();
    assert_none("metric names away from home", &found);
}

/// Two versions of a crate are built, shipped and patched: each needs a reason in
/// deny.toml.
#[test]
fn no_crate_is_built_in_two_versions_without_a_reason() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "tree",
            "--workspace",
            "--duplicates",
            "--edges",
            "normal",
            "--depth",
            "0",
            "--offline",
            "--locked",
        ])
        .args(["--target", "x86_64-unknown-linux-gnu", "--prefix", "none"])
        .current_dir(repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        if let (Some(name), Some(version)) = (words.next(), words.next()) {
            versions.entry(name).or_default().insert(version);
        }
    }
    let reasons = read(&repository().join("deny.toml"));
    let found: Vec<String> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !reasons.contains(&format!("crate = \"{name}")))
        .map(|(name, versions)| format!("{name}: {versions:?}"))
        .collect();
    assert_none("crates in two versions without a reason in deny.toml", &found);
}
