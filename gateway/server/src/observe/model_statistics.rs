//! The statistics as both protocols show them: plain values, in Triton's words.

use serde::{Serialize, Serializer};

/// How often, and how many nanoseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct DurationStatistics {
    /// How often.
    pub count: u64,
    /// Nanoseconds in all.
    pub ns: u64,
}

/// The statistics of one version at a point of time: Triton's message, field by field. As
/// JSON it is what `/v2/models/{model}/stats` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's, which says what they mean")]
pub struct ModelStatistics {
    pub name: String,
    pub version: String,
    /// Milliseconds since 1970; 0 before the first.
    pub last_inference: u64,
    /// Rows that were run; answers from the cache are not among them.
    pub inference_count: u64,
    /// Batches that were run.
    pub execution_count: u64,
    pub inference_stats: InferenceStatistics,
    pub response_stats: ResponseStatistics,
    pub batch_stats: Vec<BatchStatistics>,
    /// Empty: no engine tells what memory belongs to which model.
    pub memory_usage: Vec<MemoryUsage>,
}

/// See [`ModelStatistics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's, which says what they mean")]
pub struct InferenceStatistics {
    pub success: DurationStatistics,
    pub fail: DurationStatistics,
    pub queue: DurationStatistics,
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
    pub cache_hit: DurationStatistics,
    pub cache_miss: DurationStatistics,
}

/// See [`ModelStatistics`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's, which says what they mean")]
pub struct BatchStatistics {
    pub batch_size: usize,
    pub compute_input: DurationStatistics,
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
}

/// Statistics of the parts of streamed answers by their number; a map in JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseStatistics(pub Vec<(usize, PartStatistics)>);

impl Serialize for ResponseStatistics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(number, part)| (number, part)))
    }
}

/// See [`ResponseStatistics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the protocol's, which says what they mean")]
pub struct PartStatistics {
    pub compute_infer: DurationStatistics,
    pub compute_output: DurationStatistics,
    pub success: DurationStatistics,
    pub fail: DurationStatistics,
    pub empty_response: DurationStatistics,
    pub cancel: DurationStatistics,
}

/// Memory of a model on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryUsage {
    /// `CPU`, `CPU_PINNED` or `GPU`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The device.
    pub id: i64,
    /// Bytes.
    pub byte_size: u64,
}
