//! Streams: whole, in pieces, cut off, and with something in them that is not known.

use crate::support::{
    Guest, Shelf, ToFile, assert_holds, begin, devices, end_part, parse, part, record,
};
use memory_image::PAGE;
use memory_image::builder::Builder;
use proptest::prelude::*;
use std::fs::File;

fn guest() -> Guest {
    Guest::new(&[("pc.ram", &[1, 0, 2, 3]), ("pc.bios", &[4, 4])])
}

/// What is said about a stream; `None` if it can be kept.
fn refusal(stream: &[u8], piece: usize) -> Option<String> {
    let shelf = Shelf::new();
    let file = File::create(shelf.path(1)).unwrap();
    let mut builder = Builder::new(shelf.plan(1, None), ToFile(file, PAGE)).unwrap();
    match parse(stream, piece, &mut builder) {
        Err(error) => Some(error),
        Ok(frame) => builder.finish(&frame).err().map(|e| format!("{e:?}")),
    }
}

#[test]
fn a_stream_may_come_in_any_pieces() {
    let guest = guest();
    let stream = guest.stream();
    for piece in [1, 2, 3, 7, 4096, 4105, 5000] {
        let mut shelf = Shelf::new();
        shelf.keep(1, None, &stream);
        let path = shelf.path(2);
        let file = File::create(&path).unwrap();
        let mut builder = Builder::new(shelf.plan(2, None), ToFile(file, 3 * PAGE)).unwrap();
        let frame = parse(&stream, piece, &mut builder).unwrap();
        let (header, ToFile(file, _)) = builder.finish(&frame).unwrap();
        file.set_len(header.file_length()).unwrap();
        assert_holds(&shelf.open(2), &guest);
    }
}

#[test]
fn a_stream_that_is_cut_off_anywhere_is_refused() {
    let stream = guest().stream();
    assert_eq!(refusal(&stream, stream.len()), None);
    for length in 1..stream.len() {
        // Inside of a page it makes no difference where.
        if length % 13 == 0 || !(200..stream.len() - 400).contains(&length) {
            assert!(refusal(&stream[..length], length).is_some(), "{length}");
        }
    }
    let longer = [stream.as_slice(), b"\0"].concat();
    assert!(refusal(&longer, longer.len()).is_some());
}

#[test]
fn the_last_of_several_copies_of_a_page_counts() {
    let blocks = [("m".to_owned(), vec![0, 0, 0, 0, 0])];
    let mut stream = begin(&blocks, true);
    let mut add = |pages: &[(u64, u32)]| {
        stream.extend(part(7));
        pages
            .iter()
            .for_each(|(at, seed)| record(&mut stream, "m", *at, *seed, true));
        end_part(&mut stream, 7, true);
    };
    add(&[(0, 1), (1, 2), (2, 3), (3, 0), (4, 6)]);
    add(&[(1, 0), (2, 5), (3, 4), (4, 6)]);
    add(&[(2, 3)]);
    stream.extend(devices(&[("d", 0)], true));
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &stream);
    assert_holds(&shelf.open(1), &Guest::new(&[("m", &[1, 0, 3, 4, 6])]));
    // On a parent, too, one copy being the parent's.
    shelf.keep(2, None, &Guest::new(&[("m", &[1, 2, 3, 4, 5])]).stream());
    shelf.keep(3, Some(2), &stream);
    assert_holds(&shelf.open(3), &Guest::new(&[("m", &[1, 0, 3, 4, 6])]));
}

#[test]
fn pages_that_came_before_their_turn_are_known() {
    let blocks = [("m".to_owned(), vec![0; 8])];
    let stream = |pages: &[(u64, u32)]| {
        let mut stream = begin(&blocks, true);
        stream.extend(part(7));
        for (at, seed) in pages {
            record(&mut stream, "m", *at, *seed, true);
        }
        end_part(&mut stream, 7, true);
        stream.extend(devices(&[("d", 0)], true));
        stream
    };
    let mut shelf = Shelf::new();
    let in_order: Vec<_> = (0..8).map(|at| (at, 1)).collect();
    shelf.keep(1, None, &stream(&in_order));
    assert_eq!(shelf.open(1).first_written(100), []);
    let early = [
        (0, 2),
        (6, 7),
        (3, 1),
        (1, 4),
        (2, 5),
        (4, 3),
        (5, 8),
        (7, 9),
    ];
    shelf.keep(2, None, &stream(&early));
    assert_eq!(shelf.open(2).first_written(100), [(0, 6), (0, 3)]);
    assert_eq!(shelf.open(2).first_written(1), [(0, 6)]);
    // What the child itself knows comes first; what is the same as before it has not stored.
    let later = [
        (5, 1),
        (0, 2),
        (6, 7),
        (1, 4),
        (2, 5),
        (3, 2),
        (4, 3),
        (7, 9),
    ];
    shelf.keep(3, Some(2), &stream(&later));
    assert_eq!(shelf.open(3).first_written(100), [(0, 5), (0, 6), (0, 3)]);
}

#[test]
fn a_stream_without_footers_is_known_too() {
    let blocks = [("m".to_owned(), vec![0, 0])];
    let mut stream = begin(&blocks, false);
    stream.extend(part(7));
    record(&mut stream, "m", 0, 1, true);
    record(&mut stream, "m", 1, 0, false);
    end_part(&mut stream, 7, false);
    stream.extend(devices(&[("one", 0), ("two", 0)], false));
    let mut shelf = Shelf::new();
    let (header, _) = shelf.keep(1, None, &stream);
    assert!(!header.ram.footers);
    let mut back = Vec::new();
    shelf.open(1).write_stream(&mut back).unwrap();
    shelf.keep(2, None, &back);
    assert_holds(&shelf.open(2), &Guest::new(&[("m", &[1, 0])]));
}

