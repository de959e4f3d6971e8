//! RequestStateChange of machines, and the shutdown component.

use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::subject::Subject;
use crate::version::Version;
use cim_broker::Arguments;
use machines::model::JobState;
use machines::request::{Actor, StateRequest};
use machines::{JobId, MachineId};

/// V2's `RequestedState` for a reboot by the guest's own doing.
const REBOOT: u16 = 10;

impl Host {
    pub(super) async fn request_state(
        &self,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
    ) -> Outcome {
        let Subject::Machine(machine) = target else {
            return Err(Refusal::unsupported(
                "The state of the host cannot be changed.",
            ));
        };
        // TimeoutPeriod is not looked at: clients pass NULL or 0, and others cannot be honoured.
        let state = arguments
            .get("RequestedState")
            .as_u16()
            .ok_or_else(|| Refusal::invalid("RequestedState is missing."))?;
        if self.version == Version::V2 && state == REBOOT {
            let job = self.reboot(actor, machine.id).await?;
            return Ok(self.started(job));
        }
        let request = self.version.requested(state).ok_or_else(|| {
            Refusal::invalid(format!("{state} is not a state that can be requested."))
        })?;
        let job = self
            .machines
            .request_state(actor, machine.id, request)
            .await?;
        Ok(self.started(job))
    }

    /// The guest is asked to shut down, and the machine started again when it has. The job is the
    /// first half's; the second has one of its own.
    async fn reboot(&self, actor: &Actor, id: MachineId) -> Result<JobId, Refusal> {
        let machines = self.machines.clone();
        let down = machines
            .request_state(actor, id, StateRequest::ShutDown)
            .await?;
        let actor = actor.clone();
        tokio::spawn(async move {
            let ended = machines.wait(down).await;
            if !ended.is_ok_and(|job| job.state == JobState::Completed) {
                return;
            }
            let started = machines.request_state(&actor, id, StateRequest::Run).await;
            if let Err(error) = started {
                tracing::warn!(machine = %id, %error, "shut down for a reboot, but not started");
            }
        });
        Ok(down)
    }

    /// The same from the shutdown component, which answers no job.
    pub(super) async fn initiate_reboot(&self, actor: &Actor, target: &Subject) -> Outcome {
        let Subject::Device(machine, _) = target else {
            return Err(Refusal::invalid(
                "This is not a device of a virtual machine.",
            ));
        };
        self.reboot(actor, machine.id).await?;
        Ok(Answer::completed())
    }

    /// 0 and no job: that is what clients know. They watch the machine's state.
    pub(super) async fn initiate_shutdown(&self, actor: &Actor, target: &Subject) -> Outcome {
        let Subject::Device(machine, _) = target else {
            return Err(Refusal::invalid(
                "This is not a device of a virtual machine.",
            ));
        };
        self.machines
            .request_state(actor, machine.id, StateRequest::ShutDown)
            .await?;
        Ok(Answer::completed())
    }
}
