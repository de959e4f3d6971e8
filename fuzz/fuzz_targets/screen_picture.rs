//! The picture of a screen that QEMU writes: whatever it is, nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = qemu::console::parse_ppm(bytes);
});
