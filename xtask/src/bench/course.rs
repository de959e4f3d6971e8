//! What one contender goes through with one guest: snapshots in a row, deletions, restores, and a
//! snapshot of the restored guest. After each of them the guest must still be in step with its disk.

use std::path::Path;
use std::time::{Duration, Instant};

use demo_guest::protocol::Report;
use demo_guest::serial::SerialClient;

use super::contender::{self, Accelerator, Contender, Limit};
use super::disk;
use super::guest::{Guest, LIMIT, Load};
use super::heartbeat::{Heartbeat, milliseconds};
use super::monitor::{Monitor, Pause};
use super::plan::Plan;
use super::results::{Restored, Row, Taken};
use crate::{Failure, Outcome};

/// Seconds of the guest before and after a snapshot that the heartbeat is watched.
const WATCHED_SECONDS: u32 = 3;
/// Seconds of the guest from a restore to the next snapshot.
const SECONDS_AFTER_RESTORE: u32 = 10;
/// Snapshots that are deleted, where there are enough of them.
const MOST_DELETES: usize = 3;
/// How often it is asked whether all memory is there.
const LOOK: Duration = Duration::from_millis(20);

/// Takes one contender through all of it. What went wrong is part of the result.
pub fn run(
    plan: &Plan,
    ram_mib: u64,
    load: Load,
    contender: &mut dyn Contender,
    accelerator: &mut Option<Accelerator>,
) -> Row {
    let mut row = Row {
        contender: contender.name().to_owned(),
        ..Row::default()
    };
    let folder = plan.scratch.join(contender.name());
    let mut outcome = Guest::create(
        folder.clone(),
        &plan.boot_disk,
        ram_mib,
        accelerator.unwrap_or(Accelerator::Tcg),
    )
    .and_then(|guest| {
        let mut course = Course::begin(plan, &guest, load, contender, accelerator)?;
        course.all(&mut row)
    });
    let discarded = contender.discard();
    let removed = std::fs::remove_dir_all(&folder);
    outcome = outcome.and(discarded).and(removed.map_err(Into::into));
    row.failure = outcome.err().map(|error| error.to_string());
    row
}

struct Course<'a> {
    plan: &'a Plan,
    guest: &'a Guest,
    load: Load,
    contender: &'a mut dyn Contender,
    heartbeat: Heartbeat,
    /// These two are connected to the QEMU that runs now, if there is one.
    monitor: Option<Monitor>,
    serial: Option<SerialClient>,
    /// What the guest said of itself before the last snapshot.
    last: Option<Report>,
    boot: Option<u64>,
    /// Number of the last snapshot.
    number: usize,
}

impl<'a> Course<'a> {
    /// The guest runs under load when this returns.
    fn begin(
        plan: &'a Plan,
        guest: &'a Guest,
        load: Load,
        contender: &'a mut dyn Contender,
        accelerator: &mut Option<Accelerator>,
    ) -> Result<Self, Failure> {
        let heartbeat = Heartbeat::listen(&guest.heartbeat())?;
        contender.start(guest)?;
        let mut monitor = Monitor::connect(&guest.monitor())?;
        let runs_on = monitor.accelerator()?;
        if *accelerator.get_or_insert(runs_on) != runs_on {
            return Err("the guests of one run must all run on KVM, or all be emulated".into());
        }
        let mut serial = guest.settle(load)?;
        let boot = Guest::check(&mut serial, None)?.boot;
        Ok(Self {
            plan,
            guest,
            load,
            contender,
            heartbeat,
            monitor: Some(monitor),
            serial: Some(serial),
            last: None,
            boot: Some(boot),
            number: 0,
        })
    }

    fn all(&mut self, row: &mut Row) -> Outcome {
        row.memory = self.contender.memory();
        if let Some(memory) = &row.memory {
            eprintln!("    memory: {memory}");
        }
        self.let_run(1)?;
        self.heartbeat.longest_silence();
        self.let_run(WATCHED_SECONDS)?;
        row.idle_silence_ms = self.heartbeat.longest_silence();
        if contender::ends_guest(self.contender.name()) {
            return self.saves(row);
        }
        let in_a_row = match contender::is_ours(self.contender.name()) {
            true => self.plan.snapshots,
            false => self.plan.rounds,
        };
        for _ in 0..in_a_row {
            self.take(&mut row.snapshots)?;
        }
        for number in 1..=MOST_DELETES.min(in_a_row.saturating_sub(1)) {
            self.delete(number, row)?;
        }
        for round in 0..self.plan.rounds {
            self.restore(in_a_row, row)?;
            // Peers take long, and are not what this is about.
            if round == 0 || contender::is_ours(self.contender.name()) {
                self.let_run(SECONDS_AFTER_RESTORE)?;
                self.last = None;
                self.take(&mut row.after_restore)?;
            }
        }
        Ok(())
    }

    /// Where a snapshot ends the guest, a restore follows on each.
    fn saves(&mut self, row: &mut Row) -> Outcome {
        for _ in 0..self.plan.rounds {
            self.take(&mut row.snapshots)?;
            self.restore(self.number, row)?;
            self.contender.delete(self.number, &self.limit()?)?;
            self.let_run(WATCHED_SECONDS)?;
        }
        Ok(())
    }

