//! Asking guests to shut down: one that misses it or does not care, one that follows, and a service
//! that ends in between.

use crate::crashes::{close, die, reopen};
use crate::site::*;
use machines::Error;
use machines::model::{DeviceKind, Health, Job, JobKind, JobState, State};
use machines::request::StateRequest as Ask;
use machines::{DeviceId, JobId, MachineId, Machines};
use qemu::console::KeyEvent;
use std::sync::Arc;
use std::time::Duration;

/// A guest of one sector that says W, waits for a key, says R, and from then on obeys its power
/// button. What is pressed before that is lost, as in every guest that still boots.
///
/// ```text
/// start: xor %ax,%ax; mov %ax,%ds; sti
///        mov $'W',%al; call put
///        xor %ax,%ax; int $0x16                        # a key
///        mov $0x602,%dx; mov $0x100,%ax; out %ax,%dx   # PM1 enable: the power button
///        mov $'R',%al; call put
/// look:  hlt; mov $0x600,%dx; in %dx,%ax               # PM1 status
///        test $1,%ah; jz look
///        mov $0x604,%dx; mov $0x2000,%ax; out %ax,%dx  # PM1 control: off
/// end:   hlt; jmp end
/// put:   mov $0x3f8,%dx; out %al,%dx; ret
/// ```
const OBEYS: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8, 0xfb, 0xb0, 0x57, 0xe8, 0x24, 0x00, 0x31, 0xc0, 0xcd, 0x16, 0xba, 0x02,
    0x06, 0xb8, 0x00, 0x01, 0xef, 0xb0, 0x52, 0xe8, 0x14, 0x00, 0xf4, 0xba, 0x00, 0x06, 0xed, 0xf6,
    0xc4, 0x01, 0x74, 0xf6, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, 0xf4, 0xeb, 0xfd, 0xba, 0xf8,
    0x03, 0xee, 0xc3,
];
const KEY_A: u8 = 0x1e;
/// A guest that does not follow is waited for longer than these tests may take.
const LONG: Duration = Duration::from_secs(1000);

async fn open_patient(site: &Site) -> Arc<Machines> {
    let mut config = site.config();
    config.shutdown_patience = LONG;
    Machines::open(config).await.unwrap()
}

/// A machine with the guest that boots until a key is pressed.
async fn button(site: &Site, machines: &Machines, name: &str) -> MachineId {
    let id = define(machines, name).await;
    let mut sector = OBEYS.to_vec();
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let boot = site.disk(&format!("{name}.img"), &sector, 1);
    add_disk(machines, id, DeviceId(IDE[0].into()), "0", &boot).await;
    let port = first(&machines.machine(id).unwrap(), DeviceKind::SerialPort);
    let serial = site.path(&format!("{name}.serial"));
    machines
        .modify_resources(&actor(), id, vec![memory(64), connect(port, &serial)])
        .await
        .unwrap();
    id
}

async fn says(site: &Site, name: &str, word: char) {
    let serial = site.path(&format!("{name}.serial"));
    eventually("the guest speaks", || async {
        let said = std::fs::read(&serial).unwrap_or_default();
        said.contains(&(word as u8)).then_some(())
    })
    .await;
}

fn key_a() -> Vec<KeyEvent> {
    let key = |down| KeyEvent { key: KEY_A, down };
    vec![key(true), key(false)]
}

/// Ends the guest's boot.
async fn boots_on(site: &Site, id: MachineId, name: &str) {
    says(site, name, 'W').await;
    let process = site.process(id).await;
    process.send_keys(&key_a()).await.unwrap();
    says(site, name, 'R').await;
}

/// Asks the guest to shut down, and waits until its power button has been pressed.
async fn ask(site: &Site, machines: &Machines, id: MachineId) -> JobId {
    let process = site.process(id).await;
    let mut events = process.events();
    let asked = machines.request_state(&actor(), id, Ask::ShutDown).await;
    let asked = asked.unwrap();
    let pressed = async { while events.recv().await.unwrap().name != "POWERDOWN" {} };
    tokio::time::timeout(PATIENCE, pressed).await.unwrap();
    asked
}

/// The job has ended without the guest having shut down, for another reason than its patience.
async fn given_up(machines: &Machines, job: JobId) {
    let job = tokio::time::timeout(PATIENCE, machines.wait(job)).await;
    match &job.unwrap().unwrap().state {
        JobState::Cancelled(cause) => assert_eq!(cause.code, "ShutdownNotAwaited"),
        other => panic!("{other:?}"),
    }
}

fn last_job(machines: &Machines, id: MachineId) -> Arc<Job> {
    let jobs = machines.jobs_of(id).into_iter();
    let asked = jobs.filter(|job| job.kind == JobKind::ShutDown);
    asked.max_by_key(|job| job.created).unwrap()
}

