//! The words that fill a block or page of a round: cheap to make, different for each round and
//! place, so that a mixture of two rounds is noticed.

/// The word at place `index` of a block that belongs to round `value`.
#[must_use]
pub const fn word(value: u64, index: u64) -> u64 {
    value
        .wrapping_add(1)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(17)
        ^ index.wrapping_mul(0xd6e8_feb8_6659_fd93)
}
