//! `bench snapshot`: every contender with every guest under every load, one after the other.

use std::time::Instant;

use super::contender::{self, Accelerator};
use super::course;
use super::disk::DirectWrites;
use super::guest::Load;
use super::host::{self, Host};
use super::plan::Plan;
use super::results::{Case, Results};
use crate::{Failure, Outcome};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Measures, and keeps what came out after every contender.
pub fn run(plan: &Plan) -> Outcome {
    let date = OffsetDateTime::now_utc().format(&Rfc3339)?;
    let began = Instant::now();
    let load_average = host::load_average()?;
    host::warm_up(plan)?;
    let mut contenders = contender::wanted(plan)?;
    let mut results = Results {
        date,
        host: Host::describe(Accelerator::Tcg, load_average)?,
        cases: Vec::new(),
    };
    // What the first guest runs on, the others shall run on.
    let mut accelerator = None;
    for &ram_mib in &plan.rams_mib {
        for &dirtying in &plan.loads {
            eprintln!("a guest of {ram_mib} MiB, half full, {dirtying}");
            let load = Load::half(ram_mib, dirtying);
            let mut case = begin(plan, ram_mib, load)?;
            for contender in &mut contenders {
                eprintln!(
                    "  {}, {} s after the beginning",
                    contender.name(),
                    began.elapsed().as_secs()
                );
                let row = course::run(plan, ram_mib, load, contender.as_mut(), &mut accelerator);
                if let Some(failure) = &row.failure {
                    eprintln!("    failed: {failure}");
                }
                case.rows.push(row);
                if let Some(accelerator) = accelerator {
                    results.host.accelerator = accelerator;
                }
                keep(&results, &case, plan)?;
            }
            case.disk.measure(&plan.scratch)?;
            results.cases.push(case);
            results.write(&plan.record)?;
        }
    }
    eprintln!("done after {} s", began.elapsed().as_secs());
    Ok(())
}

fn begin(plan: &Plan, ram_mib: u64, load: Load) -> Result<Case, Failure> {
    // As much as a snapshot writes.
    let mut disk = DirectWrites {
        bytes: load.filled_mib << 20,
        each_ms: Vec::new(),
    };
    disk.measure(&plan.scratch)?;
    Ok(Case {
        ram_mib,
        load,
        disk,
        rows: Vec::new(),
    })
}

/// The case as far as it has come, too.
fn keep(results: &Results, case: &Case, plan: &Plan) -> Outcome {
    let mut so_far = results.clone();
    so_far.cases.push(case.clone());
    so_far.write(&plan.record)
}