async fn is_off(machines: &Machines, id: MachineId) {
    eventually("the machine is off", || async {
        (state(machines, id) == State::Off).then_some(())
    })
    .await;
    assert_eq!(machines.machine(id).unwrap().health, Health::Ok);
}

#[tokio::test]
async fn a_guest_that_missed_the_request_can_be_asked_again() {
    let site = Site::new();
    let machines = open_patient(&site).await;
    let id = button(&site, &machines, "boots").await;
    bring(&machines, id, Ask::Run).await;
    says(&site, "boots", 'W').await;
    let missed = ask(&site, &machines, id).await;
    assert_eq!(state(&machines, id), State::Stopping);
    // Its screen can be looked at, and what it asks be answered.
    let picture = machines.picture(&actor(), id).await.unwrap();
    assert!(picture.width > 0);
    machines.send_keys(&actor(), id, key_a()).await.unwrap();
    says(&site, "boots", 'R').await;

    let followed = ask(&site, &machines, id).await;
    completed(&machines, followed).await;
    is_off(&machines, id).await;
    given_up(&machines, missed).await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_guest_that_does_not_follow_can_be_reset_and_turned_off_at_once() {
    let site = Site::new();
    let machines = open_patient(&site).await;
    let id = site.counter(&machines, "deaf").await;
    bring(&machines, id, Ask::Run).await;
    // The firmware is through: what a reset in its middle comes to is not asked here.
    site.counts_beyond("deaf", 1).await;
    let first = ask(&site, &machines, id).await;
    // What would keep the guest in its middle has to wait.
    for request in [Ask::Save, Ask::Pause] {
        let refused = machines.request_state(&actor(), id, request).await;
        assert!(matches!(refused, Err(Error::WrongState { .. })));
    }
    bring(&machines, id, Ask::Reset).await;
    assert_eq!(state(&machines, id), State::Running);
    given_up(&machines, first).await;
    site.counts_on("deaf").await;

    let second = ask(&site, &machines, id).await;
    bring(&machines, id, Ask::TurnOff).await;
    is_off(&machines, id).await;
    given_up(&machines, second).await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_service_that_ends_does_not_wait_for_a_guest() {
    let site = Site::new();
    let machines = open_patient(&site).await;
    let deaf = site.counter(&machines, "deaf").await;
    let boots = button(&site, &machines, "boots").await;
    for id in [deaf, boots] {
        bring(&machines, id, Ask::Run).await;
    }
    says(&site, "boots", 'W').await;
    let jobs = [
        ask(&site, &machines, deaf).await,
        ask(&site, &machines, boots).await,
    ];
    tokio::time::timeout(PATIENCE, machines.close())
        .await
        .unwrap();
    drop(machines);

    // It follows a request of its own while nobody looks.
    boots_on(&site, boots, "boots").await;
    site.process(boots).await.powerdown().await.unwrap();
    let machines = open_patient(&site).await;
    is_off(&machines, boots).await;
    for job in jobs {
        given_up(&machines, job).await;
    }
    assert_eq!(state(&machines, deaf), State::Running);
    let again = ask(&site, &machines, deaf).await;
    bring(&machines, deaf, Ask::TurnOff).await;
    given_up(&machines, again).await;
    sound(&machines).await;
}

#[tokio::test]
async fn a_service_that_dies_leaves_the_guest_to_be_asked_again() {
    let site = Site::new();
    let machines = site.open().await;
    let deaf = site.counter(&machines, "deaf").await;
    bring(&machines, deaf, Ask::Run).await;
    close(machines).await;
    for point in ["shut_down.ask", "shut_down.asked"] {
        assert!(die(&site, &format!("shut_down {deaf}"), point).await);
        let machines = reopen(&site, point).await;
        assert_eq!(state(&machines, deaf), State::Running, "{point}");
        assert_eq!(machines.machine(deaf).unwrap().health, Health::Ok);
        let job = last_job(&machines, deaf);
        given_up(&machines, job.id).await;
        ask(&site, &machines, deaf).await;
        close(machines).await;
    }
}

#[tokio::test]
async fn a_guest_that_follows_while_the_service_dies_is_off_in_order() {
    let site = Site::new();
    let machines = site.open().await;
    let id = button(&site, &machines, "boots").await;
    close(machines).await;
    for point in ["shut_down.asked", "shut_down.quit", "shut_down.ended"] {
        let machines = site.open().await;
        let _ = std::fs::remove_file(site.path("boots.serial"));
        bring(&machines, id, Ask::Run).await;
        boots_on(&site, id, "boots").await;
        close(machines).await;
        assert!(die(&site, &format!("shut_down {id}"), point).await);
        let machines = reopen(&site, point).await;
        is_off(&machines, id).await;
        let job = last_job(&machines, id);
        if point != "shut_down.asked" {
            assert_eq!(job.state, JobState::Completed, "{point}");
        }
        sound(&machines).await;
        close(machines).await;
    }
}
