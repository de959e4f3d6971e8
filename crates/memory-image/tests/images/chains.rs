//! Images on other images.

use crate::support::{Guest, Shelf, assert_holds};
use memory_image::{Compression, ImageError, ImageId, RunKind, no_parents};
use proptest::prelude::*;
use std::ops::ControlFlow;

fn on(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

#[test]
fn an_image_holds_what_the_guest_held_and_gives_the_stream_back() {
    let guest = Guest::new(&[("pc.ram", &[1, 0, 0, 2, 3, 0]), ("pc.bios", &[0, 9])]);
    let mut shelf = Shelf::new();
    let (header, counts) = shelf.keep(1, None, &guest.stream());
    assert_eq!((counts.data, counts.zero, counts.stored), (4, 4, 4));
    let image = shelf.open(1);
    assert_holds(&image, &guest);
    assert_eq!((image.depth(), image.data_pages()), (1, 4));
    assert_eq!(image.configuration(), b"\x07\0\0\0\x0bpc-q35-10.0");
    assert!(image.device_state().starts_with(b"\x04\0\0\0\0\x05timer"));
    let runs: Vec<(u64, u64, RunKind)> =
        image.runs(0).map(|r| (r.first, r.pages, r.kind)).collect();
    use RunKind::{Data, Zero};
    assert_eq!(
        runs,
        [(0, 1, Data), (1, 2, Zero), (3, 2, Data), (5, 1, Zero)]
    );
    let stored: Vec<(usize, u64)> = image.pages_stored().map(|p| (p.block, p.page)).collect();
    assert_eq!(stored, [(0, 0), (0, 3), (0, 4), (1, 1)]);
    assert_eq!(
        std::fs::metadata(shelf.path(1)).unwrap().len(),
        header.file_length()
    );

    let mut stream = Vec::new();
    image.write_stream(&mut stream).unwrap();
    let (again, _) = shelf.keep(2, None, &stream);
    assert_holds(&shelf.open(2), &guest);
    assert_eq!(again.ram, header.ram);
    assert_eq!(shelf.open(2).device_state(), image.device_state());
    let outside = image.read(0, 6, &mut [0; 4096]).unwrap_err();
    assert!(
        matches!(outside, ImageError::NoSuchPage { page: 7, .. }),
        "{outside}"
    );
}

#[test]
fn a_child_stores_only_what_differs() {
    let pages: Vec<u32> = (1..=2000).collect();
    let mut changed = pages.clone();
    let first = Guest::new(&[("pc.ram", &pages), ("pc.bios", &[5; 64])]);
    for (at, seed) in changed.iter_mut().step_by(40).enumerate() {
        *seed = if at % 5 == 0 { 0 } else { 9000 + at as u32 };
    }
    let second = Guest::new(&[("pc.ram", &changed), ("pc.bios", &[5; 64])]);
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &first.stream());
    let (header, counts) = shelf.keep(2, Some(1), &second.stream());
    assert_eq!((counts.stored, counts.inherited), (40, 1950 + 64));
    assert!(
        header.file_length() < 40 * 4096 * 11 / 10,
        "{}",
        header.file_length()
    );
    let image = shelf.open(2);
    assert_eq!(
        (image.depth(), image.header().parent),
        (2, Some(ImageId(1)))
    );
    assert_holds(&image, &second);
    assert_holds(&shelf.open(1), &first);
    assert_eq!(image.pages_stored().count(), 40);
    // Without its parent it is nothing.
    let error = memory_image::MemoryImage::open(&shelf.path(2), &no_parents).err();
    assert!(matches!(
        error,
        Some(ImageError::MissingParent {
            parent: ImageId(1),
            ..
        })
    ));
}

#[test]
fn another_image_in_the_place_of_the_parent_is_noticed() {
    let guest = |seed| Guest::new(&[("pc.ram", &[1, 2, seed, 4])]);
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &guest(3).stream());
    shelf.keep(2, Some(1), &guest(7).stream());
    // The same identity and another content.
    let mut other = Shelf::new();
    other.keep(1, None, &guest(8).stream());
    crate::support::copy(&other.path(1), &shelf.path(1));
    assert!(matches!(
        shelf.try_open(2),
        Err(ImageError::WrongParent { .. })
    ));
    other.keep(3, None, &guest(8).stream());
    crate::support::copy(&other.path(3), &shelf.path(1));
    assert!(matches!(
        shelf.try_open(2),
        Err(ImageError::WrongImage {
            found: ImageId(3),
            ..
        })
    ));
}

#[test]
fn blocks_that_the_parent_lacks_are_stored_whole() {
    let mut shelf = Shelf::new();
    shelf.keep(
        1,
        None,
        &Guest::new(&[("a", &[1, 2]), ("b", &[3, 4])]).stream(),
    );
    let second = Guest::new(&[("b", &[3, 4]), ("new", &[1, 0]), ("a", &[1, 2, 5])]);
    let (_, counts) = shelf.keep(2, Some(1), &second.stream());
    assert_eq!((counts.stored, counts.inherited), (4, 2));
    assert_holds(&shelf.open(2), &second);
}

