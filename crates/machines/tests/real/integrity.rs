//! Hashes of frozen layers, and verification: damage is found wherever it is, and what this service
//! does to its own files is never taken for damage.

use crate::site::*;
use machines::integrity::{CheckedFile, Depth, FileRole, FileState, Verification};
use machines::model::{JobState, State};
use machines::request::StateRequest as Ask;
use machines::{Machines, SnapshotId};
use std::fs::{File, FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

/// Verifies everything; answers the report, and how the job failed if it did.
async fn verify(machines: &Machines, id: SnapshotId) -> (Arc<Verification>, Option<String>) {
    let job = machines.verify_snapshot(&actor(), id, Depth::Full).await;
    let job = tokio::time::timeout(PATIENCE, machines.wait(job.unwrap()));
    let job = job.await.unwrap().unwrap();
    let failure = match &job.state {
        JobState::Completed => None,
        JobState::Failed(cause) if cause.code == "DamagedSnapshot" => Some(cause.what.clone()),
        other => panic!("{other:?}"),
    };
    (machines.verification(id).unwrap(), failure)
}

/// Waits until every layer is hashed; all must be well.
async fn hashed(machines: &Machines, id: SnapshotId) -> Arc<Verification> {
    eventually("every layer is hashed", || async {
        let (report, failure) = verify(machines, id).await;
        assert_eq!(failure, None);
        (report.not_hashed() == 0).then_some(report)
    })
    .await
}

/// Changes a byte as a failing disk does: nobody has written to the file.
fn flip(path: &Path, offset: u64, mask: u8) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
    file.set_times(FileTimes::new().set_modified(modified))
        .unwrap();
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

fn of_role(report: &Verification, wanted: impl Fn(&FileRole) -> bool) -> &CheckedFile {
    report.files.iter().find(|f| wanted(&f.role)).unwrap()
}

#[tokio::test]
async fn a_flipped_byte_is_found_wherever_it_is() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "flips").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("flips", 5).await;
    snapshot(&machines, id).await;
    site.counts_on("flips").await;
    let second = snapshot(&machines, id).await;
    let whole = hashed(&machines, second).await;
    // A manifest, a memory image and the one below, and two layers of each of three disks.
    assert_eq!(whole.files.len(), 9, "{whole:#?}");
    let sums = site.data().join("machines").join(id.to_string());
    let sums = sums.join("snapshots/sums");
    assert_eq!(std::fs::read_dir(&sums).unwrap().count(), 6);

    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    for round in 0..60 {
        // Files in turn; in every other round among the first bytes, where headers are.
        let file = &whole.files[round % whole.files.len()];
        let limit = match numbers.below(2) {
            0 => file.bytes,
            _ => file.bytes.min(4096),
        };
        let offset = numbers.below(limit);
        let mask = 1 << numbers.below(8);
        flip(&file.path, offset, mask);
        let (report, failure) = verify(&machines, second).await;
        let failure = failure.unwrap_or_else(|| panic!("{} at {offset}: not found", file.role));
        assert!(failure.contains(file.path.to_str().unwrap()), "{failure}");
        let bad: Vec<_> = report.bad().collect();
        assert_eq!(bad.len(), 1, "{bad:#?}");
        assert_eq!(
            (&bad[0].path, bad[0].state),
            (&file.path, FileState::Damaged)
        );
        let told = bad[0]
            .damage
            .iter()
            .any(|d| d.offset <= offset && offset < d.offset + d.length);
        assert!(told, "{offset}: {:?}", bad[0].damage);
        flip(&file.path, offset, mask);
    }
    // The file of hashes itself.
    let entry = std::fs::read_dir(&sums).unwrap().next().unwrap().unwrap();
    flip(&entry.path(), 100, 1);
    let (report, failure) = verify(&machines, second).await;
    assert!(failure.unwrap().contains(".sums"));
    assert_eq!(report.bad().count(), 1);
    // Deleted, it is made again.
    std::fs::remove_file(entry.path()).unwrap();
    let (report, failure) = verify(&machines, second).await;
    assert_eq!((report.not_hashed(), failure), (1, None));
    hashed(&machines, second).await;
    sound(&machines).await;
}

