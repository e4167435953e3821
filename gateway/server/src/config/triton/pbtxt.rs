//! The text form of protocol buffers, as `config.pbtxt` uses it, into a tree without types.
//! [`super::decode`] gives it types.
//!
//! Strict and bounded: a file from a repository may be anything. Every error has its line
//! and column.

use std::fmt;

/// Bytes of a file. The longest in public model repositories have some 20 KiB.
pub const PBTXT_BYTES_MAX: usize = 1 << 20;

/// How deep messages may nest. A model configuration needs seven levels.
pub(super) const DEPTH_MAX: usize = 32;

/// Fields and list elements of a whole file. With the limit on bytes it bounds what a file
/// takes once parsed: some 10 MiB.
const VALUES_MAX: usize = 100_000;

/// A place in the text, counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// The line; 0 for what stands in no text.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// What is wrong with a text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError {
    /// Where.
    pub at: Position,
    /// What, in words.
    pub message: String,
}

impl TextError {
    pub(super) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.at.line > 0 {
            write!(f, "line {}, column {}: ", self.at.line, self.at.column)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for TextError {}

/// A message: its fields in the order of the text, repeated ones several times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Message {
    pub(super) fields: Vec<Field>,
}

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) at: Position,
    pub(super) value: Value,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// A number, a truth value or an enumerator, as it is written.
    Word(String),
    /// A quoted string, its escapes resolved.
    Text(String),
    /// `{ … }`
    Message(Message),
    /// `[ …, … ]`
    List(Vec<(Position, Value)>),
}

/// Parses a text.
///
/// # Errors
/// The first place where it is not the text form, or the limit that it is above.
pub(super) fn parse(text: &str) -> Result<Message, TextError> {
    if text.len() > PBTXT_BYTES_MAX {
        let message = format!("has {} bytes, allowed are {PBTXT_BYTES_MAX}", text.len());
        return Err(TextError::new(Position { line: 1, column: 1 }, message));
    }
    let mut parser = Parser { rest: text, at: Position { line: 1, column: 1 }, depth: 0, values: 0 };
    parser.message(None)
}

struct Parser<'a> {
    rest: &'a str,
    at: Position,
    depth: usize,
    values: usize,
}

impl<'a> Parser<'a> {
    fn fault<T>(&self, message: impl Into<String>) -> Result<T, TextError> {
        Err(TextError::new(self.at, message))
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let character = characters.next()?;
        self.rest = characters.as_str();
        if character == '\n' {
            self.at = Position { line: self.at.line + 1, column: 1 };
        } else {
            self.at.column += 1;
        }
        Some(character)
    }

