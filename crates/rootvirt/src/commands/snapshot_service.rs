//! `snapshot create --check`, `snapshot verify` and `snapshot rehearse`: the methods of
//! `Rootvirt_SnapshotService`, and what it keeps.

use crate::cli::{Format, SnapshotArg};
use crate::commands::job::{self, Wait};
use crate::commands::{snapshot, text, vm};
use crate::failure::Failure;
use crate::output::{self, Rows};
use crate::service::{Reply, Service};
use cim::{DateTime, Instance, Value};
use serde_json::{Map, json};

/// How much a verification looks at (the method's `Depth`).
const METADATA: u16 = 1;
const FULL: u16 = 2;

/// What taking a snapshot would need and cost; a failure if it would be refused.
pub async fn check(service: &Service, machine: &str, format: Format) -> Result<(), Failure> {
    let found = vm::find(service, machine).await?;
    let path = text::path_of(&found)?;
    let reply = service
        .invoke_snapshot_service(
            "CheckSnapshot",
            vec![("SourceSystem", snapshot::reference(path))],
        )
        .await?;
    reply.expect_done("CheckSnapshot")?;
    let forecast = reply.instance("Forecast")?;
    match format {
        Format::Mof => output::mof(std::slice::from_ref(forecast))?,
        _ => {
            let mut row = forecast_row(machine, forecast);
            if format == Format::Table {
                // A line for each.
                let warnings = texts(forecast, "Warnings");
                let lines = warnings.iter().map(|text| json!({"text": text}));
                row.insert("warnings".into(), lines.collect());
            }
            output::record(&row, format)?;
        }
    }
    if forecast.get("Possible").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let texts = texts(forecast, "RefusalTexts");
    Err(Failure::new(format!(
        "A snapshot would be refused: {}",
        texts.join(" ")
    )))
}

fn forecast_row(machine: &str, forecast: &Instance) -> Map<String, serde_json::Value> {
    let milliseconds = |name| {
        text::number(forecast, name).map_or(serde_json::Value::Null, |m| json!(m as f64 / 1000.0))
    };
    let item = |name: &str, at: usize| -> serde_json::Value {
        let items = forecast.get(name).and_then(Value::as_array);
        items
            .and_then(|items| items.get(at))
            .map_or(serde_json::Value::Null, text::json_value)
    };
    let space: Vec<_> = (0..texts(forecast, "SpacePaths").len())
        .map(|at| {
            json!({
                "path": item("SpacePaths", at),
                "needed_bytes": item("SpaceNeeded", at),
                "expected_bytes": item("SpaceExpected", at),
                "available_bytes": item("SpaceAvailable", at),
            })
        })
        .collect();
    let refusals: Vec<_> = (0..texts(forecast, "RefusalTexts").len())
        .map(|at| {
            json!({
                "cause": item("RefusalCauses", at),
                "code": item("RefusalCodes", at),
                "text": item("RefusalTexts", at),
            })
        })
        .collect();
    let basis = match text::number(forecast, "Basis") {
        Some(1) => "earlier snapshots of this machine",
        Some(2) => "snapshots of similar machines",
        Some(3) => "snapshots of machines of other sizes, scaled",
        _ => "nothing was measured yet",
    };
    let mut row = Map::new();
    row.insert("vm".into(), json!(machine));
    row.insert("possible".into(), text::json_of(forecast, "Possible"));
    row.insert("with_memory".into(), text::json_of(forecast, "WithMemory"));
    row.insert("refusals".into(), json!(refusals));
    row.insert("warnings".into(), text::json_of(forecast, "Warnings"));
    row.insert("space".into(), json!(space));
    let mib = |name| text::json_of(forecast, name);
    row.insert("host_memory_needed_mib".into(), mib("HostMemoryNeeded"));
    row.insert(
        "host_memory_available_mib".into(),
        mib("HostMemoryAvailable"),
    );
    row.insert("memory_backing".into(), mib("MemoryBacking"));
    row.insert("chain_depth".into(), mib("ChainDepth"));
    row.insert("expected_memory_bytes".into(), mib("ExpectedMemoryBytes"));
    row.insert("expected_pause_ms".into(), milliseconds("ExpectedPause"));
    row.insert("longest_pause_ms".into(), milliseconds("LongestPause"));
    row.insert(
        "expected_durable_ms".into(),
        milliseconds("ExpectedTimeToDurable"),
    );
    row.insert("samples".into(), mib("Samples"));
    row.insert("basis".into(), json!(basis));
    row
}

