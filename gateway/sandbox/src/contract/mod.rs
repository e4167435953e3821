//! Which version of `sluice:plugin` a component speaks, told from its names, and what
//! makes all versions look alike to the rest of the sandbox.
//!
//! Host functions exist once, in the types of the latest version. An older version is a
//! file here: it links its import names to those functions, and converts what its hooks
//! take and give.

mod hook;
mod hooks;
mod links;
mod v0_1;
mod v0_2;
mod v0_3;

use std::fmt;

use wasmtime::component::Linker;

pub(crate) use hooks::{Exports, Results};

use crate::error::LoadError;
use crate::state::State;

/// What names of the contract start with.
const PACKAGE: &str = "sluice:plugin/";

/// Most bytes of a component's own name or version that an error repeats.
const NAME_BYTES_MAX: usize = 128;

/// A served minor version of the contract. Its patches are compatible both ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V0_1,
    V0_2,
    V0_3,
}

impl Version {
    const ALL: [Self; 3] = [Self::V0_1, Self::V0_2, Self::V0_3];
    const LATEST: Self = Self::V0_3;

    fn number(self) -> (u64, u64) {
        match self {
            Self::V0_1 => (0, 1),
            Self::V0_2 => (0, 2),
            Self::V0_3 => (0, 3),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.number();
        write!(f, "{major}.{minor}")
    }
}

/// What a component speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spoken {
    pub(crate) version: Version,
    /// With the patch it was built with, the newest if there are several.
    pub(crate) exact: String,
}

/// The interface of the contract that a name stands for, whatever its version.
pub(crate) fn interface_of(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PACKAGE)?;
    Some(rest.split_once('@').map_or(rest, |(interface, _)| interface))
}

/// What a program exports, in any version that the linker takes for it.
const PROGRAM: &str = "wasi:cli/run@0.2.";

/// The export that makes a component a program, if it has it.
pub(crate) fn program_of(exports: &[String]) -> Option<&str> {
    exports.iter().map(String::as_str).find(|name| name.starts_with(PROGRAM))
}

/// Tells the version from the names of a component's imports and exports.
///
/// # Errors
/// [`LoadError::World`] if the version is not served, there are two, or there is none.
pub(crate) fn spoken(imports: &[String], exports: &[String]) -> Result<Spoken, LoadError> {
    let mut newest: Option<(u64, u64, u64)> = None;
    for name in imports.iter().chain(exports) {
        let Some(rest) = name.strip_prefix(PACKAGE) else { continue };
        let Some(found) = rest.split_once('@').and_then(|(_, version)| parse(version)) else {
            let name = crate::host::logging::clean(name, NAME_BYTES_MAX);
            return Err(LoadError::World(format!("'{name}' names no released version of the contract")));
        };
        newest = match newest {
            Some(other) if (other.0, other.1) != (found.0, found.1) => {
                return Err(LoadError::World(format!(
                    "this component mixes sluice:plugin {} and {}: build all of its parts with one version",
                    shown(other.min(found)),
                    shown(other.max(found)),
                )));
            }
            other => other.max(Some(found)),
        };
    }
    let Some(newest) = newest else {
        // A program need know nothing of the contract: what it exports stands for it.
        if let Some(program) = program_of(exports) {
            let exact = crate::host::logging::clean(program, NAME_BYTES_MAX);
            return Ok(Spoken { version: Version::LATEST, exact });
        }
        return Err(LoadError::World(format!(
            "it exports none of preprocess, postprocess and handler of sluice:plugin@{}.0; build it for one of \
             the worlds of sluice:plugin, or as a program that exports wasi:cli/run@0.2",
            Version::LATEST
        )));
    };
    let served = Version::ALL.into_iter().find(|version| version.number() == (newest.0, newest.1));
    served.map(|version| Spoken { version, exact: shown(newest) }).ok_or_else(|| not_served(newest))
}

