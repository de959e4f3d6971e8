//! The methods: one table of who may call what, and the dispatch to the code behind.
//!
//! A method answers a return code, never a protocol error, for whatever is wrong with its
//! arguments: that is what clients of these classes expect. What exactly was wrong goes to the log
//! and, for jobs, into the job.

mod arguments;
mod define;
mod jobs;
mod resources;
mod snapshot_service;
mod snapshots;
mod state;
mod summary;

use crate::errors::{self, code};
use crate::host::Host;
use crate::subject::{COMPUTER_SYSTEM, JOB, SERVICE, SNAPSHOT_SERVICE, Subject};
use cim::{CimError, Name, ObjectPath, Value};
use cim_broker::{Arguments, Context, MethodOutcome, Role};
use machines::JobId;
use machines::request::Actor;

/// What is behind a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Define,
    ModifySystem,
    Destroy,
    AddResources,
    ModifyResources,
    RemoveResources,
    CreateSnapshot,
    ApplySnapshot,
    ApplySnapshotEx,
    RemoveSnapshot,
    RemoveSnapshotTree,
    Summary,
    FormatError,
    SystemState,
    JobState,
    GetError,
    GetErrorEx,
    Shutdown,
    CheckSnapshot,
    VerifySnapshot,
    RehearseSnapshot,
}

/// Every method that does something, and the role that a caller needs.
const METHODS: &[(&str, &str, Role, Verb)] = &[
    (
        SERVICE,
        "DefineVirtualSystem",
        Role::Administrator,
        Verb::Define,
    ),
    (
        SERVICE,
        "ModifyVirtualSystem",
        Role::Administrator,
        Verb::ModifySystem,
    ),
    (
        SERVICE,
        "DestroyVirtualSystem",
        Role::Administrator,
        Verb::Destroy,
    ),
    (
        SERVICE,
        "AddVirtualSystemResources",
        Role::Administrator,
        Verb::AddResources,
    ),
    (
        SERVICE,
        "ModifyVirtualSystemResources",
        Role::Administrator,
        Verb::ModifyResources,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemResources",
        Role::Administrator,
        Verb::RemoveResources,
    ),
    (
        SERVICE,
        "CreateVirtualSystemSnapshot",
        Role::Operator,
        Verb::CreateSnapshot,
    ),
    (
        SERVICE,
        "ApplyVirtualSystemSnapshot",
        Role::Operator,
        Verb::ApplySnapshot,
    ),
    (
        SERVICE,
        "ApplyVirtualSystemSnapshotEx",
        Role::Operator,
        Verb::ApplySnapshotEx,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemSnapshot",
        Role::Administrator,
        Verb::RemoveSnapshot,
    ),
    (
        SERVICE,
        "RemoveVirtualSystemSnapshotTree",
        Role::Administrator,
        Verb::RemoveSnapshotTree,
    ),
    (
        SERVICE,
        "GetSummaryInformation",
        Role::Viewer,
        Verb::Summary,
    ),
    (SERVICE, "FormatError", Role::Viewer, Verb::FormatError),
    (
        COMPUTER_SYSTEM,
        "RequestStateChange",
        Role::Operator,
        Verb::SystemState,
    ),
    (JOB, "RequestStateChange", Role::Operator, Verb::JobState),
    (JOB, "GetError", Role::Viewer, Verb::GetError),
    (JOB, "GetErrorEx", Role::Viewer, Verb::GetErrorEx),
    (
        "Msvm_ShutdownComponent",
        "InitiateShutdown",
        Role::Operator,
        Verb::Shutdown,
    ),
    (
        SNAPSHOT_SERVICE,
        "CheckSnapshot",
        Role::Viewer,
        Verb::CheckSnapshot,
    ),
    (
        SNAPSHOT_SERVICE,
        "VerifySnapshot",
        Role::Operator,
        Verb::VerifySnapshot,
    ),
    (
        SNAPSHOT_SERVICE,
        "RehearseSnapshot",
        Role::Operator,
        Verb::RehearseSnapshot,
    ),
];

fn find(class: &Name, method: &Name) -> Option<(Role, Verb)> {
    METHODS
        .iter()
        .find(|(on, name, ..)| class.is(on) && method.is(name))
        .map(|(.., role, verb)| (*role, *verb))
}

/// The role a caller needs. A method that does nothing here is refused as unsupported to anyone
/// who may read.
pub(crate) fn required_role(class: &Name, method: &Name) -> Role {
    find(class, method).map_or(Role::Viewer, |(role, _)| role)
}

/// Why a method does not do what it was asked: a return code, and a sentence for the log.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: u32,
    pub text: String,
}

impl Refusal {
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Refusal {
            code: code::INVALID_PARAMETER,
            text: text.into(),
        }
    }

    pub(crate) fn unsupported(text: impl Into<String>) -> Self {
        Refusal {
            code: code::NOT_SUPPORTED,
            text: text.into(),
        }
    }
}

impl From<machines::Error> for Refusal {
    fn from(error: machines::Error) -> Self {
        Refusal {
            code: errors::codes(error.code()).v1,
            text: format!("{} {} {}", error.what(), error.why(), error.remedy()),
        }
    }
}

impl From<CimError> for Refusal {
    fn from(error: CimError) -> Self {
        Refusal {
            code: code::FAILED,
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

/// A return value alone. Every method of these classes returns an unsigned number; the broker
/// fits it to the declared width.
pub(crate) fn returning(code: u32) -> MethodOutcome {
    MethodOutcome {
        return_value: Value::Uint32(code),
        out: Vec::new(),
        explanation: None,
    }
}

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
        let outcome = match (find(&target.class, method), self.resolve(target)) {
            (Some((_, verb)), Some(subject)) => {
                self.perform(verb, &actor(context), &subject, arguments)
                    .await
            }
            (Some(_), None) => Err(Refusal {
                code: code::NOT_AVAILABLE,
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
                tracing::info!(
                    user = %context.user,
                    peer = %context.peer,
                    class = %target.class,
                    %method,
                    code = refusal.code,
                    reason = %refusal.text,
                    "method refused"
                );
                MethodOutcome {
                    explanation: Some(refusal.text),
                    ..returning(refusal.code)
                }
            }
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
            Verb::Destroy => self.destroy(actor, arguments).await,
            Verb::AddResources => self.add_resources(actor, arguments).await,
            Verb::ModifyResources => self.modify_resources(actor, arguments).await,
            Verb::RemoveResources => self.remove_resources(actor, arguments).await,
            Verb::CreateSnapshot => self.create_snapshot(actor, arguments).await,
            Verb::ApplySnapshot => self.apply_snapshot(actor, arguments).await,
            Verb::ApplySnapshotEx => self.apply_snapshot_ex(actor, arguments).await,
            Verb::RemoveSnapshot => self.remove_snapshot(actor, arguments, false).await,
            Verb::RemoveSnapshotTree => self.remove_snapshot(actor, arguments, true).await,
            Verb::Summary => self.summary(arguments),
            Verb::FormatError => jobs::format_error(arguments),
            Verb::SystemState => self.request_state(actor, target, arguments).await,
            Verb::JobState => self.request_job_state(actor, target, arguments).await,
            Verb::GetError => self.get_error(target),
            Verb::GetErrorEx => self.get_error_ex(target),
            Verb::Shutdown => self.initiate_shutdown(actor, target).await,
            Verb::CheckSnapshot => self.check_snapshot(actor, arguments).await,
            Verb::VerifySnapshot => self.verify_snapshot(actor, arguments).await,
            Verb::RehearseSnapshot => self.rehearse_snapshot(actor, arguments).await,
        }
    }
}