fn texts(instance: &Instance, name: &str) -> Vec<String> {
    let items = instance.get(name).and_then(Value::as_array);
    let items = items.unwrap_or_default().iter();
    items
        .filter_map(|item| item.as_str().map(str::to_owned))
        .collect()
}

/// Looks at a snapshot's files and prints what each is like, whether or not that is well.
pub async fn verify(
    service: &Service,
    which: &SnapshotArg,
    quick: bool,
    wait: Wait,
    format: Format,
) -> Result<(), Failure> {
    let (_, found) = snapshot::find(service, which).await?;
    let depth = if quick { METADATA } else { FULL };
    let arguments = vec![
        (
            "SnapshotSettingData",
            snapshot::reference(text::path_of(&found)?),
        ),
        ("Depth", Value::Uint16(depth)),
    ];
    let reply = service
        .invoke_snapshot_service("VerifySnapshot", arguments)
        .await?;
    let began = began(service, &reply).await;
    let outcome = job::finish(service, reply, wait, format).await;
    if wait == Wait::No {
        return outcome.map(drop);
    }
    let mut files = files(service, &found).await?;
    // A job that was cancelled leaves the report of an earlier one.
    files.retain(|file| began.is_none_or(|began| time(file, "Verified") >= Some(began)));
    if format == Format::Mof {
        output::mof(&files)?;
    } else if outcome.is_ok() || !files.is_empty() {
        let mut rows = Rows::new(&[
            ("state", "STATE"),
            ("role", "ROLE"),
            ("bytes", "BYTES"),
            ("path", "PATH"),
            ("damage_table", "WHERE"),
        ]);
        for file in &files {
            rows.push(file_row(file, format));
        }
        rows.print(format)?;
    }
    outcome.map(drop)
}

/// When a call's job began.
async fn began(service: &Service, reply: &Reply) -> Option<i64> {
    let path = reply.reference("Job").ok()?;
    time(&service.get(&path).await.ok()?, "StartTime")
}

fn time(instance: &Instance, name: &str) -> Option<i64> {
    match instance.get(name) {
        Some(Value::DateTime(time @ DateTime::Timestamp { .. })) => time.unix_micros(),
        _ => None,
    }
}

async fn files(service: &Service, found: &Instance) -> Result<Vec<Instance>, Failure> {
    let id = text::wql_string(text::string(found, "InstanceID").unwrap_or_default());
    service
        .query(&format!(
            "SELECT * FROM Rootvirt_SnapshotFile WHERE Snapshot = {id}"
        ))
        .await
}

const fn state_text(state: Option<u64>) -> &'static str {
    match state {
        Some(2) => "fine",
        Some(3) => "not hashed yet",
        Some(4) => "damaged",
        Some(5) => "changed",
        Some(6) => "missing",
        _ => "unknown",
    }
}

fn file_row(file: &Instance, format: Format) -> Map<String, serde_json::Value> {
    let numbers = |name: &str| -> Vec<u64> {
        let items = file.get(name).and_then(Value::as_array);
        let items = items.unwrap_or_default().iter();
        items.filter_map(Value::as_u64).collect()
    };
    let places = numbers("DamageOffsets").into_iter();
    let places = places.zip(numbers("DamageLengths"));
    let places: Vec<_> = places.zip(texts(file, "DamageTexts")).collect();
    let mut row = Map::new();
    let state = state_text(text::number(file, "State"));
    row.insert("state".into(), json!(state));
    row.insert("role".into(), text::json_of(file, "Role"));
    row.insert("path".into(), text::json_of(file, "Path"));
    row.insert("bytes".into(), text::json_of(file, "Length"));
    row.insert("description".into(), text::json_of(file, "Description"));
    if format == Format::Table {
        let shown = places.iter().take(3).map(|((offset, length), what)| {
            let last = offset.saturating_add(*length).saturating_sub(1);
            format!("bytes {offset}-{}: {what}", last.max(*offset))
        });
        let mut shown: Vec<_> = shown.collect();
        if places.len() > shown.len() {
            shown.push(format!("and {} more places", places.len() - shown.len()));
        }
        let cell = match shown.is_empty() {
            true => serde_json::Value::Null,
            false => json!(shown.join("; ")),
        };
        row.insert("damage_table".into(), cell);
    } else {
        let damage: Vec<_> = places
            .iter()
            .map(|((offset, length), what)| {
                json!({"offset": offset, "length": length, "what": what})
            })
            .collect();
        row.insert("damage".into(), json!(damage));
    }
    row
}

