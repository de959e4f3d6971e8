//! The demo guest: what it counts, what it says, and how a host reads it.
//!
//! The demo guest is a small virtual machine whose state can be judged from outside: it counts in
//! RAM and on every data disk in lockstep, so that a snapshot shows whether its memory and its disks
//! are of one instant. `cargo xtask guest FILE` builds its boot disk. The guest's own program is the
//! binary `demo-guest-init`; this library holds what the guest and the host must agree on, and the
//! host's side. It starts no virtual machine.
//!
//! Start with [`serial::SerialClient`] to talk to a running guest, [`disk::read_counter`] to read
//! the counter out of a disk image, [`ram::inspect`] to judge a dump of the guest's memory.
//!
//! # One round
//!
//! Round `i` of the counting loop is, in this order:
//!
//! 1. RAM counter **A** becomes `i`.
//! 2. Page `i mod N` of a ring of N pages (16,384 where memory allows) is filled with `i`.
//! 3. On every data disk, slot `i mod 2` must still hold round `i - 2`; then `i` is written there,
//!    with `O_DIRECT | O_SYNC`. The two slots lie in different clusters ([`disk::SLOT_OFFSETS`]).
//! 4. RAM counter **B** becomes `i`.
//! 5. In every 8th round the blocks just written are read back and compared.
//!
//! So at every instant `B <= D <= A` and `A - B <= 1` for the counter D of each disk: memory and
//! disks that are not of one instant break this soon. A guest that goes on from a snapshot whose
//! disks are not of the instant of its memory finds out in its next two rounds, and counts a read
//! error. A disk is a data disk when its first 128 KiB
//! and its slots are zero or hold this guest's blocks; any other disk is left alone. After a boot
//! the guest goes on from the highest counter it finds on its disks.
//!
//! # On the serial port (COM1)
//!
//! Lines end in `\n`. The guest says by itself
//!
//! ```text
//! rootvirt-guest ready boot=18f0c2a1b2c3d4e5 start=0 ring=16384 memory=486 cpus=1 disks=sdb:ide:0 ignored=sda
//! tick 12 ram 2400 disk 2400 errors 0
//! rootvirt-guest key 30
//! rootvirt-guest power-button
//! rootvirt-guest poweroff
//! ```
//!
//! `tick` comes once a second: seconds since the guest's program started, A, the lowest D (`-`
//! without a data disk), and the number of read and write errors. `key` is a key pressed on the
//! keyboard, by Linux's code. All this also shows on the screen of a machine that has one. Commands are one line each; the
//! answer ends with `ok COMMAND ...` or `error COMMAND WHY`:
//!
//! | command | effect |
//! |---|---|
//! | `hello` | says the `ready` line again |
//! | `report` | says one `report` line: exact counters at the end of a round, every ring page checked |
//! | `rate N` | at most N rounds a second; 0 halts counting; the default is 200 |
//! | `heartbeat on` / `off` | a byte to the debug port 0xe9 every 200 microseconds; off at first |
//! | `fill MIB` | holds MIB of memory full of noise; 0 gives it back |
//! | `dirty RATE MIB` | writes to pages of MIB of memory at RATE MiB/s; `max` is no limit, 0 stops |
//! | `sh COMMAND` | runs COMMAND in BusyBox's shell; its output lines start with `sh\| ` |
//! | `poweroff` / `reboot` | ends the round, says so, and does it |
//!
//! The ACPI power button does what `poweroff` does.

pub mod disk;
pub mod image;
pub mod pattern;
pub mod protocol;
pub mod ram;
pub mod serial;
