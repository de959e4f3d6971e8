//! The service is killed at every journalled step of creating, applying and removing a snapshot.
//! Started again, it must be ready within ten seconds, with the state of before or after, nothing
//! lost, nothing left over, and the guest running.

use crate::invariants::{self, Facts, Frozen};
use crate::machine::Machine;
use crate::site::{PATIENCE, Site, Started};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// From the start of the service until it has settled everything.
const SETTLED: Duration = Duration::from_secs(10);
/// How many times over the long form goes.
const ROUNDS_VARIABLE: &str = "ROOTVIRT_SOAK_ROUNDS";

/// Steps of a snapshot of a running guest.
const LIVE_CREATE: &[&str] = &[
    "create.intent",
    "create.overlays",
    "create.attach",
    "create.freeze",
    "create.stopped",
    "create.switched",
    "create.sending",
    "create.captured",
    "create.receiving",
    "create.received",
    "create.manifest",
    "create.written",
    "create.done",
];
/// Steps of a snapshot of a machine that is off or saved.
const REST_CREATE: &[&str] = &[
    "create.intent",
    "create.overlays",
    "create.manifest",
    "create.written",
    "create.done",
];
const APPLY: &[&str] = &[
    "apply.intent",
    "apply.overlays",
    "apply.sweep",
    "apply.swept",
    "apply.done",
];
/// Steps of a removal while the guest runs: its active layer takes up the one below.
const LIVE_REMOVE: &[&str] = &[
    "remove.intent",
    "remove.sweep",
    "remove.swept",
    "remove.merge",
    "remove.pulled",
    "remove.merged",
    "remove.done",
];
/// Steps of a removal that merges one frozen layer into another while the guest runs, and of what
/// becomes of the memory image that only the next one stands on.
const MIDDLE_REMOVE: &[&str] = &[
    "remove.merged",
    "remove.renamed",
    "remove.placed",
    "image.rename",
    "image.renamed",
    "image.recorded",
];
/// Steps of a removal that merges one frozen layer into another.
const REST_REMOVE: &[&str] = &[
    "remove.intent",
    "remove.sweep",
    "remove.swept",
    "remove.merge",
    "remove.merged",
    "remove.renamed",
    "remove.done",
];

#[test]
fn killed_at_every_step() {
    let mut campaign = Campaign::new();
    campaign.round(Extent::Once);
    println!("{}", campaign.summary());
}

#[test]
#[ignore = "long: run by `cargo xtask soak kills`"]
fn killed_at_every_step_for_long() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(4, |text| text.parse().unwrap());
    let mut campaign = Campaign::new();
    for round in 1..=rounds {
        campaign.round(Extent::Full);
        println!("round {round} of {rounds}: {}", campaign.summary());
    }
}

