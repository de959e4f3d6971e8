//! RequestStateChange of machines, and the shutdown component.

use super::{Answer, Outcome, Refusal};
use crate::host::Host;
use crate::subject::Subject;
use cim_broker::Arguments;
use machines::request::{Actor, StateRequest};

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
        let request = self.version.requested(state).ok_or_else(|| {
            Refusal::invalid(format!("{state} is not a state that can be requested."))
        })?;
        let job = self
            .machines
            .request_state(actor, machine.id, request)
            .await?;
        Ok(self.started(job))
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
