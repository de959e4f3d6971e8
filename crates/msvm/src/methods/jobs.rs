//! What jobs are asked: to stop, and why they failed.

use super::arguments::instances;
use super::{Answer, Outcome, Refusal};
use crate::errors;
use crate::host::Host;
use crate::read::job_failure;
use crate::subject::Subject;
use cim::{CimError, DateTime, Instance, Value};
use cim_broker::Arguments;
use machines::Error;
use machines::model::{Job, JobError};
use machines::request::Actor;
use std::sync::Arc;

const TERMINATE: u16 = 4;
const KILL: u16 = 5;

fn job(target: &Subject) -> Result<&Arc<Job>, Refusal> {
    match target {
        Subject::Job(job) => Ok(job),
        _ => Err(Refusal::invalid("This is not a job.")),
    }
}

impl Host {
    /// Terminate and kill both cancel: the job stops and undoes what it did.
    pub(super) async fn request_job_state(
        &self,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
    ) -> Outcome {
        let job = job(target)?;
        let refused = |codes, text: &str| Refusal {
            codes,
            text: text.to_owned(),
        };
        match arguments.get("TimeoutPeriod").as_datetime() {
            None | Some(DateTime::Interval { micros: 0 }) => {}
            Some(_) => {
                return Err(refused(
                    errors::NO_TIMEOUT,
                    "TimeoutPeriod is not supported; leave it out.",
                ));
            }
        }
        match arguments.get("RequestedState").as_u16() {
            Some(TERMINATE | KILL) => {}
            Some(_) => {
                return Err(refused(
                    errors::WRONG_TRANSITION,
                    "A job can only be terminated (4) or killed (5).",
                ));
            }
            None => return Err(Refusal::invalid("RequestedState is missing.")),
        }
        match self.machines.cancel(actor, job.id).await {
            Ok(()) => Ok(Answer::completed()),
            Err(error @ (Error::JobEnded(_) | Error::NotCancellable(_))) => {
                Err(refused(errors::WRONG_TRANSITION, &error.what()))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The cause of a job's failure as an instance of Msvm_Error.
    fn error_instance(&self, error: &JobError) -> Result<Instance, CimError> {
        let codes = errors::codes(&error.code);
        self.embedded("Msvm_Error", |new| {
            // A software error; major.
            new.set("ErrorType", 4u16)
                .set("OwningEntity", "rootvirt")
                .set("MessageID", error.code.as_str())
                .set("Message", error.what.as_str())
                .set("PerceivedSeverity", 5u16)
                .set("ProbableCause", 0u16)
                .set("ProbableCauseDescription", error.why.as_str())
                .set("RecommendedActions", Value::from([error.remedy.as_str()]))
                .set("ErrorSourceFormat", 0u16)
                .set("CIMStatusCode", u32::from(codes.status as u16))
                .set(
                    "CIMStatusCodeDescription",
                    format!("0x{:08X}", codes.hresult),
                )
        })
    }

    /// NULL while the job runs and when it has completed.
    pub(super) fn get_error(&self, target: &Subject) -> Outcome {
        let Some(error) = job_failure(&job(target)?.state) else {
            return Ok(Answer::completed());
        };
        let text = cim_xml::embedded::write_instance(&self.error_instance(error)?);
        Ok(Answer::completed().with("Error", text))
    }

    /// The same, as the array that the declaration makes it.
    pub(super) fn get_error_ex(&self, target: &Subject) -> Outcome {
        let Some(error) = job_failure(&job(target)?.state) else {
            return Ok(Answer::completed());
        };
        let instance = Value::from(self.error_instance(error)?);
        Ok(Answer::completed().with("Errors", Value::Array(vec![instance])))
    }
}

/// One line for each error: its message, or the name of its cause.
pub(super) fn format_error(arguments: &Arguments) -> Outcome {
    let errors = instances(arguments, "Errors")?;
    if errors.is_empty() {
        return Err(Refusal::invalid("Errors is missing."));
    }
    let lines: Vec<&str> = errors
        .iter()
        .map(|error| {
            error
                .str("Message")
                .filter(|text| !text.is_empty())
                .or_else(|| error.str("MessageID"))
                .unwrap_or("Unknown error.")
        })
        .collect();
    Ok(Answer::completed().with("ErrorMessage", lines.join("\n")))
}
