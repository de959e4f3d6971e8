//! The methods: the dispatch from their table (`table`) to the code behind. What V2 calls otherwise
//! is taken apart in `v2`, and done by the same code as V1's.
//!
//! A method answers a return code, never a protocol error, for whatever is wrong with its
//! arguments: that is what clients of these classes expect. What exactly was wrong goes to the log
//! and, for jobs, into the job.

mod arguments;
mod connections;
mod define;
mod jobs;
mod keyboard;
mod resources;
mod snapshot_service;
mod snapshots;
mod state;
mod summary;
mod table;
mod thumbnail;
mod v2;

use crate::errors::{self, Codes, code};
use crate::host::Host;
use crate::subject::{JOB, Subject};
use cim::{CimError, Name, ObjectPath, Value};
use cim_broker::{Arguments, Context, MethodOutcome};
use machines::JobId;
use machines::request::Actor;

use keyboard::Touch;
pub(crate) use table::required_role;
use table::{Verb, find};

/// Why a method does not do what it was asked: the codes of the cause, and a sentence for the log.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub codes: Codes,
    pub text: String,
}

impl Refusal {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Refusal {
            codes: errors::WRONG,
            text: text.into(),
        }
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Refusal {
            codes: errors::UNSUPPORTED,
            text: text.into(),
        }
    }
}

impl From<machines::Error> for Refusal {
    fn from(error: machines::Error) -> Self {
        Refusal {
            codes: errors::codes(error.code()),
            text: format!("{} {} {}", error.what(), error.why(), error.remedy()),
        }
    }
}

impl From<CimError> for Refusal {
    fn from(error: CimError) -> Self {
        Refusal {
            codes: errors::FAILED,
            text: error.message,
        }
    }
}

/// What a method came to: its return code and output parameters.
pub(crate) struct Answer {
    code: u32,
    out: Vec<(Name, Value)>,
}

impl Answer {
    pub(crate) fn completed() -> Self {
        Answer {
            code: code::COMPLETED,
            out: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, parameter: &str, value: impl Into<Value>) -> Self {
        self.out.push((Name::new(parameter), value.into()));
        self
    }
}

pub(crate) type Outcome = Result<Answer, Refusal>;

fn actor(context: &Context) -> Actor {
    Actor {
        user: context.user.clone(),
        peer: context.peer.clone(),
    }
}

impl Host {
    /// The path of a job, which ends with `InstanceID="<id>"` and nothing after it: clients cut
    /// the id out of the text.
    pub(crate) fn job_path(&self, id: JobId) -> ObjectPath {
        self.locate(ObjectPath::of_instance(
            JOB,
            [("InstanceID", id.to_string())],
        ))
    }

    /// 4096, with the job.
    fn started(&self, id: JobId) -> Answer {
        Answer {
            code: code::JOB_STARTED,
            out: vec![(Name::new("Job"), self.job_path(id).into())],
        }
    }

    /// Calls `method` on the object that `target` names.
    pub(crate) async fn call(
        &self,
        context: &Context,
        target: &ObjectPath,
        method: &Name,
        arguments: &Arguments,
    ) -> MethodOutcome {
        let outcome = match (
            find(self.version, &target.class, method),
            self.resolve(target),
        ) {
            (Some((_, verb)), Some(subject)) => {
                self.perform(verb, &actor(context), &subject, arguments)
                    .await
            }
            (Some(_), None) => Err(Refusal {
                codes: errors::UNAVAILABLE,
                text: format!("{} does not exist any more.", target.relpath()),
            }),
            (None, _) => Err(Refusal::unsupported(format!(
                "The method {method} of {} does nothing here.",
                target.class
            ))),
        };
        match outcome {
            Ok(answer) => MethodOutcome {
                return_value: Value::Uint32(answer.code),
                out: answer.out,
                explanation: None,
            },
            Err(refusal) => {
                let outcome = self.refused(&target.class, method, refusal);
                tracing::info!(
                    user = %context.user,
                    peer = %context.peer,
                    class = %target.class,
                    %method,
                    code = ?outcome.return_value,
                    reason = outcome.explanation.as_deref().unwrap_or_default(),
                    "method refused"
                );
                outcome
            }
        }
    }

