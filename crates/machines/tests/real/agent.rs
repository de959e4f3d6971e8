//! Snapshots for which the guest is prepared by its agent: a real one, Debian's `qemu-ga`, in the demo
//! guest. It is on a disk of its own, named by `ROOTVIRT_TEST_AGENT_DISK` (`cargo xtask test` makes
//! it), whose file system is also the one that is brought to rest.

use crate::crashes::die;
use crate::linux::{BOOT, guest_image};
use crate::site::*;
use demo_guest::serial::SerialClient;
use machines::model::{Consistency, DeviceKind, Settings, Snapshot, State};
use machines::request::StateRequest as Ask;
use machines::{DeviceId, Error, MachineId, Machines};
use qemu::agent::AgentError;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A machine whose guest has the agent's disk, and counts.
struct Guest {
    site: Site,
    id: MachineId,
}

impl Guest {
    async fn boot(machines: &Machines, site: Site) -> Option<Guest> {
        let (image, disk) = (guest_image()?, agent_disk()?);
        let (boot, data) = (site.path("boot.raw"), site.path("agent.raw"));
        std::fs::copy(image, &boot).unwrap();
        std::fs::copy(disk, &data).unwrap();
        let id = define(machines, "agent").await;
        let ide = DeviceId(IDE[0].into());
        add_disk(machines, id, ide.clone(), "0", &boot).await;
        add_disk(machines, id, ide, "1", &data).await;
        let port = first(&machines.machine(id).unwrap(), DeviceKind::SerialPort);
        let serial = PathBuf::from(format!("unix:{}", site.path("serial").display()));
        let changes = vec![memory(256), connect(port, &serial)];
        machines
            .modify_resources(&actor(), id, changes)
            .await
            .unwrap();
        bring(machines, id, Ask::Run).await;
        let guest = Guest { site, id };
        guest.serial().wait_ready(BOOT).unwrap();
        // The kernel names disks in the order in which it finds them.
        guest.shell(
            "busybox mkdir -p /data; for disk in /dev/sd?; do \
             busybox mount -t ext4 $disk /data && break; done",
        );
        Some(guest)
    }

    fn serial(&self) -> SerialClient {
        SerialClient::connect(&self.site.path("serial"), BOOT).unwrap()
    }

    fn shell(&self, command: &str) -> Vec<String> {
        let mut said = self.try_shell(command);
        let last = said.pop();
        assert_eq!(last.as_deref(), Some("fine"), "{command}: {said:?}");
        said
    }

    fn try_shell(&self, command: &str) -> Vec<String> {
        let command = format!("{{ {command}; }} && echo fine");
        self.serial().shell(&command, BOOT).unwrap()
    }

    fn start_agent(&self) {
        self.shell("busybox sh /data/agent/start");
    }

    fn start_liar(&self) {
        // Those modules that the guest has already are refused.
        self.shell("for module in /data/agent/*.ko; do busybox insmod $module || true; done");
        self.shell("until busybox test -e /dev/vport0p1; do busybox sleep 0.1; done");
        for line in LIAR.lines() {
            let line = line.replace('\'', "'\\''");
            self.shell(&format!("echo '{line}' >> /tmp/liar"));
        }
        self.shell("echo true > /tmp/lie");
        self.shell("busybox setsid busybox sh /tmp/liar > /dev/null 2>&1 & true");
    }

    /// Whether the guest can write to its file system.
    fn writes(&self) -> bool {
        let write = "busybox timeout 60 busybox sh -c 'echo x > /data/x && busybox sync'";
        self.try_shell(write).last().is_some_and(|l| l == "fine")
    }

    /// The agent's file system as a snapshot has it.
    fn file_system(&self, snapshot: &Snapshot) -> PathBuf {
        let disks = snapshot.settings.devices.iter();
        let disk = disks.filter(|d| d.kind == DeviceKind::HardDiskImage).nth(1);
        let layer = disk.unwrap().connection.first().unwrap().clone();
        let raw = self.site.path("looked-at.raw");
        let made = Command::new("qemu-img")
            .args(["convert", "-U", "-O", "raw", &layer])
            .arg(&raw)
            .status();
        assert!(made.unwrap().success());
        raw
    }
}

fn agent_disk() -> Option<PathBuf> {
    let disk = std::env::var_os("ROOTVIRT_TEST_AGENT_DISK").map(PathBuf::from);
    if !disk.as_ref().is_some_and(|path| path.is_file()) {
        println!("skipped: ROOTVIRT_TEST_AGENT_DISK names no disk with a guest agent");
        return None;
    }
    disk
}

