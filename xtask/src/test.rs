//! `cargo xtask test`: set-up, then every test: the workspace's Rust tests, then those with the
//! clients of others, in Rust in `tests/dcerpc` and in Python in `tests/python`.
//!
//! The tests find what they need in the environment:
//!
//! | variable | names |
//! |---|---|
//! | `ROOTVIRT_TEST_GUEST` | the demo guest's boot disk (raw; never write to it) |
//! | `ROOTVIRT_TEST_AGENT_DISK` | a disk with QEMU's guest agent for that guest (raw; never write to it) |
//! | `ROOTVIRT_TEST_KERNEL` | the Linux kernel on that disk |
//! | `ROOTVIRT_TEST_PYTHON` | a Python interpreter with the clients |
//! | `ROOTVIRT_TEST_RPCCLIENT` | samba's `rpcclient` |
//! | `ROOTVIRT_TEST_PROGRAM` | the program `rootvirt` (clients' tests only; Rust tests have cargo's own variable) |

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::setup::{self, Need};
use crate::{Outcome, guest, process, workspace};

pub const USAGE: &str = "test [CARGO TEST ARGUMENTS]\n      \
    runs every test; with arguments, only `cargo test` with these (such as -p demo-guest)";

pub fn run(arguments: &[String]) -> Outcome {
    let environment = prepare()?;
    let mut tests = process::cargo();
    tests.args(["test", "--locked"]).envs(environment.clone());
    if !arguments.is_empty() {
        return Ok(process::shown(tests.args(arguments))?);
    }
    // Who reads the output wants to know all that fails.
    let rust = process::shown(tests.args(["--workspace", "--no-fail-fast"]));
    let dcerpc = run_dcerpc_tests();
    let python = run_python_tests(environment);
    rust?;
    dcerpc?;
    python
}

/// Sets up what tests need; gives the variables by which they find it.
fn prepare() -> Result<Vec<(&'static str, OsString)>, crate::Failure> {
    setup::ensure(&[Need::Qemu, Need::Python, Need::Samba, Need::Ext4])?;
    Ok(vec![
        ("ROOTVIRT_TEST_GUEST", guest::boot_image()?.into_os_string()),
        (
            "ROOTVIRT_TEST_AGENT_DISK",
            guest::agent_disk()?.into_os_string(),
        ),
        ("ROOTVIRT_TEST_RPCCLIENT", "rpcclient".into()),
        ("ROOTVIRT_TEST_KERNEL", guest::kernel()?.into_os_string()),
        (
            "ROOTVIRT_TEST_PYTHON",
            setup::python_interpreter()?.into_os_string(),
        ),
    ])
}

/// The program `rootvirt`. Cargo has built it for its tests; built by itself, half of what it needs
/// would be built anew with other features.
fn program() -> Result<PathBuf, crate::Failure> {
    let program = process::target_folder()?.join("debug/rootvirt");
    if !program.is_file() {
        process::shown(process::cargo().args(["build", "--locked", "--package", "rootvirt"]))?;
    }
    Ok(program)
}

/// A workspace of its own: see its manifest.
fn run_dcerpc_tests() -> Outcome {
    let target = process::target_folder()?.join("dcerpc");
    Ok(process::shown(
        process::cargo()
            .args(["test", "--locked", "--quiet", "--manifest-path"])
            .arg(workspace::root().join("tests/dcerpc/Cargo.toml"))
            .env("CARGO_TARGET_DIR", target)
            .env("ROOTVIRT_TEST_PROGRAM", program()?),
    )?)
}

fn run_python_tests(environment: Vec<(&'static str, OsString)>) -> Outcome {
    let folder = workspace::root().join("tests/python");
    let mut has_tests = false;
    for entry in fs::read_dir(&folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        has_tests |= name.starts_with("test_") && name.ends_with(".py");
    }
    if !has_tests {
        return Ok(());
    }
    Ok(process::shown(pytest()?.arg(&folder).envs(environment))?)
}

/// One file of the Python tests, with what it prints.
pub fn run_python_file(file: &str, variables: &[(&str, &str)]) -> Outcome {
    setup::ensure(&[Need::Python])?;
    let file = workspace::root().join("tests/python").join(file);
    let variables = variables.iter().copied();
    Ok(process::shown(
        pytest()?.arg("-s").arg(file).envs(variables),
    )?)
}

fn pytest() -> Result<std::process::Command, crate::Failure> {
    let mut pytest = std::process::Command::new(setup::python_interpreter()?);
    pytest
        .args(["-m", "pytest", "-p", "no:cacheprovider"])
        .env("ROOTVIRT_TEST_PROGRAM", program()?)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    Ok(pytest)
}
