//! Taking, applying and removing snapshots.

use super::{Answer, Outcome, Refusal};
use crate::errors;
use crate::host::Host;
use crate::read::job_failure;
use cim_broker::Arguments;
use machines::JobId;
use machines::model::Consistency;
use machines::request::Actor;

impl Host {
    /// Always a job, never 0: clients read `Job` without looking at anything else. The new
    /// snapshot is found through the job; `SnapshotSettingData` stays NULL.
    pub(super) async fn create_snapshot(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let machine = self.machine(arguments, "SourceSystem")?;
        let job = self.machines.create_snapshot(actor, machine.id).await?;
        Ok(self.started(job))
    }

    /// The same with a way to ask for more than V1 has a parameter for.
    pub(super) async fn create_prepared_snapshot(
        &self,
        actor: &Actor,
        arguments: &Arguments,
    ) -> Outcome {
        let machine = self.machine(arguments, "SourceSystem")?;
        let level = arguments.get("ConsistencyLevel");
        let consistency = match level.as_u16() {
            None if level.is_null() => Consistency::Crash,
            Some(1) => Consistency::Application,
            Some(2) => Consistency::Crash,
            _ => return Err(Refusal::invalid("ConsistencyLevel is neither 1 nor 2.")),
        };
        let job = self
            .machines
            .create_snapshot_with(actor, machine.id, consistency)
            .await?;
        Ok(self.started(job))
    }

    async fn begin_apply(&self, actor: &Actor, arguments: &Arguments) -> Result<JobId, Refusal> {
        let machine = self.machine(arguments, "ComputerSystem")?;
        let (owner, snapshot) = self.snapshot(arguments, "SnapshotSettingData")?;
        if owner.id != machine.id {
            return Err(machines::Error::ForeignSnapshot {
                snapshot: snapshot.id,
                machine: machine.id,
            }
            .into());
        }
        Ok(self
            .machines
            .apply_snapshot(actor, machine.id, snapshot.id)
            .await?)
    }

    /// Waits for the end: the method has no `Job`, and clients take anything but 0 for a failure.
    pub(super) async fn apply_snapshot(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let id = self.begin_apply(actor, arguments).await?;
        let job = self.machines.wait(id).await?;
        match job_failure(&job.state) {
            None => Ok(Answer::completed()),
            Some(error) => Err(Refusal {
                codes: errors::codes(&error.code),
                text: format!("{} {} {}", error.what, error.why, error.remedy),
            }),
        }
    }

    pub(super) async fn apply_snapshot_ex(&self, actor: &Actor, arguments: &Arguments) -> Outcome {
        let job = self.begin_apply(actor, arguments).await?;
        Ok(self.started(job))
    }

    pub(super) async fn remove_snapshot(
        &self,
        actor: &Actor,
        arguments: &Arguments,
        parameter: &str,
        tree: bool,
    ) -> Outcome {
        let (_, snapshot) = self.snapshot(arguments, parameter)?;
        let job = if tree {
            self.machines
                .remove_snapshot_tree(actor, snapshot.id)
                .await?
        } else {
            self.machines.remove_snapshot(actor, snapshot.id).await?
        };
        Ok(self.started(job))
    }
}
