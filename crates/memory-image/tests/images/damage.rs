//! A flipped byte anywhere is found, and the error says where.

use crate::support::{Guest, Shelf};
use memory_image::{
    Compression, HEADER_LENGTH, Header, HeaderError, ImageError, MemoryImage, no_parents,
};
use std::ops::ControlFlow;

fn verified(path: &std::path::Path) -> Result<(), ImageError> {
    MemoryImage::open(path, &no_parents)?.verify(&mut |_, _| ControlFlow::Continue(()))
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let guest = Guest::new(&[("pc.ram", &[1, 0, 2, 3]), ("pc.bios", &[4])]);
    for compression in [Compression::None, Compression::Zstd] {
        let mut shelf = Shelf::new();
        shelf.compression = compression;
        shelf.keep(1, None, &guest.stream());
        let whole = std::fs::read(shelf.path(1)).unwrap();
        verified(&shelf.path(1)).unwrap();
        let path = shelf.dir.path().join("damaged");
        // Every byte of the header, some of the pages, and of the sections.
        for at in 0..HEADER_LENGTH {
            let mut header = whole[..HEADER_LENGTH].to_vec();
            header[at] ^= 1 << (at % 8);
            assert!(Header::decode(&header).is_err(), "{at}");
        }
        let sections = shelf.open(1).header().sections[0].offset as usize;
        let inside = (HEADER_LENGTH..sections).step_by(211);
        for at in (0..HEADER_LENGTH)
            .chain(inside)
            .chain(sections..whole.len())
        {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(&path, &damaged).unwrap();
            let error = verified(&path).expect_err("a flipped byte");
            assert!(
                error.to_string().contains(path.to_str().unwrap()),
                "{error}"
            );
        }
        for length in [0, 1, 4095, 4096, whole.len() - 1, whole.len() + 1] {
            let mut cut = whole.clone();
            cut.resize(length, 0);
            std::fs::write(&path, &cut).unwrap();
            assert!(verified(&path).is_err(), "{length}");
        }
    }
}

#[test]
fn damage_in_a_page_is_named_with_its_place_and_found_when_it_is_read() {
    let guest = Guest::new(&[("pc.ram", &[1, 0, 2, 3])]);
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &guest.stream());
    let mut bytes = std::fs::read(shelf.path(1)).unwrap();
    bytes[4096 * 2 + 77] ^= 4;
    std::fs::write(shelf.path(1), bytes).unwrap();
    let image = shelf.open(1);
    image.read(0, 0, &mut [0; 8192]).unwrap();
    let read = image.read(0, 2, &mut [0; 8192]).unwrap_err();
    let found = image
        .verify(&mut |_, _| ControlFlow::Continue(()))
        .unwrap_err();
    for error in [read, found] {
        let ImageError::DamagedPage {
            block,
            page,
            offset,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((block.as_str(), page, offset), ("pc.ram", 2, 8192));
    }
}

#[test]
fn other_versions_are_refused_by_name() {
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &Guest::new(&[("pc.ram", &[1])]).stream());
    for version in [1, 3] {
        let mut bytes = std::fs::read(shelf.path(1)).unwrap();
        bytes[8] = version;
        std::fs::write(shelf.path(1), bytes).unwrap();
        let Err(ImageError::Header { cause, .. }) = shelf.try_open(1) else {
            panic!("version {version}")
        };
        let found = u32::from(version);
        assert_eq!(cause, HeaderError::UnknownVersion { found });
        assert!(cause.to_string().contains(&format!("version {version}")));
    }
}
