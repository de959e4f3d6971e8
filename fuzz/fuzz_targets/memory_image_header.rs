//! The header of a memory image: what decodes encodes to the same bytes.
#![no_main]

use memory_image::{HEADER_LENGTH, Header};

libfuzzer_sys::fuzz_target!(|page: &[u8]| {
    // The fuzzer will not guess a checksum, so it gets the right one as well.
    let mut sealed = [0; HEADER_LENGTH];
    for (to, from) in sealed.iter_mut().zip(page) {
        *to = *from;
    }
    let checksum = Header::checksum(&sealed);
    sealed[HEADER_LENGTH - 16..].copy_from_slice(&checksum);
    for page in [page, &sealed] {
        if let Ok(header) = Header::decode(page) {
            assert_eq!(Header::decode(&header.encode()), Ok(header));
        }
    }
});
