//! Memory and disks of a live snapshot are of one instant: ten snapshots of a guest that writes to
//! two disks as fast as it may, each gone back to; and every other way back to what was saved. The guest itself tells: before it overwrites a
//! counter on a disk, it compares it with its memory.

use crate::invariants::{self, Frozen};
use crate::machine::{Machine, disk_counters};
use crate::site::{PATIENCE, Site};

const SNAPSHOTS: usize = 10;
/// How many times over the long form goes every way back.
const ROUNDS_VARIABLE: &str = "ROOTVIRT_SOAK_LOCKSTEP";

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

#[test]
fn every_way_back_is_to_one_instant() {
    ways_back(2);
}

#[test]
#[ignore = "long: run by `cargo xtask soak lockstep`"]
fn every_way_back_is_to_one_instant_for_long() {
    ways_back(std::env::var(ROUNDS_VARIABLE).map_or(50, |text| text.parse().unwrap()));
}

/// Memory as it is asked for, a rehearsal, a saved state, memory as a whole.
fn ways_back(rounds: u32) {
    let mut site = Site::running();
    let mut machine = Machine::boot(&site, "back");
    let mut frozen = Frozen::default();
    for round in 1..=rounds {
        let taken = take(&site, &mut machine);
        let seen = site.ask_one(&["snapshot", "rehearse", &machine.id, &taken.id]);
        assert_eq!(seen["outcome"], "lived", "{seen}");

        go_back(&site, &mut machine, &taken);
        assert!(came_on_demand(&site, &machine));

        let before = machine.goes_on().a;
        site.ask(&["vm", "save", &machine.id]);
        let counters = disk_counters(&Machine::disks_of(&machine.show(&site)));
        let back = machine.start_saved(&site);
        judge(&counters, back.a);
        assert!(counters.iter().all(|counter| *counter >= before));

        site.stop();
        site.start_with(&["--restore", "whole"]);
        go_back(&site, &mut machine, &taken);
        assert!(!came_on_demand(&site, &machine));
        site.stop();
        site.start();
        machine.goes_on();
        println!("{round} of {rounds}: on demand, rehearsed, saved, whole");
        let ids = machine.snapshots(&site);
        if let [.., first, _, _] = ids.as_slice() {
            site.ask(&["snapshot", "remove", &machine.id, first]);
        }
    }
    invariants::check(&site, &mut machine, &mut frozen);
}

fn go_back(site: &Site, machine: &mut Machine, taken: &Taken) {
    machine.stop(site);
    site.ask(&["snapshot", "apply", &machine.id, &taken.id]);
    let shown = site.ask_one(&["snapshot", "show", &machine.id, &taken.id]);
    let counters = disk_counters(&Machine::disks_of(&shown));
    let back = machine.start_saved(site);
    judge(&counters, back.a);
    assert!(
        counters
            .iter()
            .all(|counter| taken.within.contains(counter))
    );
}

/// The guest, which went on at `memory`, has itself compared the disks with its memory.
fn judge(counters: &[u64], memory: u64) {
    let (least, most) = (
        *counters.iter().min().unwrap(),
        *counters.iter().max().unwrap(),
    );
    assert!(most - least <= 1, "disks of two instants: {counters:?}");
    assert!(memory >= most, "memory is older than the disks");
}

fn came_on_demand(site: &Site, machine: &Machine) -> bool {
    let query = format!(
        "SELECT * FROM Rootvirt_RestoreStatistics WHERE SystemName = '{}'",
        machine.id
    );
    let row = site.ask_one(&["query", &query]);
    row["on_demand"]
        .as_bool()
        .unwrap_or_else(|| panic!("{row}"))
}
