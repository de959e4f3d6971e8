//! Machines with VHD and VHDX disks: all that other machines can do, they can, and nothing of what
//! serves the disks outlives their processes.

use crate::crashes::die;
use crate::linux::{BOOT, guest_image};
use crate::site::*;
use demo_guest::serial::SerialClient;
use machines::model::{DeviceKind, Health, State};
use machines::request::StateRequest as Ask;
use machines::{DeviceId, MachineId, Machines};
use qemu::identity::Identity;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMATS: [&str; 2] = ["vhd", "vhdx"];

async fn counter(site: &Site, machines: &Machines, name: &str) -> MachineId {
    let id = define(machines, name).await;
    site.fill_counter_on(machines, id, name, FORMATS).await;
    id
}

/// What serves the machine's disks.
async fn servers(site: &Site, id: MachineId) -> Vec<Identity> {
    site.process(id).await.servers()
}

fn alive(servers: &[Identity]) -> usize {
    servers.iter().filter(|s| s.is_alive()).count()
}

/// Processes with a file of the machine's run folder among their arguments.
fn processes_of(site: &Site, id: MachineId) -> Vec<String> {
    let run = site.data().join("run").join(id.to_string());
    let run = run.to_string_lossy().into_owned();
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|e| std::fs::read(e.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&run))
        .collect()
}

async fn one_instant(site: &Site, machines: &Machines, id: MachineId) -> u32 {
    let [a, one, two, b] = site.numbers(machines, id).await;
    let (low, high) = (one.min(two), one.max(two));
    assert!(
        b <= low && high <= a && a <= b + 1,
        "A {a} disks {one} {two} B {b}"
    );
    a
}

fn data_files(machines: &Machines, id: MachineId) -> Vec<PathBuf> {
    let machine = machines.machine(id).unwrap();
    let images = of_kind(&machine, DeviceKind::HardDiskImage);
    let files = images.iter().map(|d| PathBuf::from(&d.connection[0]));
    files.skip(1).collect()
}

#[tokio::test]
async fn vhd_and_vhdx_disks_are_snapshotted_live_saved_and_merged() {
    let site = Site::new();
    let machines = site.open().await;
    let id = counter(&site, &machines, "vhd").await;
    let given = data_files(&machines, id);
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("vhd", 5).await;
    let serving = servers(&site, id).await;
    assert_eq!(alive(&serving), 2);
    let first = snapshot(&machines, id).await;
    let second = snapshot(&machines, id).await;
    let far = site.counts_on("vhd").await;
    sound(&machines).await;

    // Saved and restored: other processes, the same guest.
    bring(&machines, id, Ask::Save).await;
    assert_eq!((alive(&serving), processes_of(&site, id)), (0, vec![]));
    sound(&machines).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("vhd", far).await;
    bring(&machines, id, Ask::Pause).await;
    assert!(one_instant(&site, &machines, id).await > far);
    sound(&machines).await;
    // What lies between is pulled up while the guest stands on the served files.
    bring(&machines, id, Ask::Run).await;
    remove(&machines, second).await;
    site.counts_on("vhd").await;
    sound(&machines).await;
    bring(&machines, id, Ask::TurnOff).await;
    assert_eq!(processes_of(&site, id), Vec::<String>::new());
    sound(&machines).await;

    apply(&machines, id, first).await;
    bring(&machines, id, Ask::Run).await;
    bring(&machines, id, Ask::Pause).await;
    let back = one_instant(&site, &machines, id).await;
    assert!(back < far, "{back} is not before {far}");
    bring(&machines, id, Ask::Run).await;
    site.counts_on("vhd").await;
    bring(&machines, id, Ask::TurnOff).await;
    // Off, what lies over the given files goes down into them.
    remove(&machines, first).await;
    eventually("the given files are the disks again", || async {
        (data_files(&machines, id) == given).then_some(())
    })
    .await;
    sound(&machines).await;
    let numbers: Vec<u32> = given.iter().map(|file| number_on_disk(file)).collect();
    assert!(numbers.iter().all(|n| *n > back), "{numbers:?} {back}");
    machines.close().await;
}

