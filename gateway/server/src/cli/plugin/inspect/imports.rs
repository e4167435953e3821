//! What each import is, and what grants it.

use serde_json::{Value, json};

/// One import, for its author and for the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Meaning {
    what: &'static str,
    /// What to write into the plugin's table; none if it is always granted, or never.
    pub(super) key: Option<&'static str>,
    is_offered: bool,
}

impl Meaning {
    pub(super) fn describe(self) -> String {
        match (self.is_offered, self.key) {
            (false, _) => {
                format!("{}; NOT offered: remove what uses it, or build with a stub for it", self.what)
            }
            (true, None) => format!("{}; granted", self.what),
            (true, Some(key)) => format!("{}; granted by `{key}`", self.what),
        }
    }
}

const fn granted(what: &'static str) -> Meaning {
    Meaning { what, key: None, is_offered: true }
}

const fn by(what: &'static str, key: &'static str) -> Meaning {
    Meaning { what, key: Some(key), is_offered: true }
}

const fn refused(what: &'static str) -> Meaning {
    Meaning { what, key: None, is_offered: false }
}

/// By the beginning of the name, the more special ones first.
const MEANINGS: [(&str, Meaning); 24] = [
    ("sluice:plugin/inference@", by("calls models", "models = [\"…\"]")),
    ("sluice:plugin/", granted("the contract itself")),
    ("wasi:logging/", granted("writes log lines")),
    ("wasi:keyvalue/", by("looks keys up in a store", "stores = [\"…\"]")),
    ("wasi:config/", granted("reads its own configuration")),
    ("wasi:nn/", by("calls models", "models = [\"…\"]")),
    ("wasi:http/outgoing-handler@", by("calls servers over HTTP", "http_hosts = [\"…\"]")),
    ("wasi:http/types@", granted("the words of HTTP")),
    ("wasi:http/", refused("serves HTTP by itself")),
    ("wasi:clocks/", granted("reads clocks, unless `clocks = false`")),
    ("wasi:random/", granted("gets random numbers, unless `random = false`")),
    ("wasi:filesystem/", granted("reads files: none, unless `files = { name = \"folder\" }`")),
    ("wasi:cli/environment@", granted("reads arguments and environment: empty, unless they are given")),
    ("wasi:cli/stdin@", granted("reads standard input: empty, but for a command")),
    ("wasi:cli/stdout@", granted("writes to the log")),
    ("wasi:cli/stderr@", granted("writes to the log")),
    ("wasi:cli/exit@", granted("ends its call")),
    ("wasi:cli/", granted("asks for a terminal: there is none")),
    ("wasi:io/", granted("streams, which other interfaces use")),
    (
        "wasi:sockets/",
        by("opens sockets, as runtimes of languages do: every address is refused", "sockets = true"),
    ),
    ("wasi:tls/", refused("speaks TLS")),
    ("wasi:threads/", refused("starts threads")),
    ("wasi:", refused("an interface of WASI that this gateway does not know")),
    ("", refused("an interface that this gateway does not know")),
];

/// What the import of that name is.
pub(super) fn meaning(name: &str) -> Meaning {
    let found = MEANINGS.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map_or(refused("an interface that this gateway does not know"), |(_, meaning)| *meaning)
}

/// The same for machines.
pub(super) fn json(name: &str) -> Value {
    let meaning = meaning(name);
    json!({ "name": name, "what": meaning.what, "offered": meaning.is_offered, "config": meaning.key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_import_says_what_it_is_and_what_grants_it() {
        for (name, word) in [
            ("sluice:plugin/types@0.1.0", "granted"),
            ("sluice:plugin/inference@0.2.0", "models = "),
            ("wasi:keyvalue/batch@0.2.0-draft", "stores = "),
            ("wasi:http/outgoing-handler@0.2.6", "http_hosts"),
            ("wasi:sockets/tcp@0.2.0", "sockets = true"),
            ("wasi:clocks/wall-clock@0.2.9", "granted"),
            ("wasi:threads/threads@0.1.0", "NOT offered"),
            ("acme:thing/x@1.0.0", "does not know"),
        ] {
            assert!(meaning(name).describe().contains(word), "{name}: {}", meaning(name).describe());
        }
    }
}
