//! What must hold whenever the service is ready: its answers are sane, every file that it answers
//! for is there and whole, and no other file is.

use crate::machine::{Machine, RATE, disk_counters};
use crate::site::{PATIENCE, Site, eventually};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the service says of a machine.
#[derive(Debug, PartialEq)]
pub struct Facts {
    pub state: String,
    /// The snapshot that the machine descends from.
    pub parent: Option<String>,
    /// Files of the active disks.
    pub disks: Vec<PathBuf>,
    /// Oldest first.
    pub snapshots: Vec<SnapshotFacts>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct SnapshotFacts {
    pub id: String,
    pub parent: Option<String>,
}

/// What frozen disks held when they were first looked at: that never changes.
#[derive(Default)]
pub struct Frozen(HashMap<String, Vec<u64>>);

impl Frozen {
    /// The counters that a snapshot has frozen.
    pub fn of(&self, snapshot: &str) -> &[u64] {
        &self.0[snapshot]
    }
}

/// Waits until the machine is at rest, and checks everything about it.
pub fn check(site: &Site, machine: &mut Machine, frozen: &mut Frozen) -> Facts {
    machine.wait_until_at_rest(site);
    wait_for_images(site, machine);
    let running = machine.state(site) == "running";
    let mut halted_at = None;
    if running {
        machine.goes_on();
        // With the guest's disks at rest, their files can be looked at.
        machine.serial().set_rate(0, PATIENCE).unwrap();
        halted_at = Some(machine.serial().report(PATIENCE).unwrap().a);
    }
    let facts = look(site, machine, frozen);
    if let Some(counter) = halted_at {
        assert_eq!(
            disk_counters(&facts.disks),
            [counter, counter],
            "the disks that the service shows are not those that the guest writes to"
        );
        machine.serial().set_rate(RATE, PATIENCE).unwrap();
        machine.goes_on();
    }
    facts
}

/// Waits until no memory image is being written anew, and none is left that only another one needs:
/// nothing shows that.
fn wait_for_images(site: &Site, machine: &Machine) {
    let folder = folder_of(site, machine).join("snapshots");
    eventually("memory images are at rest", PATIENCE, || {
        let known = machine.snapshots(site);
        let mut found = BTreeSet::new();
        gather(&folder, &mut found);
        let unneeded = |path: &PathBuf| {
            let of = path.parent().and_then(|folder| folder.file_name());
            let named = known
                .iter()
                .any(|id| of.is_some_and(|of| of == id.as_str()));
            let is_image = path.file_name().is_some_and(|n| n == "memory.img");
            path.extension().is_some_and(|e| e == "flat") || (is_image && !named)
        };
        (!found.iter().any(unneeded)).then_some(())
    });
}

/// Notes what new snapshots have frozen, so that a later check can compare; checks nothing.
pub fn note(site: &Site, machine: &Machine, frozen: &mut Frozen) -> Facts {
    machine.wait_until_at_rest(site);
    let facts = facts(site, machine, &machine.show(site));
    for snapshot in &facts.snapshots {
        if !frozen.0.contains_key(&snapshot.id) {
            let shown = site.ask_one(&["snapshot", "show", &machine.id, &snapshot.id]);
            let counters = disk_counters(&Machine::disks_of(&shown));
            frozen.0.insert(snapshot.id.clone(), counters);
        }
    }
    facts
}

fn facts(site: &Site, machine: &Machine, shown: &Value) -> Facts {
    Facts {
        state: shown["state"].as_str().unwrap().to_owned(),
        parent: shown["parent_snapshot"].as_str().map(str::to_owned),
        disks: Machine::disks_of(shown),
        snapshots: snapshots(site, machine),
    }
}

fn look(site: &Site, machine: &Machine, frozen: &mut Frozen) -> Facts {
    let shown = machine.show(site);
    let facts = facts(site, machine, &shown);
    let settled = ["running", "off", "saved", "paused"];
    assert!(settled.contains(&facts.state.as_str()), "{shown}");
    assert!(machine.is_well(&shown), "{shown}");
    assert_eq!(facts.disks.len(), 3, "{shown}");

    let mut files = Files::default();
    for disk in &facts.disks {
        files.add_chain(disk);
    }
    for snapshot in &facts.snapshots {
        check_snapshot(site, machine, snapshot, &mut files, frozen);
    }
    let parents = facts.snapshots.iter().filter_map(|s| s.parent.as_ref());
    for parent in parents.chain(&facts.parent) {
        let known = facts.snapshots.iter().any(|s| s.id == *parent);
        assert!(known, "the parent {parent} is no snapshot: {facts:?}");
    }
    files.check_layers();
    check_folder(site, machine, &facts, &files);
    check_jobs(site);
    facts
}

fn snapshots(site: &Site, machine: &Machine) -> Vec<SnapshotFacts> {
    let rows = site.ask(&["snapshot", "list", &machine.id]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| SnapshotFacts {
            id: text(&row["id"]).unwrap(),
            parent: text(&row["parent"]),
        })
        .collect()
}

/// A snapshot's disks are frozen at one instant, its files are there, and its manifest agrees.
fn check_snapshot(
    site: &Site,
    machine: &Machine,
    snapshot: &SnapshotFacts,
    files: &mut Files,
    frozen: &mut Frozen,
) {
    let shown = site.ask_one(&["snapshot", "show", &machine.id, &snapshot.id]);
    let disks = Machine::disks_of(&shown);
    assert_eq!(disks.len(), 3, "{shown}");
    for disk in &disks {
        files.add_chain(disk);
    }
    let counters = disk_counters(&disks);
    let (least, most) = (
        counters.iter().min().unwrap(),
        counters.iter().max().unwrap(),
    );
    assert!(most - least <= 1, "disks of several instants: {counters:?}");
    let first = frozen
        .0
        .entry(snapshot.id.clone())
        .or_insert_with(|| counters.clone());
    assert_eq!(*first, counters, "frozen disks have changed");

    let folder = folder_of(site, machine)
        .join("snapshots")
        .join(&snapshot.id);
    let manifest = read_manifest(&folder.join("manifest.json"));
    let id = |value: &Value| value.as_str().map(str::to_uppercase);
    assert_eq!(id(&manifest["id"]).as_ref(), Some(&snapshot.id));
    assert_eq!(id(&manifest["parent"]), snapshot.parent);
    files.owned.insert(folder.join("manifest.json"));
    if let Some(image) = manifest["image"]["path"].as_str() {
        files.owned.insert(image.into());
    }
    let layers = manifest["layers"].as_array().unwrap();
    let path_of = |id: &Value| {
        let layer = layers.iter().find(|layer| layer["id"] == *id).unwrap();
        PathBuf::from(layer["path"].as_str().unwrap())
    };
    for layer in layers {
        let backing = files.backing.get(&path_of(&layer["id"]));
        let backing = backing.unwrap_or_else(|| panic!("not in a chain: {layer}"));
        match &layer["parent"] {
            Value::Null => assert_eq!(*backing, None, "{layer}"),
            parent => assert_eq!(*backing, Some(path_of(parent)), "{layer}"),
        }
    }
}

fn read_manifest(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (_, body) = text.split_once('\n').unwrap();
    serde_json::from_str(body).unwrap()
}

/// The files that the service answers for.
#[derive(Default)]
struct Files {
    /// Every layer, with what its header says it stands on.
    backing: BTreeMap<PathBuf, Option<PathBuf>>,
    /// Manifests and memory images.
    owned: BTreeSet<PathBuf>,
}

impl Files {
    fn add_chain(&mut self, top: &Path) {
        let mut next = Some(top.to_owned());
        while let Some(path) = next.filter(|path| !self.backing.contains_key(path)) {
            let backing = backing_of(&path);
            self.backing.insert(path, backing.clone());
            next = backing;
        }
    }

