//! The start of a qcow2 file, and its length: whatever they are, nothing panics.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (start, length) = match bytes.split_first_chunk::<8>() {
        Some((length, start)) => (start, u64::from_le_bytes(*length)),
        None => (bytes, bytes.len() as u64),
    };
    let _ = machines::integrity::layer_header::Header::parse(start, length);
});
