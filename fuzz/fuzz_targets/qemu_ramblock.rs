//! What QEMU's `info ramblock` says about its memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|output: &str| {
    if let Some(place) = qemu::memory_backing::healing::parse_place(output) {
        // What is looked at and collapsed must be a range of a process.
        assert!(place.length > 0);
        assert!(
            place
                .start
                .checked_add(place.length)
                .is_some_and(|end| end <= 1 << 47)
        );
    }
});
