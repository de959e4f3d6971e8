//! The probe guest is right (it passes under TCG), what goes wrong is told apart, and nothing
//! outlives a probe. `qemu-system-x86_64` must be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::probe::{Probe, ProbeError};
use super::*;

const QEMU: &str = "qemu-system-x86_64";
/// For what must succeed, however busy the machine is.
const AMPLE: Duration = Duration::from_secs(60);
/// `jmp .`
const ENDLESS_LOOP: [u8; 2] = [0xeb, 0xfe];

/// A program that stands in for QEMU. Another process writes it: while this one held it open for
/// writing, a child forked by another test would make it "text file busy".
fn program(dir: &Path, script: &str) -> PathBuf {
    let path = dir.join("qemu");
    let write = r#"printf '#!/bin/sh\n%s\n' "$1" > "$0" && chmod +x "$0""#;
    let status = Command::new("sh")
        .arg("-c")
        .arg(write)
        .arg(&path)
        .arg(script)
        .status();
    assert!(status.expect("sh runs").success());
    path
}

/// A device node that opens.
fn device(dir: &Path) -> PathBuf {
    let path = dir.join("kvm");
    fs::write(&path, "").expect("device file");
    path
}

/// QEMU behind a script that first writes its process id to a file.
fn qemu_with_pid(dir: &Path) -> (PathBuf, PathBuf) {
    let pid_file = dir.join("pid");
    let script = format!("echo $$ > '{}'; exec {QEMU} \"$@\"", pid_file.display());
    (program(dir, &script), pid_file)
}

fn pid_in(file: &Path) -> Option<u32> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fault_of(image: &[u8], time_limit: Duration) -> KvmFault {
    let probe = Probe::new(Path::new(QEMU), Accelerator::Tcg, image, time_limit);
    match probe.run().await {
        Err(ProbeError::Fault(fault)) => fault,
        Err(ProbeError::Launch(error)) => panic!("{QEMU} must be installed: {error}"),
        Ok(took) => panic!("passed in {took:?}"),
    }
}

async fn fault_said_by(script: &str) -> KvmFault {
    let dir = TempDir::new().expect("directory");
    let qemu = program(dir.path(), script);
    let error = decide_with(&qemu, Choice::Kvm, &device(dir.path()), TIME_LIMIT).await;
    match error.expect_err("the script is no QEMU") {
        AcceleratorError::KvmUnusable(fault) => fault,
        other => panic!("{other}"),
    }
}

#[test]
fn choices_are_read_as_they_are_written() {
    for choice in [Choice::Auto, Choice::Kvm, Choice::Tcg] {
        assert_eq!(choice.to_string().parse(), Ok(choice));
    }
    assert_eq!("KVM".parse::<Choice>(), Err(ParseChoiceError));
}

#[test]
fn the_token_is_what_the_guests_arithmetic_gives() {
    let mut value = 0x9e37_79b9_7f4a_7c15_u64;
    let mut buffer: Vec<u64> = std::iter::repeat_with(|| {
        value ^= value << 13;
        value ^= value >> 7;
        value ^= value << 17;
        value
    })
    .take(0x10_0000)
    .collect();
    for _ in 0..8 {
        for word in &mut buffer {
            value = (value ^ *word)
                .wrapping_mul(0xff51_afd7_ed55_8ccd)
                .rotate_left(23);
            *word = value;
        }
    }
    assert_eq!(value, payload::TOKEN);
}

#[test]
fn the_bytes_are_the_assembled_source() {
    if Command::new("as").arg("--version").output().is_err() {
        return;
    }
    let dir = TempDir::new().expect("directory");
    let steps = "as --64 -o payload.o \"$0\" \
                 && ld -Ttext=0x10000 -e start -o payload.elf payload.o \
                 && objcopy -O binary -j .text payload.elf payload.bin";
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/src/accelerator/payload.S");
    let mut assemble = Command::new("sh");
    assemble.args(["-c", steps, source]).current_dir(dir.path());
    assert!(assemble.status().expect("sh runs").success());
    let assembled = fs::read(dir.path().join("payload.bin")).expect("assembled");
    assert_eq!(assembled, payload::CODE);
}

#[tokio::test]
async fn the_guest_passes_under_tcg() {
    let image = payload::image();
    let probe = Probe::new(Path::new(QEMU), Accelerator::Tcg, &image, AMPLE);
    match probe.run().await {
        Ok(_) => {}
        Err(ProbeError::Fault(fault)) => panic!("{fault}"),
        Err(ProbeError::Launch(error)) => panic!("{error}"),
    }
}

#[tokio::test]
async fn an_endless_guest_is_killed_in_time() {
    let dir = TempDir::new().expect("directory");
    let (qemu, pid_file) = qemu_with_pid(dir.path());
    let image = payload::image_of(&ENDLESS_LOOP);
    let probe = Probe::new(&qemu, Accelerator::Tcg, &image, Duration::from_secs(1));
    let started = Instant::now();
    let result = probe.run().await;
    assert!(matches!(
        result,
        Err(ProbeError::Fault(KvmFault::Stalled { .. }))
    ));
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    let pid = pid_in(&pid_file).expect("QEMU was started");
    assert!(!is_running(pid));
}

