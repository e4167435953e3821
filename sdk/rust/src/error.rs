//! A refusal: what a hook returns instead of an answer.

use std::fmt;

/// The result of a hook, and of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A refusal with an HTTP status, shown to the caller.
///
/// It is an answer that the plugin chose, not a crash: the instance lives on. The
/// gateway cuts the message at 1 KiB and turns a status outside 400 to 599 into 502.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    status: u16,
    message: String,
    retry_after_seconds: Option<u32>,
}

impl Error {
    /// A refusal with a status of your choice, 400 to 599.
    pub fn status(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after_seconds: None }
    }

    /// 400: the caller sent something that this plugin cannot work with.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::status(400, message)
    }

    /// 404: what the caller asks about does not exist.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::status(404, message)
    }

    /// 500: the plugin cannot go on, and the caller is not to blame.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::status(500, message)
    }

    /// 429: too much at once; the caller may try again after so many seconds.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        Self::status(429, message).with_retry_after(retry_after_seconds)
    }

    /// Tells the caller when to try again, in an hour at most. Only with 429 and 503.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// When the caller may try again, if that was said.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// The HTTP status.
    pub fn code(&self) -> u16 {
        self.status
    }

    /// The text for the caller.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Status and text, to move them on.
    pub fn into_parts(self) -> (u16, String) {
        (self.status, self.message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (status {})", self.message, self.status)
    }
}

impl std::error::Error for Error {}

/// So that `?` works on serde: text that does not parse is the caller's fault (400,
/// with line and column), a value that cannot be written is the plugin's (500).
impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        // Only reading knows a position; lines count from 1.
        if error.line() > 0 {
            Self::bad_request(error.to_string())
        } else {
            Self::internal(error.to_string())
        }
    }
}

impl From<std::str::Utf8Error> for Error {
    fn from(error: std::str::Utf8Error) -> Self {
        Self::bad_request(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_errors_blame_the_caller_for_reading_and_the_plugin_for_writing() {
        let reading = serde_json::from_str::<u32>("\n \"x\"").map_err(Error::from).expect_err("not a number");
        assert_eq!(reading.code(), 400);
        assert!(reading.message().contains("line 2 column"), "{reading}");

        let unwritable = std::collections::HashMap::from([(vec![1], 1)]);
        let writing = serde_json::to_string(&unwritable).map_err(Error::from).expect_err("a list as key");
        assert_eq!(writing.code(), 500);
    }
}
