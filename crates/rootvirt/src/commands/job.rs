//! `job ...`, and following a job that another command started.

use crate::cli::{Format, Job, JobArg};
use crate::commands::text;
use crate::failure::Failure;
use crate::output::{self, Rows};
use crate::service::{Reply, Service};
use cim::{Instance, KeyValue, Keys, Name, ObjectPath, Value};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, json};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A job that is followed is looked at again after this share of the time that it has taken so far,
/// within limits: its end is seen soon, and long ones cost little.
const POLL_SHARE: u32 = 50;
const SHORTEST_POLL: Duration = Duration::from_millis(2);
const LONGEST_POLL: Duration = Duration::from_millis(100);

/// What to do with a job that a call has started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Follow it to its end, with a progress bar on a terminal.
    Visibly,
    /// Follow it to its end.
    Silently,
    /// Print it and go.
    No,
}

impl Wait {
    /// For the option `--no-wait`.
    pub fn unless(no_wait: bool) -> Self {
        if no_wait { Wait::No } else { Wait::Visibly }
    }
}

/// Sees a call through that answered 0, 4096 with a job, or an error. Gives the job's path when
/// there was one.
pub async fn finish(
    service: &Service,
    reply: Reply,
    wait: Wait,
    format: Format,
) -> Result<Option<ObjectPath>, Failure> {
    if reply.code == 0 {
        return Ok(None);
    }
    if reply.code != 4096 {
        return Err(reply.failure());
    }
    let path = reply.reference("Job")?;
    if wait == Wait::No {
        output::record(&row(&service.get(&path).await?), format)?;
        return Ok(Some(path));
    }
    follow(service, &path, wait).await?;
    Ok(Some(path))
}

/// Sees a job through to its end.
pub async fn follow(service: &Service, path: &ObjectPath, wait: Wait) -> Result<(), Failure> {
    let bar = progress_bar(wait);
    let began = Instant::now();
    loop {
        let job = service.get(path).await?;
        bar.set_position(text::number(&job, "PercentComplete").unwrap_or(0));
        if let Some(text) = text::string(&job, "Description") {
            bar.set_message(text.to_owned());
        }
        match text::number(&job, "JobState") {
            Some(7) => {
                bar.finish_and_clear();
                return Ok(());
            }
            Some(2..=5) => {
                let pause = began.elapsed() / POLL_SHARE;
                tokio::time::sleep(pause.clamp(SHORTEST_POLL, LONGEST_POLL)).await;
            }
            _ => {
                bar.finish_and_clear();
                return Err(job_failure(service, &job).await);
            }
        }
    }
}

fn progress_bar(wait: Wait) -> ProgressBar {
    if wait != Wait::Visibly || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(100);
    if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {pos:>3}% {elapsed}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// A failed job in words: what happened, why, and what to do.
async fn job_failure(service: &Service, job: &Instance) -> Failure {
    let code = text::number(job, "ErrorCode").unwrap_or(0);
    let id = text::string(job, "InstanceID").unwrap_or_default();
    let statistics = service.job_statistics(id).await;
    let said = |name| {
        statistics
            .as_ref()
            .and_then(|known| text::string(known, name))
    };
    let what = match (said("What"), said("Why")) {
        (Some(what), Some(why)) => format!("{what} {why}"),
        _ => text::string(job, "ErrorDescription")
            .unwrap_or("The job failed and gave no reason.")
            .to_owned(),
    };
    Failure::new(format!("{what} (error {code})")).remedy(said("Remedy").unwrap_or_default())
}

/// Runs one `job` command.
pub async fn run(service: &Service, command: &Job, format: Format) -> Result<(), Failure> {
    match command {
        Job::List => list(service, format).await,
        Job::Show(which) => {
            let job = service.get(&path_of(which)).await?;
            match format {
                Format::Mof => output::mof(&[job]),
                _ => output::record(&row(&job), format),
            }
        }
        Job::Cancel(which) => cancel(service, which).await,
    }
}

fn path_of(which: &JobArg) -> ObjectPath {
    let id = KeyValue::String(which.id.clone());
    ObjectPath {
        host: None,
        namespace: None,
        class: Name::new("Msvm_ConcreteJob"),
        keys: Keys::Named(vec![(Name::new("InstanceID"), id)]),
    }
}

async fn list(service: &Service, format: Format) -> Result<(), Failure> {
    let mut rows = Rows::new(&[
        ("id", "ID"),
        ("description", "DESCRIPTION"),
        ("state", "STATE"),
        ("percent", "PERCENT"),
        ("elapsed_s", "SECONDS"),
    ]);
    for job in service.query("SELECT * FROM Msvm_ConcreteJob").await? {
        rows.push(row(&job));
    }
    rows.print(format)
}

async fn cancel(service: &Service, which: &JobArg) -> Result<(), Failure> {
    const TERMINATE: u16 = 4;
    let reply = service
        .invoke(
            &path_of(which),
            "RequestStateChange",
            vec![("RequestedState", Value::Uint16(TERMINATE))],
        )
        .await?;
    match reply.code {
        0 | 4096 => Ok(()),
        4097 => Err(Failure::new(format!(
            "The job {} cannot be cancelled any more.",
            which.id
        ))
        .remedy("`rootvirt job show` says where it stands.")),
        _ => Err(reply.failure()),
    }
}

/// A job as the contract prints it.
pub fn row(job: &Instance) -> Map<String, serde_json::Value> {
    let state = match text::number(job, "JobState") {
        Some(4) => "running",
        Some(7) => "completed",
        Some(8) => "terminated",
        Some(9) => "killed",
        Some(10) => "failed",
        _ => "unknown",
    };
    let mut row = Map::new();
    row.insert("id".into(), text::json_of(job, "InstanceID"));
    row.insert("description".into(), text::json_of(job, "Description"));
    row.insert("state".into(), json!(state));
    row.insert("percent".into(), text::json_of(job, "PercentComplete"));
    row.insert("elapsed_s".into(), text::time_of(job, "ElapsedTime"));
    row.insert("started".into(), text::time_of(job, "StartTime"));
    row.insert("cancellable".into(), text::json_of(job, "Cancellable"));
    row.insert("owner".into(), text::json_of(job, "Owner"));
    row.insert("error_code".into(), text::json_of(job, "ErrorCode"));
    row.insert("error".into(), text::json_of(job, "ErrorDescription"));
    row.insert("status".into(), text::json_of(job, "JobStatus"));
    row
}
