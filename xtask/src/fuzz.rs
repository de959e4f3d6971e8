//! `cargo xtask fuzz`: the fuzz targets of `fuzz/`, built with the compiler that builds everything
//! else and run for a while. What `cargo fuzz` does as well, without a nightly compiler.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::{Failure, Outcome, WrongUsage, process, workspace};

pub const USAGE: &str = "fuzz [TARGET] [--seconds N]\n      \
    runs a fuzz target for N seconds (60), or each for as long; fuzz/artifacts holds what it finds";

/// What a standard library that is shipped with a checker of addresses is built for.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// libFuzzer's feedback and AddressSanitizer.
const COMPILER_FLAGS: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg",
    "fuzzing",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Zsanitizer=address",
    "-Ccodegen-units=1",
];

/// How long an input may take, in seconds, and what may be held meanwhile, in MiB.
const LIMITS: &[&str] = &["-timeout=20", "-rss_limit_mb=512", "-malloc_limit_mb=256"];

/// Leaks are looked for after each input where as much was freed as taken is easily seen; with
/// threads that is never so, and the search takes longer than the input.
const WITH_THREADS: &[&str] = &["wmi_call"];

pub fn run(arguments: &[String]) -> Outcome {
    let (chosen, seconds) = parse(arguments)?;
    let mut targets = targets()?;
    if let Some(chosen) = chosen {
        if !targets.contains(&chosen) {
            let known = targets.join(", ");
            return Err(WrongUsage(format!("no fuzz target {chosen}; there are {known}")).into());
        }
        targets = vec![chosen];
    }
    let programs = build(&targets)?;
    let mut failed = Vec::new();
    for target in targets {
        let ran = run_target(&target, programs.join(&target), seconds);
        if let Err(error) = ran {
            eprintln!("{target}: {error}");
            failed.push(target);
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("found something: {}; see fuzz/artifacts", failed.join(", ")).into())
}

fn parse(arguments: &[String]) -> Result<(Option<String>, u32), WrongUsage> {
    let mut chosen = None;
    let mut seconds = 60;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        if argument == "--seconds" {
            let number = arguments.next().and_then(|text| text.parse().ok());
            seconds = number
                .filter(|seconds| *seconds > 0)
                .ok_or_else(|| WrongUsage("--seconds needs a number".into()))?;
        } else if chosen.is_none() && !argument.starts_with('-') {
            chosen = Some(argument.clone());
        } else {
            return Err(WrongUsage(format!("fuzz takes no {argument}")));
        }
    }
    Ok((chosen, seconds))
}

fn folder() -> PathBuf {
    workspace::root().join("fuzz")
}

/// The names of all targets, in order.
fn targets() -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder().join("fuzz_targets"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Builds targets; gives the folder with their programs.
fn build(targets: &[String]) -> Result<PathBuf, Failure> {
    let target_folder = process::target_folder()?.join("fuzz");
    let mut cargo = process::cargo();
    cargo
        .args(["build", "--release", "--locked", "--target", PLATFORM])
        .arg("--manifest-path")
        .arg(folder().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &target_folder)
        .env("CARGO_ENCODED_RUSTFLAGS", COMPILER_FLAGS.join("\x1f"))
        // The flag for the checker of addresses is not stable, the rest of it is.
        .env("RUSTC_BOOTSTRAP", "1");
    for target in targets {
        cargo.args(["--bin", target]);
    }
    process::shown(&mut cargo)?;
    Ok(target_folder.join(PLATFORM).join("release"))
}

fn run_target(target: &str, program: PathBuf, seconds: u32) -> Outcome {
    // What is found interesting is kept in the first folder, the others are read.
    let corpus = folder().join("corpus").join(target);
    let artifacts = folder().join("artifacts").join(target);
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let mut prefix = OsString::from("-artifact_prefix=");
    prefix.push(&artifacts);
    prefix.push("/");
    let mut command = std::process::Command::new(program);
    command
        .args(LIMITS)
        .arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1")
        .arg(prefix)
        // What was freed is not kept for long: it counts as held.
        .env("ASAN_OPTIONS", "quarantine_size_mb=16")
        .arg(corpus);
    if WITH_THREADS.contains(&target) {
        command.arg("-detect_leaks=0");
    }
    let seeds = folder().join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    Ok(process::shown(&mut command)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(Option<String>, u32), String> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn arguments_are_understood_or_named() {
        assert_eq!(parsed(""), Ok((None, 60)));
        assert_eq!(parsed("wql --seconds 5"), Ok((Some("wql".to_owned()), 5)));
        for wrong in ["a b", "--long", "--seconds", "--seconds 0", "--seconds x"] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    /// A target that the manifest lacks is never built.
    #[test]
    fn every_target_is_in_the_manifest() {
        let manifest = fs::read_to_string(folder().join("Cargo.toml")).expect("the manifest");
        for target in targets().expect("targets") {
            assert!(
                manifest.contains(&format!("name = \"{target}\"")),
                "{target}"
            );
        }
    }
}
