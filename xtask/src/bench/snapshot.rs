//! `bench snapshot`: the first live snapshot of a fresh guest under load.

use std::time::Instant;

use super::Plan;
use super::contender::{self, Accelerator, Claims, Contender};
use super::guest::{Guest, Load, allocated_bytes};
use super::heartbeat::Heartbeat;
use super::host::{self, Host};
use super::monitor::{Monitor, Pause};
use super::report::{Report, Row};
use crate::{Failure, Outcome};

/// Seconds of the guest before and after the snapshot that the heartbeat is watched.
const WATCHED_SECONDS: u32 = 3;

/// One snapshot.
#[derive(Debug)]
pub struct Sample {
    /// By QEMU's events, all that happened added up.
    pub pause_ms: f64,
    /// How often the guest was stopped.
    pub stops: f64,
    /// The longest silence of the guest from the command to some seconds after it.
    pub silence_ms: f64,
    /// The same before the snapshot: what this machine does to a guest that is left alone.
    pub idle_silence_ms: f64,
    /// From the start of the user's command to its end.
    pub command_ms: f64,
    /// By how much the files have grown on the disk.
    pub grown_bytes: f64,
    pub claims: Claims,
}

pub fn run(plan: &Plan) -> Outcome {
    let load = Load::half(plan.ram_mib);
    let load_average = host::load_average()?;
    eprintln!("warming the machine up");
    host::warm_up(plan.ram_mib)?;
    let mut contenders = contender::wanted(plan)?;
    let mut rows: Vec<Row> = contenders
        .iter()
        .map(|contender| Row::new(contender.name()))
        .collect();
    // What the first guest runs on, the others shall run on.
    let mut accelerator = None;
    for round in 1..=plan.rounds {
        let mut order: Vec<_> = contenders.iter_mut().zip(rows.iter_mut()).collect();
        if round % 2 == 0 {
            order.reverse();
        }
        for (contender, row) in order {
            let name = contender.name();
            eprint!("round {round} of {}: {name}: ", plan.rounds);
            let sample = measure(plan, contender.as_mut(), round, load, &mut accelerator)
                .map_err(|error| format!("{name}: {error}"))?;
            eprintln!(
                "pause {:.1} ms, silence {:.1} ms (idle {:.1}), command {:.0} ms",
                sample.pause_ms, sample.silence_ms, sample.idle_silence_ms, sample.command_ms
            );
            row.samples.push(sample);
        }
    }
    let report = Report {
        host: Host::describe(accelerator.unwrap_or(Accelerator::Tcg), load_average)?,
        ram_mib: plan.ram_mib,
        load,
        rows,
    };
    if plan.json {
        eprintln!("{}", report.table());
        println!("{}", report.json()?);
    } else {
        println!("{}", report.table());
    }
    Ok(())
}

fn measure(
    plan: &Plan,
    contender: &mut dyn Contender,
    round: usize,
    load: Load,
    accelerator: &mut Option<Accelerator>,
) -> Result<Sample, Failure> {
    let folder = plan.scratch.join(format!("{}-{round}", contender.name()));
    let guest = Guest::create(
        folder.clone(),
        &plan.boot_disk,
        plan.ram_mib,
        accelerator.unwrap_or(Accelerator::Tcg),
    )?;
    contender.start(&guest)?;
    let mut monitor = Monitor::connect(&guest.monitor())?;
    let runs_on = monitor.accelerator()?;
    if *accelerator.get_or_insert(runs_on) != runs_on {
        return Err("the guests of one run must all run on KVM, or all be emulated".into());
    }
    let heartbeat = Heartbeat::listen(&guest.heartbeat())?;
    let mut serial = guest.settle(load)?;

    Guest::let_run(&mut serial, 1)?;
    heartbeat.longest_silence();
    Guest::let_run(&mut serial, WATCHED_SECONDS)?;
    let idle_silence_ms = heartbeat.longest_silence();
    monitor.pauses()?;
    let before = allocated_bytes(&plan.scratch)?;

    let began = Instant::now();
    contender.snapshot()?;
    let command_ms = began.elapsed().as_secs_f64() * 1000.0;

    let pauses = monitor.pauses()?;
    let grown_bytes = allocated_bytes(&plan.scratch)?.saturating_sub(before) as f64;
    Guest::let_run(&mut serial, WATCHED_SECONDS)?;
    let silence_ms = heartbeat.longest_silence();
    let claims = contender.claims()?;
    Guest::check(&mut serial)?;
    contender.discard()?;
    std::fs::remove_dir_all(folder)?;
    if pauses.is_empty() {
        return Err("QEMU told of no pause, so nothing can be said about it".into());
    }
    Ok(Sample {
        stops: pauses.len() as f64,
        pause_ms: pauses.iter().copied().map(Pause::milliseconds).sum(),
        silence_ms,
        idle_silence_ms,
        command_ms,
        grown_bytes,
        claims,
    })
}
