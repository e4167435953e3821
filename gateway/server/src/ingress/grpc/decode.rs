//! `ModelInferRequest`, from the wire to tensors. Every list in it is bounded as it is
//! read; strings and raw tensors stay slices of the message.

use std::sync::Arc;

use bytes::Bytes;
use sluice_tensor::{DType, NamedTensor, RANK_MAX, Shape, Tensor};

use super::contents;
use super::wire::{self, Fields, Text, Value};
use crate::error::{Error, Kind, Result};
use crate::ingress::infer::{InferRequest, RequestedOutput};
use crate::ingress::memory::Reach;
use crate::ingress::parameters::{self, PARAMETERS_MAX};
use crate::ingress::served::shown;
use crate::pipeline::Parameter;
use crate::shared_memory;
use crate::tensor_json::{TENSORS_MAX, to_error};

/// A client that asks for it gets an empty answer behind the last one of its request; the
/// one name with this start that clients may use.
const EMPTY_FINAL: &str = "triton_enable_empty_final_response";

/// How many classes are wanted of an output.
const CLASSIFICATION: &str = "classification";

/// Parameters by name, few enough to be searched.
pub(super) type Parameters = Vec<(Arc<str>, Parameter)>;

/// A request's parts as they came.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) model: Text,
    pub(super) version: Text,
    pub(super) id: Text,
    pub(super) parameters: Parameters,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Output>,
    pub(super) raw: Vec<Bytes>,
}

/// An input without its raw data.
#[derive(Debug, Default)]
pub(super) struct Input {
    pub(super) name: Text,
    pub(super) datatype: Text,
    pub(super) dims: Vec<u64>,
    pub(super) parameters: Parameters,
    pub(super) contents: Contents,
}

/// Most pieces that an input's contents may come in, beside empty ones. Clients send one;
/// a message that comes twice is both of them, one behind the other. More answer 400.
const PIECES_MAX: usize = 64;

/// An input's contents: slices of the message, none of them empty.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) first: Bytes,
    /// Empty, unless somebody makes use of the rule above.
    pub(super) more: Vec<Bytes>,
}

impl Contents {
    fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.first.len() + self.more.iter().map(Bytes::len).sum::<usize>()
    }

    fn add(&mut self, piece: Bytes) -> Result<()> {
        match piece {
            piece if piece.is_empty() => Ok(()),
            piece if self.is_empty() => {
                self.first = piece;
                Ok(())
            }
            piece => push(&mut self.more, piece, PIECES_MAX - 1, "pieces of an input's contents"),
        }
    }
}

/// An output that is asked for.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) name: Text,
    pub(super) parameters: Parameters,
}

/// Reads a request.
///
/// # Errors
/// It is malformed, or has more of something than a request may have.
pub(super) fn message(bytes: Bytes) -> Result<Message> {
    let mut message = Message::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => message.model = value.text()?,
            2 => message.version = value.text()?,
            3 => message.id = value.text()?,
            4 => push(&mut message.parameters, parameter(value.bytes()?)?, PARAMETERS_MAX, "parameters")?,
            5 => push(&mut message.inputs, input(value.bytes()?)?, TENSORS_MAX, "inputs")?,
            6 => push(&mut message.outputs, output(value.bytes()?)?, TENSORS_MAX, "outputs")?,
            7 => push(&mut message.raw, value.bytes()?, TENSORS_MAX, "raw inputs")?,
            _ => {}
        }
    }
    Ok(message)
}

/// The id of a request of which only the beginning is there; empty if it is not in that.
pub(super) fn id_of(beginning: Bytes) -> String {
    let mut fields = Fields(beginning);
    while let Ok(Some((number, value))) = fields.next() {
        if number == 3 {
            return value.text().map(|id| id.to_string()).unwrap_or_default();
        }
    }
    String::new()
}

fn push<T>(list: &mut Vec<T>, value: T, max: usize, what: &str) -> Result<()> {
    if list.len() >= max {
        return Err(Error::new(Kind::BadRequest, format!("a request has at most {max} {what}")));
    }
    list.push(value);
    Ok(())
}

fn input(bytes: Bytes) -> Result<Input> {
    let mut input = Input::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => input.name = value.text()?,
            2 => input.datatype = value.text()?,
            3 => dims(&mut input.dims, value)?,
            4 => push(&mut input.parameters, parameter(value.bytes()?)?, PARAMETERS_MAX, "parameters")?,
            5 => input.contents.add(value.bytes()?)?,
            _ => {}
        }
    }
    Ok(input)
}

