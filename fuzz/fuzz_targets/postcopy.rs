//! What QEMU answers to a page server, and recorded device states.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qemu::postcopy::{device_sections, return_path::read_message};

fuzz_target!(|bytes: &[u8]| {
    let mut from = bytes;
    let pages = |name: &str| Some(name.len() as u64 * 100);
    while let Ok(Some(_)) = read_message(&mut from, &pages) {}
    let _ = device_sections(bytes);
});
