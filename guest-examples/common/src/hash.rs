//! 32-bit FNV-1a, fed piece by piece.

/// A hash under way. Copy it to hash several continuations of one beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fnv1a(u32);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0x811C_9DC5)
    }
}

impl Fnv1a {
    /// The hash of these pieces one after the other.
    pub fn of<const N: usize>(pieces: [&str; N]) -> Self {
        pieces.into_iter().fold(Self::default(), Self::and)
    }

    /// Goes on with a piece.
    #[must_use]
    pub fn and(self, piece: &str) -> Self {
        Self(piece.bytes().fold(self.0, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
    }

    /// The hash, folded into `0 .. width`.
    pub fn index(self, width: u32) -> u32 {
        self.0 % width
    }

    /// The hash.
    pub fn value(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_texts_have_their_known_hashes() {
        for (text, hash) in [("", 2_166_136_261), ("a", 3_826_002_220), ("genre=Comédie", 316_546_226)] {
            assert_eq!(Fnv1a::of([text]).value(), hash, "{text:?}");
        }
    }

    #[test]
    fn pieces_hash_as_their_whole() {
        assert_eq!(Fnv1a::of(["f00", "=", "v123"]), Fnv1a::of(["f00=v123"]));
        assert_eq!(Fnv1a::of(["cand="]).and("item_9"), Fnv1a::of(["cand=item_9"]));
    }
}
