//! Choosing between KVM and software emulation (TCG), by proof.
//!
//! That `/dev/kvm` opens and firmware runs says little: there are hosts (nested ones above all)
//! whose KVM interprets guest code a thousand times too slowly, lacks an instruction every kernel
//! uses, or gets a privilege change wrong. So before KVM is used, a small guest of our own does
//! under it what a kernel does on its way up, and has to arrive at the right result in time. The
//! question is asked once, when the service starts; the answer holds for every machine.
//!
//! It does not look at processor flags or kernel modules to guess, and it does not launch machines.
//!
//! Where to start: [`decide`]. The guest is in `payload` and `payload.S`, running it in
//! `probe`.

mod payload;
mod probe;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub use crate::spec::Accelerator;
use probe::{Probe, ProbeError};

const KVM_DEVICE: &str = "/dev/kvm";
/// The probe guest needs some tenths of a second on a healthy host and about one under TCG: a KVM
/// that needs more is not worth having. With the waits of [`probe`] all stays within five seconds.
const TIME_LIMIT: Duration = Duration::from_secs(3);

/// What the operator asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Choice {
    /// KVM where it is proven to run a guest, otherwise TCG.
    #[default]
    Auto,
    /// KVM, or an error that says why not.
    Kvm,
    /// TCG, without looking at KVM.
    Tcg,
}

impl FromStr for Choice {
    type Err = ParseChoiceError;

    fn from_str(text: &str) -> Result<Choice, ParseChoiceError> {
        match text {
            "auto" => Ok(Choice::Auto),
            "kvm" => Ok(Choice::Kvm),
            "tcg" => Ok(Choice::Tcg),
            _ => Err(ParseChoiceError),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Choice::Auto => "auto",
            Choice::Kvm => "kvm",
            Choice::Tcg => "tcg",
        })
    }
}

/// A text that names no [`Choice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an accelerator is auto, kvm or tcg")]
pub struct ParseChoiceError;

/// The accelerator to use, and why.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What every machine is to be launched with.
    pub accelerator: Accelerator,
    /// Why, as a sentence for the log and for the operator.
    pub reason: String,
    /// How long it took to find out.
    pub took: Duration,
}

/// Why there is no accelerator.
#[derive(Debug, thiserror::Error)]
pub enum AcceleratorError {
    /// KVM was asked for and does not run a guest on this host.
    #[error(
        "KVM was asked for but cannot be used: {0}. Use the accelerator auto or tcg to run \
         machines in software emulation"
    )]
    KvmUnusable(#[from] KvmFault),
    /// QEMU itself does not start, so neither accelerator would work.
    #[error("cannot start {}: {source}. Check that QEMU is installed and executable", program.display())]
    Launch {
        /// The program that was tried.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// What is wrong with KVM on this host.
#[derive(Debug, thiserror::Error)]
pub enum KvmFault {
    /// The device node is missing.
    #[error(
        "there is no /dev/kvm (no virtualization extensions, switched off in the firmware, or \
         the kvm module is not loaded)"
    )]
    NoDevice,
    /// The device node may not be opened.
    #[error(
        "this user has no permission to open /dev/kvm for reading and writing (on most systems the \
         members of the group kvm have it)"
    )]
    NoPermission,
    /// The device node opens with another error.
    #[error("/dev/kvm cannot be opened: {0}")]
    Device(io::Error),
    /// This QEMU was built without KVM.
    #[error("this QEMU was built without KVM")]
    NotInQemu,
    /// The test could not be prepared, so nothing is proven.
    #[error(
        "the probe guest's image could not be written to the directory for temporary files: {0}"
    )]
    NotTested(io::Error),
    /// QEMU ended before or while the guest ran.
    #[error(
        "QEMU ended by itself ({status}) while the probe guest {stage}{}",
        said(messages)
    )]
    QemuEnded {
        /// How QEMU ended.
        status: ExitStatus,
        /// The last thing the guest was seen doing.
        stage: &'static str,
        /// What QEMU wrote to its standard error.
        messages: String,
    },
    /// The guest was not done in time.
    #[error(
        "the probe guest was not done after {:.1} s, when it {stage}: guest code is interpreted \
         or stuck instead of running on the processor{}", limit.as_secs_f64(), said(messages)
    )]
    Stalled {
        /// The last thing the guest was seen doing.
        stage: &'static str,
        /// The time it had.
        limit: Duration,
        /// What QEMU wrote to its standard error.
        messages: String,
    },
    /// The guest ran to an end, with results that a processor does not give.
    #[error(
        "the probe guest saw a result or an exception that no processor gives, when it {stage}"
    )]
    WrongResult {
        /// The last thing the guest was seen doing.
        stage: &'static str,
    },
}