    fn take(&mut self, into: &mut Vec<Taken>) -> Outcome {
        self.number += 1;
        let ends_guest = contender::ends_guest(self.contender.name());
        disk::sync_all(&self.plan.scratch)?;
        let before = disk::allocated_bytes(&self.plan.scratch)?;
        let limit = self.limit()?;
        self.monitor()?.pauses()?;
        let report = self.check()?;
        let changed_bytes = self
            .last
            .as_ref()
            .map(|last| self.load.changed_bytes(last, &report));
        self.last = Some(report);
        self.heartbeat.longest_silence();

        let began = Instant::now();
        self.contender.snapshot(self.number, &limit)?;
        let command_ms = milliseconds(began.elapsed());
        disk::sync_files(&self.guest.folder)?;
        let durable_ms = milliseconds(began.elapsed());
        let grown = disk::allocated_bytes(&self.plan.scratch)?.saturating_sub(before);

        let mut taken = Taken {
            pause_ms: None,
            stops: 0,
            silence_ms: None,
            command_ms,
            durable_ms,
            grown_bytes: grown as f64,
            changed_bytes,
            claims: contender::Claims::default(),
        };
        if !ends_guest {
            let pauses = self.monitor()?.pauses()?;
            if pauses.is_empty() {
                return Err("QEMU told of no pause, so nothing can be said about it".into());
            }
            self.let_run(WATCHED_SECONDS)?;
            taken.silence_ms = Some(self.heartbeat.longest_silence());
            taken.stops = pauses.len();
            taken.pause_ms = Some(pauses.into_iter().map(Pause::milliseconds).sum());
            taken.claims = self.contender.claims(self.number)?;
            self.check()?;
        }
        self.tell(&taken);
        into.push(taken);
        Ok(())
    }

    fn delete(&mut self, number: usize, row: &mut Row) -> Outcome {
        let limit = self.limit()?;
        let began = Instant::now();
        self.contender.delete(number, &limit)?;
        let took = milliseconds(began.elapsed());
        self.let_run(1)?;
        self.check()?;
        eprintln!("    deleted in {took:.0} ms");
        row.deletes_ms.push(took);
        Ok(())
    }

    fn restore(&mut self, number: usize, row: &mut Row) -> Outcome {
        self.monitor = None;
        self.serial = None;
        self.contender.end_guest()?;
        self.heartbeat.wait_quiet(LIMIT)?;
        disk::sync_all(&self.plan.scratch)?;
        let limit = self.limit()?;

        let began = Instant::now();
        let started = self.contender.restore(number, &limit)?;
        let command_ms = milliseconds(began.elapsed());
        let beat = self.heartbeat.first_beat(LIMIT)?;

        let resident_ms = self.wait_until_resident(began)?;
        self.serial = Some(self.guest.connect()?);
        self.let_run(1)?;
        self.check()?;
        let restored = Restored {
            first_beat_ms: milliseconds(beat.saturating_duration_since(began)),
            start_to_beat_ms: milliseconds(beat.saturating_duration_since(started)),
            command_ms,
            resident_ms,
        };
        eprintln!(
            "    restored: first beat after {:.0} ms ({:.0} from the start), command {command_ms:.0} ms{}",
            restored.first_beat_ms,
            restored.start_to_beat_ms,
            resident_ms.map_or(String::new(), |ms| format!(", all memory after {ms:.0} ms")),
        );
        row.restores.push(restored);
        Ok(())
    }

    /// If memory was still on its way when the guest began to run.
    fn wait_until_resident(&mut self, began: Instant) -> Result<Option<f64>, Failure> {
        let monitor = self
            .monitor
            .insert(Monitor::connect(&self.guest.monitor())?);
        let mut resident = None;
        while monitor.is_receiving()? {
            if began.elapsed() > LIMIT {
                return Err("the restored guest's memory does not become complete".into());
            }
            std::thread::sleep(LOOK);
            resident = Some(milliseconds(began.elapsed()));
        }
        Ok(resident)
    }

    fn check(&mut self) -> Result<Report, Failure> {
        let boot = self.boot;
        Guest::check(self.serial()?, boot)
    }

    fn let_run(&mut self, seconds: u32) -> Outcome {
        Guest::let_run(self.serial()?, seconds)
    }

    fn limit(&self) -> Result<Limit, Failure> {
        let folder: &Path = &self.plan.scratch;
        Limit::new(self.guest.ram_mib, folder.to_owned())
    }

    fn monitor(&mut self) -> Result<&mut Monitor, Failure> {
        Ok(self.monitor.as_mut().ok_or("there is no guest")?)
    }

    fn serial(&mut self) -> Result<&mut SerialClient, Failure> {
        Ok(self.serial.as_mut().ok_or("there is no guest")?)
    }

    fn tell(&self, taken: &Taken) {
        let milliseconds = |value: Option<f64>| value.map_or("-".into(), |ms| format!("{ms:.1}"));
        eprintln!(
            "    {}: pause {} ms, silence {} ms, command {:.0} ms, durable {:.0} ms, {:.0} MiB{}",
            self.number,
            milliseconds(taken.pause_ms),
            milliseconds(taken.silence_ms),
            taken.command_ms,
            taken.durable_ms,
            taken.grown_bytes / 1_048_576.0,
            taken.changed_bytes.map_or(String::new(), |bytes| {
                format!(" ({:.0} MiB changed)", bytes / 1_048_576.0)
            }),
        );
    }
}