fn dims(dims: &mut Vec<u64>, value: Value) -> Result<()> {
    let mut one = |dim: u64| {
        if dims.len() == RANK_MAX {
            return Err(Error::new(Kind::BadShape, format!("shape has more than {RANK_MAX} dimensions")));
        }
        dims.push(dim);
        Ok(())
    };
    match value {
        Value::Varint(dim) => one(dim),
        value => {
            let mut packed = Fields(value.bytes()?);
            while !packed.0.is_empty() {
                one(packed.varint()?)?;
            }
            Ok(())
        }
    }
}

fn output(bytes: Bytes) -> Result<Output> {
    let mut output = Output::default();
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => output.name = value.text()?,
            2 => push(&mut output.parameters, parameter(value.bytes()?)?, PARAMETERS_MAX, "parameters")?,
            _ => {}
        }
    }
    Ok(output)
}

/// One entry of a map of parameters.
fn parameter(bytes: Bytes) -> Result<(Arc<str>, Parameter)> {
    let (mut name, mut choice) = (Text::default(), None);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => name = value.text()?,
            2 => {
                let mut inner = Fields(value.bytes()?);
                while let Some((number, value)) = inner.next()? {
                    choice = Some(match (number, value) {
                        (1, value) => Parameter::Bool(value.varint()? != 0),
                        (2, value) => Parameter::Integer(value.varint()?.cast_signed()),
                        (3, value) => Parameter::Text((*value.text()?).into()),
                        (4, Value::Fixed64(bits)) => Parameter::Float(f64::from_bits(bits)),
                        (5, value) => Parameter::Unsigned(value.varint()?),
                        (4, _) => return Err(wire::malformed("a field has another type")),
                        _ => continue,
                    });
                }
            }
            _ => {}
        }
    }
    let named = || Error::new(Kind::BadRequest, format!("parameter '{}' has no value", shown(&name)));
    let choice = choice.ok_or_else(named)?;
    Ok(((*name).into(), choice))
}

impl Message {
    /// Whether the client wants to be told by an empty answer that nothing more comes.
    pub(super) fn wants_empty_final(&self) -> bool {
        let mut asked = self.parameters.iter().filter(|(name, _)| **name == *EMPTY_FINAL);
        asked.any(|(_, value)| *value == Parameter::Bool(true))
    }

    /// What the caller asks for.
    ///
    /// Inputs in shared memory are copied from it, and packed elements unpacked, after `grow`
    /// has taken room for them.
    ///
    /// # Errors
    /// What is wrong with an input, an output or a parameter, by name.
    pub(super) fn request(mut self, reach: &Reach, grow: &mut Grow<'_>) -> Result<InferRequest> {
        self.parameters.retain(|(name, _)| **name != *EMPTY_FINAL);
        self.check_contents()?;
        let inputs = tensors(&self.inputs, self.raw, reach, grow)?;
        let text = |text: &Text| (!text.is_empty()).then(|| text.to_string());
        Ok(InferRequest {
            version: text(&self.version),
            id: text(&self.id),
            inputs,
            wishes: parameters::read(self.parameters)?,
            outputs: self.outputs.iter().map(|output| wanted(output, reach)).collect::<Result<_>>()?,
        })
    }

    /// Data comes raw or in the contents of an input: both is a mistake, in Triton's words.
    fn check_contents(&self) -> Result<()> {
        let has_contents = |input: &&Input| !input.contents.is_empty();
        match self.inputs.iter().find(has_contents) {
            Some(input) if !self.raw.is_empty() => {
                let (input, model) = (shown(&input.name), shown(&self.model));
                Err(Error::new(
                    Kind::BadRequest,
                    format!(
                        "contents field must not be specified when using raw_input_contents for '{input}' \
                         for model '{model}'"
                    ),
                ))
            }
            _ => Ok(()),
        }
    }
}

fn wanted(output: &Output, reach: &Reach) -> Result<RequestedOutput> {
    let memory = reach.part(&output.parameters, &output.name)?;
    let mut wanted = RequestedOutput { name: output.name.to_string(), classification: 0, memory };
    if let Some((name, value)) = output.parameters.iter().find(|(name, _)| **name == *CLASSIFICATION) {
        wanted.classification = usize::try_from(parameters::whole(name, value)?).unwrap_or(usize::MAX);
    }
    if wanted.classification > 0 && wanted.memory.is_some() {
        let message = "output can't set both 'shared_memory_region' and 'classification'";
        return Err(Error::new(Kind::BadRequest, message));
    }
    Ok(wanted)
}

