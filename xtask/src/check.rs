//! `cargo xtask check`: what can be judged without running the product: format, lints, licences and
//! duplicates of dependencies, house rules, documentation. All are run; all that fail are named.

mod dependencies;
mod house_rules;

use crate::{Outcome, WrongUsage, process};

pub const USAGE: &str = "check\n      \
    format, lints, licences, duplicate dependencies, house rules, documentation";

pub fn run(arguments: &[String]) -> Outcome {
    if let Some(argument) = arguments.first() {
        return Err(WrongUsage(format!("check takes no {argument}")).into());
    }
    let checks = [
        ("format", check_format as fn() -> Outcome),
        ("house rules", house_rules::check),
        ("dependencies", dependencies::check),
        ("lints", check_lints),
        ("documentation", check_documentation),
    ];
    let mut failed = Vec::new();
    for (name, check) in checks {
        match check() {
            Ok(()) => eprintln!("{name}: ok"),
            Err(error) => {
                eprintln!("{name}: {error}");
                failed.push(name);
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("failed: {}", failed.join(", ")).into())
}

fn check_format() -> Outcome {
    Ok(process::shown(
        process::cargo().args(["fmt", "--all", "--check"]),
    )?)
}

fn check_lints() -> Outcome {
    Ok(process::shown(
        process::cargo()
            .args([
                "clippy",
                "--quiet",
                "--locked",
                "--workspace",
                "--all-targets",
            ])
            .args(["--", "-D", "warnings"]),
    )?)
}

fn check_documentation() -> Outcome {
    Ok(process::shown(
        process::cargo()
            .args(["doc", "--quiet", "--locked", "--workspace", "--no-deps"])
            .args(["--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )?)
}
