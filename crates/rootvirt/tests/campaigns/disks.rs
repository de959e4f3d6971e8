//! Disks of the host that are slow, or fail: no guest waits for the first, nothing is lost by the
//! second, and the error says where it was.

use crate::faulty_disk::FaultyDisk;
use crate::invariants::{self, Frozen, folder_of};
use crate::machine::{Machine, RATE};
use crate::site::{PATIENCE, Site, eventually};
use serde_json::Value;
use std::time::{Duration, Instant};

/// MiB of noise in the guest's memory.
const NOISE: u64 = 200;
/// Bytes a second of a slow disk: the noise takes ten seconds.
const SLOW: u64 = 20 << 20;
/// Much less than that, and much more than a guest on a busy host stands still for.
const LONGEST_GAP: Duration = Duration::from_secs(4);

fn job(site: &Site, id: &str) -> Value {
    site.ask_one(&["job", "show", id])
}

fn begin(site: &Site, machine: &Machine) -> String {
    let job = site.ask_one(&["snapshot", "create", &machine.id, "--no-wait"]);
    job["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_slow_disk_under_memory_images_does_not_hold_the_guest_up() {
    let site = Site::running();
    let mut machine = Machine::define_with(&site, "slow", "512M");
    let folder = folder_of(&site, &machine);
    let Some(mut disk) = FaultyDisk::mount(&folder.join("snapshots"), 1500) else {
        return;
    };
    machine.start_fresh(&site);
    machine.serial().fill(NOISE, PATIENCE).unwrap();
    disk.limit(SLOW);
    let begun = Instant::now();
    let id = begin(&site, &machine);
    let (mut counter, mut since) = (0, begun);
    let (mut gap, mut looked) = (Duration::ZERO, begun);
    let ended = loop {
        let now = machine.serial().report(PATIENCE).unwrap().a;
        if now != counter {
            gap = gap.max(since.elapsed());
            (counter, since) = (now, Instant::now());
        }
        if looked.elapsed() > Duration::from_millis(200) {
            looked = Instant::now();
            let shown = job(&site, &id);
            if shown["state"] != "running" {
                break shown;
            }
        }
        assert!(begun.elapsed() < PATIENCE, "the job does not end");
    };
    let took = begun.elapsed();
    println!("the job took {took:?}; the guest stood still for {gap:?} at most");
    assert_eq!(ended["state"], "completed", "{ended}");
    assert!(took > 2 * LONGEST_GAP, "the disk was not slow: {took:?}");
    assert!(gap < LONGEST_GAP, "the guest waited for the disk: {gap:?}");
    disk.limit(0);
    let mut frozen = Frozen::default();
    invariants::check(&site, &mut machine, &mut frozen);
    let taken = machine.snapshots(&site);
    machine.stop(&site);
    site.ask(&["snapshot", "apply", &machine.id, &taken[0]]);
    let report = machine.start_saved(&site);
    assert!(frozen.of(&taken[0]).iter().all(|c| *c <= report.a));
    // While it is mounted.
    machine.stop(&site);
}

#[test]
fn a_disk_that_fails_is_named_and_costs_nothing() {
    let site = Site::running();
    let mut machine = Machine::define_with(&site, "failing", "512M");
    let folder = folder_of(&site, &machine);
    let Some(mut memory) = FaultyDisk::mount(&folder.join("snapshots"), 1500) else {
        return;
    };
    let Some(mut layers) = FaultyDisk::mount(&folder.join("disks"), 300) else {
        return;
    };
    machine.start_fresh(&site);
    machine.serial().fill(NOISE, PATIENCE).unwrap();
    let mut frozen = Frozen::default();

    memory.limit(SLOW);
    let id = begin(&site, &machine);
    eventually("memory is written", PATIENCE, || {
        (job(&site, &id)["percent"].as_u64() > Some(0)).then_some(())
    });
    memory.fail();
    let ended = eventually("the job ends", PATIENCE, || {
        Some(job(&site, &id)).filter(|job| job["state"] != "running")
    });
    memory.repair();
    memory.limit(0);
    let said = ended["error"].as_str().unwrap_or_default();
    println!("a disk under memory images failed: {said}");
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(said.contains("Input/output error"), "{ended}");
    assert!(said.contains(folder.to_str().unwrap()), "{ended}");
    assert!(machine.snapshots(&site).is_empty());
    invariants::check(&site, &mut machine, &mut frozen);

    machine.snapshot(&site);
    layers.fail();
    let shown = eventually("the machine shows that it stands still", PATIENCE, || {
        Some(machine.show(&site)).filter(|shown| shown["health"] == 25)
    });
    layers.repair();
    let said = shown["status"].to_string();
    println!("a disk under layers failed: {said}");
    assert!(
        said.contains(folder.join("disks").to_str().unwrap()),
        "{said}"
    );
    eventually("the guest goes on by itself", PATIENCE, || {
        (machine.show(&site)["health"] == 5).then_some(())
    });
    machine.goes_on();
    invariants::check(&site, &mut machine, &mut frozen);
    machine.stop(&site);
}

/// Bytes a second while layers are merged that hold some 16 MiB.
const SLOW_MERGE: u64 = 1 << 20;

#[test]
fn a_merge_on_a_disk_that_fails_says_so_and_is_done_later() {
    let site = Site::running();
    let mut machine = Machine::define(&site, "merging");
    let folder = folder_of(&site, &machine);
    let Some(mut layers) = FaultyDisk::mount(&folder.join("disks"), 400) else {
        return;
    };
    let mut frozen = Frozen::default();
    for live in [true, false] {
        machine.start_fresh(&site);
        for number in 0..3 {
            machine.scribble(number, 8);
            machine.snapshot(&site);
        }
        machine.wait_until_at_rest(&site);
        let ids = machine.snapshots(&site);
        // What the guest itself writes would fail, too.
        machine.serial().set_rate(0, PATIENCE).unwrap();
        if !live {
            machine.stop(&site);
        }
        layers.limit(SLOW_MERGE);
        site.ask(&["snapshot", "remove", &machine.id, &ids[ids.len() - 2]]);
        let merge = eventually("layers are being merged", PATIENCE, || running_job(&site));
        layers.fail();
        let ended = eventually("the merge ends", PATIENCE, || {
            Some(job(&site, &merge)).filter(|job| job["state"] != "running")
        });
        layers.repair();
        layers.limit(0);
        println!("live {live}: {}", ended["error"]);
        assert_eq!(ended["state"], "failed", "{ended}");
        let said = ended["error"].as_str().unwrap_or_default();
        assert!(said.contains("Input/output error"), "{ended}");
        if live {
            machine.serial().set_rate(RATE, PATIENCE).unwrap();
            machine.goes_on();
        }
        assert_eq!(machine.snapshots(&site).len(), ids.len() - 1);
        // By itself, after a while.
        eventually("it is merged after all", PATIENCE, || {
            let jobs = site.ask(&["job", "list"]);
            let mut jobs = jobs.as_array().unwrap().iter();
            let later = |job: &Value| {
                job["description"] == ended["description"]
                    && job["started"].as_str() > ended["started"].as_str()
            };
            let done = |job: &Value| later(job) && job["state"] == "completed";
            jobs.any(done).then_some(())
        });
        invariants::check(&site, &mut machine, &mut frozen);
        machine.snapshot(&site);
        if live {
            machine.stop(&site);
        }
    }
}

fn running_job(site: &Site) -> Option<String> {
    let jobs = site.ask(&["job", "list"]);
    let mut jobs = jobs.as_array().unwrap().iter();
    let found = jobs.find(|job| job["state"] == "running");
    found.map(|job| job["id"].as_str().unwrap().to_owned())
}
