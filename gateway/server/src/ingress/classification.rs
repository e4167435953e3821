//! Triton's classification extension: instead of a tensor, its highest scores as
//! `score:index` or `score:index:label`, for each row of the batch.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::fmt::Display;
use std::io::Write;
use std::sync::Arc;

use sluice_tensor::{DType, NamedTensor, Shape, Tensor};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::admission::Room;
use crate::catalog::Target;
use crate::error::{Error, Kind, Result};
use crate::tensor_json::to_error;

/// Classes that the answer to one request may have, of all rows and outputs together; more are
/// refused with `bad_request`. Each is a text that is made for it. It is three times all
/// classes of the largest public image models, or the thousand of a usual one for 65 rows. The
/// tensor itself has no such bound, and says the same in fewer bytes.
const CLASSES_MAX: usize = 1 << 16;

/// What a class takes while it is looked for and written, but for its label.
const CLASS_BYTES: usize = 96;

/// Bytes of scores that are looked through on the thread that serves the connection: some
/// tenths of a millisecond. More is done apart from the threads that serve everybody.
const SCORES_HERE_MAX: usize = 256 << 10;

/// Requests whose classes are looked for apart at a time: it is work for the processor, and
/// the connections need it too.
static APART: Semaphore = Semaphore::const_new(1);

/// An output of which the best classes are wanted.
struct Scores {
    output: NamedTensor,
    is_batched: bool,
    rows: usize,
    /// Scores of a row.
    scores: usize,
    /// Classes of a row that are wanted.
    count: usize,
    labels: Option<Arc<[Arc<str>]>>,
}

/// The outputs of a request, of which some are wanted as classes.
#[derive(Default)]
pub(super) struct Outputs {
    outputs: Vec<NamedTensor>,
    /// Those, by their place among the outputs.
    wanted: Vec<(usize, Scores)>,
}

impl Outputs {
    /// All of these as they are.
    pub(super) const fn as_they_are(outputs: Vec<NamedTensor>) -> Self {
        Self { outputs, wanted: Vec::new() }
    }

    /// One more as it is.
    pub(super) fn push(&mut self, output: NamedTensor) {
        self.outputs.push(output);
    }

    /// One more as its `count` best classes. `giver` is what gave the output, if it is known:
    /// it says whether the first dimension is a batch, and what its classes are called.
    pub(super) fn push_classes(&mut self, output: NamedTensor, count: usize, giver: Option<&Target>) {
        self.wanted.push((self.outputs.len(), Scores::new(&output, count, giver)));
        self.outputs.push(output);
    }

    /// All of them, with the best classes of those whose classes are wanted.
    ///
    /// # Errors
    /// [`Kind::BadRequest`] for an output that has no scores, or for too many classes.
    pub(super) fn finish(mut self) -> Result<Vec<NamedTensor>> {
        self.classes()?;
        for (place, scores) in &self.wanted {
            if let Some(output) = self.outputs.get_mut(*place) {
                output.tensor = scores.best()?;
            }
        }
        Ok(self.outputs)
    }

    /// The same, with the room that it takes, and without keeping the thread for long.
    ///
    /// # Errors
    /// Also [`Kind::Overloaded`] where there is no room, and [`Kind::Deadline`].
    pub(super) async fn finish_apart(self, room: &mut Room, deadline: Instant) -> Result<Vec<NamedTensor>> {
        if self.wanted.is_empty() {
            return Ok(self.outputs);
        }
        room.grow(self.classes()? * CLASS_BYTES)?;
        let bytes: usize = self.wanted.iter().map(|(_, scores)| scores.output.tensor.byte_len()).sum();
        if bytes <= SCORES_HERE_MAX {
            return self.finish();
        }
        let apart = async {
            let turn = APART.acquire().await;
            let work = move || {
                // The turn lasts as long as the work, also if nobody waits for it any more.
                let _turn = turn;
                self.finish()
            };
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| Error::new(Kind::Internal, "internal error").with_detail(error.to_string()))?
        };
        tokio::time::timeout_at(deadline, apart)
            .await
            .map_err(|_| Error::new(Kind::Deadline, "the request's deadline has passed"))?
    }

    /// How many classes are wanted.
    fn classes(&self) -> Result<usize> {
        let of = |scores: &Scores| scores.rows.checked_mul(scores.count);
        let sum = self.wanted.iter().try_fold(0_usize, |sum, (_, scores)| sum.checked_add(of(scores)?));
        sum.filter(|classes| *classes <= CLASSES_MAX).ok_or_else(|| {
            let message = format!("a request may ask for {CLASSES_MAX} classes of its outputs in all");
            Error::new(Kind::BadRequest, message)
        })
    }
}

