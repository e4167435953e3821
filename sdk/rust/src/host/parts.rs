//! An answer in parts: what a [`Pipeline`](crate::Pipeline) sends goes to the caller while
//! it still runs. It ends with [`Answer::Sent`](crate::Answer::Sent), or with an answer
//! that is one more part, the last.
//!
//! ```
//! use sluice_sdk::{Answer, Error, Request, parts};
//!
//! fn handle(request: Request) -> Result<Answer, Error> {
//!     parts::content_type("text/plain; charset=utf-8");
//!     for word in request.text()?.split_inclusive(' ') {
//!         parts::send(word)?;
//!     }
//!     Ok(Answer::Sent)
//! }
//! # handle(Request::from_body("one two"))?;
//! # Ok::<(), Error>(())
//! ```
//!
//! Sending waits for a caller who is slow; that does not use the plugin's own budget. A
//! caller who takes one answer (see [`Context::in_parts`](crate::Context::in_parts)) gets
//! the bytes put together, and can be given one part of tensors.

use std::fmt;
use std::time::Duration;

use crate::{Tensor, imp};

/// Why a part was not taken. `?` makes a refusal of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The caller has gone: nothing that is sent arrives any more.
    Gone,
    /// The caller takes one answer of tensors and has it, or bytes and tensors were mixed.
    Refused,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Gone => "the caller has gone",
            Self::Refused => {
                "there is more than one answer here: call generate_stream or ModelStreamInfer, which take several"
            }
        })
    }
}

impl std::error::Error for Error {}

/// A caller who asks for one answer where there are several is told so (400).
impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone => Self::internal(error.to_string()),
            Error::Refused => Self::bad_request(error.to_string()),
        }
    }
}

/// Says what type the body has, before its first part; without it the type is
/// `application/octet-stream`. A crash once a part has been sent.
pub fn content_type(value: &str) {
    imp::content_type(value);
}

/// Sends more bytes of a body. In a stream of events each call is one event.
///
/// # Errors
/// See [`Error`].
pub fn send(bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
    imp::send_bytes(bytes.into())
}

/// Sends one whole answer of tensors.
///
/// # Errors
/// See [`Error`].
pub fn send_tensors<N: Into<String>, T: Into<Tensor>>(
    tensors: impl IntoIterator<Item = (N, T)>,
) -> Result<(), Error> {
    imp::send_tensors(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor.into())).collect())
}

/// Waits that long without using the plugin's own budget: at most until the request's
/// deadline, and a minute at once.
pub fn pause(time: Duration) {
    imp::pause(time);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, SentPart};

    #[test]
    fn a_test_sees_what_was_sent() {
        content_type("text/plain");
        send("a").expect("sent");
        send_tensors([("x", Tensor::f32(&[1], [1.0]).expect("fits"))]).expect("sent");
        pause(Duration::from_secs(3600));
        let sent = testing::sent_parts();
        assert!(matches!(&sent[0], SentPart::Body(bytes) if bytes == b"a"));
        assert!(matches!(&sent[1], SentPart::Tensors(tensors) if tensors[0].0 == "x"));
        assert!(testing::sent_parts().is_empty());
    }
}
