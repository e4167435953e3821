//! Lists and objects of which no more is kept than a request may have, and how many bytes
//! tensors become: nothing grows out of proportion to what was sent and counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use sluice_tensor::{DType, Tensor};

use super::TensorJson;

/// A list of which one element more than `MAX` is kept, for whoever refuses it then. What
/// comes behind that is checked to be JSON, and dropped.
#[derive(Debug)]
pub(crate) struct List<T, const MAX: usize>(Vec<T>);

/// An object, likewise; a name that comes twice is refused.
#[derive(Debug, Clone)]
pub(crate) struct Keyed<'a, const MAX: usize>(BTreeMap<Cow<'a, str>, &'a RawValue>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<const MAX: usize> Default for Keyed<'_, MAX> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const MAX: usize> IntoIterator for List<T, MAX> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, const MAX: usize> Deref for Keyed<'a, MAX> {
    type Target = BTreeMap<Cow<'a, str>, &'a RawValue>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<const MAX: usize> DerefMut for Keyed<'_, MAX> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<'a, const MAX: usize> IntoIterator for Keyed<'a, MAX> {
    type Item = (Cow<'a, str>, &'a RawValue);
    type IntoIter = std::collections::btree_map::IntoIter<Cow<'a, str>, &'a RawValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Elements<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Elements<T, MAX> {
            type Value = List<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while list.len() <= MAX {
                    match array.next_element()? {
                        Some(element) => list.push(element),
                        None => return Ok(List(list)),
                    }
                }
                while array.next_element::<IgnoredAny>()?.is_some() {}
                Ok(List(list))
            }
        }

        json.deserialize_seq(Elements(PhantomData))
    }
}

/// A name in an object, without a copy where it needs none.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a, const MAX: usize> Deserialize<'de> for Keyed<'a, MAX> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Entries<'a, const MAX: usize>(PhantomData<&'a ()>);

        impl<'de: 'a, 'a, const MAX: usize> Visitor<'de> for Entries<'a, MAX> {
            type Value = Keyed<'a, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keyed = BTreeMap::new();
                while keyed.len() <= MAX {
                    let Some((Name(name), value)) = map.next_entry()? else { return Ok(Keyed(keyed)) };
                    if keyed.contains_key(&name) {
                        let shown: String = name.chars().take(128).collect();
                        return Err(A::Error::custom(format!("'{shown}' is given twice")));
                    }
                    keyed.insert(name, value);
                }
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Keyed(keyed))
            }
        }

        json.deserialize_map(Entries(PhantomData))
    }
}

/// About how many bytes a tensor's data takes as text: the longest numbers of its type, with what
/// is between two; texts and their quotes. Only texts that have to be escaped take more.
pub(crate) fn text_bytes(tensor: &Tensor) -> usize {
    let each = match tensor.dtype() {
        DType::U8 => 4,
        DType::I8 => 5,
        DType::Bool | DType::U16 => 6,
        DType::I16 => 7,
        DType::U32 => 11,
        DType::I32 => 12,
        DType::F16 | DType::Bf16 | DType::F32 => 17,
        DType::U64 | DType::I64 => 21,
        DType::F64 => 26,
        // Its length takes four bytes of the tensor, and quotes and a comma three of the text.
        DType::Bytes => return tensor.byte_len(),
    };
    tensor.shape().elements().saturating_mul(each)
}

impl TensorJson<'_> {
    /// Most bytes that its data becomes, as far as it comes in JSON.
    pub(crate) fn decoded_bytes_max(&self) -> usize {
        match (self.data, DType::from_name(&self.datatype)) {
            (Some(data), Some(dtype)) => decoded_bytes_max(dtype, &self.shape, data.get().len()),
            _ => 0,
        }
    }
}

/// Most bytes that JSON of `json_bytes` becomes as a tensor of that type and shape: eight
/// for two characters of text.
pub(crate) fn decoded_bytes_max(dtype: DType, dims: &[u64], json_bytes: usize) -> usize {
    let size = |dim: &u64| usize::try_from(*dim).unwrap_or(usize::MAX);
    let elements = dims.iter().map(size).fold(1, usize::saturating_mul).min(elements_max(json_bytes));
    match dtype.size() {
        Some(bytes) => elements * bytes,
        // Each has its length before it.
        None => elements * size_of::<u32>() + json_bytes,
    }
}

/// Most elements that an array of JSON can have: each takes at least two characters.
pub(super) fn elements_max(json_bytes: usize) -> usize {
    json_bytes / 2 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_allowed_is_kept_and_the_rest_is_only_read() {
        let list = |json: &str| serde_json::from_str::<List<u64, 2>>(json).map(|list| list.to_vec());
        assert_eq!(list("[1, 2]").expect("JSON"), [1, 2]);
        assert_eq!(list("[1, 2, 3, 4, \"x\"]").expect("JSON"), [1, 2, 3]);
        assert!(list("[1, 2, 3, 4, ]").is_err(), "the rest is JSON all the same");
        assert!(list("{}").is_err());
        let many: String = (0..1000).map(|number| format!("\"{number}\":0,")).collect();
        let many = format!("{{{many}\"x\":1}}");
        assert_eq!(serde_json::from_str::<Keyed<'_, 8>>(&many).expect("JSON").len(), 9);
        let two = serde_json::from_str::<Keyed<'_, 8>>(r#"{"a": [1], "\u0062": 2}"#).expect("JSON");
        assert_eq!((two["a"].get(), two["b"].get()), ("[1]", "2"));
        assert!(serde_json::from_str::<Keyed<'_, 8>>(r#"{"a": 1, "\u0061": 2}"#).is_err(), "given twice");
    }

    #[test]
    fn what_json_becomes_is_known_before_and_never_more_than_four_times_as_much() {
        assert_eq!(decoded_bytes_max(DType::F64, &[3], 7), 24);
        assert_eq!(decoded_bytes_max(DType::F32, &[u64::MAX, 8], 9), 5 * 4);
        assert_eq!(decoded_bytes_max(DType::Bytes, &[2], 9), 2 * 4 + 9);
        assert!(decoded_bytes_max(DType::I64, &[1 << 40], 1 << 20) <= (4 << 20) + 8);
    }
}
