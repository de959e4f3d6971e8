//! The service dies (SIGKILL) at every journalled step, and is started again: each verb has then
//! happened or not happened, the guest runs if it ran, and nothing is lost or left over.
//!
//! The service that dies is this test program, started again for the test [`dying_service`].

use crate::site::*;
use crate::snapshots::fill_memory;
use machines::model::{Consistency, State};
use machines::request::StateRequest as Ask;
use machines::{MachineId, Machines, SnapshotId, saga};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the dying service is to do, as words: verb, machine, and a snapshot for some.
const TASK: &str = "MACHINES_TEST_TASK";
const DATA: &str = "MACHINES_TEST_DATA";
/// How far that service may grow the host's pool of huge pages.
pub const HUGE_PAGES: &str = "MACHINES_TEST_HUGE_PAGES";

/// Not a test: the other process.
#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn dying_service() {
    let (Ok(task), Ok(data)) = (std::env::var(TASK), std::env::var(DATA)) else {
        return;
    };
    let mut config = config(data.as_ref());
    if let Ok(limit) = std::env::var(HUGE_PAGES) {
        config.huge_pages_limit = limit.parse().unwrap();
    }
    let machines = Machines::open(config).await.unwrap();
    let mut words = task.split(' ');
    let verb = words.next().unwrap();
    if verb == "serve" {
        return std::future::pending().await;
    }
    let id: MachineId = words.next().unwrap().parse().unwrap();
    let snapshot: Option<SnapshotId> = words.next().map(|w| w.parse().unwrap());
    let job = match verb {
        "create" | "create_and_cancel" => machines.create_snapshot(&actor(), id).await,
        "create_prepared" => {
            let wanted = Consistency::Application;
            machines.create_snapshot_with(&actor(), id, wanted).await
        }
        "apply" => {
            machines
                .apply_snapshot(&actor(), id, snapshot.unwrap())
                .await
        }
        "remove" | "remove_and_shorten" => {
            machines.remove_snapshot(&actor(), snapshot.unwrap()).await
        }
        "start" => machines.request_state(&actor(), id, Ask::Run).await,
        "save" => machines.request_state(&actor(), id, Ask::Save).await,
        "turn_off" => machines.request_state(&actor(), id, Ask::TurnOff).await,
        "pause" => machines.request_state(&actor(), id, Ask::Pause).await,
        "shut_down" => machines.request_state(&actor(), id, Ask::ShutDown).await,
        "destroy" => machines.destroy(&actor(), id).await,
        other => panic!("{other}"),
    }
    .unwrap();
    if verb == "create_and_cancel" {
        eventually("memory is being written", || async {
            (machines.job(job).unwrap().bytes.0 > 0).then_some(())
        })
        .await;
        let _ = machines.cancel(&actor(), job).await;
    }
    let _ = machines.wait(job).await;
    merged(&machines, id).await;
    if verb == "remove_and_shorten" {
        // That has no job: it goes on until the service dies.
        tokio::time::sleep(PATIENCE).await;
    }
    machines.close().await;
}

/// A service that serves, and is killed so long after it has begun to open.
pub async fn die_after(site: &Site, time: Duration) {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crashes::dying_service",
            "--ignored",
            "--nocapture",
        ])
        .env(TASK, "serve")
        .env(DATA, site.data())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    tokio::time::sleep(time).await;
    child.kill().await.unwrap();
}

/// A service opened again after another one has died at `point` doing `task`. Answers whether that
/// point was reached.
pub async fn die(site: &Site, task: &str, point: &str) -> bool {
    die_with(site, task, point, &[]).await
}

/// The same, with these variables.
pub async fn die_with(site: &Site, task: &str, point: &str, more: &[(&str, &str)]) -> bool {
    let status = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "crashes::dying_service",
            "--ignored",
            "--nocapture",
        ])
        .env(TASK, task)
        .env(DATA, site.data())
        .env(saga::CRASH_VARIABLE, point)
        .envs(more.iter().copied())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status();
    let status = tokio::time::timeout(PATIENCE, status)
        .await
        .unwrap()
        .unwrap();
    let died = status.signal() == Some(9);
    assert!(died || status.success(), "{task} at {point}: {status}");
    died
}

