//! How a call ends on the wire: its status, and for an error what the table says.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::Error;
use crate::wire_error::wire_error;

const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The reason code of an error: what `code` is in a body over HTTP.
const CODE: HeaderName = HeaderName::from_static("x-sluice-code");

/// When a client that retries by itself may do so, in milliseconds: what `Retry-After` is
/// over HTTP.
const RETRY: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// Milliseconds a refused caller is told to wait, where nobody knows better.
const RETRY_MILLISECONDS: u32 = 1000;

/// The end of a call that succeeded.
pub(super) fn ok() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    trailers
}

/// The end of a call that failed: its row of the table.
pub(super) fn failed(error: &Error) -> HeaderMap {
    let row = wire_error(error.kind());
    let mut trailers = HeaderMap::with_capacity(4);
    trailers.insert(STATUS, HeaderValue::from(row.grpc));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(error.message())) {
        trailers.insert(MESSAGE, message);
    }
    trailers.insert(CODE, HeaderValue::from_static(row.code));
    let wait = match error.retry_after_seconds() {
        Some(seconds) => Some(seconds.saturating_mul(1000)),
        None => row.retryable.then_some(RETRY_MILLISECONDS),
    };
    if let Some(milliseconds) = wait {
        trailers.insert(RETRY, HeaderValue::from(milliseconds));
    }
    trailers
}

/// Text as a header may carry it: printable ASCII stays, the rest is `%XX`.
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn an_error_says_what_the_table_says_and_when_to_come_back() {
        let trailers = failed(&Error::new(Kind::QueueFull, "50 % für später"));
        assert_eq!(trailers[STATUS], "8");
        assert_eq!(trailers[MESSAGE], "50 %25 f%C3%BCr sp%C3%A4ter");
        assert_eq!(trailers[CODE], "queue_full");
        assert_eq!(trailers[RETRY], "1000");
        let refused = Error::new(Kind::Refused(429), "not so fast").with_retry_after(Some(7));
        assert_eq!(failed(&refused)[RETRY], "7000");
        assert!(!failed(&Error::new(Kind::BadShape, "no")).contains_key(RETRY));
    }
}
