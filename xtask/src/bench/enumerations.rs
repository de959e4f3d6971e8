//! `cargo xtask bench enumerations`: how fast many machines are enumerated, by each wire over HTTP,
//! and what it costs the service in memory.
//!
//! The client ([`super::client`]) writes requests as bytes and looks for the few things in the answers
//! that it needs, so that what is measured is the service.

use std::fs;
use std::time::Instant;

use serde::Serialize;

use super::client::{CimXml, Connection, Enumerated, WsMan};
use super::service::Service;
use crate::setup::{self, Need};
use crate::{Failure, Outcome, WrongUsage};

pub const NAME: &str = "enumerations";
const DEFAULT_MACHINES: usize = 10_000;
/// Times that each enumeration is run; the middle one is shown.
const ROUNDS: usize = 3;

/// What one way to enumerate came to.
#[derive(Debug, Serialize)]
struct Row {
    way: String,
    objects: usize,
    first_ms: f64,
    all_ms: f64,
    /// How much more memory the service had at its peak than before.
    memory_kib: u64,
}

pub fn run(arguments: &[String]) -> Outcome {
    let (machines, json) = parse(arguments)?;
    setup::ensure(&[Need::Qemu])?;
    let program = super::build_program()?;
    let folder = tempfile::Builder::new()
        .prefix("rootvirt-bench-")
        .tempdir_in("/var/tmp")?;
    let service = Service::start(&program, folder.path())?;
    service.define(machines)?;
    let mut rows = Vec::new();
    for size in [1000, 100] {
        rows.push(measured(
            &service,
            format!("CIM-XML, {size} each pull"),
            |c| CimXml(c).enumerate(size),
        )?);
    }
    for size in [100, 1] {
        rows.push(measured(
            &service,
            format!("WS-Man, {size} each pull"),
            |c| WsMan(c).enumerate(size),
        )?);
    }
    for row in &rows {
        if row.objects < machines {
            return Err(format!("{}: {} objects of {machines}", row.way, row.objects).into());
        }
    }
    println!("{}", table(&rows));
    if json {
        println!("{}", serde_json::to_string(&rows)?);
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<(usize, bool), WrongUsage> {
    let (mut machines, mut json) = (DEFAULT_MACHINES, false);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--machines" => {
                let number = arguments.next().and_then(|text| text.parse().ok());
                machines = number.filter(|n| *n > 0).ok_or_else(|| {
                    WrongUsage("--machines needs a number of machines".to_owned())
                })?;
            }
            other => return Err(WrongUsage(format!("bench enumerations knows no {other}"))),
        }
    }
    Ok((machines, json))
}

fn table(rows: &[Row]) -> String {
    let mut text = "| | objects | first, ms | all, s | objects a second | memory, MiB |\n\
                    |---|---|---|---|---|---|"
        .to_owned();
    for row in rows {
        let rate = row.objects as f64 * 1000.0 / row.all_ms;
        text += &format!(
            "\n| {} | {} | {:.1} | {:.2} | {rate:.0} | {:.1} |",
            row.way,
            row.objects,
            row.first_ms,
            row.all_ms / 1000.0,
            row.memory_kib as f64 / 1024.0,
        );
    }
    text
}

fn measured(
    service: &Service,
    way: String,
    enumerate: impl Fn(Connection) -> Result<Enumerated, Failure>,
) -> Result<Row, Failure> {
    eprintln!("{way}");
    let endpoint = if way.starts_with("WS-Man") {
        "wsman"
    } else {
        "cimxml"
    };
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let connection = service.connect(endpoint)?;
        let before = service.memory_kib("VmRSS")?;
        // "5" resets the peak.
        fs::write(format!("/proc/{}/clear_refs", service.id()), "5")?;
        let began = Instant::now();
        let found = enumerate(connection)?;
        let all = began.elapsed();
        let peak = service.memory_kib("VmHWM")?;
        rounds.push(Row {
            way: way.clone(),
            objects: found.objects,
            first_ms: found.first.as_secs_f64() * 1000.0,
            all_ms: all.as_secs_f64() * 1000.0,
            memory_kib: peak.saturating_sub(before),
        });
    }
    rounds.sort_by(|a, b| a.all_ms.total_cmp(&b.all_ms));
    Ok(rounds.swap_remove(ROUNDS / 2))
}