/// Tries a snapshot out and prints what was seen.
pub async fn rehearse(
    service: &Service,
    which: &SnapshotArg,
    patience: u32,
    wait: Wait,
    format: Format,
) -> Result<(), Failure> {
    let (_, found) = snapshot::find(service, which).await?;
    let arguments = vec![
        (
            "SnapshotSettingData",
            snapshot::reference(text::path_of(&found)?),
        ),
        ("Patience", Value::Uint32(patience)),
    ];
    let reply = service
        .invoke_snapshot_service("RehearseSnapshot", arguments)
        .await?;
    job::finish(service, reply, wait, format).await?;
    if wait == Wait::No {
        return Ok(());
    }
    let Some(seen) = rehearsal(service, &found).await? else {
        return Err(Failure::new(
            "The job ended, but the service does not show what was seen.",
        ));
    };
    if format == Format::Mof {
        return output::mof(&[seen]);
    }
    let milliseconds = |name| {
        let micros = text::number(&seen, name);
        json!(micros.map(|micros| micros as f64 / 1000.0))
    };
    let mut row = Map::new();
    row.insert("snapshot".into(), text::json_of(&found, "ElementName"));
    row.insert("outcome".into(), json!(outcome_text(&seen)));
    row.insert("what".into(), text::json_of(&seen, "Description"));
    row.insert("loaded_ms".into(), milliseconds("TimeToLoaded"));
    row.insert("running_ms".into(), milliseconds("TimeToRunning"));
    row.insert("sign_of_life_ms".into(), milliseconds("TimeToSignOfLife"));
    row.insert("sign_of_life".into(), text::json_of(&seen, "SignOfLife"));
    row.insert("processor_ms".into(), milliseconds("ProcessorTime"));
    row.insert("took_ms".into(), milliseconds("Duration"));
    output::record(&row, format)
}

async fn rehearsal(service: &Service, found: &Instance) -> Result<Option<Instance>, Failure> {
    let id = text::wql_string(text::string(found, "InstanceID").unwrap_or_default());
    let wql = format!("SELECT * FROM Rootvirt_SnapshotRehearsal WHERE InstanceID = {id}");
    Ok(service.query(&wql).await?.into_iter().next())
}

fn outcome_text(seen: &Instance) -> &'static str {
    match text::number(seen, "Outcome") {
        Some(2) => "lived",
        Some(3) => "ran",
        _ => "failed",
    }
}

/// Adds to a snapshot's row what its last verification and rehearsal came to.
pub async fn add_reports(
    service: &Service,
    found: &Instance,
    row: &mut Map<String, serde_json::Value>,
) -> Result<(), Failure> {
    let files = files(service, found).await?;
    let count = |wanted: &[u64]| {
        let states = files.iter().filter_map(|f| text::number(f, "State"));
        states.filter(|state| wanted.contains(state)).count()
    };
    let verdict = files.first().map(|first| {
        let depth = match text::number(first, "Depth") {
            Some(1) => " (headers and lengths only)",
            _ => "",
        };
        let verdict = match (count(&[4, 5, 6]), count(&[3])) {
            (0, 0) => "fine".to_owned(),
            (0, unknown) => format!("fine, {unknown} files not hashed yet"),
            (bad, _) => format!("{bad} of {} files are bad", files.len()),
        };
        format!("{verdict}{depth}")
    });
    let verified = files.first().map(|file| text::time_of(file, "Verified"));
    row.insert("verified".into(), json!(verified));
    row.insert("verification".into(), json!(verdict));
    let seen = rehearsal(service, found).await?;
    let rehearsed = seen.as_ref().map(|seen| text::time_of(seen, "Rehearsed"));
    let outcome = seen.as_ref().map(|seen| {
        let what = text::string(seen, "Description").unwrap_or_default();
        format!("{}: {what}", outcome_text(seen))
    });
    row.insert("rehearsed".into(), json!(rehearsed));
    row.insert("rehearsal".into(), json!(outcome));
    Ok(())
}
