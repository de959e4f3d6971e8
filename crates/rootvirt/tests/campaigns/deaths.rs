//! The service, the guest's QEMU, or both are killed at random times while a snapshot is created,
//! applied or removed, and while layers are merged. Whatever dies: the service, started again, is
//! ready soon; each verb was done or was not; no snapshot and nothing that the guest wrote is lost;
//! no file and no process is left over; and the guest goes on, or can be brought back.
//!
//! At which step of a verb the service dies is the business of [`kills`](crate::kills).

use crate::invariants::{self, Facts, Frozen, folder_of};
use crate::machine::{Machine, disk_counters};
use crate::site::{PATIENCE, Site, eventually};
use std::collections::{BTreeMap, HashMap};
use std::process::Child;
use std::time::{Duration, Instant};

/// How many kills the long form is, and the number its times are drawn from.
const KILLS_VARIABLE: &str = "ROOTVIRT_SOAK_KILLS";
const SEED_VARIABLE: &str = "ROOTVIRT_SOAK_SEED";
const SEED: u64 = 0x2545_f491_4f6c_dd1d;
/// From the start of the service until it has settled everything, on a busy host.
const SETTLED: Duration = Duration::from_secs(60);
/// A verb may take so long that this is the latest time of a kill.
const LATEST: Duration = Duration::from_secs(8);

#[test]
fn killed_at_random_times() {
    let mut campaign = Campaign::new(SEED);
    // Each verb, and each that can die.
    campaign.kill(8);
    println!("{}", campaign.summary());
}

#[test]
#[ignore = "long: run by `cargo xtask soak deaths`"]
fn killed_at_random_times_for_long() {
    let number = |name: &str, usual: u64| {
        std::env::var(name).map_or(usual, |text| text.parse::<u64>().unwrap())
    };
    let mut campaign = Campaign::new(number(SEED_VARIABLE, SEED));
    campaign.kill(number(KILLS_VARIABLE, 500));
    println!("{}", campaign.summary());
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Verb {
    Create,
    Apply,
    /// What applying is for: the guest goes on from the snapshot.
    Start,
    Remove,
    /// What follows from a removal.
    Merge,
}

/// Who dies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Victim {
    Service,
    /// The service, of a machine that is off.
    ServiceAtRest,
    Qemu,
    Both,
}

impl Victim {
    fn is_guest(self) -> bool {
        matches!(self, Victim::Qemu | Victim::Both)
    }

    fn is_service(self) -> bool {
        self != Victim::Qemu
    }
}

/// In turn, so that each pair is there as often as the others.
const VICTIMS: [Victim; 5] = [
    Victim::Service,
    Victim::Qemu,
    Victim::ServiceAtRest,
    Victim::Both,
    Victim::Qemu,
];

struct Campaign {
    site: Site,
    machine: Machine,
    frozen: Frozen,
    /// The boot whose memory a snapshot holds.
    boots: HashMap<String, u64>,
    /// How late a verb is killed at most: a bit later than it usually ends.
    windows: HashMap<Verb, Duration>,
    /// How many kills, and how many of them hit something that was under way.
    kills: BTreeMap<(Verb, Victim), (u32, u32)>,
    slowest: Duration,
    seed: u64,
    random: u64,
}

impl Campaign {
    fn new(seed: u64) -> Campaign {
        let site = Site::running();
        let machine = Machine::boot(&site, "dying");
        let mut campaign = Campaign {
            site,
            machine,
            frozen: Frozen::default(),
            boots: HashMap::new(),
            windows: HashMap::new(),
            kills: BTreeMap::new(),
            slowest: Duration::ZERO,
            seed,
            // The generator gives nothing but zeros from zero.
            random: seed.max(1),
        };
        campaign.further_snapshot();
        campaign
    }

