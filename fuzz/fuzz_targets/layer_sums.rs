//! The file of a layer's hashes: whatever its bytes, nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = machines::integrity::decode_sums(bytes);
});
