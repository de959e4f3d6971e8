//! Serial ports whose reader does not read.

use crate::capture::{copy_on, snapshot};
use crate::machine::*;
use qemu::Process;
use qemu::memory_image::MemoryImage;
use qemu::postcopy::{Asked, PageServer};
use qemu::spec::*;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixStream;

/// Does nothing but print.
const PRINTING: Guest = Guest {
    writes_disks: false,
    sleeps: false,
};

/// A machine that prints to a socket, captured while it waited for the reader.
async fn captured_while_it_waits() -> (Machine, Process, u32) {
    let mut machine = Machine::new(PRINTING).await;
    let socket = machine.path("com1");
    machine.spec.serial_ports[0].connection = SerialConnection::Socket(socket.clone());
    let process = machine.launch().await;
    let _silent = UnixStream::connect(&socket).await.unwrap();
    let counted = eventually("the guest waits for its reader", || async {
        let before = memory_at(&process, 0x20000).await;
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        let after = memory_at(&process, 0x20000).await;
        (before > 0 && before == after).then_some(before)
    });
    let counted = counted.await;
    snapshot(&machine, &process, 1).await;
    (machine, process, counted)
}

/// The process of a copy that prints to the socket `com1` in its folder.
async fn copy(machine: &Machine, name: &str) -> Process {
    let one = copy_on(machine, "one", 1, name).await;
    let two = copy_on(machine, "two", 1, name).await;
    let mut spec = machine.clone_with(name, one, two);
    let socket = machine.path(&format!("{name}.com1"));
    spec.serial_ports[0].connection = SerialConnection::Socket(socket);
    Process::launch(&machine.installation, &spec).await.unwrap()
}

async fn prints_beyond(socket: &Path, number: u32) {
    let mut lines = BufReader::new(UnixStream::connect(socket).await.unwrap()).lines();
    let goes_on = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            // The first may have lost its beginning.
            if u32::from_str_radix(&line, 16).is_ok_and(|printed| printed > number) {
                return;
            }
        }
        panic!("the port was closed");
    };
    let waited = tokio::time::timeout(PATIENCE, goes_on).await;
    waited.expect("the guest prints again");
}

#[tokio::test]
async fn a_guest_captured_while_its_reader_does_not_read_prints_again() {
    let (machine, original, counted) = captured_while_it_waits().await;
    let image = open_image(&machine.path("memory-1"));

    let whole = copy(&machine, "whole").await;
    whole.load_image(&image, PATIENCE).await.unwrap();
    whole.cont().await.unwrap();
    prints_beyond(&machine.path("whole.com1"), counted).await;
    whole.kill().await.unwrap();

    let on_demand = copy(&machine, "demand").await;
    let source = MemoryImage::open(&machine.path("memory-1"), &qemu::memory_image::no_parents);
    let source = Arc::new(source.unwrap());
    let backing = machine.spec.memory.backing;
    let server = PageServer::start(&on_demand, source, Asked::default(), backing, PATIENCE).await;
    let _server = server.unwrap();
    on_demand.cont().await.unwrap();
    prints_beyond(&machine.path("demand.com1"), counted).await;
    on_demand.kill().await.unwrap();
    original.kill().await.unwrap();
}
