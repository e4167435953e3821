//! `sluice plugin new`: a plugin that builds and passes its tests, to begin with.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::cli::outcome::{Failure, Outcome, print, write_new};

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// The plugin's name, and the folder that is made.
    #[arg(value_name = "NAME")]
    name: PathBuf,
    /// What it does.
    #[arg(long, value_enum, default_value_t = World::Preprocessor)]
    world: World,
    /// The folder of the crate sluice-sdk; found near the program or this folder if
    /// absent, else the released version is used.
    #[arg(long, value_name = "FOLDER")]
    sdk: Option<PathBuf>,
}

/// The worlds of the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Makes a model's inputs out of a request.
    Preprocessor,
    /// Makes the answer out of a model's outputs.
    Postprocessor,
    /// Does both.
    Transformer,
    /// Owns the request and calls models itself.
    Pipeline,
}

/// What differs from world to world: the code, its sample cases, and how it is wired.
struct Parts {
    code: &'static str,
    samples: &'static str,
    pipeline: &'static str,
}

macro_rules! parts {
    ($world:literal, $pipeline:literal) => {
        Parts {
            code: include_str!(concat!("new/template/", $world, ".rs")),
            samples: include_str!(concat!("new/template/", $world, ".json")),
            pipeline: $pipeline,
        }
    };
}

impl World {
    fn parts(self) -> Parts {
        match self {
            Self::Preprocessor => parts!("preprocessor", "pre = \"{name}\"\nmodel = \"your-model\""),
            Self::Postprocessor => parts!("postprocessor", "model = \"your-model\"\npost = \"{name}\""),
            Self::Transformer => {
                parts!("transformer", "pre = \"{name}\"\nmodel = \"your-model\"\npost = \"{name}\"")
            }
            Self::Pipeline => parts!("pipeline", "plugin = \"{name}\""),
        }
    }
}

/// Names of crates end up in paths and in the component's name: what Cargo takes.
fn crate_name(folder: &Path) -> Outcome<String> {
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_good = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && sluice_tensor::check_name(name).is_ok();
    if is_good {
        Ok(name.to_owned())
    } else {
        Err(Failure::usage(format!(
            "'{name}' cannot be the name of a plugin's crate: use a-z, 0-9 and '-', and begin with a letter"
        )))
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let name = crate_name(&arguments.name)?;
    let sdk = match &arguments.sdk {
        Some(folder) => Some(sdk_at(folder).ok_or_else(|| {
            Failure::usage(format!("{} is not the folder of the crate sluice-sdk", folder.display()))
        })?),
        None => find_sdk(),
    };
    let made =
        |error: std::io::Error| Failure::usage(format!("cannot make {}: {error}", arguments.name.display()));
    std::fs::create_dir(&arguments.name).map_err(made)?;
    for folder in ["src", ".cargo"] {
        std::fs::create_dir(arguments.name.join(folder)).map_err(made)?;
    }
    for (file, content, mode) in files(&name, arguments.world, sdk.as_deref()) {
        write_new(&arguments.name.join(file), content.as_bytes(), mode)?;
    }
    print(&format!(
        "a {} in {}\n\n  cargo test                   tests it natively\n  ./build.sh                   builds the \
         component\n  sluice plugin test {}\n  sluice plugin push {name} {} --samples samples.json --activate\n",
        arguments.world.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
        arguments.name.display(),
        component_of(&name) + " --samples samples.json",
        component_of(&name),
    ))
}

/// Where the build puts the component.
fn component_of(name: &str) -> String {
    format!("target/wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_"))
}