/// How much of the campaign one round is.
#[derive(Clone, Copy, PartialEq)]
enum Extent {
    /// Every step once.
    Once,
    /// Every step in every state of the machine, and kills at random times.
    Full,
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Verb {
    Create,
    Apply,
    Remove,
}

struct Campaign {
    site: Site,
    machine: Machine,
    frozen: Frozen,
    /// The boot whose memory a snapshot holds.
    boots: HashMap<String, u64>,
    kills: u32,
    slowest: Duration,
    random: u64,
}

impl Campaign {
    fn new() -> Campaign {
        let site = Site::running();
        let machine = Machine::boot(&site, "killed");
        Campaign {
            site,
            machine,
            frozen: Frozen::default(),
            boots: HashMap::new(),
            kills: 0,
            slowest: Duration::ZERO,
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    fn summary(&self) -> String {
        let Self { kills, slowest, .. } = self;
        format!(
            "{kills} of {kills} settle, slowest {:.1} s",
            slowest.as_secs_f64()
        )
    }

    /// Begins and ends with a running guest.
    fn round(&mut self, extent: Extent) {
        self.live(extent);
        self.applies(extent);
        self.off(extent);
        self.saved(extent);
        self.prune(0);
    }

    fn live(&mut self, extent: Extent) {
        let mut removals = LIVE_REMOVE.iter();
        for point in LIVE_CREATE {
            self.kill_at(point, Verb::Create, None);
            self.further_snapshot();
            if self.ids().len() >= 2
                && let Some(point) = removals.next()
            {
                self.remove_last_killed_at(point);
            }
            self.prune(2);
        }
        assert_eq!(removals.next(), None);
        for point in MIDDLE_REMOVE {
            while self.ids().len() < 3 {
                self.further_snapshot();
            }
            let middle = self.ids()[1].clone();
            self.kill_at(point, Verb::Remove, Some(&middle));
        }
        self.prune(2);
        self.kill_twice("create.sending", "create.undo");
        if extent == Extent::Full {
            self.kill_twice("create.switched", "create.undo");
            for _ in 0..8 {
                self.kill_sometime(Verb::Create, Duration::from_millis(2500));
                self.further_snapshot();
                self.kill_sometime(Verb::Remove, Duration::from_millis(800));
                self.prune(2);
            }
        }
        self.further_snapshot();
    }

    fn applies(&mut self, extent: Extent) {
        let snapshot = self.ids().last().cloned().unwrap();
        for point in APPLY {
            self.machine.stop(&self.site);
            self.kill_at(point, Verb::Apply, Some(&snapshot));
            self.resume_from(&snapshot);
        }
        if extent == Extent::Full {
            for _ in 0..4 {
                self.machine.stop(&self.site);
                self.kill_sometime(Verb::Apply, Duration::from_millis(400));
                self.resume_from(&snapshot);
            }
        }
    }

    /// Applies the snapshot if that is not done yet, and lets its guest go on.
    fn resume_from(&mut self, snapshot: &str) {
        if self.machine.state(&self.site) == "off" {
            self.site
                .ask(&["snapshot", "apply", &self.machine.id, snapshot]);
        }
        self.machine.boot = self.boots[snapshot];
        let report = self.machine.start_saved(&self.site);
        let frozen = self.frozen.of(snapshot);
        assert!(
            frozen.iter().all(|counter| *counter <= report.a),
            "older than its disks {frozen:?}: {report}"
        );
    }

    /// Leaves the machine running again.
    fn off(&mut self, extent: Extent) {
        let snapshot = self.ids().last().cloned().unwrap();
        self.machine.stop(&self.site);
        let points = match extent {
            Extent::Once => &REST_CREATE[2..4],
            Extent::Full => REST_CREATE,
        };
        for point in points {
            self.kill_at(point, Verb::Create, None);
        }
        let (mut removals, all) = match extent {
            Extent::Once => (
                vec!["remove.merge", "remove.merged", "remove.renamed"],
                false,
            ),
            Extent::Full => (REST_REMOVE.to_vec(), true),
        };
        let keep = self.ids().iter().position(|id| *id == snapshot).unwrap() + 1;
        for point in removals.drain(..) {
            // One that goes, with one of ours below it and one above.
            while self.ids().len() < keep + 3 {
                self.further_snapshot();
            }
            let ids = self.ids();
            let middle = ids[ids.len() - 2].clone();
            self.kill_at(point, Verb::Remove, Some(&middle));
        }
        for point in ["remove.merge", "remove.merged"] {
            self.further_snapshot();
            self.remove_last_killed_at(point);
        }
        if all {
            for _ in 0..3 {
                self.further_snapshot();
                self.kill_sometime(Verb::Remove, Duration::from_millis(600));
                self.kill_sometime(Verb::Create, Duration::from_millis(600));
            }
        }
        self.site
            .ask(&["snapshot", "apply", &self.machine.id, &snapshot]);
        self.resume_from(&snapshot);
    }

    fn saved(&mut self, extent: Extent) {
        self.site.ask(&["vm", "save", &self.machine.id]);
        let points = match extent {
            Extent::Once => &REST_CREATE[3..4],
            Extent::Full => REST_CREATE,
        };
        for point in points {
            self.kill_at(point, Verb::Create, None);
        }
        self.machine.start_saved(&self.site);
        self.check();
    }

    /// Runs a verb that the service does not survive, and starts the service again.
    fn kill_at(&mut self, point: &str, verb: Verb, snapshot: Option<&str>) {
        let before = self.die_at(point, verb, snapshot);
        self.settle(point, verb, &before);
    }

    /// As `kill_at`, but the service dies once more while it settles.
    fn kill_twice(&mut self, point: &str, settling: &str) {
        let before = self.die_at(point, Verb::Create, None);
        let started = self.site.start_armed(settling);
        assert!(
            matches!(started, Started::Died),
            "{settling} is not reached"
        );
        self.settle(settling, Verb::Create, &before);
    }

    fn die_at(&mut self, point: &str, verb: Verb, snapshot: Option<&str>) -> Facts {
        let before = self.check();
        self.site.kill();
        let started = self.site.start_armed(point);
        assert!(matches!(started, Started::Ready(_)), "{point} while idle");
        let command = self.command(verb, snapshot);
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let _ = self.site.try_ask(&command);
        // The client may know before the service is quite dead.
        let begun = Instant::now();
        while !self.site.is_dead() && begun.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(
            self.site.is_dead(),
            "{point} is not reached\n{}",
            self.site.log_tail()
        );
        self.site.kill();
        before
    }

    fn command(&self, verb: Verb, snapshot: Option<&str>) -> Vec<String> {
        let verb = match verb {
            Verb::Create => "create",
            Verb::Apply => "apply",
            Verb::Remove => "remove",
        };
        ["snapshot", verb, &self.machine.id]
            .into_iter()
            .chain(snapshot)
            .map(str::to_owned)
            .collect()
    }

    /// Kills the service at some time during a verb, or just after.
    fn kill_sometime(&mut self, verb: Verb, longest: Duration) {
        let before = self.check();
        let snapshot = match verb {
            Verb::Create => None,
            Verb::Apply => Some(self.memory_snapshot()),
            Verb::Remove => before.snapshots.last().map(|s| s.id.clone()),
        };
        let command = self.command(verb, snapshot.as_deref());
        let command: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut client = self.site.spawn(&command);
        std::thread::sleep(self.random_up_to(longest));
        self.site.kill();
        client.wait().unwrap();
        self.settle("any time", verb, &before);
    }

    fn memory_snapshot(&self) -> String {
        let ids = self.ids().into_iter();
        ids.rev().find(|id| self.boots.contains_key(id)).unwrap()
    }

    /// A small generator (xorshift): the times need not be good, only different.
    fn random_up_to(&mut self, longest: Duration) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let micros = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.random % micros)
    }

