//! Rust's number types as tensor elements.

use crate::DType;

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a tensor can hold.
pub trait Element: Copy + sealed::Sealed + 'static {
    /// What the type is called in a tensor.
    const DTYPE: DType;

    /// Many, little-endian and packed.
    #[doc(hidden)]
    fn pack(values: &[Self]) -> Vec<u8>;

    /// Many from little-endian bytes; a rest shorter than an element is left out.
    #[doc(hidden)]
    fn unpack(bytes: &[u8]) -> Vec<Self>;
}

macro_rules! number {
    ($($type:ty => $dtype:ident),+ $(,)?) => {$(
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const DTYPE: DType = DType::$dtype;

            fn pack(values: &[Self]) -> Vec<u8> {
                const SIZE: usize = size_of::<$type>();
                // Written into zeros by index: this becomes one memcpy, pushing does not.
                let mut bytes = vec![0; values.len() * SIZE];
                for (into, value) in bytes.chunks_exact_mut(SIZE).zip(values) {
                    into.copy_from_slice(&value.to_le_bytes());
                }
                bytes
            }

            fn unpack(bytes: &[u8]) -> Vec<Self> {
                let (elements, _rest) = bytes.as_chunks();
                elements.iter().map(|element| <$type>::from_le_bytes(*element)).collect()
            }
        }
    )+};
}

number! {
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64,
    i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f32 => Fp32, f64 => Fp64,
}

impl sealed::Sealed for bool {}

impl Element for bool {
    const DTYPE: DType = DType::Bool;

    fn pack(values: &[Self]) -> Vec<u8> {
        values.iter().map(|value| u8::from(*value)).collect()
    }

    fn unpack(bytes: &[u8]) -> Vec<Self> {
        bytes.iter().map(|byte| *byte != 0).collect()
    }
}
