//! libvirt's snapshots and saves, by `virsh`.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use super::domain::{self, DISKS, DOMAIN};
use super::libvirtd::Libvirtd;
use super::{Contender, Limit};
use crate::bench::guest::Guest;
use crate::{Failure, Outcome};

/// What libvirt is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `snapshot-create-as`: memory and disks into the qcow2 files of the disks.
    Internal,
    /// The same with `--memspec`: memory into a file, overlays for the disks; the guest stands still.
    External,
    /// The same with `--live`: the guest runs on.
    ExternalLive,
    /// `save`: memory into a file, and the guest ends.
    Save,
}

impl Kind {
    pub const ALL: [Self; 4] = [
        Self::Internal,
        Self::External,
        Self::ExternalLive,
        Self::Save,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "virsh-internal",
            Self::External => "virsh-external",
            Self::ExternalLive => "virsh-external-live",
            Self::Save => "virsh-save",
        }
    }
}

/// One of them.
pub struct Virsh {
    kind: Kind,
    daemon: Rc<Libvirtd>,
    folder: PathBuf,
}

impl Virsh {
    pub fn new(kind: Kind, daemon: &Rc<Libvirtd>) -> Self {
        Self {
            kind,
            daemon: Rc::clone(daemon),
            folder: PathBuf::new(),
        }
    }

    fn file(&self, number: usize, what: &str) -> String {
        let name = format!("{}-{what}", snapshot_name(number));
        self.folder.join(name).display().to_string()
    }

    fn create(&self, number: usize) -> Vec<String> {
        if self.kind == Kind::Save {
            return vec!["save".into(), DOMAIN.into(), self.file(number, "memory")];
        }
        let mut words = vec![
            "snapshot-create-as".to_owned(),
            DOMAIN.to_owned(),
            snapshot_name(number),
        ];
        if self.kind == Kind::Internal {
            return words;
        }
        let memory = self.file(number, "memory");
        words.extend([
            "--memspec".into(),
            format!("snapshot=external,file={memory}"),
        ]);
        for disk in DISKS {
            let file = self.file(number, disk);
            words.extend([
                "--diskspec".into(),
                format!("{disk},snapshot=external,file={file}"),
            ]);
        }
        if self.kind == Kind::ExternalLive {
            words.push("--live".into());
        }
        words
    }
}

impl Contender for Virsh {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn start(&mut self, guest: &Guest) -> Outcome {
        self.folder.clone_from(&guest.folder);
        self.daemon.start(guest.accelerator)?;
        let file = guest.folder.join("domain.xml");
        fs::write(&file, domain::definition(guest)?)?;
        self.daemon
            .virsh(&["define", &file.display().to_string()])?;
        self.daemon.virsh(&["start", DOMAIN])
    }

    fn snapshot(&mut self, number: usize, limit: &Limit) -> Outcome {
        let words = self.create(number);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.daemon.virsh_within(limit, &words)
    }

    fn end_guest(&mut self) -> Outcome {
        if self.kind == Kind::Save {
            return Ok(());
        }
        self.daemon.virsh(&["destroy", DOMAIN])
    }

    fn restore(&mut self, number: usize, limit: &Limit) -> Result<Instant, Failure> {
        let began = Instant::now();
        if self.kind == Kind::Save {
            let file = self.file(number, "memory");
            self.daemon.virsh_within(limit, &["restore", &file])?;
        } else {
            let name = snapshot_name(number);
            self.daemon
                .virsh_within(limit, &["snapshot-revert", DOMAIN, &name])?;
        }
        Ok(began)
    }

    fn delete(&mut self, number: usize, limit: &Limit) -> Outcome {
        if self.kind == Kind::Save {
            return Ok(fs::remove_file(self.file(number, "memory"))?);
        }
        let name = snapshot_name(number);
        self.daemon
            .virsh_within(limit, &["snapshot-delete", DOMAIN, &name])
    }

    fn discard(&mut self) -> Outcome {
        // It may have ended already.
        drop(self.daemon.virsh(&["destroy", DOMAIN]));
        self.daemon
            .virsh(&["undefine", DOMAIN, "--snapshots-metadata"])
    }
}

fn snapshot_name(number: usize) -> String {
    format!("s{number}")
}
