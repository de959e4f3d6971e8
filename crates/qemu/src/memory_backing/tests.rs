//! Pools and decisions on a host that is a folder.

use super::pool::{Host, Pool};
use super::*;
use std::path::PathBuf;

/// A host whose pool is a folder. Nothing in it acts like a kernel: what is written to
/// `nr_hugepages` is read from it again, and no page is ever used.
struct Fake {
    dir: tempfile::TempDir,
    host: Host,
}

impl Fake {
    fn new(total: u64, free: u64, surplus: u64, memory_mib: u64) -> Fake {
        let dir = tempfile::tempdir().unwrap();
        let host = Host {
            pool: dir.path().into(),
            meminfo: dir.path().join("meminfo"),
            record: dir.path().join("record"),
        };
        let fake = Fake { dir, host };
        fake.write("nr_hugepages", total);
        fake.write("free_hugepages", free);
        fake.write("resv_hugepages", 0);
        fake.write("surplus_hugepages", surplus);
        let text = format!(
            "MemTotal: {0} kB\nMemAvailable: {0} kB\n",
            memory_mib * 1024
        );
        std::fs::write(&fake.host.meminfo, text).unwrap();
        fake
    }

    fn write(&self, name: &str, number: u64) {
        std::fs::write(self.dir.path().join(name), number.to_string()).unwrap();
    }

    fn pool(&self) -> Pool {
        self.host.pool().unwrap()
    }

    fn prepare(&self, mib: u64, limit: PoolLimit) -> Prepared {
        self.host.prepare(mib, Policy::new(limit))
    }
}

#[test]
fn limits_are_read_from_text() {
    assert_eq!("auto".parse(), Ok(PoolLimit::Auto));
    assert_eq!("off".parse(), Ok(PoolLimit::Off));
    assert_eq!("0".parse(), Ok(PoolLimit::Off));
    assert_eq!("4096".parse(), Ok(PoolLimit::Mib(4096)));
    for wrong in ["", "-1", "4G", "on"] {
        let error = wrong.parse::<PoolLimit>().unwrap_err();
        assert!(error.to_string().contains(&format!("{wrong:?}")));
    }
}

#[test]
fn free_pages_are_used_and_missing_ones_are_made_within_the_limit() {
    let fake = Fake::new(512, 256, 0, 65536);
    let free = fake.prepare(512, PoolLimit::Off);
    assert_eq!(free.decision.backing, Backing::Hugetlb);
    free.taken();
    let too_much = fake.prepare(514, PoolLimit::Off).decision;
    assert_eq!(too_much.backing, Backing::Transparent);
    assert!(too_much.reason.contains("257"), "{}", too_much.reason);
    let beyond = fake.prepare(1024, PoolLimit::Mib(1534)).decision;
    assert_eq!(beyond.backing, Backing::Transparent);
    assert!(beyond.reason.contains("1534 MiB"), "{}", beyond.reason);
    assert_eq!(fake.pool().pages, 512);
    let grown = fake.prepare(1024, PoolLimit::Mib(1536));
    assert_eq!(grown.decision.backing, Backing::Hugetlb);
    assert_eq!(fake.pool().pages, 768, "{}", grown.decision.reason);
    grown.taken();
    assert_eq!(fake.pool().pages, 512);
}

#[test]
fn the_host_keeps_memory_for_itself() {
    let fake = Fake::new(0, 0, 0, 2000);
    for limit in [PoolLimit::Mib(1 << 20), PoolLimit::Auto] {
        let decision = fake.prepare(1024, limit).decision;
        assert_eq!(decision.backing, Backing::Transparent);
        assert!(decision.reason.contains("2000 MiB"), "{}", decision.reason);
        let odd = fake.prepare(7, limit).decision;
        assert_eq!(odd.backing, Backing::Transparent);
    }
    // Automatically: three quarters of 16 GiB, and an eighth stays.
    let fake = Fake::new(0, 0, 0, 16384);
    assert_eq!(
        fake.prepare(12288, PoolLimit::Auto).decision.backing,
        Backing::Hugetlb
    );
    let decision = fake.prepare(12290, PoolLimit::Auto).decision;
    assert!(decision.reason.contains("12288 MiB"), "{}", decision.reason);
}

#[test]
fn what_a_killed_service_has_added_goes_back_and_nothing_else_does() {
    // Of 300 pages 100 are surplus, in use by a machine; 200 are the administrator's.
    let fake = Fake::new(300, 0, 100, 65536);
    let grown = fake.prepare(256, PoolLimit::Auto);
    assert_eq!(grown.decision.backing, Backing::Hugetlb);
    assert_eq!(fake.pool().pages, 428);
    let record = std::fs::read(&fake.host.record).unwrap();
    // Killed: nothing was told to the pool, and the lock is free. The kernel had made kept pages of
    // the surplus ones.
    grown.taken();
    fake.write("nr_hugepages", 428);
    fake.write("surplus_hugepages", 0);
    std::fs::write(&fake.host.record, &record).unwrap();
    drop(fake.host.hold().unwrap());
    assert_eq!(fake.pool().pages, 200);
    // Killed, and then the administrator wanted something else.
    fake.write("nr_hugepages", 1000);
    std::fs::write(&fake.host.record, &record).unwrap();
    drop(fake.host.hold().unwrap());
    assert_eq!(fake.pool().pages, 1000);
    // That record is used up.
    fake.write("nr_hugepages", 428);
    drop(fake.host.hold().unwrap());
    assert_eq!(fake.pool().pages, 428);
    // What is no record is none.
    std::fs::write(&fake.host.record, b"{\"kept\":").unwrap();
    drop(fake.host.hold().unwrap());
    assert_eq!(fake.pool().pages, 428);
}

#[test]
fn a_host_without_a_pool_or_without_rights_says_so() {
    let mut fake = Fake::new(0, 0, 0, 65536);
    fake.host.pool = "/nonexistent".into();
    let decision = fake.prepare(512, PoolLimit::Auto).decision;
    assert_eq!(decision.backing, Backing::Transparent);
    assert!(decision.reason.contains("no pool"), "{}", decision.reason);
    let mut fake = Fake::new(0, 0, 0, 65536);
    fake.host.record = PathBuf::from("/nonexistent/record");
    let decision = fake.prepare(512, PoolLimit::Auto).decision;
    assert_eq!(decision.backing, Backing::Transparent);
    assert!(
        decision.reason.contains("/nonexistent/"),
        "{}",
        decision.reason
    );
}
