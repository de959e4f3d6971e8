//! What this service measures and Hyper-V's classes have no property for: classes of our own, with
//! our own prefix, beside them. `mof/rootvirt.mof` declares them.

use crate::host::Host;
use crate::read::job::failure;
use crate::subject::{JOB_STATISTICS, PROCESS, RESTORE_STATISTICS, SNAPSHOT_STATISTICS};
use cim::{CimError, Instance};
use machines::model::{Consistency, Job, Machine, Snapshot};
use std::time::Duration;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// As V2's Msvm_VirtualSystemSnapshotSettingData has it.
fn consistency_level(consistency: Consistency) -> u8 {
    match consistency {
        Consistency::Application => 1,
        Consistency::Crash => 2,
    }
}

impl Host {
    pub(super) fn snapshot_statistics(&self, snapshot: &Snapshot) -> Result<Instance, CimError> {
        self.named(SNAPSHOT_STATISTICS, |new| {
            new.set("InstanceID", format!("Microsoft:{}", snapshot.id))
                .set("SystemName", snapshot.machine.to_string())
                .set("HasMemory", snapshot.has_memory)
                .set("Pause", snapshot.pause.map(micros))
                .set("ConsistencyLevel", consistency_level(snapshot.consistency))
                .set("TimeAtRest", snapshot.at_rest.map(micros))
                .set("TimeToDurable", micros(snapshot.durable))
                .set("StoredBytes", snapshot.stored_bytes)
        })
    }

    pub(super) fn job_statistics(&self, job: &Job) -> Result<Instance, CimError> {
        let failure = failure(&job.state);
        self.named(JOB_STATISTICS, |new| {
            new.set("InstanceID", job.id.to_string())
                .set("SystemName", job.machine.to_string())
                .set("BytesWritten", job.bytes.0)
                .set("BytesExpected", job.bytes.1)
                .set("Pause", job.pause.map(micros))
                .set("TimeAtRest", job.at_rest.map(micros))
                .set("Cause", failure.map(|error| error.code.as_str()))
                .set("What", failure.map(|error| error.what.as_str()))
                .set("Why", failure.map(|error| error.why.as_str()))
                .set("Remedy", failure.map(|error| error.remedy.as_str()))
        })
    }

    pub(super) fn restore_statistics(&self, machine: &Machine) -> Result<Instance, CimError> {
        let restored = machine.restored.clone().unwrap_or_default();
        self.named(RESTORE_STATISTICS, |new| {
            new.set("SystemName", machine.id.to_string())
                .set("OnDemand", restored.whole_because.is_none())
                .set("WholeReason", restored.whole_because.as_deref())
                .set("TimeToRunning", restored.running.map(micros))
                .set("TimeToHeartbeat", restored.first_heartbeat.map(micros))
                .set("TimeToResident", restored.resident.map(micros))
                .set("PagesRequested", restored.requests)
                .set("TimeWaited", restored.waited.map(micros))
        })
    }

    pub(super) fn process_instance(&self, machine: &Machine) -> Result<Instance, CimError> {
        let process = machine.process.as_ref();
        self.named(PROCESS, |new| {
            new.set("SystemName", machine.id.to_string())
                .set("ProcessID", process.map(|process| process.pid))
                .set(
                    "Accelerator",
                    process.map(|process| process.accelerator.0.as_str()),
                )
                .set(
                    "AcceleratorReason",
                    process.map(|process| process.accelerator.1.as_str()),
                )
                .set(
                    "MemoryBacking",
                    process.map(|process| process.memory_backing.0.as_str()),
                )
                .set(
                    "MemoryBackingReason",
                    process.map(|process| process.memory_backing.1.as_str()),
                )
                .set(
                    "MemoryHealth",
                    self.machines
                        .memory_health(machine.id)
                        .map(|h| h.to_string()),
                )
        })
    }
}