/// Takes room for so many bytes.
pub(super) type Grow<'a> = dyn FnMut(usize) -> Result<()> + 'a;

/// The tensors of a request.
///
/// # Errors
/// Too few, or what is wrong with one of them, by name.
pub(super) fn tensors(
    inputs: &[Input],
    raw: Vec<Bytes>,
    reach: &Reach,
    grow: &mut Grow<'_>,
) -> Result<Vec<NamedTensor>> {
    if inputs.is_empty() {
        return Err(Error::new(Kind::BadShape, format!("a request has 1 to {TENSORS_MAX} inputs")));
    }
    let is_raw = !raw.is_empty();
    let is_sent = |input: &&Input| !is_in_memory(input);
    let sent = inputs.iter().filter(is_sent).count();
    if is_raw && raw.len() != sent {
        let (raw, inputs) = (raw.len(), sent);
        let what = format!("raw_input_contents has {raw} entries for {inputs} inputs: all come raw, or none");
        return Err(Error::new(Kind::BadRequest, what));
    }
    let mut decoded = Vec::with_capacity(inputs.len());
    let mut raw = raw.into_iter();
    for input in inputs {
        let name = &*input.name;
        let located =
            |error: Error| Error::new(error.kind(), format!("input '{}': {}", shown(name), error.message()));
        let (dtype, shape) = described(input).map_err(located)?;
        let want = shape.bytes(dtype).map_err(|error| located(to_error(&error)))?;
        if is_in_memory(input) && !input.contents.is_empty() {
            // Triton's words.
            let what = "unexpected 'content' provided when using shared memory for input tensor";
            return Err(Error::new(Kind::BadRequest, format!("{what} '{}'", shown(name))));
        }
        let tensor = match reach.read(&input.parameters, name, want, &mut *grow)? {
            None => tensor(input, dtype, shape, raw.next(), grow),
            Some(data) => Tensor::dense(dtype, shape, data).map_err(|error| to_error(&error)),
        };
        let tensor = tensor.map_err(located)?;
        decoded.push(NamedTensor { name: name.into(), tensor });
    }
    Ok(decoded)
}

fn is_in_memory(input: &Input) -> bool {
    input.parameters.iter().any(|(name, _)| **name == *shared_memory::PARAMETERS[0])
}

fn described(input: &Input) -> Result<(DType, Shape)> {
    let dtype = DType::from_name(&input.datatype)
        .ok_or_else(|| Error::new(Kind::BadDtype, "it has an unknown datatype"))?;
    let mut dims = [0_usize; RANK_MAX];
    for (dim, given) in dims.iter_mut().zip(&input.dims) {
        let given = i64::try_from(*given).ok().and_then(|given| usize::try_from(given).ok());
        *dim = given.ok_or_else(|| Error::new(Kind::BadShape, "a dimension is negative"))?;
    }
    let shape = Shape::new(&dims[..input.dims.len().min(RANK_MAX)]).map_err(|error| to_error(&error))?;
    Ok((dtype, shape))
}

