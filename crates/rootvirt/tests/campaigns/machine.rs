//! A machine with the demo guest: a boot disk and two data disks, one on IDE and one on SCSI.

use crate::site::{PATIENCE, Site, blank_file};
use demo_guest::protocol::Report;
use demo_guest::serial::SerialClient;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How many rounds a second the guest does while it is snapshotted.
pub const RATE: u32 = 1000;

pub struct Machine {
    pub id: String,
    /// The boot of the guest whose memory the machine has, or had last.
    pub boot: u64,
    pub socket: PathBuf,
    serial: Option<SerialClient>,
    /// Its QEMU was killed, and the machine has not been started since: the service says so.
    killed: bool,
}

impl Machine {
    /// Defines the machine; it is off.
    pub fn define(site: &Site, name: &str) -> Machine {
        Machine::define_with(site, name, "256M")
    }

    /// Defines the machine with so much memory.
    pub fn define_with(site: &Site, name: &str, memory: &str) -> Machine {
        let [boot, ide, scsi] =
            ["boot", "ide", "scsi"].map(|disk| site.path(&format!("{name}-{disk}.raw")));
        std::fs::copy(demo_guest::image::boot_disk().unwrap(), &boot).unwrap();
        blank_file(&ide, 16 << 20);
        blank_file(&scsi, 16 << 20);
        let socket = site.path(&format!("{name}.com1"));
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        let row = site.ask_one(&[
            "vm",
            "create",
            name,
            "--memory",
            memory,
            "--disk",
            &text(&boot),
            "--disk",
            &text(&ide),
            "--disk",
            &format!("scsi:{}", text(&scsi)),
            "--serial",
            &text(&socket),
        ]);
        Machine {
            id: row["id"].as_str().unwrap().to_owned(),
            boot: 0,
            socket,
            serial: None,
            killed: false,
        }
    }

    /// Starts the machine and waits until its guest counts.
    pub fn boot(site: &Site, name: &str) -> Machine {
        let mut machine = Machine::define(site, name);
        machine.start_fresh(site);
        machine
    }

    /// Starts the machine from its disks and waits until its guest counts.
    pub fn start_fresh(&mut self, site: &Site) {
        site.ask(&["vm", "start", &self.id]);
        let serial = self.connect();
        let ready = serial.wait_ready(PATIENCE).unwrap();
        assert_eq!(ready.disks.len(), 2, "{ready}");
        serial.set_rate(RATE, PATIENCE).unwrap();
        self.boot = ready.boot;
    }

    /// Starts the machine from its saved state; its guest goes on. Gives its first report.
    pub fn start_saved(&mut self, site: &Site) -> Report {
        site.ask(&["vm", "start", &self.id]);
        self.reconnect()
    }

    /// The guest goes on, perhaps in another process. Gives its first report.
    pub fn reconnect(&mut self) -> Report {
        self.connect();
        self.goes_on()
    }

    /// The guest's QEMU was killed.
    pub fn guest_died(&mut self) {
        self.serial = None;
        self.killed = true;
    }

    pub fn is_connected(&self) -> bool {
        self.serial.is_some()
    }

    fn connect(&mut self) -> &mut SerialClient {
        // QEMU serves one client at a time: the old one goes first.
        self.serial = None;
        self.killed = false;
        let serial = SerialClient::connect(&self.socket, PATIENCE).unwrap();
        self.serial.insert(serial)
    }

    /// The guest's end of the machine.
    pub fn serial(&mut self) -> &mut SerialClient {
        self.serial.as_mut().expect("a running guest")
    }

    /// Fills so many MiB of both data disks, away from where the guest counts, with a number.
    pub fn scribble(&mut self, number: u64, mib: u64) {
        let blocks = mib * 16;
        let command = format!(
            "for disk in /sys/block/sd*; do \
             busybox test $(busybox cat $disk/size) = 32768 || continue; \
             busybox yes {number} | busybox dd of=/dev/${{disk##*/}} bs=64k seek=64 count={blocks} \
             conv=notrunc iflag=fullblock 2>/dev/null; done; busybox sync"
        );
        self.serial().shell(&command, PATIENCE).unwrap();
    }

    /// Turns the machine off.
    pub fn stop(&mut self, site: &Site) {
        self.serial = None;
        site.ask(&["vm", "stop", &self.id]);
    }

    /// The guest counts on: the same boot, memory and disks in step. Gives the first of two reports.
    pub fn goes_on(&mut self) -> Report {
        let boot = self.boot;
        let serial = self.serial();
        let first = serial.report(PATIENCE).unwrap();
        // Three rounds, so that a guest whose disks are of another instant has found out.
        let second = loop {
            let report = serial.report(PATIENCE).unwrap();
            if report.a >= first.a + 3 {
                break report;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        for report in [&first, &second] {
            assert!(report.is_consistent(), "out of step: {report}");
            assert_eq!(report.boot, boot, "another boot: {report}");
        }
        first
    }

    /// What the service shows of the machine.
    pub fn show(&self, site: &Site) -> Value {
        site.ask_one(&["vm", "show", &self.id])
    }

    pub fn state(&self, site: &Site) -> String {
        self.show(site)["state"].as_str().unwrap().to_owned()
    }

    /// Waits until nothing is done to the machine any more: its disks may be merged for a while
    /// after the service is ready.
    pub fn wait_until_at_rest(&self, site: &Site) {
        let begun = Instant::now();
        loop {
            let shown = self.show(site);
            if self.is_well(&shown) {
                return;
            }
            let log = || site.log_tail();
            assert!(
                begun.elapsed() < PATIENCE,
                "not at rest: {shown}\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whether nothing is wrong with the machine, and nothing is done to it.
    pub fn is_well(&self, shown: &Value) -> bool {
        let fine = shown["status"] == json!(["OK"]) && shown["health"] == 5;
        let text = shown["status"][0].as_str().unwrap_or_default();
        let alone = shown["status"].as_array().is_some_and(|s| s.len() == 1);
        let died = alone && text.contains("process ended ");
        fine || (self.killed && died && shown["state"] != "running")
    }

    /// Takes a snapshot; gives its id.
    pub fn snapshot(&self, site: &Site) -> String {
        let row = site.ask_one(&["snapshot", "create", &self.id]);
        row["id"].as_str().unwrap().to_owned()
    }

    /// Ids of the snapshots, oldest first.
    pub fn snapshots(&self, site: &Site) -> Vec<String> {
        let rows = site.ask(&["snapshot", "list", &self.id]);
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Files of the disks of a configuration that the service has shown.
    pub fn disks_of(shown: &Value) -> Vec<PathBuf> {
        let devices = shown["devices"].as_array().unwrap().iter();
        devices
            .filter(|device| device["kind"] == "Microsoft Virtual Hard Disk")
            .map(|device| PathBuf::from(device["connection"][0].as_str().unwrap()))
            .collect()
    }
}

/// The counters of the two data disks, read from their files.
pub fn disk_counters(disks: &[PathBuf]) -> Vec<u64> {
    disks
        .iter()
        .filter(|path| !is_boot_disk(path))
        .map(|path| {
            let counter = demo_guest::disk::read_counter_of_chain(path.to_str().unwrap()).unwrap();
            counter.newest.counter
        })
        .collect()
}

fn is_boot_disk(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    name.contains("-boot")
}
