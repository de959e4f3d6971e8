//! `cargo xtask`: everything a developer or a build machine does with this workspace besides plain
//! cargo commands. Nothing here is part of the product.
//!
//! Each command is a module: `setup` (what the other commands need on this machine), `guest` (the
//! demo guest's disk image), `test`, `soak`, `fuzz`, `check`, `bench`. A new command is a module with a
//! `run` and a row in [`COMMANDS`].

mod apt;
mod bench;
mod check;
mod demo;
mod fuzz;
mod guest;
mod process;
mod setup;
mod soak;
mod test;
mod workspace;

use std::process::ExitCode;

/// What a command can fail with: a sentence that says what, why and what to do.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome = Result<(), Failure>;

struct Command {
    name: &'static str,
    usage: &'static str,
    run: fn(&[String]) -> Outcome,
}

const COMMANDS: &[Command] = &[
    Command {
        name: "demo",
        usage: demo::USAGE,
        run: demo::run,
    },
    Command {
        name: "setup",
        usage: setup::USAGE,
        run: setup::run,
    },
    Command {
        name: "guest",
        usage: guest::USAGE,
        run: guest::run,
    },
    Command {
        name: "check",
        usage: check::USAGE,
        run: check::run,
    },
    Command {
        name: "test",
        usage: test::USAGE,
        run: test::run,
    },
    Command {
        name: "soak",
        usage: soak::USAGE,
        run: soak::run,
    },
    Command {
        name: "fuzz",
        usage: fuzz::USAGE,
        run: fuzz::run,
    },
    Command {
        name: "bench",
        usage: bench::USAGE,
        run: bench::run,
    },
];

/// Wrong usage of a command, as opposed to a command that failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WrongUsage(String);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return explain_usage("which command?");
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        return explain_usage(&format!("there is no command '{name}'"));
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<WrongUsage>() => explain_usage(&error.to_string()),
        Err(error) => {
            eprintln!("cargo xtask {name}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn explain_usage(problem: &str) -> ExitCode {
    eprintln!("cargo xtask: {problem}\n\nusage:");
    for command in COMMANDS {
        eprintln!("  cargo xtask {}", command.usage);
    }
    ExitCode::from(2)
}