/// Opens the service; it must be settled at once.
pub async fn reopen(site: &Site, point: &str) -> Arc<Machines> {
    let began = Instant::now();
    let machines = site.open().await;
    assert!(began.elapsed() < Duration::from_secs(10), "{point}");
    eventually("merges have ended", || async {
        machines
            .all()
            .iter()
            .all(|m| m.activity.is_none())
            .then(|| machines.jobs())
            .filter(|jobs| jobs.iter().all(|j| j.finished.is_some()))
    })
    .await;
    let findings = machines.check().await.unwrap();
    assert!(findings.is_empty(), "{point}: {findings:#?}");
    let open: Vec<_> = machines
        .jobs()
        .into_iter()
        .filter(|j| j.finished.is_none())
        .collect();
    assert!(open.is_empty(), "{point}: {open:?}");
    machines
}

pub async fn close(machines: Arc<Machines>) {
    machines.close().await;
    drop(machines);
}

fn points(verb: &str) -> &'static [&'static str] {
    saga::STEPS.iter().find(|(v, _)| *v == verb).unwrap().1
}

/// Every point must have been reached by one of the tests below; each names those it reaches.
fn all_but(verb: &str, unreached: &[&str], reached: &[&str]) {
    for point in points(verb) {
        let there = reached.contains(point);
        assert_eq!(there, !unreached.contains(point), "{point}");
    }
}

fn snapshots(machines: &Machines, id: MachineId) -> usize {
    machines.machine(id).unwrap().snapshots.len()
}

async fn remove_all(machines: &Machines, id: MachineId) {
    for snapshot in machines.machine(id).unwrap().snapshots.clone() {
        remove(machines, snapshot.id).await;
    }
}

#[tokio::test]
async fn creating_a_snapshot_of_a_running_machine() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "crash").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("crash", 3).await;
    close(machines).await;
    let mut reached = Vec::new();
    for point in points("create") {
        if !die(&site, &format!("create {id}"), point).await {
            let machines = reopen(&site, point).await;
            remove_all(&machines, id).await;
            close(machines).await;
            continue;
        }
        reached.push(*point);
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, id), State::Running, "{point}");
        let there = snapshots(&machines, id);
        let after = ["create.manifest", "create.written", "create.done"].contains(point);
        assert_eq!(there, usize::from(after), "{point}");
        site.counts_on("crash").await;
        remove_all(&machines, id).await;
        close(machines).await;
    }
    all_but("create", &["create.undoing", "create.undo"], &reached);
}

#[tokio::test]
async fn undoing_a_snapshot() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "undo").await;
    machines
        .modify_resources(&actor(), id, vec![memory(1024)])
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("undo", 3).await;
    fill_memory(&site, id).await;
    close(machines).await;
    for point in ["create.undoing", "create.undo"] {
        assert!(die(&site, &format!("create_and_cancel {id}"), point).await);
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, id), State::Running, "{point}");
        assert_eq!(snapshots(&machines, id), 0, "{point}");
        site.counts_on("undo").await;
        close(machines).await;
    }
}

/// The guest dies too, before the service is there again. What it wrote before is on its disks;
/// what it wrote and did not flush afterwards may be lost, as when the power fails.
#[tokio::test]
async fn service_and_guest_die_in_a_snapshot() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "both").await;
    close(machines).await;
    for point in [
        "create.attach",
        "create.stopped",
        "create.switched",
        "create.receiving",
        "create.manifest",
    ] {
        start_both(&site, id).await;
        let printed = last_number(&site.path("both.serial")).unwrap();
        assert!(die(&site, &format!("create {id}"), point).await, "{point}");
        site.process(id).await.kill().await.unwrap();
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, id), State::Off, "{point}");
        let disks: Vec<_> = machines
            .machine(id)
            .unwrap()
            .settings
            .devices
            .iter()
            .filter(|d| d.layer.is_some())
            .map(|d| number_on_disk(d.connection[0].as_ref()))
            .collect();
        assert!(
            disks[1] >= printed && disks[2] >= printed,
            "{point}: {disks:?} {printed}"
        );
        remove_all(&machines, id).await;
        close(machines).await;
    }
}

