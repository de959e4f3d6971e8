//! The sections of a memory image, right checksums or not: it opens or it does not, and what opens can
//! be read to its end.
#![no_main]

use memory_image::header::{Extent, SECTIONS, Section};
use memory_image::{HEADER_LENGTH, Header, MemoryImage, no_parents};
use std::io::Write;
use std::ops::ControlFlow;

libfuzzer_sys::fuzz_target!(|parts: (Vec<u8>, [Vec<u8>; SECTIONS], u128, bool)| {
    let (data, sections, content, zstd) = parts;
    if data.len() + sections.iter().map(Vec::len).sum::<usize>() > 1 << 20 {
        return;
    }
    let Some(mut header) = header() else { return };
    header.data_length = data.len() as u64 / 4096 * 4096;
    header.content = content;
    if zstd {
        header.compression = memory_image::Compression::Zstd;
    }
    let mut offset = HEADER_LENGTH as u64 + header.data_length;
    let all = header.sections.iter_mut().zip(&sections);
    for (extent, bytes) in all {
        *extent = Extent {
            offset,
            length: bytes.len() as u64,
            hash: xxhash_rust::xxh3::xxh3_128(bytes),
        };
        offset += bytes.len() as u64;
    }
    assert_eq!(header.section(Section::Devices).offset, header.sections[5].offset);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&header.encode()).unwrap();
    file.write_all(&data[..header.data_length as usize]).unwrap();
    for bytes in &sections {
        file.write_all(bytes).unwrap();
    }
    if let Ok(image) = MemoryImage::open(file.path(), &no_parents) {
        let _ = image.verify(&mut |_, _| ControlFlow::Continue(()));
        let _ = image.write_stream(&mut std::io::sink());
    }
});

/// A header that is right but for the sections.
fn header() -> Option<Header> {
    let mut page = [0; HEADER_LENGTH];
    page[..8].copy_from_slice(b"RVMEMIMG");
    page[8] = 2;
    for at in [13, 17, 33, 69] {
        page[at] = 0x10;
    }
    page[80] = 1;
    for section in 0..SECTIONS {
        page[512 + section * 32 + 1] = 0x10;
    }
    let checksum = Header::checksum(&page);
    page[HEADER_LENGTH - 16..].copy_from_slice(&checksum);
    Header::decode(&page).ok()
}
