//! One bit of a snapshot's files is flipped, as a failing disk does it: the verification finds it,
//! says in which file and between which bytes, and an apply that looks at everything refuses to give
//! the running state up for it. Put back, all is well again.

use crate::machine::Machine;
use crate::site::{PATIENCE, Site, eventually};
use serde_json::Value;
use std::fs::{FileTimes, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// How many flips the long form does.
const FLIPS_VARIABLE: &str = "ROOTVIRT_SOAK_FLIPS";
/// Every so often, an apply is tried as well.
const APPLY_EVERY: usize = 50;

struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct File {
    path: PathBuf,
    role: String,
    bytes: u64,
}

impl File {
    fn flip(&self, offset: u64, mask: u8) {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.path)
            .unwrap();
        let modified = file.metadata().unwrap().modified().unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ mask], offset).unwrap();
        file.set_times(FileTimes::new().set_modified(modified))
            .unwrap();
    }
}

#[test]
fn a_few_flipped_bits_are_found() {
    campaign(12);
}

#[test]
#[ignore = "long: run by `cargo xtask soak flips`"]
fn a_thousand_flipped_bits_are_found() {
    campaign(std::env::var(FLIPS_VARIABLE).map_or(1000, |text| text.parse().unwrap()));
}

fn campaign(flips: usize) {
    let mut site = Site::new();
    site.start_with(&["--verify-before-apply", "full", "--hash-rate", "4096"]);
    let mut machine = Machine::boot(&site, "flips");
    let taken: Vec<String> = (0..2)
        .map(|_| {
            machine.goes_on();
            machine.snapshot(&site)
        })
        .collect();
    let mut seed = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |t| t.as_nanos() as u64 | 1);
    if let Ok(given) = std::env::var("ROOTVIRT_TEST_SEED") {
        seed = given.parse().unwrap();
    }
    println!("ROOTVIRT_TEST_SEED={seed}");
    let mut rng = Rng(seed);
    let files: Vec<Vec<File>> = taken.iter().map(|id| whole(&site, &machine, id)).collect();
    machine.stop(&site);
    let mut found = 0;
    for round in 0..flips {
        let which = usize::try_from(rng.below(files.len() as u64)).unwrap();
        let of = &files[which];
        let file = &of[usize::try_from(rng.below(of.len() as u64)).unwrap()];
        // Now and then where headers are, which is little of a large file.
        let limit = match rng.below(4) {
            0 => file.bytes.min(4096),
            _ => file.bytes,
        };
        let (offset, mask) = (rng.below(limit), 1 << rng.below(8));
        file.flip(offset, mask);
        let place = format!("{} at {offset} ^ {mask}", file.path.display());
        let rows = verify(&site, &machine, &taken[which]);
        let rows = rows.unwrap_or_else(|| panic!("{place} ({}): not found", file.role));
        let bad: Vec<_> = rows.iter().filter(|row| is_bad(row)).collect();
        assert_eq!(bad.len(), 1, "{place}: {bad:?}");
        assert_eq!(bad[0]["path"].as_str(), file.path.to_str(), "{place}");
        let told = bad[0]["damage"].as_array().unwrap().iter().any(|damage| {
            let at = damage["offset"].as_u64().unwrap();
            at <= offset && offset < at + damage["length"].as_u64().unwrap()
        });
        assert!(told, "{place}: {bad:?}");
        if round % APPLY_EVERY == 0 {
            let before = machine.show(&site);
            let said = site.ask_refused(&["snapshot", "apply", &machine.id, &taken[which]]);
            assert!(said.contains(file.path.to_str().unwrap()), "{said}");
            assert_eq!(machine.show(&site), before);
        }
        file.flip(offset, mask);
        found += 1;
    }
    println!("{found} of {flips} flips found");
    for id in &taken {
        whole(&site, &machine, id);
    }
    site.ask(&["snapshot", "apply", &machine.id, &taken[0]]);
    machine.start_saved(&site);
}

fn is_bad(row: &Value) -> bool {
    !["fine", "not hashed yet"].contains(&row["state"].as_str().unwrap())
}

/// The files of a snapshot of which everything is known and fine.
fn whole(site: &Site, machine: &Machine, id: &str) -> Vec<File> {
    let rows = eventually("every layer is hashed", PATIENCE, || {
        let rows = site.ask(&["snapshot", "verify", &machine.id, id]);
        let rows = rows.as_array().unwrap().clone();
        rows.iter()
            .all(|row| row["state"] == "fine")
            .then_some(rows)
    });
    rows.iter()
        .map(|row| File {
            path: PathBuf::from(row["path"].as_str().unwrap()),
            role: row["role"].as_str().unwrap().to_owned(),
            bytes: row["bytes"].as_u64().unwrap(),
        })
        .collect()
}

/// What a verification prints if it fails.
fn verify(site: &Site, machine: &Machine, id: &str) -> Option<Vec<Value>> {
    let (success, printed) = site.ask_anyway(&["snapshot", "verify", &machine.id, id]);
    (!success).then(|| printed.as_array().unwrap().clone())
}