#[tokio::test]
async fn a_dropped_probe_kills_its_guest() {
    let dir = TempDir::new().expect("directory");
    let (qemu, pid_file) = qemu_with_pid(dir.path());
    let image = payload::image_of(&ENDLESS_LOOP);
    let probe = Probe::new(&qemu, Accelerator::Tcg, &image, AMPLE);
    tokio::select! {
        _ = probe.run() => panic!("the guest loops for ever"),
        () = wait_until("QEMU runs", || pid_in(&pid_file).is_some()) => {}
    }
    let pid = pid_in(&pid_file).expect("just seen");
    wait_until("QEMU is gone", || !is_running(pid)).await;
}

#[tokio::test]
async fn a_guest_that_only_claims_success_fails() {
    // mov al, 0x2a; out 0xf4, al; jmp .
    let image = payload::image_of(&[0xb0, 0x2a, 0xe6, 0xf4, 0xeb, 0xfe]);
    let fault = fault_of(&image, AMPLE).await;
    assert!(matches!(fault, KvmFault::WrongResult { .. }), "{fault}");
}

#[tokio::test]
async fn a_fault_names_the_stage_the_guest_was_in() {
    // mov al, 'A'; out 0xe9, al; mov al, 0x0e; out 0xf4, al; jmp .
    let code = [0xb0, b'A', 0xe6, 0xe9, 0xb0, 0x0e, 0xe6, 0xf4, 0xeb, 0xfe];
    let fault = fault_of(&payload::image_of(&code), AMPLE).await;
    assert!(matches!(fault, KvmFault::WrongResult { .. }), "{fault}");
    assert!(
        fault.to_string().contains("16-byte locked exchange"),
        "{fault}"
    );
}

#[tokio::test]
async fn auto_uses_kvm_when_the_guest_passes() {
    // QEMU as it is on a healthy host, as far as it can be seen from outside.
    let dir = TempDir::new().expect("directory");
    let script = format!(
        "for a; do case $a in kvm) a=tcg;; host) a=max;; esac; set -- \"$@\" \"$a\"; shift; done\n\
         exec {QEMU} \"$@\""
    );
    let qemu = program(dir.path(), &script);
    let verdict = decide_with(&qemu, Choice::Auto, &device(dir.path()), AMPLE)
        .await
        .expect("verdict");
    assert_eq!(verdict.accelerator, Accelerator::Kvm, "{}", verdict.reason);
    assert!(verdict.reason.contains("correctly"), "{}", verdict.reason);
}

#[tokio::test]
async fn auto_falls_back_with_what_qemu_said() {
    let dir = TempDir::new().expect("directory");
    let qemu = program(
        dir.path(),
        "echo 'qemu: error: failed to set MSR 0x10a' >&2; kill -ABRT $$",
    );
    let device = device(dir.path());
    let verdict = decide_with(&qemu, Choice::Auto, &device, TIME_LIMIT)
        .await
        .expect("verdict");
    assert_eq!(verdict.accelerator, Accelerator::Tcg);
    assert!(
        verdict.reason.contains("failed to set MSR 0x10a"),
        "{}",
        verdict.reason
    );

    let error = decide_with(&qemu, Choice::Kvm, &device, TIME_LIMIT)
        .await
        .expect_err("KVM is not proven");
    assert!(
        matches!(
            error,
            AcceleratorError::KvmUnusable(KvmFault::QemuEnded { .. })
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("failed to set MSR 0x10a"),
        "{error}"
    );
}

#[tokio::test]
async fn each_cause_has_its_own_reason() {
    let fault = fault_said_by("echo 'qemu: -accel kvm: invalid accelerator kvm' >&2; exit 1").await;
    assert!(matches!(fault, KvmFault::NotInQemu), "{fault}");

    let dir = TempDir::new().expect("directory");
    let missing = dir.path().join("missing");
    let verdict = decide_with(Path::new(QEMU), Choice::Auto, &missing, TIME_LIMIT)
        .await
        .expect("verdict");
    assert_eq!(verdict.accelerator, Accelerator::Tcg);
    assert!(
        verdict.reason.contains("there is no /dev/kvm"),
        "{}",
        verdict.reason
    );

    let error = decide_with(&missing, Choice::Auto, &device(dir.path()), TIME_LIMIT).await;
    assert!(matches!(error, Err(AcceleratorError::Launch { .. })));
}

#[tokio::test]
async fn endless_messages_do_not_block_or_fill_the_reason() {
    let fault = fault_said_by("yes 'no such luck' >&2").await;
    assert!(matches!(fault, KvmFault::Stalled { .. }), "{fault}");
    assert!(fault.to_string().len() < 1000);
}

#[tokio::test]
async fn this_host_gets_a_verdict_in_time() {
    let qemu = Path::new(QEMU);
    let verdict = decide(qemu, Choice::Auto).await.expect("verdict");
    println!(
        "{:?} in {:?}: {}",
        verdict.accelerator, verdict.took, verdict.reason
    );
    assert!(verdict.took < Duration::from_secs(5), "{:?}", verdict.took);
    let asked = decide(qemu, Choice::Kvm).await;
    assert_eq!(
        asked.is_ok(),
        verdict.accelerator == Accelerator::Kvm,
        "{asked:?}"
    );
}