#[test]
fn what_is_not_known_is_refused_with_its_place() {
    let blocks = [("m".to_owned(), vec![0])];
    let after = |more: &[u8]| [begin(&blocks, true), more.to_vec()].concat();
    let in_part = |more: &[u8]| after(&[part(7), more.to_vec()].concat());
    let configured = b"QEVM\0\0\0\x03\x07\0\0\0\x01q";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"QEVM\0\0\0\x02".to_vec(), "version 3"),
        (b"GARBAGE!".to_vec(), "version 3"),
        (b"QEVM\0\0\0\x03\x01\0\0\0\0".to_vec(), "no configuration"),
        (b"QEVM\0\0\0\x03\x07\x7f\0\0\0".to_vec(), "bytes long"),
        (
            [configured.as_slice(), b"\x05\x03abc"].concat(),
            "part \"abc\" at byte 14",
        ),
        ([configured.as_slice(), b"\x08\0\x01"].concat(), "kind 0x08"),
        (
            [
                configured.as_slice(),
                b"\x01\0\0\0\x02\x05block\0\0\0\0\0\0\0\x01",
            ]
            .concat(),
            "\"block\"",
        ),
        (
            [
                configured.as_slice(),
                b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x05",
            ]
            .concat(),
            "version 5",
        ),
        (
            [configured.as_slice(), b"\x04\0\0\0\x02\x01d"].concat(),
            "kind 0x04",
        ),
        (after(b"\x02\0\0\0\x09"), "section 9"),
        (in_part(&0x40u64.to_be_bytes()), "flags 0x40"),
        (in_part(&0x200u64.to_be_bytes()), "flags 0x200"),
        (in_part(&0x28u64.to_be_bytes()), "flags 0x28"),
        (
            in_part(&[&8u64.to_be_bytes(), b"\x01x".as_slice()].concat()),
            "block \"x\"",
        ),
        (
            in_part(&[&0x1002u64.to_be_bytes(), b"\x01m\0".as_slice()].concat()),
            "address 0x1000",
        ),
        (
            in_part(&[&0x10u64.to_be_bytes(), b"\x7e\0\0\0\x01".as_slice()].concat()),
            "footer",
        ),
        (
            in_part(&[&0x10u64.to_be_bytes(), b"\x02".as_slice()].concat()),
            "footer",
        ),
    ];
    for (stream, expected) in cases {
        for piece in [1, stream.len()] {
            let said = refusal(&stream, piece).unwrap_or_default();
            assert!(said.contains(expected), "{said:?} lacks {expected:?}");
        }
    }
    let total = |size: u64| {
        let mut head = configured.to_vec();
        head.extend(b"\x01\0\0\0\x02\x03ram\0\0\0\0\0\0\0\x04");
        head.extend((size | 4).to_be_bytes());
        head
    };
    let list = |size: u64, name: &str, length: u64| {
        let mut all = total(size);
        all.push(name.len() as u8);
        all.extend(name.bytes());
        all.extend(length.to_be_bytes());
        all.extend([0; 8]);
        all
    };
    assert!(
        refusal(&list(4096, "m", 8192), 99)
            .unwrap()
            .contains("larger")
    );
    assert!(
        refusal(&list(1 << 60, "m", 4096), 99)
            .unwrap()
            .contains("bytes of memory")
    );
    assert!(refusal(&total(0), 99).unwrap().contains("flags"));
}

#[test]
fn a_page_that_never_came_is_missed() {
    let blocks = [("m".to_owned(), vec![0, 0])];
    let mut stream = begin(&blocks, true);
    stream.extend(part(7));
    record(&mut stream, "m", 0, 1, true);
    end_part(&mut stream, 7, true);
    stream.extend(devices(&[("d", 0)], true));
    let said = refusal(&stream, stream.len()).unwrap();
    assert!(said.contains("MissingPage"), "{said}");
}

#[test]
fn a_device_that_the_description_names_must_be_there() {
    let blocks = [("m".to_owned(), vec![0])];
    let mut head = begin(&blocks, true);
    head.extend(part(7));
    record(&mut head, "m", 0, 0, true);
    end_part(&mut head, 7, true);
    let whole = devices(&[("one", 0), ("two", 3)], true);
    assert_eq!(refusal(&[head.clone(), whole.clone()].concat(), 100), None);
    let one = devices(&[("one", 0)], true);
    let text = whole.windows(2).position(|w| w == [0, 6]).unwrap();
    let sections_of_one = one.windows(2).position(|w| w == [0, 6]).unwrap();
    // The sections of one device, the description of two, and the other way round.
    for (sections, description) in [
        (&one[..sections_of_one], &whole[text..]),
        (&whole[..text], &one[sections_of_one..]),
    ] {
        let stream = [head.as_slice(), sections, description].concat();
        assert!(refusal(&stream, 100).unwrap().contains("not whole"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn damaged_streams_never_panic(at in 0usize..30000, byte in any::<u8>(), piece in 1usize..9000) {
        let mut stream = guest().stream();
        let at = at % stream.len();
        stream[at] = byte;
        let _ = refusal(&stream, piece);
    }
}
