//! What can go wrong around a snapshot while it is taken, and what must be true afterwards.

use crate::invariants::{self, Frozen, folder_of};
use crate::machine::Machine;
use crate::site::{PATIENCE, Site, eventually};
use crate::small_disk::SmallDisk;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// MiB of noise in the guest's memory, so that writing it takes a while.
const NOISE: u64 = 450;

#[test]
fn snapshots_under_way_are_alone_can_be_cancelled_and_survive_what_dies() {
    let mut site = Site::running();
    let mut machine = Machine::define_with(&site, "busy", "768M");
    machine.start_fresh(&site);
    machine.serial().fill(NOISE, PATIENCE).unwrap();
    let mut frozen = Frozen::default();

    second_snapshot_is_refused(&site, &machine);
    let cancelled = cancelled_within_a_second(&site, &mut machine);
    invariants::check(&site, &mut machine, &mut frozen);

    service_restarts(&mut site, &mut machine, &cancelled);
    invariants::check(&site, &mut machine, &mut frozen);

    qemu_dies_while_memory_is_written(&site, &mut machine);
    machine.start_fresh(&site);
    invariants::check(&site, &mut machine, &mut frozen);
    machine.snapshot(&site);
    invariants::check(&site, &mut machine, &mut frozen);
}

/// Starts a snapshot and waits until its memory is being written; gives the job.
fn begin(site: &Site, machine: &Machine) -> String {
    let job = site.ask_one(&["snapshot", "create", &machine.id, "--no-wait"]);
    let id = job["id"].as_str().unwrap().to_owned();
    wait_for_memory_file(site, machine);
    id
}

/// As `begin`, some of the memory being written already.
fn begin_and_write(site: &Site, machine: &Machine) -> String {
    let id = begin(site, machine);
    eventually("memory is written", PATIENCE, || {
        (job(site, &id)["percent"].as_u64() > Some(0)).then_some(())
    });
    id
}

