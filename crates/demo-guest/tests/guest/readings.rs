//! What a host concludes from dumps and disks, on made-up ones: agreement is seen, and so is every
//! kind of disagreement. No machine runs here.

use demo_guest::disk::{BlockBuffer, CounterBlock, DiskCounter, SLOT_OFFSETS, read_counter};
use demo_guest::protocol::{DiskState, Ready, Report, Tick};
use demo_guest::ram::{
    InspectError, MemoryReport, PAGE_SIZE, Page, StatePage, inspect, write_ring_page,
};
use proptest::prelude::*;

const BOOT: u64 = 1_700_000_000_000_000_000;
const RING: u64 = 64;

/// The pages of a guest that has done the rounds up to `last`, the ring first.
fn memory_of(boot: u64, start: u64, last: u64) -> (Vec<Page>, Page) {
    let ring: Vec<Page> = (0..RING).map(|_| Page::default()).collect();
    for (index, page) in (0..).zip(&ring) {
        write_ring_page(page, boot, index, start);
    }
    for round in start + 1..=last {
        write_ring_page(&ring[(round % RING) as usize], boot, round % RING, round);
    }
    let state = StatePage::default();
    state.set_up(boot, start, RING);
    state.a().store(last, std::sync::atomic::Ordering::SeqCst);
    state.b().store(last, std::sync::atomic::Ordering::SeqCst);
    (ring, state.into())
}

fn bytes_of<'a>(pages: impl IntoIterator<Item = &'a Page>) -> Vec<u8> {
    pages
        .into_iter()
        .flat_map(|page| page.load())
        .flat_map(u64::to_le_bytes)
        .collect()
}

fn judge(ring: &[Page], state: &Page) -> MemoryReport {
    inspect(bytes_of(std::iter::once(state).chain(ring)).as_slice()).expect("a state page")
}

#[test]
fn memory_of_one_instant_is_consistent_whatever_the_order_of_its_pages() {
    for (start, last) in [(0, 0), (0, 5), (0, 64), (0, 1000), (500, 510), (500, 700)] {
        let (ring, state) = memory_of(BOOT, start, last);
        let mut bytes = vec![0; PAGE_SIZE * 2];
        bytes.extend(bytes_of(ring.iter().rev()));
        bytes.extend(bytes_of([&state]));
        let report = inspect(bytes.as_slice()).expect("a state page");
        assert!(report.is_consistent(), "{report:?}");
        assert_eq!((report.a, report.b, report.ring_found), (last, last, RING));
    }
}

#[test]
fn a_page_of_an_earlier_or_later_round_is_noticed() {
    let (ring, state) = memory_of(BOOT, 0, 1000);
    for stray in [1000 - RING, 1000 + RING] {
        write_ring_page(&ring[(stray % RING) as usize], BOOT, stray % RING, stray);
        assert_eq!(judge(&ring, &state).ring_wrong, 1);
    }
}

#[test]
fn a_page_of_two_rounds_is_noticed_unless_its_round_is_under_way() {
    let (ring, state) = memory_of(BOOT, 0, 1000);
    let half = &ring[(1000 % RING) as usize];
    half.words()[300].store(0, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(judge(&ring, &state).ring_wrong, 1);
    state.words()[5].store(999, std::sync::atomic::Ordering::SeqCst);
    let report = judge(&ring, &state);
    assert!(
        report.is_consistent(),
        "A is ahead of B, the page is being written: {report:?}"
    );
    assert!(report.agrees_with_disk(999) && report.agrees_with_disk(1000));
    assert!(!report.agrees_with_disk(998) && !report.agrees_with_disk(1001));
}

#[test]
fn pages_that_are_missing_are_wrong_and_pages_of_an_earlier_boot_do_not_count() {
    let (ring, state) = memory_of(BOOT, 0, 1000);
    let (old_ring, old_state) = memory_of(BOOT - 1, 0, 1000);
    let mixed = bytes_of(
        [&old_state, &state]
            .into_iter()
            .chain(&old_ring)
            .chain(&ring[1..]),
    );
    let report = inspect(mixed.as_slice()).expect("a state page");
    assert_eq!(
        (report.boot, report.ring_found, report.ring_wrong),
        (BOOT, RING - 1, 1)
    );
    assert!(matches!(
        inspect(bytes_of(&ring).as_slice()),
        Err(InspectError::NoStatePage)
    ));
}

#[test]
fn the_newest_valid_slot_is_the_disks_counter() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("disk.raw");
    let block = |counter| CounterBlock {
        boot: BOOT,
        counter,
    };
    let mut disk = vec![0; SLOT_OFFSETS[1] as usize + 8192];
    std::fs::write(&file, &disk).expect("a disk");
    read_counter(&file).expect_err("nothing was counted yet");

    for (slot, counter) in SLOT_OFFSETS.into_iter().zip([8, 7]) {
        let mut buffer = BlockBuffer::zeroed();
        buffer.encode(block(counter));
        disk[slot as usize..slot as usize + 4096].copy_from_slice(&buffer.0);
    }
    std::fs::write(&file, &disk).expect("a disk");
    let both = DiskCounter {
        newest: block(8),
        other: Some(block(7)),
    };
    assert_eq!(read_counter(&file).expect("a counter"), both);

    disk[2048] ^= 1;
    std::fs::write(&file, &disk).expect("a disk");
    let torn = DiskCounter {
        newest: block(7),
        other: None,
    };
    assert_eq!(
        read_counter(&file).expect("a counter"),
        torn,
        "slot 0 is not whole"
    );
}

proptest! {
    #[test]
    fn blocks_decode_to_what_was_encoded_and_no_changed_block_decodes(
        boot: u64, counter: u64, place in 0..4096_usize, change in 1..=255_u8,
    ) {
        let contents = CounterBlock { boot, counter };
        let mut buffer = BlockBuffer::zeroed();
        buffer.encode(contents);
        prop_assert_eq!(buffer.decode(), Some(contents));
        buffer.0[place] ^= change;
        prop_assert_eq!(buffer.decode(), None);
    }

    #[test]
    fn no_dump_and_no_line_makes_a_reading_fail_badly(bytes: Vec<u8>, line: String) {
        drop(inspect(bytes.as_slice()));
        for text in [line.clone(), format!("tick {line}"), format!("report {line}"),
                     format!("rootvirt-guest ready {line}")] {
            drop((Tick::parse(&text), Report::parse(&text), Ready::parse(&text)));
        }
    }

    #[test]
    fn lines_parse_to_what_was_said(boot: u64, start: u64, ring: u64, disk: Option<u64>) {
        let disks: Vec<DiskState> = disk
            .map(|counter| DiskState { name: "sdb".into(), bus: "ide".into(), counter })
            .into_iter()
            .collect();
        let tick = Tick { seconds: 3, ram: start, disk, errors: ring };
        prop_assert_eq!(Tick::parse(&tick.to_string()), Some(tick));
        let ready = Ready {
            boot, start, ring, memory: 200, cpus: 1, disks: disks.clone(),
            ignored: vec!["sda".into(), "sdc".into()],
        };
        prop_assert_eq!(Ready::parse(&ready.to_string()), Some(ready));
        let report = Report {
            boot, a: start, b: start, start, ring, ring_wrong: 0, read_errors: 1, write_errors: 2,
            dirtied: 3, disks,
        };
        prop_assert_eq!(Report::parse(&report.to_string()), Some(report));
    }
}