    fn check_layers(&self) {
        for (path, backing) in &self.backing {
            if backing.is_some() {
                qemu_img(&["check", "-q", "-U"], path);
            }
        }
    }
}

fn backing_of(path: &Path) -> Option<PathBuf> {
    let info = qemu_img(&["info", "-U", "--output=json"], path);
    let info: Value = serde_json::from_slice(&info).unwrap();
    info["full-backing-filename"].as_str().map(PathBuf::from)
}

fn qemu_img(arguments: &[&str], path: &Path) -> Vec<u8> {
    let output = Command::new("qemu-img")
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}: {output:?}", path.display());
    output.stdout
}

/// Every file in the machine's folder is one that the service answers for.
fn check_folder(site: &Site, machine: &Machine, facts: &Facts, files: &Files) {
    let folder = folder_of(site, machine);
    let mut found = BTreeSet::new();
    gather(&folder, &mut found);
    for file in &files.owned {
        assert!(found.contains(file), "missing: {}", file.display());
    }
    let answered = |path: &PathBuf| files.backing.contains_key(path) || files.owned.contains(path);
    let mut others: Vec<_> = found.into_iter().filter(|path| !answered(path)).collect();
    // Hashes of frozen layers come and go by themselves; there are no more than layers.
    let sums = folder.join("snapshots/sums");
    let hashes = others
        .extract_if(.., |path| path.starts_with(&sums))
        .count();
    assert!(
        hashes <= files.backing.len() + 1,
        "{hashes} files of hashes"
    );
    if facts.state == "saved" && others.len() == 1 {
        // The machine's own saved state.
        others.retain(|path| !path.starts_with(folder.join("saved")));
    }
    assert!(others.is_empty(), "nothing refers to {others:?}\n{facts:?}");
    let known = |name: &str| facts.snapshots.iter().any(|s| s.id == name);
    for entry in std::fs::read_dir(folder.join("snapshots"))
        .into_iter()
        .flatten()
    {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            known(&name) || name == "sums",
            "an empty folder is left: {name}"
        );
    }
}

fn gather(folder: &Path, found: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => gather(&path, found),
            false => drop(found.insert(path)),
        }
    }
}

pub fn folder_of(site: &Site, machine: &Machine) -> PathBuf {
    site.data_dir().join("machines").join(&machine.id)
}

/// Every job has ended, and says how.
fn check_jobs(site: &Site) {
    let jobs = site.ask(&["job", "list"]);
    for job in jobs.as_array().unwrap() {
        let state = job["state"].as_str().unwrap();
        let ended = ["completed", "failed", "terminated", "killed"];
        assert!(ended.contains(&state), "a job without end: {job}");
        assert_eq!(job["percent"] == 100, state == "completed", "{job}");
        if state == "failed" {
            assert!(
                job["error"].is_string(),
                "a failed job without a cause: {job}"
            );
        }
    }
}
