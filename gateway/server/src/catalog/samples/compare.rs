//! Expected against given, in lines that a person can act on.

use half::{bf16, f16};
use serde_json::Value;
use sluice_tensor::{DType, NamedTensor, Tensor, find};

use super::DIFF_LINES_MAX;

/// Most characters of one value in a diff: enough to recognise it.
const VALUE_CHARS_MAX: usize = 60;

/// Most bytes of one line of a diff: a backtrace fits, a body does not.
const LINE_BYTES_MAX: usize = 1024;

/// What differs, as lines; more than [`DIFF_LINES_MAX`] are only counted.
pub(super) struct Diff {
    tolerance: f64,
    lines: Vec<String>,
    left_out: usize,
}

impl Diff {
    pub(super) fn new(tolerance: f64) -> Self {
        Self { tolerance, lines: Vec::new(), left_out: 0 }
    }

    pub(super) fn line(&mut self, mut line: String) {
        // One line is kept free to say how many were left out.
        if self.lines.len() + 1 < DIFF_LINES_MAX {
            if line.len() > LINE_BYTES_MAX {
                line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
                line.push('…');
            }
            self.lines.push(line);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn finish(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("and {} more differences", self.left_out));
        }
        self.lines
    }

    fn is_close(&self, expected: f64, got: f64) -> bool {
        if expected.is_nan() || got.is_nan() {
            return expected.is_nan() && got.is_nan();
        }
        if expected.is_infinite() || got.is_infinite() {
            return expected == got;
        }
        (expected - got).abs() <= self.tolerance * expected.abs().max(got.abs()).max(1.0)
    }
}

/// A text in quotes, escaped and cut.
pub(super) fn shown_text(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(VALUE_CHARS_MAX).collect();
    let more = if chars.next().is_some() { "…" } else { "" };
    format!("{head:?}{more}")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => shown_text(text),
        _ => {
            let text = value.to_string();
            let mut chars = text.chars();
            let head: String = chars.by_ref().take(VALUE_CHARS_MAX).collect();
            if chars.next().is_some() { format!("{head}…") } else { head }
        }
    }
}

/// Compares JSON: numbers within the tolerance (whole ones exactly), objects without
/// regard to order. As deep as what is expected, which was bounded when it was read.
pub(super) fn json(expected: &Value, got: &Value, diff: &mut Diff) {
    json_at(&mut String::from("$"), expected, got, diff);
}

fn json_at(path: &mut String, expected: &Value, got: &Value, diff: &mut Diff) {
    let end = path.len();
    match (expected, got) {
        (Value::Object(expected), Value::Object(got)) => {
            for (key, expected) in expected {
                push_key(path, key);
                match got.get(key) {
                    Some(got) => json_at(path, expected, got, diff),
                    None => diff.line(format!("{path}: expected {}, is missing", shown(expected))),
                }
                path.truncate(end);
            }
            for (key, got) in got.iter().filter(|(key, _)| !expected.contains_key(*key)) {
                push_key(path, key);
                diff.line(format!("{path}: not expected, got {}", shown(got)));
                path.truncate(end);
            }
        }
        (Value::Array(expected), Value::Array(got)) => {
            if expected.len() != got.len() {
                diff.line(format!("{path}: expected {} elements, got {}", expected.len(), got.len()));
            }
            for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                path.push_str(&format!("[{index}]"));
                json_at(path, expected, got, diff);
                path.truncate(end);
            }
        }
        _ if is_same(expected, got, diff) => {}
        _ => diff.line(format!("{path}: expected {}, got {}", shown(expected), shown(got))),
    }
}

fn push_key(path: &mut String, key: &str) {
    let is_plain =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if is_plain {
        path.push('.');
        path.push_str(key);
    } else {
        path.push_str(&format!("[{}]", shown_text(key)));
    }
}

fn is_same(expected: &Value, got: &Value, diff: &Diff) -> bool {
    match (expected, got) {
        (Value::Number(left), Value::Number(right)) => {
            let are_whole = !left.is_f64() && !right.is_f64();
            left == right
                || !are_whole
                    && left
                        .as_f64()
                        .zip(right.as_f64())
                        .is_some_and(|(left, right)| diff.is_close(left, right))
        }
        _ => expected == got,
    }
}

/// Compares a body with a text, byte for byte.
pub(super) fn text(expected: &str, got: &[u8], diff: &mut Diff) {
    if expected.as_bytes() == got {
        return;
    }
    let got = String::from_utf8_lossy(got);
    let same = expected.chars().zip(got.chars()).take_while(|(left, right)| left == right).count();
    let rest = |text: &str| shown_text(&text.chars().skip(same).collect::<String>());
    diff.line(format!("text differs at character {same}: expected {}, got {}", rest(expected), rest(&got)));
}

