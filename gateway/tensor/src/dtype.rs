//! Element types, under the names KServe V2 and Triton give them.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// One byte, 0 or 1.
    Bool,
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// Signed, 8 bits.
    I8,
    /// Signed, 16 bits.
    I16,
    /// Signed, 32 bits.
    I32,
    /// Signed, 64 bits.
    I64,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Strings or blobs: each element is a `u32` length and that many bytes.
    Bytes,
}

/// Every data type with its KServe V2 name and element size (`None`: varies).
const TABLE: [(DType, &str, Option<usize>); 14] = [
    (DType::Bool, "BOOL", Some(1)),
    (DType::U8, "UINT8", Some(1)),
    (DType::U16, "UINT16", Some(2)),
    (DType::U32, "UINT32", Some(4)),
    (DType::U64, "UINT64", Some(8)),
    (DType::I8, "INT8", Some(1)),
    (DType::I16, "INT16", Some(2)),
    (DType::I32, "INT32", Some(4)),
    (DType::I64, "INT64", Some(8)),
    (DType::F16, "FP16", Some(2)),
    (DType::Bf16, "BF16", Some(2)),
    (DType::F32, "FP32", Some(4)),
    (DType::F64, "FP64", Some(8)),
    (DType::Bytes, "BYTES", None),
];

impl DType {
    /// Every data type there is.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The KServe V2 name, such as `FP32`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of one element; `None` for [`DType::Bytes`].
    pub fn size(self) -> Option<usize> {
        self.row().2
    }

    /// The data type with this KServe V2 name.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    fn row(self) -> &'static (Self, &'static str, Option<usize>) {
        // The table lists the variants in order, which a test asserts.
        &TABLE[self as usize]
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_the_table_is_in_order() {
        for (index, dtype) in DType::all().enumerate() {
            assert_eq!(dtype as usize, index);
            assert_eq!(DType::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(DType::from_name("FP8"), None);
    }
}