/// A program in the guest that speaks the agent's protocol, and lies as the file /tmp/lie says.
const LIAR: &str = r#"exec 3<>/dev/vport0p1
status=thawed
say() { echo "{\"return\": $1}" >&3; }
while true; do
    # There is nothing to be read while nobody listens on the host.
    read -r line <&3 || { busybox sleep 0.1; continue; }
    read -r lie < /tmp/lie
    case "$line" in
        *sync-delimited*) id=${line##*\"id\":}; id=${id%%\}*}
            busybox printf '\377{"return": %s}\n' "$id" >&3 ;;
        *fsfreeze-status*) [ $status = mute ] || say "\"$status\"" ;;
        *fsfreeze-freeze*) case $lie in
            zero) say 0 ;;
            nonsense) say "\"all\"" ;;
            silent) ;;
            mute) status=mute; busybox fsfreeze --freeze /data; say 1 ;;
            flood) busybox yes nothing >&3 ;;
            *) [ $lie = thawed ] || status=frozen; say 1 ;;
            esac ;;
        *fsfreeze-thaw*) if [ $status = mute ]; then busybox fsfreeze --unfreeze /data; fi
            status=thawed; say 0 ;;
    esac
done"#;

/// Whether a file system's journal must be replayed before it can be used (ext4's superblock:
/// `s_feature_incompat`, the flag RECOVER).
fn needs_recovery(file_system: &Path) -> bool {
    let bytes = std::fs::read(file_system).unwrap();
    let field = &bytes[1024 + 0x60..][..4];
    assert_eq!(bytes[1024 + 0x38..][..2], [0x53, 0xef], "no ext4");
    u32::from_le_bytes(field.try_into().unwrap()) & 4 != 0
}

fn file_in(file_system: &Path, name: &str) -> String {
    let program = ["/usr/sbin/debugfs", "/sbin/debugfs"];
    let program = program.iter().find(|p| Path::new(p).exists()).unwrap();
    let read = Command::new(program)
        .args(["-R", &format!("cat /{name}")])
        .arg(file_system)
        .output()
        .unwrap();
    String::from_utf8_lossy(&read.stdout).trim().to_owned()
}

async fn prepared(machines: &Machines, id: MachineId) -> Result<Arc<Snapshot>, Error> {
    let wanted = Consistency::Application;
    let job = machines.create_snapshot_with(&actor(), id, wanted).await?;
    let job = completed(machines, job).await;
    assert!(job.at_rest.is_some());
    Ok(machines.snapshot(job.snapshot.unwrap()).unwrap().1)
}