#[test]
fn a_flattened_image_stands_on_less_and_its_children_do_not_notice() {
    let guests: Vec<Guest> = (0..6u32)
        .map(|n| {
            let mut pages: Vec<u32> = (1..=100).collect();
            (0..=n).for_each(|m| pages[m as usize * 3] = 1000 + m);
            pages[50] = 2000 + n;
            pages[60 + n as usize] = 0;
            Guest::new(&[("pc.ram", &pages)])
        })
        .collect();
    for compression in [Compression::None, Compression::Zstd] {
        let mut shelf = Shelf::new();
        shelf.compression = compression;
        for (guest, n) in guests.iter().zip(1u128..) {
            shelf.keep(n, (n > 1).then(|| n - 1), &guest.stream());
        }
        let temporary = shelf.dir.path().join("tmp");
        // Number 5 takes in what 4, 3 and 2 hold.
        let five = shelf.open(5);
        five.flatten(Some(4), &temporary, &shelf.path(5), &mut on)
            .unwrap();
        if compression == Compression::None {
            let length = std::fs::metadata(shelf.path(5)).unwrap().len();
            assert!(length <= five.length_on(Some(4)));
        }
        // What was open is read as it was.
        assert_holds(&five, &guests[4]);
        assert_eq!(
            (five.depth(), shelf.open(5).depth(), shelf.open(6).depth()),
            (5, 2, 3)
        );
        for n in [2u128, 3, 4] {
            std::fs::remove_file(shelf.path(n)).unwrap();
        }
        assert_holds(&shelf.open(5), &guests[4]);
        assert_holds(&shelf.open(6), &guests[5]);
        shelf.open(6).verify(&mut on).unwrap();
        shelf
            .open(6)
            .flatten(None, &temporary, &shelf.path(6), &mut on)
            .unwrap();
        std::fs::remove_file(shelf.path(1)).unwrap();
        assert_holds(&shelf.open(6), &guests[5]);
        assert_eq!(shelf.open(6).depth(), 1);
        assert!(!temporary.exists());
    }
}

#[test]
fn a_cancelled_flattening_leaves_all_as_it_was() {
    let pages: Vec<u32> = (1..1000).collect();
    let guest = Guest::new(&[("pc.ram", &pages)]);
    let mut shelf = Shelf::new();
    shelf.keep(1, None, &guest.stream());
    shelf.keep(2, Some(1), &guest.stream());
    let temporary = shelf.dir.path().join("tmp");
    let mut stop = |_, _| ControlFlow::Break(());
    let error = shelf
        .open(2)
        .flatten(None, &temporary, &shelf.path(2), &mut stop);
    assert!(matches!(error, Err(ImageError::Cancelled)));
    assert!(!temporary.exists());
    assert_eq!(shelf.open(2).depth(), 2);
}

#[test]
fn compressed_pages_come_back() {
    let pages: Vec<u32> = (0..100).collect();
    let guest = Guest::new(&[("pc.ram", &pages)]);
    let mut shelf = Shelf::new();
    let (plain, _) = shelf.keep(1, None, &guest.stream());
    shelf.compression = Compression::Zstd;
    let (packed, _) = shelf.keep(2, None, &guest.stream());
    assert!(packed.data_length < plain.data_length * 2 / 3);
    let image = shelf.open(2);
    assert_holds(&image, &guest);
    for at in [99u64, 3, 17, 16, 15] {
        let mut page = vec![0; 4096];
        image.read(0, at, &mut page).unwrap();
        assert!(page == crate::support::page(at as u32));
    }
    image.verify(&mut on).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn whatever_changes_an_image_holds_it(
        history in prop::collection::vec((prop::collection::vec(0u32..5, 20), any::<bool>()), 1..7),
        zstd in any::<bool>(),
        onto in 1usize..8,
    ) {
        let mut shelf = Shelf::new();
        shelf.compression = if zstd { Compression::Zstd } else { Compression::None };
        let guests: Vec<Guest> = history.iter()
            .map(|(pages, _)| Guest::new(&[("a", &pages[..13]), ("b", &pages[13..])])).collect();
        for (n, (guest, (_, alone))) in (1u128..).zip(guests.iter().zip(&history)) {
            shelf.keep(n, (n > 1 && !alone).then(|| n - 1), &guest.stream());
        }
        for (n, guest) in (1u128..).zip(&guests) {
            let image = shelf.open(n);
            assert_holds(&image, guest);
            image.verify(&mut on).unwrap();
            let onto = (onto < image.depth()).then_some(onto);
            image.flatten(onto, &shelf.dir.path().join("t"), &shelf.path(n), &mut on).unwrap();
let above = onto.map_or(0, |onto| image.depth() - onto);
            prop_assert_eq!(shelf.open(n).depth(), 1 + above);
        }
        for (n, guest) in (1u128..).zip(&guests) {
            assert_holds(&shelf.open(n), guest);
        }
    }
}
