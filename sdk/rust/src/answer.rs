//! What the caller gets.

use serde::Serialize;

use crate::{Result, Tensor};

/// A body for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAnswer {
    /// 200 to 299; a refusal is an [`Error`](crate::Error).
    pub status: u16,
    /// The `content-type` header.
    pub content_type: String,
    /// The bytes.
    pub data: Vec<u8>,
}

/// What the caller gets: a body, or the tensors of a V2 answer. After
/// [`parts`](crate::parts) it is one more part, the last.
#[derive(Debug)]
pub enum Answer {
    /// A body.
    Body(HttpAnswer),
    /// Named tensors, for callers of V2 `infer`.
    Tensors(Vec<(String, Tensor)>),
    /// Everything was sent with [`parts`](crate::parts); for pipelines.
    Sent,
}

impl Answer {
    /// Status 200 with a value written as JSON.
    ///
    /// # Errors
    /// 500 for a value that JSON cannot hold, as a map whose keys are lists.
    pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        Ok(Self::bytes("application/json", serde_json::to_vec(value)?))
    }

    /// Status 200 with plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::bytes("text/plain; charset=utf-8", text.into())
    }

    /// Status 200 with any bytes.
    pub fn bytes(content_type: impl Into<String>, data: impl Into<Vec<u8>>) -> Self {
        Self::Body(HttpAnswer { status: 200, content_type: content_type.into(), data: data.into() })
    }

    /// A V2 answer.
    pub fn tensors<N: Into<String>, T: Into<Tensor>>(tensors: impl IntoIterator<Item = (N, T)>) -> Self {
        Self::Tensors(tensors.into_iter().map(|(name, tensor)| (name.into(), tensor.into())).collect())
    }

    /// Another status, 200 to 299. Tensors have none; they stay as they are.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Self {
        if let Self::Body(body) = &mut self {
            body.status = status;
        }
        self
    }

    /// The body's bytes, if it is a body: what a test looks at.
    pub fn data(&self) -> Option<&[u8]> {
        match self {
            Self::Body(body) => Some(&body.data),
            Self::Tensors(_) | Self::Sent => None,
        }
    }
}