async fn owes_nothing(guest: &Guest) {
    let process = guest.site.process(guest.id).await;
    eventually("the guest's file systems go on", || async {
        let mut session = process.talk_to_agent(PATIENCE).await.ok()?;
        (session.is_frozen(PATIENCE).await == Ok(false)).then_some(())
    })
    .await;
    assert!(guest.writes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prepared_snapshot_has_a_clean_file_system_and_the_guest_goes_on() {
    let site = Site::new();
    let machines = site.open().await;
    let Some(guest) = Guest::boot(&machines, site).await else {
        return;
    };
    let id = guest.id;
    let refused = prepared(&machines, id).await;
    assert!(
        matches!(refused, Err(Error::NoGuestAgent { .. })),
        "{refused:?}"
    );
    guest.start_agent();

    guest.shell("echo one > /data/one");
    let crash = snapshot(&machines, id).await;
    let crash = machines.snapshot(crash).unwrap().1;
    assert_eq!(
        (crash.consistency, crash.at_rest),
        (Consistency::Crash, None)
    );
    // The control: without preparation, the file system is as after a loss of power.
    assert!(needs_recovery(&guest.file_system(&crash)));

    guest.shell("echo two > /data/two");
    let clean = prepared(&machines, id).await.unwrap();
    assert_eq!(clean.consistency, Consistency::Application);
    assert!(clean.at_rest > clean.pause, "{clean:?}");
    let file_system = guest.file_system(&clean);
    assert!(!needs_recovery(&file_system));
    assert_eq!(file_in(&file_system, "two"), "two");
    owes_nothing(&guest).await;

    // Its memory holds a guest at rest, which goes on when it is restored.
    bring(&machines, id, Ask::TurnOff).await;
    apply(&machines, id, clean.id).await;
    bring(&machines, id, Ask::Run).await;
    owes_nothing(&guest).await;
    assert_eq!(guest.shell("busybox cat /data/two"), ["two"]);
    sound(&machines).await;

    bring(&machines, id, Ask::TurnOff).await;
    let refused = prepared(&machines, id).await;
    assert!(
        matches!(refused, Err(Error::WrongState { .. })),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_lies_or_hangs_is_not_believed() {
    let site = Site::new();
    let mut config = site.config();
    config.agent_patience = Duration::from_secs(15);
    let machines = Machines::open(config).await.unwrap();
    let Some(guest) = Guest::boot(&machines, site).await else {
        return;
    };
    let id = guest.id;
    guest.start_liar();
    eventually("something listens", || async {
        let process = guest.site.process(id).await;
        (process.agent_listens().await == Ok(true)).then_some(())
    })
    .await;
    for (lie, word) in [
        ("zero", "no file system"),
        ("nonsense", "makes no sense"),
        ("thawed", "went on before"),
        ("true", "only 0 still were"),
        ("silent", "did not answer \"guest-fsfreeze-freeze\""),
        // This one has brought them to rest.
        ("mute", "did not answer \"guest-fsfreeze-status\""),
        ("flood", "makes no sense"),
    ] {
        guest.shell(&format!("echo {lie} > /tmp/lie"));
        let wanted = Consistency::Application;
        let begun = Instant::now();
        let job = machines.create_snapshot_with(&actor(), id, wanted).await;
        let cause = failed(&machines, job.unwrap()).await;
        println!("{lie}: after {:?}: {}", begun.elapsed(), cause.what);
        assert_eq!(cause.code, "GuestNotQuiesced", "{lie}: {cause:?}");
        assert!(cause.what.contains(word), "{lie}: {cause:?}");
        assert_eq!(state(&machines, id), State::Running, "{lie}");
        assert!(machines.machine(id).unwrap().snapshots.is_empty(), "{lie}");
        assert!(guest.writes(), "{lie}");
    }
    sound(&machines).await;
    // Without the agent, all is as ever.
    snapshot(&machines, id).await;
    assert!(guest.writes());
}

#[tokio::test]
async fn what_was_saved_without_a_channel_is_restored_without_one() {
    let site = Site::new();
    let mut older = site.config();
    older.agent_channel = false;
    let machines = Machines::open(older).await.unwrap();
    let id = site.counter(&machines, "guest").await;
    let channel = async || match site.process(id).await.agent_listens().await {
        Err(AgentError::NoChannel) => false,
        other => {
            // Nobody listens in this guest.
            assert_eq!(other, Ok(false));
            true
        }
    };
    bring(&machines, id, Ask::Run).await;
    let number = site.counts_beyond("guest", 20).await;
    assert!(!channel().await);
    let without = snapshot(&machines, id).await;
    machines.close().await;
    drop(machines);

    // Taken over, captured and restored by a service whose machines have one.
    let machines = site.open().await;
    let refused = prepared(&machines, id).await;
    assert!(
        matches!(refused, Err(Error::NoGuestAgent { .. })),
        "{refused:?}"
    );
    let taken_over = snapshot(&machines, id).await;
    bring(&machines, id, Ask::Save).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("guest", number).await;
    assert!(!channel().await);
    for taken in [without, taken_over] {
        bring(&machines, id, Ask::TurnOff).await;
        apply(&machines, id, taken).await;
        bring(&machines, id, Ask::Run).await;
        site.counts_on("guest").await;
        assert!(!channel().await);
    }

    bring(&machines, id, Ask::TurnOff).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("guest").await;
    assert!(channel().await, "started anew");
    let with = snapshot(&machines, id).await;
    for (taken, has) in [(without, false), (with, true), (taken_over, false)] {
        bring(&machines, id, Ask::TurnOff).await;
        apply(&machines, id, taken).await;
        bring(&machines, id, Ask::Run).await;
        site.counts_on("guest").await;
        assert_eq!(channel().await, has);
    }
    sound(&machines).await;

    // Older settings do not speak of it.
    let settings = machines.machine(id).unwrap().settings.clone();
    let mut stored = serde_json::to_value(&*settings).unwrap();
    assert!(
        stored
            .as_object_mut()
            .unwrap()
            .remove("agent_channel")
            .is_some()
    );
    let read: Settings = serde_json::from_value(stored).unwrap();
    assert!(!read.agent_channel);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_dies_in_between_leaves_nothing_at_rest() {
    let site = Site::new();
    let machines = site.open().await;
    let Some(guest) = Guest::boot(&machines, site).await else {
        return;
    };
    let (id, site) = (guest.id, &guest.site);
    guest.start_agent();
    let mut machines = Some(machines);
    for point in [
        "create.quiesce",
        "create.quiesced",
        "create.stopped",
        "create.switched",
        "create.receiving",
        "create.thawed",
        "create.manifest",
    ] {
        if let Some(machines) = machines.take() {
            machines.close().await;
        }
        let task = format!("create_prepared {id}");
        assert!(die(site, &task, point).await, "{point}");
        if point == "create.quiesced" {
            let process = site.process(id).await;
            let mut session = process.talk_to_agent(PATIENCE).await.unwrap();
            assert_eq!(session.is_frozen(PATIENCE).await, Ok(true));
        }
        let opened = site.open().await;
        assert_eq!(state(&opened, id), State::Running, "{point}");
        owes_nothing(&guest).await;
        merged(&opened, id).await;
        let there = opened.machine(id).unwrap().snapshots.len();
        assert_eq!(there, usize::from(point == "create.manifest"), "{point}");
        sound(&opened).await;
        machines = Some(opened);
    }
}
