//! The service for looking at snapshots and trying them out, and what that found.

use super::{datetime, texts};
use crate::host::Host;
use crate::subject::{
    COMPUTER_SYSTEM, SNAPSHOT_FILE, SNAPSHOT_REHEARSAL, SNAPSHOT_SERVICE, SNAPSHOT_SERVICE_NAME,
};
use cim::{CimError, Instance, Value};
use machines::integrity::{Depth, FileState, Verification};
use machines::model::Snapshot;
use machines::rehearsal::{Outcome, Rehearsal};

impl Host {
    pub(super) fn snapshot_service_instance(&self) -> Result<Instance, CimError> {
        self.named(SNAPSHOT_SERVICE, |new| {
            new.set("Caption", "Snapshot Service")
                .set("Description", "Checks, verifies and rehearses snapshots")
                .set("ElementName", "Snapshot Service")
                .set("SystemCreationClassName", COMPUTER_SYSTEM)
                .set("SystemName", self.name.as_str())
                .set("CreationClassName", SNAPSHOT_SERVICE)
                .set("Name", SNAPSHOT_SERVICE_NAME)
                .set("OperationalStatus", vec![2u16])
                .set("StatusDescriptions", texts(["OK"]))
                .set("HealthState", 5u16)
                .set("EnabledState", 2u16)
                .set("Started", true)
        })
    }

    pub(super) fn snapshot_file_instance(
        &self,
        snapshot: &Snapshot,
        report: &Verification,
        index: usize,
    ) -> Result<Instance, CimError> {
        let id = format!("Microsoft:{}", snapshot.id);
        let depth: u16 = match report.depth {
            Depth::Full => 2,
            Depth::Metadata | Depth::Off => 1,
        };
        let Some(file) = report.files.get(index) else {
            return Err(CimError::new(
                cim::CimStatus::NotFound,
                "The snapshot has no such file.".to_owned(),
            ));
        };
        let state: u16 = match file.state {
            FileState::Fine => 2,
            FileState::NotHashed => 3,
            FileState::Damaged => 4,
            FileState::Changed => 5,
            FileState::Missing => 6,
        };
        let offsets = file.damage.iter().map(|d| Value::Uint64(d.offset));
        let lengths = file.damage.iter().map(|d| Value::Uint64(d.length));
        self.named(SNAPSHOT_FILE, |new| {
            new.set("InstanceID", format!("{id}\\{index}"))
                .set("SystemName", snapshot.machine.to_string())
                .set("Snapshot", id)
                .set("Verified", datetime(report.begun))
                .set("Depth", depth)
                .set("Role", file.role.to_string())
                .set("Path", file.path.to_string_lossy().into_owned())
                .set("Length", file.bytes)
                .set("State", state)
                .set("DamageOffsets", Value::Array(offsets.collect()))
                .set("DamageLengths", Value::Array(lengths.collect()))
                .set("DamageTexts", texts(file.damage.iter().map(|d| &d.what)))
                .set("Description", file.sentence())
        })
    }

    pub(super) fn snapshot_rehearsal_instance(
        &self,
        snapshot: &Snapshot,
        seen: &Rehearsal,
    ) -> Result<Instance, CimError> {
        let outcome: u16 = match seen.outcome {
            Outcome::Lived => 2,
            Outcome::Ran => 3,
            Outcome::Failed => 4,
        };
        self.named(SNAPSHOT_REHEARSAL, |new| {
            new.set("InstanceID", format!("Microsoft:{}", snapshot.id))
                .set("SystemName", snapshot.machine.to_string())
                .set("Rehearsed", datetime(seen.begun))
                .set("Outcome", outcome)
                .set("Description", seen.what.as_str())
                .set("TimeToLoaded", seen.loaded_micros)
                .set("TimeToRunning", seen.running_micros)
                .set("TimeToSignOfLife", seen.sign_micros)
                .set("SignOfLife", seen.sign.as_deref())
                .set("ProcessorTime", seen.processor_micros)
                .set("Duration", seen.took_micros)
        })
    }
}