fn tensor(
    input: &Input,
    dtype: DType,
    shape: Shape,
    raw: Option<Bytes>,
    grow: &mut Grow<'_>,
) -> Result<Tensor> {
    match raw {
        None => contents::decode(dtype, shape, &input.contents, grow),
        Some(data) => Tensor::dense(dtype, shape, data).map_err(|error| to_error(&error)),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::super::wire::Writer;
    use super::*;

    /// A request with one of everything.
    fn whole() -> Vec<u8> {
        let mut out = BytesMut::new();
        let mut writer = Writer(&mut out);
        writer.text(1, "model");
        writer.text(3, "id");
        writer.message(4, |entry| {
            entry.text(1, "custom");
            entry.message(2, |value| value.double(4, 0.5));
        });
        for name in ["a", "b"] {
            writer.message(5, |input| {
                input.text(1, name);
                input.text(2, "INT32");
                input.bytes(3, &[1, 2]);
            });
        }
        writer.message(6, |output| {
            output.text(1, "y");
            output.message(2, |entry| {
                entry.text(1, "classification");
                entry.message(2, |value| value.varint(2, 3));
            });
        });
        writer.bytes(7, &[1, 0, 0, 0, 2, 0, 0, 0]);
        writer.bytes(7, &[3, 0, 0, 0, 4, 0, 0, 0]);
        out.to_vec()
    }

    fn ask(message: Message) -> Result<InferRequest> {
        message.request(&Reach::nothing(), &mut |_| Ok(()))
    }

    fn read(bytes: Vec<u8>) -> Result<InferRequest> {
        ask(message(bytes.into())?)
    }

    #[test]
    fn a_request_is_read_and_its_tensors_are_slices_of_it() {
        let bytes = Bytes::from(whole());
        let request = message(bytes.clone()).and_then(ask).expect("well-formed");
        assert_eq!(request.id.as_deref(), Some("id"));
        let output = &request.outputs[0];
        assert_eq!((&*output.name, output.classification, request.outputs.len()), ("y", 3, 1));
        assert_eq!(request.wishes.options.parameter("custom"), Some(&Parameter::Float(0.5)));
        for input in &request.inputs {
            let data = input.tensor.to_dense();
            assert!(bytes.as_ptr_range().contains(&data.as_ptr()), "copied");
        }
    }

    #[test]
    fn the_id_is_found_in_the_beginning_of_a_request() {
        let bytes = Bytes::from(whole());
        assert_eq!(id_of(bytes.slice(..40)), "id");
        assert_eq!(id_of(bytes.slice(..4)), "");
        assert_eq!(id_of(Bytes::from_static(&[0xff; 9])), "");
    }

    #[test]
    fn room_is_taken_for_elements_before_they_are_unpacked() {
        let packed = one_input(1000, |input| input.message(5, |contents| contents.bytes(5, &[1; 1000])));
        let ask =
            |bytes: Vec<u8>, grow: &mut Grow<'_>| message(bytes.into())?.request(&Reach::nothing(), grow);
        let mut taken = 0;
        let read = ask(packed.clone(), &mut |bytes| {
            taken += bytes;
            Ok(())
        });
        assert_eq!((read.is_ok(), taken), (true, 8000));
        let full = |_| Err(Error::new(Kind::Overloaded, "full"));
        assert_eq!(ask(packed, &mut { full }).err().map(|error| error.kind()), Some(Kind::Overloaded));
        // Raw data is a slice of the message, which is counted.
        assert!(ask(whole(), &mut { full }).is_ok());
    }

    #[test]
    fn contents_that_come_in_two_parts_are_one_list() {
        let mut out = BytesMut::new();
        let mut writer = Writer(&mut out);
        writer.message(5, |input| {
            input.text(1, "a");
            input.text(2, "UINT64");
            // Dimensions and elements, packed and not.
            input.varint(3, 3);
            input.message(5, |contents| contents.varint(5, 7));
            input.message(5, |contents| contents.bytes(5, &[8, 9]));
        });
        let request = read(out.to_vec()).expect("well-formed");
        let data: Vec<u8> = [7_u64, 8, 9].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(request.inputs[0].tensor.to_dense(), data);
    }

    /// An input of `dims` elements, and whatever `contents` writes.
    fn one_input(elements: u64, contents: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut out = BytesMut::new();
        Writer(&mut out).message(5, |input| {
            input.text(1, "a");
            input.text(2, "UINT64");
            input.varint(3, elements);
            contents(input);
        });
        out.to_vec()
    }

    #[test]
    fn contents_in_any_number_of_pieces_take_no_longer_than_in_one() {
        let piece = vec![1; 1 << 20];
        let bytes = one_input(2 << 20, |input| {
            input.message(5, |contents| contents.bytes(5, &piece));
            // With a copy of what came before for each of these, this would not end today.
            (0..1 << 20).for_each(|_| input.bytes(5, &[]));
            input.message(5, |contents| contents.bytes(5, &piece));
        });
        let request = read(bytes).expect("well-formed");
        assert_eq!(request.inputs[0].tensor.byte_len(), 16 << 20);
        let split = |pieces| {
            let one = |input: &mut Writer<'_>| input.message(5, |contents| contents.varint(5, 7));
            read(one_input(pieces, |input| (0..pieces).for_each(|_| one(input))))
        };
        assert!(split(PIECES_MAX as u64).is_ok());
        let refused = split(PIECES_MAX as u64 + 1).err().expect("too many");
        assert_eq!(refused.kind(), Kind::BadRequest);
    }

    proptest! {
        #[test]
        fn nothing_that_is_altered_makes_it_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), cut: prop::sample::Index) {
            let mut bytes = whole();
            for (place, value) in changes {
                let place = place.index(bytes.len());
                bytes[place] = value;
            }
            let cut = cut.index(bytes.len());
            let _ = read(bytes.clone());
            bytes.truncate(cut);
            let _ = read(bytes);
        }

        #[test]
        fn nothing_random_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(bytes);
        }
    }
}