/// Starts the machine in a service that ends at once.
async fn start_both(site: &Site, id: MachineId) {
    let machines = site.open().await;
    std::fs::write(site.path("both.serial"), b"").unwrap();
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("both", 3).await;
    close(machines).await;
}

#[tokio::test]
async fn creating_and_applying_while_off_and_saved() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "crash").await;
    let off = snapshot(&machines, id).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("crash", 3).await;
    bring(&machines, id, Ask::Save).await;
    let saved = snapshot(&machines, id).await;
    close(machines).await;
    for point in [
        "create.intent",
        "create.overlays",
        "create.manifest",
        "create.written",
        "create.done",
    ] {
        assert!(die(&site, &format!("create {id}"), point).await, "{point}");
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, id), State::Saved, "{point}");
        let there = snapshots(&machines, id);
        let after = !["create.intent", "create.overlays"].contains(&point);
        assert_eq!(there, 2 + usize::from(after), "{point}");
        if after {
            let newest = machines.machine(id).unwrap().snapshots.last().unwrap().id;
            remove(&machines, newest).await;
        }
        close(machines).await;
    }
    let mut reached = Vec::new();
    for point in points("apply") {
        for (target, wanted) in [(off, State::Off), (saved, State::Saved)] {
            assert!(
                die(&site, &format!("apply {id} {target}"), point).await,
                "{point}"
            );
            reached.push(*point);
            let machines = reopen(&site, point).await;
            let done = !["apply.intent", "apply.overlays"].contains(point);
            let machine = machines.machine(id).unwrap();
            if done {
                assert_eq!(machine.state, wanted, "{point}");
                assert_eq!(machine.parent, Some(target), "{point}");
            }
            apply(&machines, id, saved).await;
            bring(&machines, id, Ask::Run).await;
            bring(&machines, id, Ask::Pause).await;
            let [a, one, two, b] = site.numbers(&machines, id).await;
            assert!(
                b <= one.min(two) && one.max(two) <= a && a <= b + 1,
                "{point}"
            );
            bring(&machines, id, Ask::TurnOff).await;
            close(machines).await;
        }
    }
    all_but("apply", &[], &reached);
}

#[tokio::test]
async fn removing_a_snapshot() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "crash").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("crash", 3).await;
    close(machines).await;
    let mut reached = Vec::new();
    // The middle one (its layer takes the next one's name), or the newest.
    for (running, victim) in [(true, 2), (true, 1), (false, 1)] {
        for point in points("remove") {
            // What comes before a merge is the same for all, and is tried while off.
            let frozen = ["remove.merged", "remove.renamed", "remove.placed"];
            let pulled = ["remove.merge", "remove.pulled", "remove.merged"];
            let of_interest = match (running, victim) {
                (true, 1) => frozen.contains(point),
                (true, _) => pulled.contains(point),
                (false, _) => true,
            };
            if !of_interest {
                continue;
            }
            let machines = site.open().await;
            if !running && state(&machines, id) != State::Off {
                bring(&machines, id, Ask::TurnOff).await;
            }
            let mut taken = Vec::new();
            for _ in 0..3 {
                taken.push(snapshot(&machines, id).await);
            }
            close(machines).await;
            let before = (!running).then(|| disk_numbers(&site, id));
            let before = match before {
                Some(numbers) => Some(numbers.await),
                None => None,
            };
            let task = format!("remove {id} {}", taken[victim]);
            let died = die(&site, &task, point).await;
            if died {
                reached.push(*point);
            }
            let machines = reopen(&site, point).await;
            let there = snapshots(&machines, id);
            assert_eq!(
                there,
                if *point == "remove.intent" { 3 } else { 2 },
                "{point}"
            );
            if running {
                assert_eq!(state(&machines, id), State::Running, "{point}");
                site.counts_on("crash").await;
            }
            close(machines).await;
            if let Some(before) = before {
                assert_eq!(disk_numbers(&site, id).await, before, "{point}");
            }
            let machines = site.open().await;
            remove_all(&machines, id).await;
            eventually("merges have ended", || async {
                machines
                    .machine(id)
                    .unwrap()
                    .activity
                    .is_none()
                    .then_some(())
            })
            .await;
            sound(&machines).await;
            close(machines).await;
        }
    }
    all_but("remove", &[], &reached);
}