    /// Starts the service again and judges what it made of it.
    fn settle(&mut self, point: &str, verb: Verb, before: &Facts) {
        let begun = Instant::now();
        self.site.start();
        let state = self.machine.state(&self.site);
        if state == "running" {
            self.machine.goes_on();
        }
        self.machine.wait_until_at_rest(&self.site);
        let took = begun.elapsed();
        let after = self.check();
        println!(
            "killed at {point} while {}: settled in {took:?}",
            before.state
        );
        assert!(
            took <= SETTLED,
            "{point}: {took:?}\n{}",
            self.site.log_tail()
        );
        self.kills += 1;
        self.slowest = self.slowest.max(took);
        let fine = match verb {
            Verb::Create => is_created(before, &after),
            Verb::Remove => is_removed(before, &after),
            Verb::Apply => is_applied(before, &after),
        };
        assert!(
            fine,
            "{point}: neither before nor after\n{before:#?}\n{after:#?}\n{}",
            self.site.log_tail()
        );
        self.note_boots(&after);
    }

    fn check(&mut self) -> Facts {
        invariants::check(&self.site, &mut self.machine, &mut self.frozen)
    }

    /// New snapshots of a running or saved machine hold the memory of its present boot.
    fn note_boots(&mut self, facts: &Facts) {
        for snapshot in &facts.snapshots {
            if facts.state != "off" && !self.boots.contains_key(&snapshot.id) {
                self.boots.insert(snapshot.id.clone(), self.machine.boot);
            }
        }
    }

    fn further_snapshot(&mut self) {
        let id = self.machine.snapshot(&self.site);
        if self.machine.state(&self.site) != "off" {
            self.boots.insert(id, self.machine.boot);
        }
    }

    fn ids(&self) -> Vec<String> {
        self.machine.snapshots(&self.site)
    }

    fn remove_last_killed_at(&mut self, point: &str) {
        let last = self.ids().last().cloned().unwrap();
        self.kill_at(point, Verb::Remove, Some(&last));
    }

    /// Removes the newest snapshots until `most` are left.
    fn prune(&mut self, most: usize) {
        let ids = self.ids();
        for id in ids.iter().skip(most).rev() {
            self.site.ask(&["snapshot", "remove", &self.machine.id, id]);
        }
    }
}

fn is_created(before: &Facts, after: &Facts) -> bool {
    if after.state != before.state {
        return false;
    }
    match after.snapshots.split_last() {
        Some((new, old)) if old == before.snapshots => {
            new.parent == before.parent
                && after.parent.as_ref() == Some(&new.id)
                && after.disks.iter().all(|disk| !before.disks.contains(disk))
        }
        // A layer that the guest has already written to may stay, so disks are not compared.
        _ => after.snapshots == before.snapshots && after.parent == before.parent,
    }
}

fn is_removed(before: &Facts, after: &Facts) -> bool {
    let gone: Vec<_> = before
        .snapshots
        .iter()
        .filter(|old| after.snapshots.iter().all(|s| s.id != old.id))
        .collect();
    after.state == before.state
        && after.snapshots.len() + gone.len() == before.snapshots.len()
        && gone.len() <= 1
}

fn is_applied(before: &Facts, after: &Facts) -> bool {
    if after.snapshots != before.snapshots {
        return false;
    }
    match after.state.as_str() {
        "off" => after == before,
        "saved" => after.disks.iter().all(|disk| !before.disks.contains(disk)),
        _ => false,
    }
}
