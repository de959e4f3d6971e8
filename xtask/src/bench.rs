//! `cargo xtask bench`: this program and its peers side by side on the same guest, in the same run,
//! on the same machine. What is measured and what came out is told in `docs/performance.md`.
//!
//! A benchmark is a module with a `run` over a [`Plan`]; there is one so far, `snapshot`. What takes
//! part in it is a [`contender::Contender`]. Everything runs isolated (see `isolation`), so that
//! nothing is left over, however it ends.

mod contender;
mod guest;
mod heartbeat;
mod host;
mod isolation;
mod monitor;
mod report;
mod snapshot;
mod statistics;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::setup::{self, Need};
use crate::{Failure, Outcome, WrongUsage, process};

pub const USAGE: &str = "bench [snapshot] [--json] [--rounds N] [--ram MIB] [--only CONTENDER]\n      \
    compares live snapshots with those of libvirt; --json ends with one line of JSON";

const DEFAULT_ROUNDS: usize = 3;
const DEFAULT_RAM_MIB: u64 = 1024;
/// Below that the guest has no room for its load.
const LEAST_RAM_MIB: u64 = 256;

/// What to measure, as the isolated part is told it.
#[derive(Debug, Serialize, Deserialize)]
struct Plan {
    /// A folder for everything the run makes; its path is short enough for Unix sockets in it.
    scratch: PathBuf,
    /// The program `rootvirt`, built for release.
    program: PathBuf,
    /// The demo guest's boot disk, never written to.
    boot_disk: PathBuf,
    /// How often everything is measured, each time on fresh guests.
    rounds: usize,
    ram_mib: u64,
    json: bool,
    /// Only this contender, by its name.
    only: Option<String>,
}

pub fn run(arguments: &[String]) -> Outcome {
    if let [flag, plan] = arguments
        && flag == isolation::INSIDE
    {
        return isolation::end_with_caller(|| snapshot::run(&serde_json::from_str(plan)?));
    }
    let mut plan = Plan {
        scratch: PathBuf::new(),
        program: PathBuf::new(),
        boot_disk: PathBuf::new(),
        rounds: DEFAULT_ROUNDS,
        ram_mib: DEFAULT_RAM_MIB,
        json: false,
        only: None,
    };
    parse(arguments, &mut plan)?;
    setup::ensure(&[Need::Qemu, Need::Libvirt])?;
    plan.boot_disk = crate::guest::boot_image()?;
    if contender::wants_program(&plan) {
        plan.program = build_program()?;
    }
    isolation::run(plan)
}

fn parse(arguments: &[String], plan: &mut Plan) -> Result<(), WrongUsage> {
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .ok_or_else(|| WrongUsage(format!("{argument} needs a value")))
        };
        match argument.as_str() {
            "snapshot" => {}
            "--json" => plan.json = true,
            "--rounds" => plan.rounds = number(argument, value()?, 1)?,
            "--ram" => plan.ram_mib = number(argument, value()?, LEAST_RAM_MIB)?,
            "--only" => {
                let name = value()?;
                if !contender::NAMES.contains(&name.as_str()) {
                    let names = contender::NAMES.join(", ");
                    return Err(WrongUsage(format!("--only takes one of {names}")));
                }
                plan.only = Some(name.clone());
            }
            other => return Err(WrongUsage(format!("bench takes no {other}"))),
        }
    }
    Ok(())
}

fn number<T>(argument: &str, value: &str, least: T) -> Result<T, WrongUsage>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    value
        .parse()
        .ok()
        .filter(|number| *number >= least)
        .ok_or_else(|| WrongUsage(format!("{argument} takes a number, {least} or more")))
}

fn build_program() -> Result<PathBuf, Failure> {
    eprintln!("building rootvirt for release");
    process::shown(process::cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "rootvirt",
    ]))?;
    Ok(process::target_folder()?.join("release/rootvirt"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Plan, String> {
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        let mut plan = Plan {
            scratch: PathBuf::new(),
            program: PathBuf::new(),
            boot_disk: PathBuf::new(),
            rounds: DEFAULT_ROUNDS,
            ram_mib: DEFAULT_RAM_MIB,
            json: false,
            only: None,
        };
        parse(&arguments, &mut plan)
            .map(|()| plan)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_taken_or_refused_by_name() {
        let plan =
            parsed(&["snapshot", "--rounds", "5", "--ram", "4096", "--json"]).expect("valid");
        assert_eq!((plan.rounds, plan.ram_mib, plan.json), (5, 4096, true));
        for wrong in [
            &["--rounds"][..],
            &["--rounds", "0"],
            &["--ram", "64"],
            &["--ram", "much"],
            &["--only", "nobody"],
            &["restore"],
        ] {
            let refusal = parsed(wrong).expect_err("refused");
            assert!(refusal.contains(wrong[0]), "{refusal}");
        }
    }
}
