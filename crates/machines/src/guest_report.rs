//! What guests' agents tell about their guests: looked at in the background, kept for readers, who
//! never wait for a guest. All of it is the guest's claim.

use crate::ids::MachineId;
use crate::model::Timestamp;
use qemu::agent::AgentError;
use qemu::agent::facts::{Addresses, OsInfo};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;

/// How often an agent that listens is asked for a sign of life.
const BEAT: Duration = Duration::from_secs(10);
/// How often it is asked about the guest.
const FACTS: Duration = Duration::from_secs(60);
/// How often it is looked for, if nothing tells that it is there.
const IDLE: Duration = Duration::from_secs(60);
/// How long it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of a guest from its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestReport {
    /// Whether it answered when it was last asked.
    pub contact: Contact,
    /// When that was.
    pub looked: Timestamp,
    /// What it told when it was last asked about the guest; what it does not tell is empty.
    pub facts: Arc<GuestFacts>,
}

/// Whether the agent answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// It does.
    Answering,
    /// It did, and does no more.
    Lost,
    /// It never has, since the guest was started or the service was.
    Never,
}

/// What an agent tells about its guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// The guest's system.
    pub os: OsInfo,
    /// The guest's own name for itself.
    pub host_name: String,
    /// Its network addresses.
    pub addresses: Addresses,
    /// The agent's version.
    pub agent_version: String,
}

/// The reports of all guests.
#[derive(Debug, Default)]
pub(crate) struct GuestReports(Mutex<HashMap<MachineId, Arc<GuestReport>>>);

impl GuestReports {
    pub fn get(&self, machine: MachineId) -> Option<Arc<GuestReport>> {
        self.lock().get(&machine).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<MachineId, Arc<GuestReport>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows one guest for as long as it is kept.
#[derive(Debug)]
pub(crate) struct Follower {
    machine: MachineId,
    reports: Arc<GuestReports>,
    task: JoinHandle<()>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
        self.reports.lock().remove(&self.machine);
    }
}

/// Begins to follow a guest.
pub(crate) fn follow(
    machine: MachineId,
    process: qemu::Process,
    reports: Arc<GuestReports>,
) -> Follower {
    let place = reports.clone();
    Follower {
        machine,
        reports,
        task: tokio::spawn(async move {
            let mut look = Look::default();
            let mut events = process.events();
            loop {
                let listens = look.once(&process).await;
                let report = Arc::new(look.report());
                place.lock().insert(machine, report);
                let pause = if listens { BEAT } else { IDLE };
                let changed = async {
                    loop {
                        match events.recv().await {
                            Ok(event) if event.name == "VSERPORT_CHANGE" => return,
                            Ok(_) => {}
                            Err(RecvError::Lagged(_)) => return,
                            Err(RecvError::Closed) => std::future::pending().await,
                        }
                    }
                };
                // A guest may open and close its end as quickly as it likes.
                tokio::time::sleep(Duration::from_secs(1)).await;
                let _ = tokio::time::timeout(pause, changed).await;
            }
        }),
    }
}

#[derive(Default)]
struct Look {
    answered: bool,
    answers: bool,
    asked: Option<Instant>,
    facts: Arc<GuestFacts>,
}

impl Look {
    /// Looks once; answers whether somebody listens.
    async fn once(&mut self, process: &qemu::Process) -> bool {
        match process.agent_listens().await {
            Ok(true) => {}
            Ok(false) | Err(AgentError::NoChannel) => {
                self.answers = false;
                self.asked = None;
                return false;
            }
            Err(_) => {
                self.answers = false;
                return true;
            }
        }
        if process.agent().is_busy() {
            // Somebody else talks to it, and sees for himself whether it answers.
            return true;
        }
        self.answers = self.talk(process).await.is_ok();
        self.answered |= self.answers;
        true
    }

    async fn talk(&mut self, process: &qemu::Process) -> Result<(), AgentError> {
        // Finding its place in the stream is a sign of life.
        let mut agent = process.agent().open(PATIENCE).await?;
        if self.asked.is_some_and(|asked| asked.elapsed() < FACTS) {
            return Ok(());
        }
        // An agent that does not know or may not answer a question has refused, and goes on.
        fn or_empty<T: Default>(answer: Result<T, AgentError>) -> Result<T, AgentError> {
            match answer {
                Err(cause) if cause.is_refusal() => Ok(T::default()),
                answer => answer,
            }
        }
        self.facts = Arc::new(GuestFacts {
            os: or_empty(agent.os_info(PATIENCE).await)?,
            host_name: or_empty(agent.host_name(PATIENCE).await)?,
            addresses: or_empty(agent.addresses(PATIENCE).await)?,
            agent_version: or_empty(agent.version(PATIENCE).await)?,
        });
        self.asked = Some(Instant::now());
        Ok(())
    }

    fn report(&self) -> GuestReport {
        GuestReport {
            contact: match (self.answers, self.answered) {
                (true, _) => Contact::Answering,
                (false, true) => Contact::Lost,
                (false, false) => Contact::Never,
            },
            looked: Timestamp::now(),
            facts: self.facts.clone(),
        }
    }
}
