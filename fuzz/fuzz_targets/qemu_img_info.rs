//! What `qemu-img info` says about an image.
#![no_main]

use qemu::spec::Format;

libfuzzer_sys::fuzz_target!(|output: &[u8]| {
    for format in [Format::Raw, Format::Qcow2] {
        // Whatever it is, it must be an answer or an error.
        let _ = qemu::img::parse_info(output, std::path::Path::new("/disk"), format);
    }
});