impl Scores {
    fn new(output: &NamedTensor, count: usize, giver: Option<&Target>) -> Self {
        let shape = output.tensor.shape();
        let is_batched = giver.is_some_and(|giver| giver.max_batch_size() > 0) && shape.rank() > 0;
        let (rows, scores) =
            if is_batched { (shape.rows(), shape.row_elements()) } else { (1, shape.elements()) };
        let labels = giver.and_then(|giver| giver.labels(&output.name)).cloned();
        Self { output: output.clone(), is_batched, rows, scores, count: count.min(scores), labels }
    }

    /// The best classes, as a BYTES tensor.
    fn best(&self) -> Result<Tensor> {
        let data = self.output.tensor.bytes();
        let mut texts = Texts { packed: Vec::new(), labels: self.labels.as_deref().unwrap_or_default() };
        macro_rules! classes {
            ($type:ty, $decimals:expr) => {{
                let row_bytes = (self.scores * size_of::<$type>()).max(1);
                for row in data.chunks_exact(row_bytes).take(if self.scores == 0 { 0 } else { self.rows }) {
                    let scores = row.chunks_exact(size_of::<$type>());
                    let scores = scores.filter_map(|bytes| bytes.try_into().ok()).map(<$type>::from_le_bytes);
                    for place in best(scores, self.count) {
                        texts.push(place.score, $decimals, place.index)?;
                    }
                }
            }};
        }
        match self.output.tensor.dtype() {
            DType::U8 => classes!(u8, None),
            DType::U16 => classes!(u16, None),
            DType::U32 => classes!(u32, None),
            DType::U64 => classes!(u64, None),
            DType::I8 => classes!(i8, None),
            DType::I16 => classes!(i16, None),
            DType::I32 => classes!(i32, None),
            DType::I64 => classes!(i64, None),
            DType::F32 => classes!(f32, Some(6)),
            DType::F64 => classes!(f64, Some(6)),
            dtype @ (DType::Bool | DType::F16 | DType::Bf16 | DType::Bytes) => {
                return Err(Error::new(
                    Kind::BadRequest,
                    format!(
                        "class result not available for output '{}' due to unsupported type '{dtype}'",
                        self.output.name
                    ),
                ));
            }
        }
        let dims = if self.is_batched { vec![self.rows, self.count] } else { vec![self.count] };
        Shape::new(&dims)
            .and_then(|shape| Tensor::dense(DType::Bytes, shape, texts.packed.into()))
            .map_err(|error| to_error(&error))
    }
}

/// A score and its class. The greater of two is the one that comes later.
struct Place<T> {
    score: T,
    index: usize,
}

impl<T: PartialOrd> Place<T> {
    /// A score that does not equal itself is not a number.
    fn is_nan(&self) -> bool {
        self.score.partial_cmp(&self.score).is_none()
    }
}

impl<T: PartialOrd> Ord for Place<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_score = || other.score.partial_cmp(&self.score).unwrap_or(Ordering::Equal);
        self.is_nan().cmp(&other.is_nan()).then_with(by_score).then(self.index.cmp(&other.index))
    }
}

impl<T: PartialOrd> PartialOrd for Place<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: PartialOrd> PartialEq for Place<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: PartialOrd> Eq for Place<T> {}

/// The `count` highest scores, highest first, equal ones in order, NaN last. Holds no more
/// than these.
fn best<T: PartialOrd>(scores: impl Iterator<Item = T>, count: usize) -> Vec<Place<T>> {
    let mut best = BinaryHeap::with_capacity(count.min(CLASSES_MAX));
    for (index, score) in scores.enumerate() {
        let place = Place { score, index };
        if best.len() < count {
            best.push(place);
        } else if let Some(mut last) = best.peek_mut()
            && place < *last
        {
            *last = place;
        }
    }
    best.into_sorted_vec()
}

/// The elements of a BYTES tensor, one after the other.
struct Texts<'a> {
    packed: Vec<u8>,
    labels: &'a [Arc<str>],
}

