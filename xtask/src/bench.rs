//! `cargo xtask bench`: this program and its peers side by side on the same guest, in the same run,
//! on the same machine. What is measured and what came out is told in `docs/performance.md`.
//!
//! Start with [`plan`] (what can be asked for), then [`course`] (what happens to one contender's
//! guest) and [`results`] (what is kept of it). What takes part is a [`contender::Contender`].
//! Everything that measures runs isolated (see [`isolation`]), so that nothing is left over, however
//! it ends; it writes what it found out after every contender, so that no minute is lost. What is
//! printed is made of that record afterwards, outside.

mod client;
mod contender;
mod course;
mod disk;
mod enumerations;
mod guest;
mod heartbeat;
mod host;
mod isolation;
mod monitor;
mod plan;
mod report;
mod results;
mod service;
mod snapshot;
mod statistics;
mod wires;

use std::fs;
use std::path::PathBuf;

use plan::Request;
use results::Results;

use crate::setup::{self, Need};
use crate::{Failure, Outcome, process};

pub use plan::USAGE;

pub fn run(arguments: &[String]) -> Outcome {
    if let [flag, plan] = arguments
        && flag == isolation::INSIDE
    {
        return isolation::end_with_caller(|| snapshot::run(&serde_json::from_str(plan)?));
    }
    if let [what, arguments @ ..] = arguments
        && what == enumerations::NAME
    {
        return enumerations::run(arguments);
    }
    if let [what, arguments @ ..] = arguments
        && what == wires::NAME
    {
        return wires::run(arguments);
    }
    let request = plan::parse(arguments)?;
    let (results, broken_off) = if request.from.is_empty() {
        measure(&request)?
    } else {
        let all: Result<Vec<_>, _> = request
            .from
            .iter()
            .map(|file| results::read(file))
            .collect();
        (results::together(all?)?, Ok(()))
    };
    tell(&request, &results)?;
    broken_off?;
    results.complaint().map_or(Ok(()), |text| Err(text.into()))
}

/// What was found out, and whether that is all.
fn measure(request: &Request) -> Result<(Results, Outcome), Failure> {
    let mut plan = request.plan.clone();
    host::check_room(&plan)?;
    setup::ensure(&[Need::Qemu, Need::Libvirt])?;
    plan.boot_disk = crate::guest::boot_image()?;
    if contender::wants_program(&plan) {
        plan.program = match &request.program {
            Some(program) => fs::canonicalize(program)
                .map_err(|error| format!("--program {}: {error}", program.display()))?,
            None => build_program()?,
        };
    }
    let folder = process::target_folder()?.join("bench");
    fs::create_dir_all(&folder)?;
    plan.record = folder.join(format!("snapshot-{}.json", std::process::id()));
    drop(fs::remove_file(&plan.record));
    eprintln!("what is measured is kept in {}", plan.record.display());
    let outcome = isolation::run(&mut plan);
    match results::read(&plan.record) {
        Ok(results) => Ok((results, outcome)),
        Err(error) => Err(outcome.err().unwrap_or(error)),
    }
}

fn tell(request: &Request, results: &Results) -> Outcome {
    if request.write_docs {
        report::document::write(results)?;
    }
    if request.json {
        eprintln!("{}", report::table(results));
        println!("{}", report::json(results)?);
    } else {
        println!("{}", report::table(results));
    }
    Ok(())
}

fn build_program() -> Result<PathBuf, Failure> {
    build_for_release("rootvirt")
}

/// A package whose program has its name.
fn build_for_release(package: &str) -> Result<PathBuf, Failure> {
    eprintln!("building {package} for release");
    process::shown(process::cargo().args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        package,
    ]))?;
    Ok(process::target_folder()?.join("release").join(package))
}