fn wait_for_memory_file(site: &Site, machine: &Machine) {
    let folder = folder_of(site, machine).join("snapshots");
    let begun = Instant::now();
    while !files_in(&folder).iter().any(|path| grows(path)) {
        assert!(begun.elapsed() < PATIENCE, "no memory is written");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn grows(path: &Path) -> bool {
    let is_temporary = path.to_str().unwrap().ends_with(".img.tmp");
    is_temporary && path.metadata().is_ok_and(|metadata| metadata.len() > 0)
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.path().is_dir() {
            true => files.extend(files_in(&entry.path())),
            false => files.push(entry.path()),
        }
    }
    files
}

/// A machine's files without the hashes of frozen layers, which come and go by themselves.
fn files_of(site: &Site, machine: &Machine) -> Vec<PathBuf> {
    let folder = folder_of(site, machine);
    let mut files = files_in(&folder);
    files.retain(|path| !path.starts_with(folder.join("snapshots/sums")));
    files.sort();
    files
}

fn job(site: &Site, id: &str) -> Value {
    site.ask_one(&["job", "show", id])
}

fn wait_for_end(site: &Site, id: &str) -> Value {
    eventually("the job ends", PATIENCE, || {
        Some(job(site, id)).filter(|job| job["state"] != "running")
    })
}

fn second_snapshot_is_refused(site: &Site, machine: &Machine) {
    let first = begin(site, machine);
    let said = site.ask_refused(&["snapshot", "create", &machine.id]);
    assert_eq!(
        job(site, &first)["state"],
        "running",
        "the first was too quick to show anything"
    );
    assert!(said.contains("32774"), "{said}");
    assert_eq!(wait_for_end(site, &first)["state"], "completed");
    let only = machine.snapshots(site);
    assert_eq!(only.len(), 1);
    site.ask(&["snapshot", "remove", &machine.id, &only[0]]);
}

/// How often something is tried that a snapshot may be too quick for.
const TRIES: u32 = 6;

/// On a host that is busy with other tests, one of some must be quick enough.
fn cancelled_within_a_second(site: &Site, machine: &mut Machine) -> String {
    for _ in 0..TRIES {
        match cancel(site, machine) {
            Some((id, took)) if took < Duration::from_secs(1) => return id,
            other => println!("not cancelled in time: {other:?}"),
        }
    }
    panic!("cancelling takes longer than a second");
}

/// A snapshot that was done before it could be cancelled is removed.
fn was_done(site: &Site, machine: &Machine, ended: &Value) -> bool {
    let done = ended["state"] == "completed";
    let snapshots = machine.snapshots(site);
    assert_eq!(snapshots.len(), usize::from(done), "{ended}");
    for snapshot in &snapshots {
        site.ask(&["snapshot", "remove", &machine.id, snapshot]);
        machine.wait_until_at_rest(site);
    }
    done
}

/// `None` if it was done before.
fn cancel(site: &Site, machine: &mut Machine) -> Option<(String, Duration)> {
    let before = files_of(site, machine);
    let id = begin_and_write(site, machine);
    let begun = Instant::now();
    // Refused, if it is done.
    let _ = site.try_ask(&["job", "cancel", &id]);
    let ended = wait_for_end(site, &id);
    let took = begun.elapsed();
    if was_done(site, machine, &ended) {
        return None;
    }
    assert_eq!(ended["state"], "killed", "{ended}");
    machine.goes_on();
    let after = files_of(site, machine);
    assert_eq!(before, after, "something is left behind");
    Some((id, took))
}

fn service_restarts(site: &mut Site, machine: &mut Machine, ended: &str) {
    let before = job(site, ended);
    site.stop();
    machine.goes_on();
    site.start();
    assert_eq!(machine.state(site), "running");
    assert_eq!(job(site, ended), before, "a job has changed");
    site.kill();
    machine.goes_on();
    site.start();
    assert_eq!(machine.state(site), "running");
    assert_eq!(job(site, ended), before, "a job has changed");
    machine.goes_on();
}

fn qemu_dies_while_memory_is_written(site: &Site, machine: &mut Machine) {
    let mut tries = 0;
    let ended = loop {
        let id = begin_and_write(site, machine);
        site.kill_guest(&machine.id);
        let ended = wait_for_end(site, &id);
        if !was_done(site, machine, &ended) {
            break ended;
        }
        tries += 1;
        assert!(tries < TRIES, "every snapshot was done before QEMU died");
        eventually("the machine is off", PATIENCE, || {
            (machine.state(site) == "off").then_some(())
        });
        machine.start_fresh(site);
        machine.serial().fill(NOISE, PATIENCE).unwrap();
    };
    assert_eq!(ended["state"], "failed", "{ended}");
    let said = ended["error"].as_str().unwrap();
    println!("after QEMU's death: {said}");
    assert!(said.contains("QEMU") || said.contains("process"), "{said}");
    eventually("the machine is off", Duration::from_secs(10), || {
        (machine.state(site) == "off").then_some(())
    });
    // Layers that no snapshot needs are merged in the background; what each reads meanwhile differs.
    eventually("nothing but the disks is left", PATIENCE, || {
        let left = files_of(site, machine);
        let disks = Machine::disks_of(&machine.show(site));
        let orphans: Vec<_> = left.iter().filter(|path| !disks.contains(path)).collect();
        if !orphans.is_empty() {
            println!("still there: {orphans:?}");
        }
        orphans.is_empty().then_some(())
    });
}

#[test]
fn space_that_runs_out_costs_no_guest_and_leaves_nothing() {
    let site = Site::running();
    let mut machine = Machine::define_with(&site, "full", "512M");
    let folder = folder_of(&site, &machine);
    let Some(memory) = SmallDisk::mount(&folder.join("snapshots"), 1000) else {
        return;
    };
    let Some(layers) = SmallDisk::mount(&folder.join("disks"), 200) else {
        return;
    };
    machine.start_fresh(&site);
    // More than the service reserves space for in one step.
    machine.serial().fill(250, PATIENCE).unwrap();
    let mut frozen = Frozen::default();

    too_little_space_is_noticed_first(&site, &mut machine, &memory);
    space_beside_the_memory_image_runs_out(&site, &mut machine, &memory);
    let snapshot = machine.snapshot(&site);
    invariants::check(&site, &mut machine, &mut frozen);
    site.ask(&["snapshot", "remove", &machine.id, &snapshot]);

    space_under_a_layer_runs_out(&site, &mut machine, &layers);
    invariants::check(&site, &mut machine, &mut frozen);
}

fn too_little_space_is_noticed_first(site: &Site, machine: &mut Machine, memory: &SmallDisk) {
    memory.shrink(100 << 20);
    let said = site.ask_refused(&["snapshot", "create", &machine.id]);
    println!("with too little space: {said}");
    assert!(said.contains("bytes free"), "{said}");
    machine.goes_on();
    memory.make_room();
    assert!(files_in(&folder_of(site, machine)).is_empty());
}

/// Space for the memory image is reserved before the guest is touched: nobody can take it away.
fn space_beside_the_memory_image_runs_out(site: &Site, machine: &mut Machine, memory: &SmallDisk) {
    let id = begin(site, machine);
    memory.shrink(4 << 20);
    let ended = wait_for_end(site, &id);
    assert_eq!(ended["state"], "completed", "{ended}");
    memory.make_room();
    machine.goes_on();
    let taken = machine.snapshots(site);
    assert_eq!(taken.len(), 1);
    site.ask(&["snapshot", "remove", &machine.id, &taken[0]]);
    assert!(machine.snapshots(site).is_empty());
}

fn space_under_a_layer_runs_out(site: &Site, machine: &mut Machine, layers: &SmallDisk) {
    machine.serial().set_rate(0, PATIENCE).unwrap();
    machine.snapshot(site);
    // A merge that ends later would delete a file, and so make room again.
    machine.wait_until_at_rest(site);
    layers.shrink(0);
    let rest = folder_of(site, machine).join("disks/rest");
    // The next round needs space in the new layers.
    machine.serial().send("rate 1000").unwrap();
    let shown = eventually("the machine shows that it stands still", PATIENCE, || {
        // Its size is rounded up, and whatever is deleted makes room again: a round needs little.
        fill_up(&rest);
        Some(machine.show(site)).filter(|shown| shown["health"] == 25)
    });
    println!("without space: {}", shown["status"]);
    assert!(shown["status"].to_string().contains("space"), "{shown}");
    std::fs::remove_file(&rest).unwrap();
    layers.make_room();
    eventually("the guest goes on by itself", PATIENCE, || {
        (machine.show(site)["health"] == 5).then_some(())
    });
    machine.goes_on();
}

/// Writes to a file until there is no space left.
fn fill_up(path: &Path) {
    let mut file = File::options()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    for size in [64 << 10, 4096] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}
