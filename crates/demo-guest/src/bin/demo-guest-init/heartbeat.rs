//! The heartbeat: a byte to the debug port 0xe9 every 200 microseconds, by which a host sees how
//! long the guest stands still. The guest's own clock stands still with it.
//!
//! This file holds the guest's only unsafe code: there is no other way to write to an I/O port here
//! (the kernel has no `/dev/port`). Both operations are sound in the demo guest: the port belongs to
//! QEMU's debug console or to nothing, and writing to it changes no memory.
#![allow(unsafe_code)]

use std::arch::asm;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

const DEBUG_PORT: u16 = 0xe9;
const PERIOD: Duration = Duration::from_micros(200);

/// The switch of the heartbeat.
#[derive(Default)]
pub struct Heartbeat {
    beating: Arc<AtomicBool>,
}

impl Heartbeat {
    /// Starts or stops it.
    pub fn switch(&self, on: bool) -> io::Result<()> {
        if self.beating.swap(on, SeqCst) == on || !on {
            return Ok(());
        }
        let beating = Arc::clone(&self.beating);
        let (told, heard) = mpsc::channel();
        crate::spawn("heartbeat", move || {
            // Access to ports is granted to the thread that asks for it.
            let granted = open_port();
            let failed = granted.is_err();
            drop(told.send(granted));
            if failed {
                beating.store(false, SeqCst);
            }
            let mut byte = 0_u8;
            while beating.load(SeqCst) {
                write_port(byte);
                byte = byte.wrapping_add(1);
                std::thread::sleep(PERIOD);
            }
        })?;
        heard.recv().map_err(io::Error::other)?
    }
}

fn open_port() -> io::Result<()> {
    // SAFETY: ioperm takes no pointers; it only lets this thread use the one port.
    if unsafe { libc::ioperm(DEBUG_PORT.into(), 1, 1) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn write_port(byte: u8) {
    // SAFETY: only called after open_port succeeded in the same thread; `out` touches no memory.
    unsafe {
        asm!("out dx, al", in("dx") DEBUG_PORT, in("al") byte, options(nomem, nostack, preserves_flags));
    }
}