impl Texts<'_> {
    fn push(&mut self, score: impl Display, decimals: Option<usize>, index: usize) -> Result<()> {
        let start = self.packed.len();
        self.packed.extend([0; size_of::<u32>()]);
        // Writing to a vector cannot fail.
        let _ = match decimals {
            Some(decimals) => write!(self.packed, "{score:.decimals$}:{index}"),
            None => write!(self.packed, "{score}:{index}"),
        };
        if let Some(label) = self.labels.get(index).filter(|label| !label.is_empty()) {
            self.packed.push(b':');
            self.packed.extend_from_slice(label.as_bytes());
        }
        let text = self.packed.len() - start - size_of::<u32>();
        let length = u32::try_from(text).map_err(|_| Error::new(Kind::BadRequest, "a label is too long"))?;
        if let Some(prefix) = self.packed.get_mut(start..start + size_of::<u32>()) {
            prefix.copy_from_slice(&length.to_le_bytes());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Admission;

    fn outputs(tensor: Tensor, count: usize) -> Outputs {
        let mut outputs = Outputs::default();
        outputs.push_classes(NamedTensor { name: "scores".into(), tensor }, count, None);
        outputs
    }

    fn texts(outputs: &[NamedTensor]) -> Vec<String> {
        let texts = outputs[0].tensor.strings().expect("BYTES");
        texts.map(|text| String::from_utf8_lossy(text).into_owned()).collect()
    }

    fn classes(tensor: Tensor, count: usize) -> Vec<String> {
        texts(&outputs(tensor, count).finish().expect("numbers"))
    }

    #[test]
    fn the_highest_scores_come_first_and_equal_ones_in_order() {
        let shape = Shape::new(&[2, 2]).expect("fits");
        let floats = Tensor::from_f32(shape, &[0.5, f32::NAN, 2.0, 0.5]).expect("valid");
        assert_eq!(classes(floats.clone(), 3), ["2.000000:2", "0.500000:0", "0.500000:3"]);
        assert_eq!(classes(floats, 9).len(), 4);
        let whole = [i64::MAX, i64::MAX - 1].map(i64::to_le_bytes).concat();
        let whole = Tensor::dense(DType::I64, Shape::new(&[2]).expect("fits"), whole.into()).expect("valid");
        assert_eq!(classes(whole, 1), ["9223372036854775807:0"]);
    }

    #[test]
    fn labels_follow_where_there_are_any() {
        let labels = ["cat".into(), "".into()];
        let mut texts = Texts { packed: Vec::new(), labels: &labels };
        (0..3).for_each(|index| texts.push(7, None, index).expect("short"));
        assert_eq!(texts.packed, b"\x07\0\0\x007:0:cat\x03\0\0\x007:1\x03\0\0\x007:2");
    }

    #[test]
    fn outputs_without_scores_are_refused() {
        let shape = Shape::new(&[1]).expect("fits");
        let tensor = Tensor::from_strings(shape, [b"a".as_slice()].into_iter()).expect("valid");
        let refused = outputs(tensor, 1).finish();
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(Kind::BadRequest));
    }

    /// So many bytes, each of which is a score.
    fn bytes(len: usize) -> Tensor {
        let data: Vec<u8> = (0..=u8::MAX).cycle().take(len).collect();
        Tensor::dense(DType::U8, Shape::new(&[len]).expect("fits"), data.into()).expect("valid")
    }

    #[tokio::test]
    async fn classes_are_bounded_counted_before_they_are_made_and_looked_for_apart() {
        let deadline = Instant::now() + std::time::Duration::from_secs(60);
        let admission = Admission::new(1, 1, 10 * CLASS_BYTES);
        let mut room = admission.room();
        let bomb = outputs(bytes(8 << 20), usize::MAX).finish_apart(&mut room, deadline).await;
        assert_eq!(bomb.map(drop).map_err(|error| error.kind()), Err(Kind::BadRequest));
        let full = outputs(bytes(8 << 20), 11).finish_apart(&mut room, deadline).await;
        assert_eq!(full.map(drop).map_err(|error| error.kind()), Err(Kind::Overloaded));
        // The runtime of this test has one thread: it goes on meanwhile.
        let mut turns = 0;
        let work = outputs(bytes(8 << 20), 2).finish_apart(&mut room, deadline);
        let others = async {
            loop {
                turns += 1;
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::select! {
            found = work => found.expect("fits"),
            () = others => unreachable!("it has no end"),
        };
        assert_eq!(texts(&found), ["255:255", "255:511"]);
        assert!(turns > 2, "the thread was kept");
        let late = outputs(bytes(8 << 20), 1).finish_apart(&mut admission.room(), Instant::now()).await;
        assert_eq!(late.map(drop).map_err(|error| error.kind()), Err(Kind::Deadline));
    }
}