#[tokio::test]
async fn a_killed_service_finds_the_servers_again_or_ends_them() {
    let site = Site::new();
    let machines = site.open().await;
    let id = counter(&site, &machines, "found").await;
    close(machines).await;

    // Killed in the middle of a start: it is undone, and nothing is left of it.
    assert!(die(&site, &format!("start {id}"), "start.launched").await);
    assert_eq!(processes_of(&site, id).len(), 3);
    let machines = site.open().await;
    assert_eq!(state(&machines, id), State::Off);
    assert_eq!(processes_of(&site, id), Vec::<String>::new());
    sound(&machines).await;
    close(machines).await;

    // Killed after it: both are found.
    assert!(die(&site, &format!("start {id}"), "start.done").await);
    let serving = servers(&site, id).await;
    site.counts_beyond("found", 5).await;
    let machines = site.open().await;
    assert_eq!(state(&machines, id), State::Running);
    assert_eq!(
        (servers(&site, id).await, alive(&serving)),
        (serving.clone(), 2)
    );
    snapshot(&machines, id).await;
    site.counts_on("found").await;
    sound(&machines).await;
    close(machines).await;

    // Killed in the middle of a snapshot.
    assert!(die(&site, &format!("create {id}"), "create.captured").await);
    let machines = site.open().await;
    site.counts_on("found").await;
    assert_eq!(alive(&serving), 2);
    sound(&machines).await;
    // QEMU dies: the servers follow, and the machine can be started at once.
    site.process(id).await.kill().await.unwrap();
    eventually("the machine is off", || async {
        (state(&machines, id) == State::Off).then_some(())
    })
    .await;
    assert_eq!((alive(&serving), processes_of(&site, id)), (0, vec![]));
    bring(&machines, id, Ask::Run).await;
    site.counts_on("found").await;

    // Servers die: the guest stands still until they are there again, and goes on.
    let serving = servers(&site, id).await;
    for server in &serving {
        qemu::identity::kill(&server.open().unwrap()).unwrap();
    }
    eventually("all servers are there again", || async {
        let now = servers(&site, id).await;
        (alive(&now) == 2 && alive(&serving) == 0).then_some(())
    })
    .await;
    site.counts_on("found").await;
    eventually("the machine is well again", || async {
        (machines.machine(id).unwrap().health == Health::Ok).then_some(())
    })
    .await;
    sound(&machines).await;
    bring(&machines, id, Ask::TurnOff).await;
    assert_eq!(processes_of(&site, id), Vec::<String>::new());
    close(machines).await;
}

async fn close(machines: Arc<Machines>) {
    machines.close().await;
    drop(machines);
}

#[tokio::test]
async fn linux_counts_on_vhd_and_vhdx_and_goes_back_to_one_instant() {
    let Some(image) = guest_image() else { return };
    let site = Site::new();
    let machines = site.open().await;
    let boot = site.path("boot.raw");
    std::fs::copy(image, &boot).unwrap();
    let id = define(&machines, "linux").await;
    let ide = DeviceId(IDE[0].into());
    let scsi = add(&machines, id, vec![controller()]).await.remove(0);
    let (vhd, vhdx) = (site.data_disk("one.vhd"), site.data_disk("two.vhdx"));
    add_disk(&machines, id, ide.clone(), "0", &boot).await;
    add_disk(&machines, id, ide, "1", &vhd).await;
    add_disk(&machines, id, scsi, "0", &vhdx).await;
    let port = first(&machines.machine(id).unwrap(), DeviceKind::SerialPort);
    let socket = site.path("serial.sock");
    let connection = format!("unix:{}", socket.display());
    let changes = vec![memory(256), connect(port, Path::new(&connection))];
    machines
        .modify_resources(&actor(), id, changes)
        .await
        .unwrap();
    bring(&machines, id, Ask::Run).await;
    let at = socket.clone();
    let disks = tokio::task::spawn_blocking(move || {
        let mut serial = SerialClient::connect(&at, BOOT).unwrap();
        let ready = serial.wait_ready(BOOT).unwrap();
        serial.next_tick(BOOT).unwrap();
        ready.disks.len()
    });
    assert_eq!(disks.await.unwrap(), 2);
    let before = report(&socket).await;
    let taken = snapshot(&machines, id).await;
    let after = report(&socket).await;
    assert!(after > before);
    bring(&machines, id, Ask::Save).await;
    bring(&machines, id, Ask::Run).await;
    let far = report(&socket).await;
    assert!(far > after);
    bring(&machines, id, Ask::TurnOff).await;
    apply(&machines, id, taken).await;
    bring(&machines, id, Ask::Run).await;
    let back = report(&socket).await;
    assert!(back > before && back < far, "{before} {back} {far}");
    bring(&machines, id, Ask::TurnOff).await;
    assert_eq!(processes_of(&site, id), Vec::<String>::new());
    sound(&machines).await;
}

/// The guest's counter, when RAM and both disks agree on it.
async fn report(socket: &Path) -> u64 {
    let socket = socket.to_owned();
    let reported = tokio::task::spawn_blocking(move || {
        let mut serial = SerialClient::connect(&socket, BOOT).unwrap();
        serial.report(BOOT).unwrap()
    });
    let report = reported.await.unwrap();
    assert!(report.is_consistent(), "{report}");
    report.a
}

/// The disk on SCSI fails while nobody looks after the guest, which then stands still. A service that
/// comes finds out why, brings the disk back, and only then lets the guest go on.
#[tokio::test]
async fn a_disk_that_failed_while_the_service_was_away_is_brought_back() {
    let site = Site::new();
    let machines = site.open().await;
    let id = define(&machines, "away").await;
    site.fill_counter_on(&machines, id, "away", ["img", "vhdx"])
        .await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("away", 3).await;
    close(machines).await;
    let process = site.process(id).await;
    for server in servers(&site, id).await {
        qemu::identity::kill(&server.open().unwrap()).unwrap();
    }
    eventually("the guest stands still", || async {
        let status = process.status().await.unwrap();
        (status == qemu::process::RunState::IoError).then_some(())
    })
    .await;
    drop(process);
    let machines = site.open().await;
    eventually("the guest goes on", || async {
        let machine = machines.machine(id).unwrap();
        (machine.health == Health::Ok).then_some(())
    })
    .await;
    site.counts_on("away").await;
    bring(&machines, id, Ask::Pause).await;
    one_instant(&site, &machines, id).await;
    sound(&machines).await;
    bring(&machines, id, Ask::TurnOff).await;
}
