//! The two 16-bit floats, widened. Exact: every one of them is an `f32`.

/// An IEEE half from its bits.
pub(super) fn fp16(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = u32::from(bits >> 10) & 0x1F;
    let fraction = u32::from(bits & 0x3FF);
    match exponent {
        // Subnormal: fraction / 1024 * 2^-14.
        0 => sign * f32::from(bits & 0x3FF) / 16_777_216.0,
        0x1F if fraction == 0 => sign * f32::INFINITY,
        0x1F => f32::NAN,
        _ => sign * f32::from_bits(((exponent + 112) << 23) | (fraction << 13)),
    }
}

/// A bfloat16 from its bits: the upper half of an `f32`.
pub(super) fn bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_widen_exactly() {
        let known: [(u16, f32); 7] = [
            (0x0000, 0.0),
            (0x3C00, 1.0),
            (0xC000, -2.0),
            (0x7BFF, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0xFC00, f32::NEG_INFINITY),
        ];
        for (bits, value) in known {
            assert_eq!(fp16(bits).to_bits(), value.to_bits(), "{bits:#06x}");
        }
        assert!(fp16(0x7E00).is_nan());
        assert_eq!(bf16(0x3F80).to_bits(), 1.0f32.to_bits());
        assert_eq!(bf16(0xC040).to_bits(), (-3.0f32).to_bits());
    }
}
