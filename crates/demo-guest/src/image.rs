//! Where tests and the demo find the boot disk that `cargo xtask` built.

use std::path::PathBuf;

/// The environment variable that names the boot disk, a raw image that must not be written to:
/// attach it with `snapshot=on` or put an overlay on it.
pub const VARIABLE: &str = "ROOTVIRT_TEST_GUEST";

/// No boot disk was named.
#[derive(Debug, thiserror::Error)]
#[error(
    "{VARIABLE} names no boot disk of the demo guest: run the tests with `cargo xtask test`, or \
     make one with `cargo xtask guest FILE` and set {VARIABLE} to it"
)]
pub struct NoBootDisk;

/// The boot disk named by the environment.
///
/// # Errors
/// When none is named, or it is not there.
pub fn boot_disk() -> Result<PathBuf, NoBootDisk> {
    std::env::var_os(VARIABLE)
        .map(PathBuf::from)
        .filter(|path| path.is_file())
        .ok_or(NoBootDisk)
}
