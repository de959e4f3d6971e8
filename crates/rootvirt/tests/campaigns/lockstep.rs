//! Memory and disks of a live snapshot are of one instant: ten snapshots of a guest that writes to
//! two disks as fast as it may, each gone back to. The guest itself tells: before it overwrites a
//! counter on a disk, it compares it with its memory.

use crate::invariants::{self, Frozen};
use crate::machine::{Machine, disk_counters};
use crate::site::{PATIENCE, Site};

const SNAPSHOTS: usize = 10;

struct Taken {
    id: String,
    /// The guest's counter before and after the call.
    within: std::ops::RangeInclusive<u64>,
    pause_ms: f64,
}

#[test]
fn ten_live_snapshots_are_each_of_one_instant() {
    let site = Site::running();
    let mut machine = Machine::boot(&site, "lockstep");
    let taken: Vec<Taken> = (0..SNAPSHOTS).map(|_| take(&site, &mut machine)).collect();
    machine.goes_on();
    let mut frozen = Frozen::default();
    invariants::check(&site, &mut machine, &mut frozen);

    let boot = machine.boot;
    for taken in &taken {
        machine.stop(&site);
        site.ask(&["snapshot", "apply", &machine.id, &taken.id]);
        let shown = site.ask_one(&["snapshot", "show", &machine.id, &taken.id]);
        let counters = disk_counters(&Machine::disks_of(&shown));
        machine.boot = boot;
        // Judges memory against disks, from the first round on.
        let back = machine.start_saved(&site);
        println!(
            "pause {:.1} ms, disks frozen at {counters:?}, within {:?}, goes on at {}",
            taken.pause_ms, taken.within, back.a
        );
        let (least, most) = (
            *counters.iter().min().unwrap(),
            *counters.iter().max().unwrap(),
        );
        assert!(most - least <= 1, "disks of two instants");
        assert!(taken.within.contains(&most), "not of the time of the call");
        assert!(back.a >= most, "memory is older than the disks");
    }
    invariants::check(&site, &mut machine, &mut frozen);
    println!("{SNAPSHOTS} of {SNAPSHOTS} consistent");
}

fn take(site: &Site, machine: &mut Machine) -> Taken {
    let before = machine.goes_on().a;
    let row = site.ask_one(&["snapshot", "create", &machine.id]);
    // The source runs on, in step.
    let after = machine.goes_on().a;
    assert!(after > before);
    machine.serial().next_tick(PATIENCE).unwrap();
    Taken {
        id: row["id"].as_str().unwrap().to_owned(),
        within: before..=after,
        pause_ms: row["pause_ms"].as_f64().unwrap(),
    }
}