    /// The next character that means something; blanks and comments are skipped.
    fn peek(&mut self) -> Option<char> {
        loop {
            match self.rest.chars().next()? {
                ' ' | '\t' | '\r' | '\n' | '\u{b}' | '\u{c}' => {
                    self.next();
                }
                '#' => while self.next().is_some_and(|character| character != '\n') {},
                character => return Some(character),
            }
        }
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.next();
        }
        is_there
    }

    fn count(&mut self) -> Result<(), TextError> {
        self.values += 1;
        if self.values > VALUES_MAX {
            return self.fault(format!("has more than {VALUES_MAX} values"));
        }
        Ok(())
    }

    /// Fields up to `end`, or up to the end of the text.
    fn message(&mut self, end: Option<char>) -> Result<Message, TextError> {
        let mut fields = Vec::new();
        loop {
            match (self.peek(), end) {
                (None, None) => return Ok(Message { fields }),
                (None, Some(end)) => {
                    return self.fault(format!("expected '{end}', found the end of the text"));
                }
                (Some(found), Some(end)) if found == end => {
                    self.next();
                    return Ok(Message { fields });
                }
                _ => {}
            }
            self.count()?;
            let at = self.at;
            let name = self.name()?;
            let has_colon = self.take(':');
            let value = match self.peek() {
                Some('{' | '<' | '[') => self.value()?,
                _ if !has_colon => return self.fault(format!("expected ':' or '{{' after '{name}'")),
                _ => self.value()?,
            };
            fields.push(Field { name, at, value });
            let _ = self.take(',') || self.take(';');
        }
    }

    fn name(&mut self) -> Result<String, TextError> {
        match self.peek() {
            Some(first) if first.is_ascii_alphabetic() || first == '_' => {
                Ok(self.run(|character| character.is_ascii_alphanumeric() || character == '_').to_owned())
            }
            Some('[') => self.fault("extensions are not supported"),
            Some(found) => self.fault(format!("expected the name of a field, found {found:?}")),
            None => self.fault("expected the name of a field"),
        }
    }

    /// The longest run of characters of a kind.
    fn run(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let length = self.rest.find(|character| !belongs(character)).unwrap_or(self.rest.len());
        let (found, rest) = self.rest.split_at(length);
        self.rest = rest;
        // What belongs to a run is ASCII and no line break.
        self.at.column += found.len();
        found
    }

    fn value(&mut self) -> Result<Value, TextError> {
        match self.peek() {
            Some('{') => self.inside('}').map(Value::Message),
            Some('<') => self.inside('>').map(Value::Message),
            Some('[') => self.list(),
            Some('"' | '\'') => self.text().map(Value::Text),
            Some(_) => self.word().map(Value::Word),
            None => self.fault("expected a value, found the end of the text"),
        }
    }

    fn inside(&mut self, end: char) -> Result<Message, TextError> {
        if self.depth >= DEPTH_MAX {
            return self.fault(format!("is nested deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        self.next();
        let message = self.message(Some(end));
        self.depth -= 1;
        message
    }

    fn list(&mut self) -> Result<Value, TextError> {
        self.next();
        let mut elements = Vec::new();
        if self.take(']') {
            return Ok(Value::List(elements));
        }
        loop {
            self.count()?;
            if self.peek() == Some('[') {
                return self.fault("a list cannot stand in a list");
            }
            elements.push((self.at, self.value()?));
            if self.take(']') {
                return Ok(Value::List(elements));
            }
            if !self.take(',') {
                return self.fault("expected ',' or ']' in a list");
            }
        }
    }

    /// A number, `true`, an enumerator.
    fn word(&mut self) -> Result<String, TextError> {
        let sign = if self.take('-') { "-" } else { "" };
        self.peek();
        let at = self.at;
        let mut word = String::from(sign);
        let run = self.run(|character| character.is_ascii_alphanumeric() || matches!(character, '_' | '.'));
        word.push_str(run);
        let is_number = run.starts_with(|first: char| first.is_ascii_digit() || first == '.');
        let is_hex = run.starts_with("0x") || run.starts_with("0X");
        if is_number && !is_hex && run.ends_with(['e', 'E']) && self.rest.starts_with(['+', '-']) {
            // A sign belongs to a word only in an exponent.
            word.extend(self.next());
            word.push_str(self.run(|character| character.is_ascii_alphanumeric()));
        }
        if run.is_empty() {
            let found = self
                .rest
                .chars()
                .next()
                .map_or_else(|| "the end of the text".to_owned(), |it| format!("{it:?}"));
            return Err(TextError::new(at, format!("expected a value, found {found}")));
        }
        Ok(word)
    }

    /// Quoted strings; several in a row are one.
    fn text(&mut self) -> Result<String, TextError> {
        let start = self.at;
        let mut bytes = Vec::new();
        while let Some(quote @ ('"' | '\'')) = self.peek() {
            self.next();
            loop {
                match self.rest.chars().next() {
                    None | Some('\n') => return self.fault("a string is not closed"),
                    Some('\\') => self.escape(&mut bytes)?,
                    Some(character) => {
                        self.next();
                        if character == quote {
                            break;
                        }
                        bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                }
            }
        }
        String::from_utf8(bytes).map_err(|_| TextError::new(start, "the string is not UTF-8"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), TextError> {
        let at = self.at;
        self.next();
        let fault = || Err(TextError::new(at, "the escape is not valid"));
        let Some(kind) = self.rest.chars().next() else { return fault() };
        if kind.is_digit(8) {
            let code = self.digits(8, 1, 3).and_then(|code| u8::try_from(code).ok());
            return code.map_or_else(fault, |code| {
                bytes.push(code);
                Ok(())
            });
        }
        self.next();
        let byte = match kind {
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'v' => 11,
            '\\' | '\'' | '"' | '?' => u8::try_from(kind).unwrap_or_default(),
            'x' | 'X' => {
                let code = self.digits(16, 1, 2).and_then(|code| u8::try_from(code).ok());
                let Some(code) = code else { return fault() };
                code
            }
            'u' | 'U' => {
                let length = if kind == 'u' { 4 } else { 8 };
                let Some(character) = self.digits(16, length, length).and_then(char::from_u32) else {
                    return fault();
                };
                bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return fault(),
        };
        bytes.push(byte);
        Ok(())
    }

    fn digits(&mut self, radix: u32, least: usize, most: usize) -> Option<u32> {
        let mut code = 0u32;
        for place in 0..most {
            let Some(digit) = self.rest.chars().next().and_then(|character| character.to_digit(radix)) else {
                return (place >= least).then_some(code);
            };
            self.next();
            code = code.checked_mul(radix)?.checked_add(digit)?;
        }
        Some(code)
    }
}

#[cfg(test)]
#[path = "pbtxt_tests.rs"]
mod tests;
