//! Running a benchmark so that nothing is left over, however it ends.
//!
//! Guests of `rootvirt` outlive their service by design, and those of libvirt its daemon. So all of
//! it runs in a process namespace of its own: when the first process in it ends, the kernel ends the
//! rest. A shell outside removes the files afterwards. Inside, the end of standard input says that
//! the caller is gone (Ctrl-C, or worse), and that ends the first process.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::plan::Plan;
use crate::{Failure, Outcome};

/// The argument that starts the isolated part.
pub const INSIDE: &str = "--inside";

/// In which folder everything goes: on a disk, as a real machine's files would be.
pub const PLACE: &str = "/var/tmp";

/// Arguments: scratch folder, then a command. The inner shell stays to collect the processes whose
/// parents have ended. The pool of huge pages is given back: a killed service cannot do that.
const CARETAKER: &str = r#"
scratch=$1; shift
pool=/proc/sys/vm/nr_hugepages
before=$(cat $pool)
unshare --pid --fork --kill-child --mount --mount-proc sh -c '"$@"; exit $?' sh "$@"
status=$?
rm -rf "$scratch"
[ "$(cat $pool)" = "$before" ] || echo "$before" > $pool
exit $status
"#;

/// Carries out the plan in isolation.
pub fn run(plan: &mut Plan) -> Outcome {
    let scratch = tempfile::Builder::new()
        .prefix("rv-bench-")
        .tempdir_in(PLACE)?;
    plan.scratch = scratch.path().to_owned();
    let mut caretaker = Command::new("sh")
        .args(["-c", CARETAKER, "sh"])
        .arg(scratch.path())
        .arg(std::env::current_exe()?)
        .args(["bench", INSIDE, &serde_json::to_string(plan)?])
        .stdin(Stdio::piped())
        // Ctrl-C is for us alone: the rest notices that we are gone, and cleans up.
        .process_group(0)
        .spawn()?;
    // Taken, or waiting would close it.
    let lifeline = caretaker.stdin.take();
    let status = caretaker.wait()?;
    drop(lifeline);
    if status.success() {
        Ok(())
    } else {
        Err("the benchmark did not come to its end; the reason is above".into())
    }
}

/// The isolated part: does the work, or ends when the caller is gone.
pub fn end_with_caller(work: impl FnOnce() -> Result<(), Failure>) -> Outcome {
    std::thread::spawn(|| {
        let mut caller = std::io::stdin();
        let mut nothing = [0_u8; 1];
        while matches!(caller.read(&mut nothing), Ok(1..)) {}
        std::process::exit(130);
    });
    work()
}