fn said(messages: &str) -> String {
    match messages {
        "" => String::new(),
        some => format!(" (QEMU said: {some})"),
    }
}

/// The CPU model (`-cpu`) that goes with an accelerator: all that it can do. KVM is proven with
/// this model, so a machine that runs with another one runs unproven.
pub const fn cpu_model(accelerator: Accelerator) -> &'static str {
    match accelerator {
        Accelerator::Kvm => "host",
        Accelerator::Tcg => "max",
    }
}

/// Finds the accelerator that machines run with on this host.
///
/// Takes some tenths of a second where KVM works and at most five seconds anywhere. The QEMU
/// process started for it never outlives the call, also when the future is dropped.
///
/// # Errors
///
/// [`AcceleratorError::KvmUnusable`] only if KVM was asked for explicitly;
/// [`AcceleratorError::Launch`] if QEMU does not start.
pub async fn decide(qemu_binary: &Path, choice: Choice) -> Result<Verdict, AcceleratorError> {
    decide_with(qemu_binary, choice, Path::new(KVM_DEVICE), TIME_LIMIT).await
}

async fn decide_with(
    qemu_binary: &Path,
    choice: Choice,
    kvm_device: &Path,
    time_limit: Duration,
) -> Result<Verdict, AcceleratorError> {
    let started = Instant::now();
    let (accelerator, reason) = if choice == Choice::Tcg {
        let reason = "Software emulation (TCG) was asked for.".to_owned();
        (Accelerator::Tcg, reason)
    } else {
        match prove_kvm(qemu_binary, kvm_device, time_limit).await? {
            Ok(took) => {
                let seconds = took.as_secs_f64();
                let reason = format!("KVM ran the probe guest correctly in {seconds:.2} s.");
                (Accelerator::Kvm, reason)
            }
            Err(fault) if choice == Choice::Kvm => return Err(fault.into()),
            Err(fault) => {
                let reason =
                    format!("Software emulation (TCG), because KVM cannot be used: {fault}.");
                (Accelerator::Tcg, reason)
            }
        }
    };
    Ok(Verdict {
        accelerator,
        reason,
        took: started.elapsed(),
    })
}

/// The outer error is QEMU's absence, which no accelerator mends; the inner one is KVM's fault.
async fn prove_kvm(
    qemu_binary: &Path,
    kvm_device: &Path,
    time_limit: Duration,
) -> Result<Result<Duration, KvmFault>, AcceleratorError> {
    if let Err(fault) = open_device(kvm_device) {
        return Ok(Err(fault));
    }
    let image = payload::image();
    let probe = Probe::new(qemu_binary, Accelerator::Kvm, &image, time_limit);
    match probe.run().await {
        Ok(took) => Ok(Ok(took)),
        Err(ProbeError::Fault(fault)) => Ok(Err(fault)),
        Err(ProbeError::Launch(source)) => Err(AcceleratorError::Launch {
            program: qemu_binary.to_owned(),
            source,
        }),
    }
}

/// QEMU would say the same in more words; asking first gives each case its own reason.
fn open_device(kvm_device: &Path) -> Result<(), KvmFault> {
    match OpenOptions::new().read(true).write(true).open(kvm_device) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(KvmFault::NoDevice),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(KvmFault::NoPermission)
        }
        Err(error) => Err(KvmFault::Device(error)),
    }
}