fn not_served(found: (u64, u64, u64)) -> LoadError {
    let served: Vec<String> = Version::ALL.iter().map(Version::to_string).collect();
    let is_newer = (found.0, found.1) > Version::LATEST.number();
    let remedy = if is_newer { "update the gateway or build" } else { "build" };
    LoadError::World(format!(
        "this component was built for sluice:plugin {}; this gateway serves {}: {remedy} with sluice-sdk {}",
        shown(found),
        listed(&served),
        Version::LATEST,
    ))
}

/// `a, b and c`.
fn listed(words: &[String]) -> String {
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        Some((only, _)) => only.clone(),
        None => String::new(),
    }
}

/// The three numbers of a release. Names of pre-releases have no compatible ones.
fn parse(version: &str) -> Option<(u64, u64, u64)> {
    let version = version.split_once('+').map_or(version, |(version, _)| version);
    let mut numbers = version.split('.').map(|number| {
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if is_number { number.parse().ok() } else { None }
    });
    let found = (numbers.next()??, numbers.next()??, numbers.next()??);
    numbers.next().is_none().then_some(found)
}

fn shown((major, minor, patch): (u64, u64, u64)) -> String {
    format!("{major}.{minor}.{patch}")
}

/// Links the older versions. The latest is linked by its capabilities.
pub(crate) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    v0_1::link(linker)?;
    v0_2::link(linker)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Result<Spoken, LoadError> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let (imports, exports) = names.split_at(names.len() / 2);
        spoken(imports, exports)
    }

    fn refusal(names: &[&str]) -> String {
        match told(names) {
            Err(LoadError::World(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_version_is_told_from_the_names_and_its_patches_are_one() {
        let spoken = told(&["wasi:cli/run@0.2.6", "sluice:plugin/handler@0.1.0"]).expect("served");
        assert_eq!(spoken, Spoken { version: Version::V0_1, exact: "0.1.0".to_owned() });
        let patched = told(&["sluice:plugin/types@0.2.10", "sluice:plugin/handler@0.2.9"]).expect("served");
        assert_eq!(patched, Spoken { version: Version::V0_2, exact: "0.2.10".to_owned() });
        assert!(refusal(&["wasi:cli/run@0.2.6", "sluice:pluginx/a@0.1.0"]).contains("exports none of"));
    }

    #[test]
    fn a_newer_version_says_what_to_do() {
        assert_eq!(
            refusal(&["sluice:plugin/handler@0.4.0"]),
            "this component was built for sluice:plugin 0.4.0; this gateway serves 0.1, 0.2 and 0.3: \
             update the gateway or build with sluice-sdk 0.3"
        );
        let older = refusal(&["sluice:plugin/handler@0.0.7"]);
        assert!(older.contains("0.0.7") && !older.contains("update"), "{older}");
        // A minor of 1 is another contract than that of 0.
        assert!(refusal(&["sluice:plugin/handler@1.1.0"]).contains("update the gateway"));
    }

    #[test]
    fn two_versions_in_one_component_are_refused_by_both_numbers() {
        let mixed = refusal(&["sluice:plugin/types@0.2.0", "sluice:plugin/handler@0.1.0"]);
        assert!(mixed.contains("mixes sluice:plugin 0.1.0 and 0.2.0"), "{mixed}");
    }

    #[test]
    fn what_is_no_release_is_refused() {
        for version in
            ["", "@", "@0.1", "@0.1.0-draft", "@0.1.x", "@0.1.0.0", "@+1.1.0", "@0.1.99999999999999999999"]
        {
            let message = refusal(&[&format!("sluice:plugin/types{version}")]);
            assert!(message.contains("no released version"), "{version}: {message}");
        }
    }

    #[test]
    fn an_interface_is_the_same_in_every_version() {
        assert_eq!(interface_of("sluice:plugin/types@0.1.0"), Some("types"));
        assert_eq!(interface_of("sluice:plugin/types"), Some("types"));
        assert_eq!(interface_of("wasi:cli/run@0.2.0"), None);
    }
}
