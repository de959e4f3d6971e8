//! How the program ends: 0 done, 1 failed (what, why and what to do on stderr), 2 wrong usage.

use std::fmt;
use std::process::ExitCode;

/// Why the program could not do what was asked.
#[derive(Debug)]
pub struct Failure {
    kind: Kind,
    what: String,
    remedy: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Failed,
    Usage,
}

impl Failure {
    /// The request was understood and failed.
    pub fn new(what: impl Into<String>) -> Self {
        Failure {
            kind: Kind::Failed,
            what: what.into(),
            remedy: None,
        }
    }

    /// The command line does not make sense.
    pub fn usage(what: impl Into<String>) -> Self {
        Failure {
            kind: Kind::Usage,
            what: what.into(),
            remedy: None,
        }
    }

    /// Adds what the user can do about it.
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        let remedy = remedy.into();
        self.remedy = (!remedy.is_empty()).then_some(remedy);
        self
    }

    /// The exit code of the contract.
    pub fn exit_code(&self) -> ExitCode {
        match self.kind {
            Kind::Failed => ExitCode::from(1),
            Kind::Usage => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rootvirt: {}", self.what)?;
        if let Some(remedy) = &self.remedy {
            write!(f, "\nWhat to do: {remedy}")?;
        }
        Ok(())
    }
}

/// Prints an error with its chain of causes, once.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