    fn summary(&self) -> String {
        let all: u32 = self.kills.values().map(|(n, _)| n).sum();
        let hit: u32 = self.kills.values().map(|(_, hit)| hit).sum();
        let rows: Vec<String> = self
            .kills
            .iter()
            .map(|((verb, victim), (n, hit))| format!("{verb:?}/{victim:?} {n} ({hit})"))
            .collect();
        format!(
            "seed {}: {all} of {all} settle, {hit} of them while the verb was under way, slowest \
             {:.1} s\n{}",
            self.seed,
            self.slowest.as_secs_f64(),
            rows.join(", ")
        )
    }

    fn kill(&mut self, kills: u64) {
        let begun = Instant::now();
        for (number, turn) in (1..=kills).zip(0_usize..) {
            let victim = VICTIMS[turn / 4 % VICTIMS.len()];
            let verb = match turn % 4 {
                0 => Verb::Create,
                // Nothing of QEMU's is there while a snapshot is applied.
                1 if victim.is_guest() || turn / 4 % 2 == 0 => Verb::Start,
                1 => Verb::Apply,
                2 => Verb::Remove,
                _ => Verb::Merge,
            };
            self.once(number, verb, victim);
            if number.is_multiple_of(20) {
                println!("after {:?}: {}", begun.elapsed(), self.summary());
            }
        }
    }

    fn once(&mut self, number: u64, verb: Verb, victim: Victim) {
        self.ready(verb, victim);
        // Everything is checked afterwards, each time.
        let before = invariants::note(&self.site, &self.machine, &mut self.frozen);
        let written = match before.state.as_str() {
            "running" => {
                let counter = self.machine.goes_on().a;
                vec![counter.saturating_sub(1); 2]
            }
            _ => disk_counters(&before.disks),
        };
        let (moment, hit) = self.strike(verb, victim, &before);
        let begun = Instant::now();
        let after = self.settle(verb, victim);
        let took = begun.elapsed();
        println!(
            "{number}: {victim:?} killed {moment:?} into {verb:?} ({}), settled in {took:?}: {}",
            if hit { "under way" } else { "ended" },
            after.state
        );
        assert!(took <= SETTLED, "{took:?}\n{}", self.site.log_tail());
        self.judge(verb, victim, &before, &after);
        if after.state != "running" && !matches!(verb, Verb::Apply | Verb::Start) {
            let there = disk_counters(&after.disks);
            let lost = there.iter().zip(&written).any(|(is, was)| is < was);
            assert!(!lost, "written {written:?}, there is {there:?}");
        }
        self.note_boots(&after);
        self.slowest = self.slowest.max(took);
        let row = self.kills.entry((verb, victim)).or_default();
        *row = (row.0 + 1, row.1 + u32::from(hit));
    }

    /// Brings the machine to where the verb can be begun.
    fn ready(&mut self, verb: Verb, victim: Victim) {
        self.back_to_running();
        self.prune(3);
        let wanted = match verb {
            Verb::Create | Verb::Apply | Verb::Start => 1,
            Verb::Remove | Verb::Merge => 3,
        };
        while self.ids().len() < wanted || self.memory_snapshot().is_none() {
            self.scribble();
            self.further_snapshot();
        }
        self.scribble();
        match verb {
            Verb::Apply => self.machine.stop(&self.site),
            Verb::Start => {
                self.machine.stop(&self.site);
                self.apply();
            }
            _ if victim == Victim::ServiceAtRest => self.machine.stop(&self.site),
            _ => {}
        }
    }

    /// The guest goes on, mostly from a snapshot: that is quicker than a boot.
    fn back_to_running(&mut self) {
        match self.machine.state(&self.site).as_str() {
            "running" => {}
            "saved" => drop(self.machine.start_saved(&self.site)),
            _ if self.random().is_multiple_of(12) || self.memory_snapshot().is_none() => {
                self.machine.start_fresh(&self.site);
                self.further_snapshot();
            }
            _ => {
                self.apply();
                let report = self.machine.start_saved(&self.site);
                let snapshot = self.memory_snapshot().unwrap();
                let frozen = self.frozen.of(&snapshot);
                assert!(
                    frozen.iter().all(|counter| *counter <= report.a),
                    "older than its disks {frozen:?}: {report}"
                );
            }
        }
    }

