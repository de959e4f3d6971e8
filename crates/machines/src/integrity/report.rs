//! What a verification found: plain data, kept with the snapshot until the next one.

use crate::ids::{LayerId, SnapshotId};
use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Depth {
    /// Nothing.
    Off,
    /// What is read in no time: that every file is there and as long as it was, headers, manifest.
    #[default]
    Metadata,
    /// Every byte.
    Full,
}

impl FromStr for Depth {
    type Err = String;
    fn from_str(text: &str) -> Result<Depth, String> {
        match text {
            "off" => Ok(Depth::Off),
            "metadata" => Ok(Depth::Metadata),
            "full" => Ok(Depth::Full),
            other => Err(format!("{other:?} is none of off, metadata, full")),
        }
    }
}

/// What a file is to its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRole {
    /// The snapshot's description of itself.
    Manifest,
    /// Memory and device state.
    Memory,
    /// One file of a disk.
    Layer {
        /// The disk, for people.
        disk: String,
        /// Which of the disk's layers, 1 the oldest, and of how many.
        position: (usize, usize),
        /// Its identity.
        layer: LayerId,
    },
}

impl fmt::Display for FileRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileRole::Manifest => f.write_str("manifest"),
            FileRole::Memory => f.write_str("memory image"),
            FileRole::Layer { disk, position, .. } => {
                write!(f, "disk {disk}, layer {} of {}", position.0, position.1)
            }
        }
    }
}

/// How a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FileState {
    /// As it was when it was frozen, as far as was looked.
    Fine,
    /// There, and not hashed yet: there is nothing to compare its content with.
    NotHashed,
    /// Its content is not what it was, though nobody wrote to it; or it contradicts itself.
    Damaged,
    /// Somebody wrote to it after it was hashed.
    Changed,
    /// Not there.
    Missing,
}

impl FileState {
    /// Whether the snapshot cannot be relied on because of it.
    pub fn is_bad(self) -> bool {
        !matches!(self, FileState::Fine | FileState::NotHashed)
    }

    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            FileState::Fine => "fine",
            FileState::NotHashed => "not hashed yet",
            FileState::Damaged => "damaged",
            FileState::Changed => "changed",
            FileState::Missing => "missing",
        }
    }
}

/// One place where a file is not what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// First byte.
    pub offset: u64,
    /// How many bytes; the damage is somewhere within.
    pub length: u64,
    /// What is wrong there.
    pub what: String,
}

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckedFile {
    /// What it is to the snapshot.
    pub role: FileRole,
    /// Where it is.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// How it is.
    pub state: FileState,
    /// Where it is not what it was.
    pub damage: Vec<Damage>,
    /// More for people; may be empty.
    pub note: String,
}

impl CheckedFile {
    /// A sentence on what is wrong and where.
    pub fn sentence(&self) -> String {
        let mut text = format!(
            "{} ({}) is {}",
            self.path.display(),
            self.role,
            self.state.as_str()
        );
        let mut places = self.damage.iter().map(|damage| {
            let end = damage.offset.saturating_add(damage.length);
            let last = end.saturating_sub(1).max(damage.offset);
            format!("bytes {}-{last}: {}", damage.offset, damage.what)
        });
        let shown: Vec<_> = places.by_ref().take(4).collect();
        if !shown.is_empty() {
            text.push_str(": ");
            text.push_str(&shown.join("; "));
        }
        match places.count() {
            0 => {}
            more => text.push_str(&format!("; and {more} more places")),
        }
        if !self.note.is_empty() {
            text.push_str(&format!(" ({})", self.note));
        }
        text
    }
}

/// What looking at a snapshot's files came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// Whose files.
    pub snapshot: SnapshotId,
    /// How much was looked at.
    pub depth: Depth,
    /// When that began.
    pub begun: Timestamp,
    /// How long it took, in microseconds.
    pub took_micros: u64,
    /// Every file.
    pub files: Vec<CheckedFile>,
}

impl Verification {
    /// The files that the snapshot cannot be relied on for.
    pub fn bad(&self) -> impl Iterator<Item = &CheckedFile> {
        self.files.iter().filter(|file| file.state.is_bad())
    }

    /// How many files have nothing to be compared with yet.
    pub fn not_hashed(&self) -> usize {
        let unknown = |file: &&CheckedFile| file.state == FileState::NotHashed;
        self.files.iter().filter(unknown).count()
    }
}
