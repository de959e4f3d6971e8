//! The only unsafe code of this crate, because the standard library has no safe call for it:
//! starting a child in its own session, waiting for a descriptor without blocking, page-aligned
//! memory for direct I/O, looking at and collapsing another process's pages, and the priority of a
//! thread.

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
        Block::map_of(length, rustix::mm::Advice::LinuxHugepage)
    }

    /// The same of small pages: the kernel never looks for, nor makes, room for a huge one, which
    /// can take it tens of milliseconds.
    pub fn map_small(length: usize) -> io::Result<Block> {
        Block::map_of(length, rustix::mm::Advice::LinuxNoHugepage)
    }

    fn map_of(length: usize, pages: rustix::mm::Advice) -> io::Result<Block> {
        use rustix::mm::{MapFlags, ProtFlags, madvise, mmap_anonymous};
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
            let _ = madvise(address, length, pages);
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

/// Pages of a process that are next to each other and alike.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PageRun {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
    /// What they are: [`PAGE_PRESENT`], [`PAGE_ZERO`], [`PAGE_HUGE`].
    pub kinds: u64,
}

/// Pages that are in memory.
pub const PAGE_PRESENT: u64 = 1 << 3;
/// Pages that are the kernel's one page of zeros.
pub const PAGE_ZERO: u64 = 1 << 5;
/// Pages that are mapped as part of a huge one.
pub const PAGE_HUGE: u64 = 1 << 6;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `PAGEMAP_SCAN`: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: u32 = 0xc060_6610;

/// Looks at the pages between two addresses of the process whose `/proc/PID/pagemap` is given: fills
/// `runs` with those that are present, and answers how many runs there are and how far it looked.
/// Linux 6.7 or later; an older one gives `ENOTTY`.
pub fn scan_pages(
    pagemap: &std::fs::File,
    start: u64,
    end: u64,
    runs: &mut [PageRun],
) -> io::Result<(usize, u64)> {
    use std::os::fd::AsRawFd;
    let mut argument = ScanArgument {
        size: size_of::<ScanArgument>() as u64,
        flags: 0,
        start,
        end,
        walk_end: 0,
        vec: runs.as_mut_ptr() as u64,
        vec_len: runs.len() as u64,
        max_pages: 0,
        category_inverted: 0,
        category_mask: PAGE_PRESENT,
        category_anyof_mask: 0,
        return_mask: PAGE_PRESENT | PAGE_ZERO | PAGE_HUGE,
    };
    // SAFETY: the kernel writes at most `vec_len` runs to `vec`, which are ours for the call, and
    // into the argument; both have the layout that it expects.
    let found = unsafe {
        libc::ioctl(
            pagemap.as_raw_fd(),
            PAGEMAP_SCAN as libc::Ioctl,
            &raw mut argument,
        )
    };
    match usize::try_from(found) {
        Ok(found) => Ok((found.min(runs.len()), argument.walk_end)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Makes one huge page of the small ones at an address of another process (a whole number of huge
/// pages). Its content does not change. Linux 6.1 or later, and the right to change its scheduling.
pub fn collapse(process: &OwnedFd, address: u64, length: usize) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let range = libc::iovec {
        iov_base: address as *mut libc::c_void,
        iov_len: length,
    };
    // SAFETY: the one `iovec` is read during the call; its address is of the other process and not
    // touched by us, and the advice changes no content there.
    let done = unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            process.as_raw_fd(),
            &raw const range,
            1usize,
            libc::MADV_COLLAPSE,
            0u32,
        )
    };
    match done {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets the calling thread go before all ordinary ones of the host; not the threads that it starts.
/// For threads that mostly wait.
pub fn prefer_this_thread() -> io::Result<()> {
    schedule(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)
}

/// Lets a thread, and the threads that it starts, go before all ordinary ones of the host.
pub fn prefer_thread(thread: i32) -> io::Result<()> {
    schedule(thread, libc::SCHED_RR, 1)
}

/// Makes a thread an ordinary one again, if it is one of [`prefer_thread`].
pub fn defer_thread(thread: i32) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::sched_getscheduler(thread) } {
        libc::SCHED_RR => schedule(thread, libc::SCHED_OTHER, 0),
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// 0 is the calling thread.
fn schedule(thread: i32, policy: i32, priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    // SAFETY: the parameters are read during the call.
    match unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

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
