//! What a run found out: every single measurement, so that it can be looked at again later.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::contender::{self, Claims};
use super::disk::DirectWrites;
use super::guest::Load;
use super::host::Host;
use crate::{Failure, Outcome};

/// Everything. Times are milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Results {
    /// When the run began, RFC 3339.
    pub date: String,
    pub host: Host,
    pub cases: Vec<Case>,
}

/// All contenders with one size of guest under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Case {
    pub ram_mib: u64,
    pub load: Load,
    /// What the disk can do.
    pub disk: DirectWrites,
    pub rows: Vec<Row>,
}

/// One contender in one case.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Row {
    pub contender: String,
    /// What it says of the memory that the guest ran on.
    #[serde(default)]
    pub memory: Option<String>,
    /// The longest silence of the guest while nothing is done to it, and how long that was watched.
    pub idle_silence_ms: f64,
    /// In a row, of the same guest.
    pub snapshots: Vec<Taken>,
    pub deletes_ms: Vec<f64>,
    pub restores: Vec<Restored>,
    /// Snapshots of a guest that has been restored ten seconds before.
    pub after_restore: Vec<Taken>,
    /// Why there is no more of it.
    pub failure: Option<String>,
}

/// One snapshot.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Taken {
    /// By QEMU's events, all that happened added up; none where the snapshot ends the guest.
    pub pause_ms: Option<f64>,
    /// How often the guest was stopped.
    pub stops: usize,
    /// The longest silence of the guest from the command to some seconds after it.
    pub silence_ms: Option<f64>,
    /// From the start of the user's command to its end.
    pub command_ms: f64,
    /// From the start of the user's command until all files were synced.
    pub durable_ms: f64,
    /// By how much the files have grown on the disk.
    pub grown_bytes: f64,
    /// What the guest's load has changed of its memory since the snapshot before.
    pub changed_bytes: Option<f64>,
    pub claims: Claims,
}

/// One restore.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Restored {
    /// From the start of the first command to the guest's first sign of life.
    pub first_beat_ms: f64,
    /// The same, from the start of the last command: of that which starts the guest.
    pub start_to_beat_ms: f64,
    /// From the start of the first command to the end of the last.
    pub command_ms: f64,
    /// From the start of the first command until all memory was there, where that is later.
    pub resident_ms: Option<f64>,
}

impl Results {
    /// What went wrong and makes the run a failure: anything that went wrong with this program.
    pub fn complaint(&self) -> Option<String> {
        self.cases.iter().find_map(|case| {
            let failed = |row: &&Row| contender::is_ours(&row.contender) && row.failure.is_some();
            let row = case.rows.iter().find(failed)?;
            let why = row.failure.as_deref().unwrap_or_default();
            Some(format!("{} at {} MiB: {why}", row.contender, case.ram_mib))
        })
    }

    /// Written whole or not at all.
    pub fn write(&self, file: &Path) -> Outcome {
        let new = file.with_extension("new");
        fs::write(&new, serde_json::to_string(self)?)?;
        fs::rename(new, file)?;
        Ok(())
    }
}

/// Reads a record, or the output of `--json`, of which it is in the last line.
pub fn read(file: &Path) -> Result<Results, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| named(&error))?;
    let line = text.lines().last().unwrap_or_default();
    Ok(serde_json::from_str(line).map_err(|error| named(&error))?)
}

/// Several runs as one. They must be of the same machine with the same programs.
pub fn together(all: Vec<Results>) -> Result<Results, Failure> {
    let mut all = all.into_iter();
    let mut first = all.next().ok_or("there are no results")?;
    for next in all {
        if !next.host.is_like(&first.host) {
            return Err("the records are of different machines or programs".into());
        }
        first.cases.extend(next.cases);
    }
    Ok(first)
}
