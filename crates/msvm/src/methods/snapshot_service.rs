//! Asking before a snapshot, verifying and rehearsing one: methods of our own.

use super::{Answer, Outcome, Refusal};
use crate::errors;
use crate::host::Host;
use crate::read::texts;
use cim::{CimError, Instance, Value};
use cim_broker::Arguments;
use machines::forecast::{Basis, Forecast};
use machines::integrity::Depth;
use machines::model::JobError;
use machines::request::Actor;
use machines::{MachineId, rehearsal};
use std::time::Duration;

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn numbers(items: impl Iterator<Item = u64>) -> Value {
    Value::Array(items.map(Value::Uint64).collect())
}

impl Host {
    pub(super) async fn check_snapshot(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "SourceSystem")?;
        let forecast = self.machines.check_snapshot(actor, machine.id).await?;
        let instance = self.forecast_instance(machine.id, &forecast)?;
        Ok(Answer::completed().with("Forecast", Value::from(instance)))
    }

    fn forecast_instance(
        &self,
        machine: MachineId,
        forecast: &Forecast,
    ) -> Result<Instance, CimError> {
        let expected = &forecast.expected;
        let refusals = &forecast.refusals;
        let codes = refusals.iter().map(|r| {
            // Every code of the version can be among them.
            self.version.return_code(errors::codes(&r.code), |_| true)
        });
        let text = |r: &JobError| format!("{} {} {}", r.what, r.why, r.remedy);
        let space = &forecast.space;
        let paths = space.iter().map(|s| s.path.to_string_lossy());
        let (backing, reason) = forecast.backing.clone().unzip();
        let basis: u16 = match expected.basis {
            Basis::Nothing => 0,
            Basis::ThisMachine => 1,
            Basis::SimilarMachines => 2,
            Basis::OtherMachines => 3,
        };
        self.embedded("Rootvirt_SnapshotForecast", |new| {
            new.set("SystemName", machine.to_string())
                .set("EnabledState", self.version.enabled_state(forecast.state))
                .set("Possible", refusals.is_empty())
                .set("WithMemory", forecast.with_memory)
                .set(
                    "RefusalCodes",
                    Value::Array(codes.map(Value::Uint32).collect()),
                )
                .set("RefusalCauses", texts(refusals.iter().map(|r| &r.code)))
                .set("RefusalTexts", texts(refusals.iter().map(text)))
                .set("Warnings", texts(&forecast.warnings))
                .set("SpacePaths", texts(paths))
                .set("SpaceNeeded", numbers(space.iter().map(|s| s.needed)))
                .set("SpaceExpected", numbers(space.iter().map(|s| s.expected)))
                .set("SpaceAvailable", numbers(space.iter().map(|s| s.there)))
                .set("HostMemoryNeeded", forecast.host_memory_mib.0)
                .set("HostMemoryAvailable", forecast.host_memory_mib.1)
                .set("MemoryBacking", backing)
                .set("MemoryBackingReason", reason)
                .set(
                    "ChainDepth",
                    u32::try_from(forecast.chain_depth).unwrap_or(u32::MAX),
                )
                .set("Basis", basis)
                .set(
                    "Samples",
                    u32::try_from(expected.samples).unwrap_or(u32::MAX),
                )
                .set("ExpectedMemoryBytes", expected.memory_bytes)
                .set("ExpectedPause", expected.pause.map(micros))
                .set("LongestPause", expected.longest_pause.map(micros))
                .set("ExpectedTimeToDurable", expected.durable.map(micros))
        })
    }

    pub(super) async fn verify_snapshot(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let (_, snapshot) = self.snapshot(arguments, "SnapshotSettingData")?;
        let depth = arguments.get("Depth");
        let depth = match depth.as_u16() {
            None if depth.is_null() => Depth::Full,
            Some(1) => Depth::Metadata,
            Some(2) => Depth::Full,
            _ => return Err(Refusal::invalid("Depth is neither 1 nor 2.")),
        };
        let job = self
            .machines
            .verify_snapshot(actor, snapshot.id, depth)
            .await?;
        Ok(self.started(job))
    }

    pub(super) async fn rehearse_snapshot(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let (_, snapshot) = self.snapshot(arguments, "SnapshotSettingData")?;
        let patience = arguments.get("Patience");
        let patience = match patience.as_u32().map(|s| Duration::from_secs(s.into())) {
            None if patience.is_null() => rehearsal::USUAL,
            Some(patience) if !patience.is_zero() && patience <= rehearsal::LONGEST => patience,
            _ => return Err(Refusal::invalid("Patience is not 1 to 600 seconds.")),
        };
        let job = self
            .machines
            .rehearse_snapshot(actor, snapshot.id, patience)
            .await?;
        Ok(self.started(job))
    }
}
