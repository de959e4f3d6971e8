//! The only unsafe code of this crate, because the standard library has no safe call for it:
//! starting a child in its own session, waiting for a descriptor without blocking, and
//! page-aligned memory for direct I/O.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr::NonNull;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Makes the child that `command` starts the leader of a new session, so that no terminal and no
/// signal to our process group reaches it.
pub fn in_own_session(command: &mut Command) {
    // SAFETY: between fork and exec the closure makes one system call, which is
    // async-signal-safe; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
}

/// Tells when a descriptor becomes readable. Called within a tokio runtime.
pub fn watch_readable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the `OwnedFd` moves into the `AsyncFd` and keeps one open descriptor, always the
    // same, for as long as that lives.
    let watched = unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) };
    watched.map_err(io::Error::from)
}

/// A block of zeroed memory, aligned for direct I/O and made of huge pages where the kernel can.
pub struct Block {
    start: NonNull<u8>,
    length: usize,
}

impl Block {
    /// Maps `length` bytes (more than none).
    pub fn map(length: usize) -> io::Result<Block> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        // SAFETY: a new private anonymous mapping at an address that the kernel chooses overlaps
        // nothing; advice on the same range changes no content.
        let address = unsafe {
            let address = mmap_anonymous(
                std::ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?;
            // Without huge pages it works as well, only slower.
            let _ = madvise(address, length, Advice::LinuxHugepage);
            address
        };
        match NonNull::new(address.cast::<u8>()) {
            Some(start) => Ok(Block { start, length }),
            None => Err(io::Error::other("the kernel mapped memory at address zero")),
        }
    }
}

impl std::ops::Deref for Block {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is `length` readable, initialised bytes until `drop`, and only
        // `deref_mut` with `&mut self` changes them.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl std::ops::DerefMut for Block {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`; `&mut self` makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the mapping was made in `map` with this address and length, and no reference to
        // it outlives `self`.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.length) };
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the block owns its mapping, which is not tied to a thread.
unsafe impl Send for Block {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_zeroed_aligned_and_writable() {
        let mut block = Block::map(4 << 20).unwrap();
        assert_eq!(block.as_ptr() as usize % 4096, 0);
        assert!(block.iter().all(|b| *b == 0));
        block[(4 << 20) - 1] = 7;
        assert_eq!(block[(4 << 20) - 1], 7);
    }
}
