//! The Python environment of the client tests: a virtual environment in the cache with what
//! `tests/python/requirements.txt` names.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::{Failure, Outcome, process, workspace};

/// The environment's interpreter.
pub fn interpreter() -> Result<PathBuf, Failure> {
    Ok(workspace::cache("python")?.join("environment/bin/python"))
}

/// What is missing to make an environment.
pub fn missing() -> Option<String> {
    let check = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))";
    let found = process::quiet(Command::new("python3").args(["-c", check]));
    found
        .is_err()
        .then(|| "Python 3.9 with venv and ensurepip is not there".to_owned())
}

/// Makes the environment, unless it is there with the same requirements.
pub fn ensure_environment() -> Outcome {
    let _lock = workspace::lock_cache()?;
    let requirements = workspace::root().join("tests/python/requirements.txt");
    let version = process::quiet(Command::new("python3").arg("--version"))?;
    let wanted = format!("{version}{}", fs::read_to_string(&requirements)?);
    let folder = workspace::cache("python")?;
    let done = folder.join("done");
    if fs::read_to_string(&done).ok().as_deref() == Some(&wanted) && interpreter()?.exists() {
        return Ok(());
    }
    eprintln!("installing Python packages of tests/python/requirements.txt into the cache");
    let environment = folder.join("environment");
    process::quiet(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&environment),
    )?;
    process::quiet(
        Command::new(interpreter()?)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
            ])
            .arg("--requirement")
            .arg(&requirements),
    )?;
    fs::write(done, wanted)?;
    Ok(())
}