    /// The outcome of a method that refuses, with the return code that this version has for the
    /// cause. Every method of these classes returns an unsigned number; the broker fits it to the
    /// declared width.
    pub(crate) fn refused(&self, class: &Name, method: &Name, refusal: Refusal) -> MethodOutcome {
        let declared = |code: u32| {
            let decl = self.class(class.as_str()).ok();
            let decl = decl.and_then(|class| class.method(method.as_str()));
            let map = decl.and_then(|method| method.qualifier("ValueMap"));
            let map = map.and_then(|map| map.value.as_array()).unwrap_or_default();
            let code = code.to_string();
            map.iter().any(|item| item.as_str() == Some(code.as_str()))
        };
        MethodOutcome {
            return_value: Value::Uint32(self.version.return_code(refusal.codes, declared)),
            out: Vec::new(),
            explanation: Some(refusal.text),
        }
    }

    async fn perform(
        &self,
        verb: Verb,
        actor: &Actor,
        target: &Subject,
        arguments: &Arguments,
    ) -> Outcome {
        match verb {
            Verb::Define => self.define(actor, arguments).await,
            Verb::ModifySystem => self.modify_system(actor, arguments).await,
            Verb::Destroy => self.destroy(actor, arguments, "ComputerSystem").await,
            Verb::AddResources => self.add_resources(actor, arguments).await,
            Verb::ModifyResources => self.modify_resources(actor, arguments).await,
            Verb::RemoveResources => self.remove_resources(actor, arguments).await,
            Verb::CreateSnapshot => self.create_snapshot(actor, arguments).await,
            Verb::ApplySnapshot => self.apply_snapshot(actor, arguments).await,
            Verb::ApplySnapshotEx => self.apply_snapshot_ex(actor, arguments).await,
            Verb::RemoveSnapshot => {
                self.remove_snapshot(actor, arguments, "SnapshotSettingData", false)
                    .await
            }
            Verb::RemoveSnapshotTree => {
                self.remove_snapshot(actor, arguments, "SnapshotSettingData", true)
                    .await
            }
            Verb::Summary => self.summary(arguments),
            Verb::DefineV2 => self.define_v2(actor, arguments).await,
            Verb::ModifySystemV2 => self.modify_system_v2(actor, arguments).await,
            Verb::DestroyV2 => self.destroy(actor, arguments, "AffectedSystem").await,
            Verb::AddResourcesV2 => self.add_resources_v2(actor, arguments).await,
            Verb::ModifyResourcesV2 => self.modify_resources_v2(actor, arguments).await,
            Verb::RemoveResourcesV2 => self.remove_resources_v2(actor, arguments).await,
            Verb::CreateSnapshotV2 => self.create_snapshot_v2(actor, arguments).await,
            Verb::ApplySnapshotV2 => self.apply_snapshot_v2(actor, arguments).await,
            Verb::ClearSnapshot => self.clear_snapshot(arguments),
            Verb::DestroySnapshot => {
                self.remove_snapshot(actor, arguments, "AffectedSnapshot", false)
                    .await
            }
            Verb::FormatError => jobs::format_error(arguments),
            Verb::SystemState => self.request_state(actor, target, arguments).await,
            Verb::JobState => self.request_job_state(actor, target, arguments).await,
            Verb::GetError => self.get_error(target),
            Verb::GetErrorEx => self.get_error_ex(target),
            Verb::Shutdown => self.initiate_shutdown(actor, target).await,
            Verb::CreatePrepared => self.create_prepared_snapshot(actor, arguments).await,
            Verb::Reboot => self.initiate_reboot(actor, target).await,
            Verb::PressKey => self.touch_key(actor, target, arguments, Touch::Press).await,
            Verb::ReleaseKey => {
                self.touch_key(actor, target, arguments, Touch::Release)
                    .await
            }
            Verb::TypeKey => self.touch_key(actor, target, arguments, Touch::Type).await,
            Verb::TypeText => self.type_text(actor, target, arguments).await,
            Verb::TypeScanCodes => self.type_scan_codes(actor, target, arguments).await,
            Verb::ControlAltDelete => self.control_alt_delete(actor, target).await,
            Verb::Thumbnail => self.thumbnail(actor, arguments).await,
            Verb::CheckSnapshot => self.check_snapshot(actor, arguments).await,
            Verb::VerifySnapshot => self.verify_snapshot(actor, arguments).await,
            Verb::RehearseSnapshot => self.rehearse_snapshot(actor, arguments).await,
        }
    }
}