/// Compares tensors by name, type, shape and values. `what` is what they are: an input
/// or an output.
pub(super) fn tensors(what: &str, expected: &[NamedTensor], got: &[NamedTensor], diff: &mut Diff) {
    for NamedTensor { name, tensor: expected } in expected {
        match find(got, name) {
            None => diff.line(format!(
                "{what} '{name}': expected {} of {}, is missing",
                expected.dtype(),
                expected.shape()
            )),
            Some(got) => tensor(&format!("{what} '{name}'"), expected, got, diff),
        }
    }
    for NamedTensor { name, tensor } in got.iter().filter(|named| find(expected, &named.name).is_none()) {
        diff.line(format!("{what} '{name}': not expected, got {} of {}", tensor.dtype(), tensor.shape()));
    }
}

fn tensor(place: &str, expected: &Tensor, got: &Tensor, diff: &mut Diff) {
    if expected.dtype() != got.dtype() {
        diff.line(format!("{place}: expected datatype {}, got {}", expected.dtype(), got.dtype()));
        return;
    }
    if expected.shape() != got.shape() {
        diff.line(format!("{place}: expected shape {}, got {}", expected.shape(), got.shape()));
        return;
    }
    let shape = expected.shape().dims();
    if let (Ok(expected), Ok(got)) = (expected.strings(), got.strings()) {
        for (number, (expected, got)) in
            expected.zip(got).enumerate().filter(|(_, (left, right))| left != right)
        {
            let text = |bytes| shown_text(&String::from_utf8_lossy(bytes));
            diff.line(format!(
                "{place}{}: expected {}, got {}",
                at(shape, number),
                text(expected),
                text(got)
            ));
        }
        return;
    }
    let (left, right) = (expected.bytes(), got.bytes());
    let size = expected.dtype().size().unwrap_or(1);
    let pairs = left.chunks_exact(size).zip(right.chunks_exact(size));
    for (number, (left, right)) in pairs.enumerate().filter(|(_, (left, right))| left != right) {
        let (left, right) = (element(expected.dtype(), left), element(expected.dtype(), right));
        let floats = left.as_float().zip(right.as_float());
        if !floats.is_some_and(|(left, right)| diff.is_close(left, right)) {
            diff.line(format!("{place}{}: expected {left}, got {right}", at(shape, number)));
        }
    }
}

/// The place of an element, row-major: `[0, 3]`.
fn at(shape: &[usize], number: usize) -> String {
    let mut rest = number;
    let mut place: Vec<String> = Vec::with_capacity(shape.len());
    for dimension in shape.iter().rev() {
        place.push((rest % dimension.max(&1)).to_string());
        rest /= dimension.max(&1);
    }
    place.reverse();
    format!("[{}]", place.join(", "))
}

/// One number of a tensor.
enum Element {
    Whole(i128),
    /// Single and half precision: shown in their own shortest form.
    Single(f32),
    Double(f64),
}

impl Element {
    fn as_float(&self) -> Option<f64> {
        match self {
            Self::Whole(_) => None,
            Self::Single(value) => Some((*value).into()),
            Self::Double(value) => Some(*value),
        }
    }
}

impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Whole(value) => value.fmt(f),
            Self::Single(value) => value.fmt(f),
            Self::Double(value) => value.fmt(f),
        }
    }
}

fn element(dtype: DType, bytes: &[u8]) -> Element {
    // The caller cuts the bytes by the type's size, so that every conversion fits.
    macro_rules! read {
        ($type:ty) => {
            <$type>::from_le_bytes(bytes.try_into().unwrap_or_default())
        };
    }
    match dtype {
        DType::Bool | DType::U8 | DType::Bytes => Element::Whole(read!(u8).into()),
        DType::U16 => Element::Whole(read!(u16).into()),
        DType::U32 => Element::Whole(read!(u32).into()),
        DType::U64 => Element::Whole(read!(u64).into()),
        DType::I8 => Element::Whole(read!(i8).into()),
        DType::I16 => Element::Whole(read!(i16).into()),
        DType::I32 => Element::Whole(read!(i32).into()),
        DType::I64 => Element::Whole(read!(i64).into()),
        DType::F16 => Element::Single(read!(f16).into()),
        DType::Bf16 => Element::Single(read!(bf16).into()),
        DType::F32 => Element::Single(read!(f32)),
        DType::F64 => Element::Double(read!(f64)),
    }
}