    fn apply(&mut self) {
        let snapshot = self.memory_snapshot().unwrap();
        self.site
            .ask(&["snapshot", "apply", &self.machine.id, &snapshot]);
        self.machine.boot = self.boots[&snapshot];
    }

    /// Gives the merges to come something to do.
    fn scribble(&mut self) {
        let number = self.random() % 1_000_000;
        self.machine.scribble(number, 3);
    }

    /// Begins the verb and kills; gives when, and whether the verb was still under way.
    fn strike(&mut self, verb: Verb, victim: Victim, before: &Facts) -> (Duration, bool) {
        let ids: Vec<&String> = before.snapshots.iter().map(|s| &s.id).collect();
        let memory = self.memory_snapshot().unwrap();
        // The newest, or the one before it.
        let back = usize::from(ids.len() > 2 && self.random().is_multiple_of(2));
        let any = ids[ids.len() - 1 - back].clone();
        let id = self.machine.id.clone();
        let arguments: Vec<&str> = match verb {
            Verb::Create => vec!["snapshot", "create", &id],
            Verb::Apply => vec!["snapshot", "apply", &id, &memory],
            Verb::Start => vec!["vm", "start", &id],
            Verb::Remove | Verb::Merge => vec!["snapshot", "remove", &id, &any],
        };
        let window = self.window(verb);
        let moment = self.random_up_to(window);
        if verb == Verb::Apply {
            self.machine.boot = self.boots[&memory];
        }
        let hit = if verb == Verb::Merge {
            self.site.ask(&arguments);
            std::thread::sleep(moment);
            let hit = !self.machine.is_well(&self.machine.show(&self.site));
            self.adapt(verb, hit, moment);
            self.strike_down(victim, None);
            hit
        } else {
            let mut client = self.site.spawn(&arguments);
            let ended = ended_within(&mut client, moment);
            self.adapt(verb, ended.is_none(), ended.unwrap_or(moment));
            self.strike_down(victim, Some(&mut client));
            eventually("the client's call ends", PATIENCE, || {
                client.try_wait().unwrap()
            });
            ended.is_none()
        };
        (moment, hit)
    }

    fn strike_down(&mut self, victim: Victim, client: Option<&mut Child>) {
        if victim.is_guest() {
            // It may not be there yet.
            let mut client = client;
            eventually("the guest's QEMU is there", PATIENCE, || {
                let done = |c: &mut &mut Child| c.try_wait().unwrap().is_some();
                let ended = client.as_mut().is_none_or(done);
                let killed = self.site.try_kill_guest(&self.machine.id);
                (killed || ended).then_some(())
            });
        }
        if victim.is_service() {
            self.site.kill();
        }
    }

    fn window(&self, verb: Verb) -> Duration {
        let first = match verb {
            Verb::Merge => Duration::from_millis(300),
            _ => Duration::from_millis(1500),
        };
        self.windows.get(&verb).copied().unwrap_or(first)
    }

    /// Moves the window so that about four of five kills hit.
    fn adapt(&mut self, verb: Verb, hit: bool, at: Duration) {
        let window = self.window(verb);
        let new = match hit {
            true => window.mul_f64(1.05),
            // It ended then, or sooner.
            false => window.mul_f64(0.7) + at.mul_f64(0.15),
        };
        let new = new.clamp(Duration::from_millis(20), LATEST);
        self.windows.insert(verb, new);
    }

