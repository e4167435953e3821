//! Finds the line of a key. The parsers behind figment keep no positions, so this
//! reads the text again, knowing only where keys are; values stay opaque. A key that
//! it misses (inside an inline table, say) gets the line of the table around it.

/// The format of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Toml,
    Yaml,
    Json,
}

/// A key's path and its line, counted from 1.
pub(super) type Located = (Vec<String>, usize);

/// All keys that the text sets, in its order.
pub(super) fn keys(text: &str, format: Format) -> Vec<Located> {
    match format {
        Format::Toml => toml_keys(text),
        Format::Yaml => yaml_keys(text),
        Format::Json => json_keys(text),
    }
}

/// The line of a key, or of the nearest table around it that has one.
pub(super) fn line_of(keys: &[Located], path: &[String]) -> Option<usize> {
    (1..=path.len()).rev().find_map(|length| {
        let wanted = path.get(..length)?;
        // A table may be there twice: as `[a.b]`, and implied by `[a.b.c]` before it.
        let exact = keys.iter().find(|(key, _)| key == wanted);
        exact.or_else(|| keys.iter().find(|(key, _)| key.starts_with(wanted))).map(|(_, line)| *line)
    })
}

/// Keys that are set twice. Only for YAML and JSON: TOML's parser refuses them itself.
pub(super) fn duplicates(keys: &[Located]) -> Vec<&Located> {
    let mut seen = std::collections::BTreeSet::new();
    keys.iter().filter(|(path, _)| !seen.insert(path)).collect()
}

fn toml_keys(text: &str) -> Vec<Located> {
    let mut found = Vec::new();
    let mut table: Vec<String> = Vec::new();
    let mut value = TomlValue::default();
    for (index, line) in text.lines().enumerate() {
        if value.is_open() {
            value.feed(line);
            continue;
        }
        let line_trimmed = line.trim_start();
        if let Some(header) = line_trimmed.strip_prefix('[') {
            table = dotted(header.trim_start_matches('[')).0;
            found.push((table.clone(), index + 1));
        } else if !line_trimmed.is_empty() && !line_trimmed.starts_with('#') {
            let (key, rest) = dotted(line_trimmed);
            if let Some(start) = rest.strip_prefix('=') {
                found.push((table.iter().cloned().chain(key).collect(), index + 1));
                value.feed(start);
            }
        }
    }
    found
}

/// Whether a TOML value goes on in the next line: it does inside brackets and inside
/// strings of three quotes.
#[derive(Debug, Default)]
struct TomlValue {
    depth: usize,
    quotes: Option<&'static str>,
}

impl TomlValue {
    fn is_open(&self) -> bool {
        self.depth > 0 || self.quotes.is_some()
    }

    fn feed(&mut self, line: &str) {
        let mut rest = line;
        while !rest.is_empty() {
            if let Some(quotes) = self.quotes {
                let Some((_, after)) = rest.split_once(quotes) else { return };
                self.quotes = None;
                rest = after;
            } else if let Some(quotes) = ["\"\"\"", "'''"].into_iter().find(|q| rest.starts_with(q)) {
                self.quotes = Some(quotes);
                rest = rest.get(3..).unwrap_or_default();
            } else {
                let mut characters = rest.chars();
                match characters.next() {
                    Some('#') => return,
                    Some('[' | '{') => self.depth += 1,
                    Some(']' | '}') => self.depth = self.depth.saturating_sub(1),
                    Some(quote @ ('"' | '\'')) => skip_string(&mut characters, quote),
                    _ => {}
                }
                rest = characters.as_str();
            }
        }
    }
}

fn skip_string(characters: &mut std::str::Chars<'_>, quote: char) {
    while let Some(character) = characters.next() {
        if character == quote {
            return;
        }
        if character == '\\' && quote == '"' {
            characters.next();
        }
    }
}

/// Reads a dotted key with quoted parts; gives what follows it too.
fn dotted(text: &str) -> (Vec<String>, &str) {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let part = match rest.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = rest.get(1..).unwrap_or_default();
                let (part, after) = inner.split_once(quote).unwrap_or((inner, ""));
                rest = after;
                part
            }
            _ => {
                let end = rest.find(['.', '=', ']', ' ', '\t']).unwrap_or(rest.len());
                let (part, after) = rest.split_at(end);
                rest = after;
                part
            }
        };
        parts.push(part.to_owned());
        rest = rest.trim_start();
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None => return (parts, rest),
        }
    }
}

fn yaml_keys(text: &str) -> Vec<Located> {
    let mut found = Vec::new();
    // The tables around the current line, each with its indentation.
    let mut around: Vec<(usize, String)> = Vec::new();
    // Everything indented deeper than this belongs to a block of text or a list.
    let mut opaque_above: Option<usize> = None;
    for (index, line) in text.lines().enumerate() {
        let content = line.trim_start();
        let indent = line.len() - content.len();
        if content.is_empty() || content.starts_with('#') || content.starts_with("---") {
            continue;
        }
        if opaque_above.is_some_and(|limit| indent > limit) {
            continue;
        }
        opaque_above = None;
        if content.starts_with('-') {
            opaque_above = Some(indent);
            continue;
        }
        let Some((key, value)) = content.split_once(':') else { continue };
        around.retain(|(outer, _)| *outer < indent);
        around.push((indent, key.trim().trim_matches(['"', '\'']).to_owned()));
        found.push((around.iter().map(|(_, key)| key.clone()).collect(), index + 1));
        if value.trim_start().starts_with(['|', '>']) {
            opaque_above = Some(indent);
        }
    }
    found
}

fn json_keys(text: &str) -> Vec<Located> {
    let mut found = Vec::new();
    // For each bracket: the key that led to it, or the place in a list.
    let mut path: Vec<String> = Vec::new();
    let mut line = 1;
    let mut last_string = String::new();
    let mut characters = text.chars();
    let mut pending: Option<String> = None;
    while let Some(character) = characters.next() {
        match character {
            '\n' => line += 1,
            '"' => {
                let before = characters.as_str();
                skip_string(&mut characters, '"');
                let length = before.len() - characters.as_str().len();
                last_string = before.get(..length.saturating_sub(1)).unwrap_or_default().to_owned();
            }
            ':' => {
                let key = std::mem::take(&mut last_string);
                let at = path.iter().filter(|part| !part.is_empty()).chain([&key]).cloned().collect();
                found.push((at, line));
                pending = Some(key);
            }
            ',' => pending = None,
            '{' | '[' => {
                let is_root = path.is_empty();
                // What stands in a list has no key: a part that matches nothing.
                let in_list = || if is_root { String::new() } else { format!("[{}", found.len()) };
                path.push(pending.take().unwrap_or_else(in_list));
            }
            '}' | ']' => {
                path.pop();
            }
            _ => {}
        }
    }
    found
}
