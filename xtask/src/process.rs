//! Running other programs: what was run and what it said is part of every failure.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

/// Why a program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot run `{command}`: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}){}", said(.output))]
    Failed {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said, if that was not shown already.
        output: String,
    },
}

fn said(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        output => format!(":\n{output}"),
    }
}

/// Runs a program whose output is only of interest when it fails; gives its standard output.
pub fn quiet(command: &mut Command) -> Result<String, ProcessError> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ProcessError::Start {
            command: line.clone(),
            source,
        })?;
    let Output {
        status,
        stdout,
        stderr,
    } = output;
    let stdout = String::from_utf8_lossy(&stdout).into_owned();
    if status.success() {
        return Ok(stdout);
    }
    let output = format!("{stdout}{}", String::from_utf8_lossy(&stderr));
    Err(ProcessError::Failed {
        command: line,
        status,
        output,
    })
}

/// As [`quiet`], but ends the program when it `is_too_much`, which is asked now and then. The time
/// from its start to its end is not made longer by that.
pub fn limited(
    command: &mut Command,
    mut is_too_much: impl FnMut() -> Option<String>,
) -> Result<String, crate::Failure> {
    const LOOK: std::time::Duration = std::time::Duration::from_millis(100);
    let line = command_line(command);
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ProcessError::Start {
            command: line.clone(),
            source,
        })?;
    let id = rustix::process::Pid::from_child(&child);
    let (ended, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait_with_output()));
    let output = loop {
        match end.recv_timeout(LOOK) {
            Ok(output) => break output?,
            Err(_) => {
                if let Some(reason) = is_too_much() {
                    rustix::process::kill_process(id, rustix::process::Signal::KILL)?;
                    drop(end.recv());
                    return Err(format!("`{line}` was ended: {reason}").into());
                }
            }
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let output_text = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
    Err(ProcessError::Failed {
        command: line,
        status: output.status,
        output: output_text,
    }
    .into())
}

/// Runs a program whose output goes where ours goes.
pub fn shown(command: &mut Command) -> Result<(), ProcessError> {
    let line = command_line(command);
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|source| ProcessError::Start {
            command: line.clone(),
            source,
        })?;
    if status.success() {
        return Ok(());
    }
    Err(ProcessError::Failed {
        command: line,
        status,
        output: String::new(),
    })
}

/// A cargo command of the same toolchain.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(crate::workspace::root());
    // What cargo told us about ourselves when it started us. Build scripts look at these, so with
    // them dependencies would be built again whenever plain cargo and xtask take turns.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Where cargo puts what it builds.
pub fn target_folder() -> Result<PathBuf, crate::Failure> {
    #[derive(serde::Deserialize)]
    struct Metadata {
        target_directory: PathBuf,
    }
    let text = quiet(cargo().args(["metadata", "--format-version", "1", "--no-deps", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    Ok(metadata.target_directory)
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_much_is_ended_and_others_give_their_output() {
        let too_much = || Some("it is too slow".to_owned());
        let error = limited(Command::new("sleep").arg("1000"), too_much).expect_err("ended");
        assert!(error.to_string().contains("too slow"), "{error}");
        let said = limited(Command::new("echo").arg("done"), || None).expect("it ends");
        assert_eq!(said, "done\n");
        let error = limited(&mut Command::new("false"), || None).expect_err("it fails");
        assert!(error.to_string().contains("`false` failed"), "{error}");
    }
}