    /// Starts the service again if it was killed, and waits for what it makes of it.
    fn settle(&mut self, verb: Verb, victim: Victim) -> Facts {
        let was_connected = self.machine.is_connected();
        if victim.is_guest() {
            self.machine.guest_died();
        }
        if victim.is_service() {
            self.site.start();
        }
        if victim.is_guest() {
            eventually("the guest is known to be gone", PATIENCE, || {
                let state = self.machine.state(&self.site);
                matches!(state.as_str(), "off" | "saved").then_some(())
            });
        }
        self.machine.wait_until_at_rest(&self.site);
        let running = self.machine.state(&self.site) == "running";
        if running && was_connected {
            self.machine.goes_on();
        } else if running {
            self.machine.reconnect();
        }
        if verb == Verb::Merge || verb == Verb::Remove {
            self.machine.wait_until_at_rest(&self.site);
        }
        let expected = usize::from(running);
        eventually("no process is left over", PATIENCE, || {
            let there = self.site.other_processes();
            if there.len() != expected {
                println!("processes: {there:?}");
            }
            (there.len() == expected).then_some(())
        });
        self.check()
    }

    fn judge(&self, verb: Verb, victim: Victim, before: &Facts, after: &Facts) {
        let state = after.state.as_str();
        let fits = match verb {
            Verb::Apply => (state == "off" && after == before) || state == "saved",
            Verb::Start if victim.is_guest() => matches!(state, "off" | "saved"),
            Verb::Start => matches!(state, "running" | "saved"),
            _ if victim.is_guest() => state == "off",
            _ => state == before.state,
        };
        let kept = match verb {
            Verb::Create => match after.snapshots.split_last() {
                Some((new, old)) if old == before.snapshots => {
                    new.parent == before.parent && after.parent.as_ref() == Some(&new.id)
                }
                _ => after.snapshots == before.snapshots && after.parent == before.parent,
            },
            Verb::Apply | Verb::Start => after.snapshots == before.snapshots,
            Verb::Remove | Verb::Merge => {
                let stayed = |id: &String| after.snapshots.iter().any(|s| s.id == *id);
                let gone = before.snapshots.iter().filter(|s| !stayed(&s.id)).count();
                gone <= 1
                    && (verb == Verb::Remove || gone == 1)
                    && after.snapshots.len() + gone == before.snapshots.len()
            }
        };
        assert!(
            fits && kept,
            "{victim:?} killed in {verb:?}: neither before nor after\n{before:#?}\n{after:#?}\n{}",
            self.site.log_tail()
        );
    }

    fn check(&mut self) -> Facts {
        invariants::check(&self.site, &mut self.machine, &mut self.frozen)
    }

    /// New snapshots that hold memory hold that of the machine's present boot.
    fn note_boots(&mut self, facts: &Facts) {
        let folder = folder_of(&self.site, &self.machine).join("snapshots");
        for snapshot in &facts.snapshots {
            let image = folder.join(&snapshot.id).join("memory.img");
            if !self.boots.contains_key(&snapshot.id) && image.exists() {
                self.boots.insert(snapshot.id.clone(), self.machine.boot);
            }
        }
    }

    fn further_snapshot(&mut self) {
        let id = self.machine.snapshot(&self.site);
        self.boots.insert(id, self.machine.boot);
    }

    fn ids(&self) -> Vec<String> {
        self.machine.snapshots(&self.site)
    }

    fn memory_snapshot(&self) -> Option<String> {
        let ids = self.ids().into_iter();
        ids.rev().find(|id| self.boots.contains_key(id))
    }

    /// Removes the newest snapshots until `most` are left.
    fn prune(&mut self, most: usize) {
        let ids = self.ids();
        for id in ids.iter().skip(most).rev() {
            self.site.ask(&["snapshot", "remove", &self.machine.id, id]);
        }
    }

    /// A small generator (xorshift): the times need not be good, only different.
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn random_up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap();
        Duration::from_micros(self.random() % micros.max(1))
    }
}

/// Waits for that long; gives when the child ended, if it did.
fn ended_within(child: &mut Child, limit: Duration) -> Option<Duration> {
    let begun = Instant::now();
    let mut ended = None;
    while begun.elapsed() < limit {
        if ended.is_none() && child.try_wait().unwrap().is_some() {
            ended = Some(begun.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    ended
}
