//! What stands above the file: `SLUICE_*` of the environment, and above that, flags.

use std::collections::BTreeMap;

use figment::value::{Dict, Value};

/// What stands above the file. Taken once at start, so that a reload sees the same.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String)>,
    is_without_file: bool,
}

/// A value that did not come from the file.
#[derive(Debug, Clone)]
pub(super) struct Override {
    /// The flag or variable, for messages.
    pub(super) set_by: String,
    /// As it was written.
    pub(super) text: String,
}

impl Overrides {
    /// Takes the process's environment. A variable sets a key if it starts with
    /// `SLUICE_` and has two underscores between the parts of the key:
    /// `SLUICE_SERVER__HTTP`, `SLUICE_MODELS__MOVIE_RANKER__INSTANCES`. Case does not
    /// matter, and `_` stands for `-` and `.` too. `SLUICE_LOG` is short for
    /// `SLUICE_TELEMETRY__LOG_FILTER`, which wins over it. Other variables only serve
    /// `${VAR}` in paths; those that are not UTF-8 serve nothing.
    pub fn from_environment() -> Self {
        let pairs = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::default().with_environment(pairs)
    }

    /// Adds variables, as if they were in the environment.
    #[must_use]
    pub fn with_environment(mut self, pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(pairs);
        self
    }

    /// Sets a dotted key to a value, written as it would be in the environment.
    #[must_use]
    pub fn flag(mut self, key: &str, value: impl ToString) -> Self {
        self.flags.push((key.to_owned(), value.to_string()));
        self
    }

    /// Says that there is no file: what stands here is all.
    #[must_use]
    pub fn without_file(mut self) -> Self {
        self.is_without_file = true;
        self
    }

    pub(super) fn is_without_file(&self) -> bool {
        self.is_without_file
    }

    pub(super) fn environment(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// Puts every override into `root`, later ones over earlier ones, and says which
    /// keys came from where.
    pub(super) fn apply(&self, root: &mut Dict) -> BTreeMap<Vec<String>, Override> {
        let variables = self.environment.iter().filter_map(|(name, value)| {
            let path = match name.strip_prefix("SLUICE_")? {
                "LOG" => vec!["telemetry".to_owned(), "log_filter".to_owned()],
                key if key.contains("__") => key.split("__").map(str::to_owned).collect(),
                _ => return None,
            };
            Some((path, format!("environment {name}"), value))
        });
        let flags = self.flags.iter().map(|(key, value)| {
            (key.split('.').map(str::to_owned).collect::<Vec<_>>(), format!("flag {key}"), value)
        });
        let mut applied = BTreeMap::new();
        for (path, set_by, text) in variables.chain(flags) {
            let value = text.parse::<Value>().unwrap_or_else(|never| match never {});
            let path = put(root, &path, value);
            applied.insert(path, Override { set_by, text: text.clone() });
        }
        applied
    }
}

/// Puts a value at a path, taking the spelling of the keys that are there.
pub(super) fn put(root: &mut Dict, path: &[String], value: Value) -> Vec<String> {
    let Some((first, rest)) = path.split_first() else { return Vec::new() };
    let key = root.keys().find(|key| normal(key) == normal(first)).cloned();
    let key = key.unwrap_or_else(|| first.to_ascii_lowercase());
    let mut spelled = vec![key.clone()];
    if rest.is_empty() {
        root.insert(key, value);
    } else {
        let table = root.entry(key).or_insert_with(|| Dict::new().into());
        if !matches!(table, Value::Dict(..)) {
            *table = Dict::new().into();
        }
        if let Value::Dict(_, inner) = table {
            spelled.extend(put(inner, rest, value));
        }
    }
    spelled
}

fn normal(key: &str) -> String {
    key.to_ascii_lowercase().replace(['-', '.'], "_")
}
