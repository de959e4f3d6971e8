//! A rehearsal of a real guest, and what becomes of its clone when the service is killed.

use crate::machine::Machine;
use crate::site::{PATIENCE, Site, Started, eventually};
use qemu::identity::Identity;
use std::path::PathBuf;

fn clones(site: &Site) -> Vec<PathBuf> {
    let runs = std::fs::read_dir(site.data_dir().join("run")).into_iter();
    let paths = runs.flatten().flatten().map(|entry| entry.path());
    paths
        .filter(|p| {
            p.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("rehearsal-")
        })
        .collect()
}

fn nothing_is_left(site: &Site) {
    assert_eq!(clones(site), Vec::<PathBuf>::new());
    let folders = std::fs::read_dir(site.data_dir().join("rehearsals"));
    assert_eq!(folders.into_iter().flatten().count(), 0);
}

#[test]
fn a_killed_service_leaves_no_clone() {
    let mut site = Site::new();
    site.start();
    let mut machine = Machine::boot(&site, "play");
    let id = machine.snapshot(&site);
    let seen = site.ask_one(&["snapshot", "rehearse", &machine.id, &id]);
    assert_eq!(seen["outcome"], "lived", "{seen}");
    let shown = site.ask_one(&["snapshot", "show", &machine.id, &id]);
    assert!(
        shown["rehearsal"].as_str().unwrap().starts_with("lived"),
        "{shown}"
    );
    nothing_is_left(&site);
    machine.goes_on();
    for point in ["rehearse.launched", "rehearse.running"] {
        site.kill();
        assert!(matches!(site.start_armed(point), Started::Ready(_)));
        let mut client = site.spawn(&["snapshot", "rehearse", &machine.id, &id]);
        site.wait_for_death();
        let _ = client.wait();
        let clone = eventually("a clone is left", PATIENCE, || clones(&site).pop());
        let clone = Identity::read(&clone).unwrap();
        assert!(clone.is_alive());
        site.start();
        assert!(!clone.is_alive());
        nothing_is_left(&site);
        // The machine itself ran all the time.
        machine.goes_on();
    }
}