/// The numbers on the disks, active and of every snapshot.
async fn disk_numbers(site: &Site, id: MachineId) -> Vec<u32> {
    let machines = site.open().await;
    let machine = machines.machine(id).unwrap();
    let numbers = machine
        .settings
        .devices
        .iter()
        .filter(|d| d.layer.is_some())
        .map(|d| number_on_disk(d.connection[0].as_ref()))
        .collect();
    close(machines).await;
    numbers
}

#[tokio::test]
async fn starting_saving_turning_off_and_destroying() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "crash").await;
    close(machines).await;
    let mut start = Vec::new();
    let mut save = Vec::new();
    for point in points("start") {
        assert!(die(&site, &format!("start {id}"), point).await, "{point}");
        start.push(*point);
        let machines = reopen(&site, point).await;
        let runs = ["start.run", "start.running", "start.done"].contains(point);
        assert_eq!(
            state(&machines, id),
            if runs { State::Running } else { State::Off },
            "{point}"
        );
        if runs {
            bring(&machines, id, Ask::TurnOff).await;
        }
        close(machines).await;
    }
    all_but("start", &[], &start);
    for point in points("save") {
        let machines = site.open().await;
        if state(&machines, id) != State::Running {
            bring(&machines, id, Ask::Run).await;
        }
        site.counts_on("crash").await;
        close(machines).await;
        assert!(die(&site, &format!("save {id}"), point).await, "{point}");
        save.push(*point);
        let machines = reopen(&site, point).await;
        let saved = ["save.quit", "save.done"].contains(point);
        assert_eq!(
            state(&machines, id),
            if saved { State::Saved } else { State::Running },
            "{point}"
        );
        if !saved {
            site.counts_on("crash").await;
        }
        close(machines).await;
    }
    all_but("save", &[], &save);
    // From a saved state: restored, or still saved.
    for point in points("start") {
        assert!(die(&site, &format!("start {id}"), point).await, "{point}");
        let machines = reopen(&site, point).await;
        if state(&machines, id) == State::Running {
            site.counts_on("crash").await;
            bring(&machines, id, Ask::Save).await;
        }
        close(machines).await;
    }
    for point in points("turn_off") {
        let machines = site.open().await;
        bring(&machines, id, Ask::Run).await;
        close(machines).await;
        assert!(
            die(&site, &format!("turn_off {id}"), point).await,
            "{point}"
        );
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, id), State::Off, "{point}");
        close(machines).await;
    }
    // A guest that was to be paused is not left standing still by a job that failed.
    let machines = site.open().await;
    bring(&machines, id, Ask::Run).await;
    close(machines).await;
    assert!(die(&site, &format!("pause {id}"), "state.change").await);
    let machines = reopen(&site, "state.change").await;
    assert_eq!(state(&machines, id), State::Running);
    bring(&machines, id, Ask::TurnOff).await;
    snapshot(&machines, id).await;
    close(machines).await;
    for point in points("destroy") {
        assert!(die(&site, &format!("destroy {id}"), point).await, "{point}");
        let machines = reopen(&site, point).await;
        assert_eq!(
            machines.machine(id).is_some(),
            *point == "destroy.intent",
            "{point}"
        );
        close(machines).await;
        if *point != "destroy.intent" {
            break;
        }
    }
    assert!(!site.data().join("machines").join(id.to_string()).exists());
    assert!(site.path("crash-one.img").exists());
}
