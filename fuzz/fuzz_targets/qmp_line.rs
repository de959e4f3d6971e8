//! One line from QEMU's monitor.
#![no_main]

libfuzzer_sys::fuzz_target!(|line: &[u8]| {
    qemu::qmp::parse(line);
});