#[tokio::test]
async fn who_wrote_to_a_layer_is_told_from_a_bad_disk_and_what_is_missing_is_named() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "kinds").await;
    let taken = snapshot(&machines, id).await;
    let whole = hashed(&machines, taken).await;
    let base = of_role(&whole, |r| matches!(r, FileRole::Layer { .. }))
        .path
        .clone();
    let first = of_role(&whole, |r| matches!(r, FileRole::Layer { .. }));
    assert!(
        first.role.to_string().contains("layer 1 of 1"),
        "{}",
        first.role
    );
    let state_of = |report: &Verification| {
        let file = report.files.iter().find(|f| f.path == base).unwrap();
        file.state
    };
    // Touched, but the same.
    let now = FileTimes::new().set_modified(std::time::SystemTime::now());
    File::options()
        .write(true)
        .open(&base)
        .unwrap()
        .set_times(now)
        .unwrap();
    let (report, failure) = verify(&machines, taken).await;
    assert_eq!((state_of(&report), failure), (FileState::Fine, None));
    // Written to.
    let file = OpenOptions::new().write(true).open(&base).unwrap();
    file.write_all_at(b"somebody", 700).unwrap();
    let (report, failure) = verify(&machines, taken).await;
    assert_eq!(state_of(&report), FileState::Changed);
    assert!(failure.unwrap().contains("written to after it was hashed"));
    // That somebody wrote to it is reason enough to read it when the others are only looked at.
    let quick = machines
        .verify_snapshot(&actor(), taken, Depth::Metadata)
        .await
        .unwrap();
    assert_eq!(failed(&machines, quick).await.code, "DamagedSnapshot");
    // Longer.
    let length = file.metadata().unwrap().len();
    file.set_len(length + 512).unwrap();
    let quick = machines
        .verify_snapshot(&actor(), taken, Depth::Metadata)
        .await
        .unwrap();
    assert_eq!(failed(&machines, quick).await.code, "DamagedSnapshot");
    file.set_len(length).unwrap();
    // Gone.
    let away = base.with_extension("away");
    std::fs::rename(&base, &away).unwrap();
    let (report, _) = verify(&machines, taken).await;
    assert_eq!(state_of(&report), FileState::Missing);
    std::fs::rename(&away, &base).unwrap();
}

#[tokio::test]
async fn damage_is_found_before_an_apply_gives_anything_up() {
    let site = Site::new();
    let mut config = site.config();
    config.verify_before_apply = Depth::Full;
    let machines = Machines::open(config).await.unwrap();
    let id = site.counter(&machines, "apply").await;
    bring(&machines, id, Ask::Run).await;
    site.counts_beyond("apply", 5).await;
    let taken = snapshot(&machines, id).await;
    let whole = hashed(&machines, taken).await;
    bring(&machines, id, Ask::Save).await;
    let before = machines.machine(id).unwrap();
    let image = of_role(&whole, |r| *r == FileRole::Memory);
    for file in &whole.files {
        let offset = file.bytes / 2;
        flip(&file.path, offset, 0x10);
        let begun = machines.apply_snapshot(&actor(), id, taken).await.unwrap();
        let cause = failed(&machines, begun).await;
        assert_eq!(cause.code, "DamagedSnapshot");
        assert!(
            cause.what.contains(file.path.to_str().unwrap()),
            "{}",
            cause.what
        );
        let now = machines.machine(id).unwrap();
        assert_eq!((now.state, &now.settings), (State::Saved, &before.settings));
        flip(&file.path, offset, 0x10);
    }
    sound(&machines).await;
    apply(&machines, id, taken).await;
    machines.close().await;
    drop(machines);

    // The quick look finds what headers say, and nothing more.
    let machines = site.open().await;
    flip(&image.path, 40, 1);
    let begun = machines.apply_snapshot(&actor(), id, taken).await.unwrap();
    assert_eq!(failed(&machines, begun).await.code, "DamagedSnapshot");
    flip(&image.path, 40, 1);
    flip(&image.path, 5000, 1);
    apply(&machines, id, taken).await;
    flip(&image.path, 5000, 1);
}

#[tokio::test]
async fn merges_are_no_damage() {
    let site = Site::new();
    let machines = site.open().await;
    let id = site.counter(&machines, "merged").await;
    bring(&machines, id, Ask::Run).await;
    let mut taken = Vec::new();
    for _ in 0..4 {
        site.counts_on("merged").await;
        taken.push(snapshot(&machines, id).await);
    }
    for id in &taken {
        hashed(&machines, *id).await;
    }
    // One layer is pulled up live, the others go down when the machine is off.
    remove(&machines, taken[3]).await;
    remove(&machines, taken[1]).await;
    for id in [taken[0], taken[2]] {
        hashed(&machines, id).await;
    }
    bring(&machines, id, Ask::TurnOff).await;
    eventually("disks are merged", || async {
        machines
            .machine(id)
            .unwrap()
            .activity
            .is_none()
            .then_some(())
    })
    .await;
    for id in [taken[0], taken[2]] {
        hashed(&machines, id).await;
    }
    apply(&machines, id, taken[2]).await;
    bring(&machines, id, Ask::Run).await;
    site.counts_on("merged").await;
    sound(&machines).await;
    // Hashes are found again by another service; without the catalog, too.
    machines.close().await;
    drop(machines);
    for name in ["catalog.db", "catalog.db-wal", "catalog.db-shm"] {
        let _ = std::fs::remove_file(site.data().join(name));
    }
    let machines = Machines::rebuild(site.config()).await.unwrap();
    hashed(&machines, taken[2]).await;
    bring(&machines, id, Ask::TurnOff).await;
    let job = machines.destroy(&actor(), id).await.unwrap();
    completed(&machines, job).await;
    assert!(!site.data().join("machines").join(id.to_string()).exists());
}