/// Every file: its path, what is in it, and who may do what with it.
fn files(name: &str, world: World, sdk: Option<&Path>) -> Vec<(&'static str, String, u32)> {
    let parts = world.parts();
    let dependency = match sdk {
        // TOML has JSON's strings.
        Some(folder) => format!("{{ path = {} }}", serde_json::Value::from(folder.display().to_string())),
        None => format!("\"{}\"", env!("CARGO_PKG_VERSION")),
    };
    let repository = sdk.and_then(|sdk| sdk.parent()?.parent());
    let guest_toolchain = repository.map(|root| root.join("scripts/guest-toolchain.sh"));
    let guest_toolchain =
        guest_toolchain.map_or_else(String::new, |script| quoted(&script.display().to_string()));
    let fill = |text: &str| {
        text.replace("{pipeline}", parts.pipeline)
            .replace("{name}", name)
            .replace("{component}", &component_of(name))
            .replace("{file}", &name.replace('-', "_"))
            .replace("{sdk}", &dependency)
            .replace("'{guest-toolchain}'", if guest_toolchain.is_empty() { "''" } else { &guest_toolchain })
    };
    vec![
        ("Cargo.toml", fill(include_str!("new/template/Cargo.toml.txt")), 0o644),
        (".cargo/config.toml", fill(include_str!("new/template/cargo-config.toml.txt")), 0o644),
        (".gitignore", "/target\n".to_owned(), 0o644),
        ("build.sh", fill(include_str!("new/template/build.sh")), 0o755),
        ("README.md", fill(include_str!("new/template/README.md")), 0o644),
        ("samples.json", parts.samples.to_owned(), 0o644),
        ("src/lib.rs", parts.code.to_owned(), 0o644),
    ]
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The SDK in this folder, if it is that crate.
fn sdk_at(folder: &Path) -> Option<PathBuf> {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).ok()?;
    let is_it = manifest.lines().any(|line| line.trim() == "name = \"sluice-sdk\"");
    if is_it { folder.canonicalize().ok() } else { None }
}

/// The SDK of the repository that the program was built in, or that we stand in.
fn find_sdk() -> Option<PathBuf> {
    let starts = [std::env::current_exe().ok(), std::env::current_dir().ok()];
    let mut folders = starts.iter().flatten().flat_map(|start| start.ancestors());
    folders.find_map(|folder| sdk_at(&folder.join("sdk/rust")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::samples;

    const WORLDS: [World; 4] =
        [World::Preprocessor, World::Postprocessor, World::Transformer, World::Pipeline];

    #[test]
    fn every_world_is_complete_and_its_sample_cases_are_valid() {
        for world in WORLDS {
            for (file, content, _) in files("my-plugin", world, Some(Path::new("/opt/it's here/sdk/rust"))) {
                for left in ["{name}", "{sdk}", "{file}", "{component}", "{pipeline}", "{guest-toolchain}"] {
                    assert!(!content.contains(left), "{file} of {world:?} holds {left}");
                }
            }
            let cases = samples::parse(world.parts().samples.as_bytes()).expect("valid");
            assert!(cases.len() >= 2 && cases.iter().any(|case| case.expect.is_some()), "{world:?}");
        }
    }

    #[test]
    fn the_sdk_is_named_by_path_or_by_version() {
        let manifest = |sdk| files("p", World::Pipeline, sdk).remove(0).1;
        assert!(
            manifest(Some(Path::new("/a \"b\"/sdk/rust")))
                .contains(r#"sluice-sdk = { path = "/a \"b\"/sdk/rust" }"#)
        );
        assert!(manifest(None).contains(&format!("sluice-sdk = \"{}\"", env!("CARGO_PKG_VERSION"))));
        let script = |sdk| files("p", World::Pipeline, sdk).remove(3).1;
        assert!(
            script(Some(Path::new("/it's/sdk/rust")))
                .contains(r"guest_toolchain='/it'\''s/scripts/guest-toolchain.sh'")
        );
        assert!(script(None).contains("guest_toolchain=''"));
    }

    #[test]
    fn a_name_is_one_that_cargo_takes() {
        for good in ["scale", "my-plugin2", "some/where/scale"] {
            assert!(crate_name(Path::new(good)).is_ok(), "{good}");
        }
        for bad in ["", "Scale", "2x", "a b", "..", "-x", "a.b"] {
            assert!(crate_name(Path::new(bad)).is_err(), "{bad}");
        }
    }
}
