//! Time, stack and memory.

use std::hint::black_box;

/// Never returns.
pub(crate) fn spin() -> ! {
    loop {
        black_box(());
    }
}

/// Stops the instance without a word.
pub(crate) fn trap() -> ! {
    std::process::abort()
}

/// Recurses without end, as far as anybody can tell.
#[inline(never)]
pub(crate) fn deep(left: u64, salt: u32) -> u64 {
    let frame = black_box([left; 16]);
    if left == 0 { u64::from(salt) } else { deep(black_box(left - 1), salt).wrapping_add(frame[3]) }
}

/// Takes memory until there is none, and keeps it.
pub(crate) fn eat() -> usize {
    const MIB: usize = 1024 * 1024;
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1u8; MIB]));
        if eaten.len() > 64 * 1024 {
            return eaten.len();
        }
    }
}

/// Works honestly, for about `thousands` thousand steps.
pub(crate) fn work(thousands: u32) -> u64 {
    (0..u64::from(thousands) * 1_000).fold(1, |state, step| black_box(state ^ step).wrapping_mul(0x0100_0193))
}
