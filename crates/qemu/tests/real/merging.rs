//! Layers disappear, running and off-line, and every other layer still shows what it showed.

use crate::machine::*;
use qemu::Process;
use qemu::live::Switch;
use qemu::merge::MergeError;
use qemu::spec::*;
use serde_json::json;
use std::path::{Path, PathBuf};

/// A machine whose first data disk has the chain 0 <- 1 <- 2 <- 3, with data in each of them.
struct Chained {
    machine: Machine,
    process: Process,
}

impl Chained {
    async fn new() -> Chained {
        let machine = Machine::new(SLOW).await;
        let process = machine.launch().await;
        machine.counts_beyond(0).await;
        let mut chained = Chained { machine, process };
        // The base: all of it.
        chained.write("one-0", 0, 16 << 20, 1).await;
        for n in 1..=3 {
            chained.grow(n).await;
            // Each layer covers one megabyte that the one below it has too, and one that not.
            let start = u64::from(n) << 20;
            chained
                .write(&format!("one-{n}"), start, 2 << 20, n + 1)
                .await;
        }
        chained
    }

    fn file(&self, n: u8) -> PathBuf {
        match n {
            0 => self.machine.path("one"),
            n => self.machine.path(&format!("one-{n}.qcow2")),
        }
    }

    async fn grow(&mut self, n: u8) {
        let format = if n == 1 { Format::Raw } else { Format::Qcow2 };
        let (below, path) = (self.file(n - 1), self.file(n));
        self.machine
            .img()
            .create_overlay(&path, &below, format)
            .await
            .unwrap();
        let overlay = layer(&format!("one-{n}"), Format::Qcow2, &path);
        self.process.add_overlay(&overlay).await.unwrap();
        let switch = Switch {
            node: id(&format!("one-{}", n - 1)),
            overlay: overlay.node,
        };
        self.process.switch_overlays(&[switch]).await.unwrap();
    }

    async fn write(&self, node: &str, at: u64, length: u64, byte: u8) {
        let drive = self.process.block_devices().await.unwrap();
        let drive = drive.iter().find(|d| d.drive == id("one")).unwrap();
        assert_eq!(drive.active().unwrap().node, node);
        let line = format!("qemu-io -d one \"write -P {byte} {at} {length}\"");
        let arguments = json!({"command-line": line});
        let said = self
            .process
            .qmp()
            .execute("human-monitor-command", arguments)
            .await
            .unwrap();
        assert!(
            said.as_str().unwrap_or("").contains("wrote") || said == json!(""),
            "{said}"
        );
    }

    /// What a guest would read through the layer.
    async fn content(&self, n: u8) -> Vec<u8> {
        let format = if n == 0 { Format::Raw } else { Format::Qcow2 };
        content(&self.machine, &self.file(n), format).await
    }

    async fn chain(&self) -> Vec<String> {
        let devices = self.process.block_devices().await.unwrap();
        let one = devices.into_iter().find(|d| d.drive == id("one")).unwrap();
        one.layers.into_iter().map(|l| l.node).collect()
    }

    async fn headers(&self, n: u8) -> Vec<PathBuf> {
        let chain = self
            .machine
            .img()
            .chain(&self.file(n), Format::Qcow2)
            .await
            .unwrap();
        chain.into_iter().map(|i| i.path).collect()
    }
}

async fn content(machine: &Machine, path: &Path, format: Format) -> Vec<u8> {
    let copy = machine.path("content");
    let output = tokio::process::Command::new(&machine.installation.img)
        .args(["convert", "-U", "-f", format.driver(), "-O", "raw"])
        .args([path, &copy])
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    std::fs::read(copy).unwrap()
}

/// The layers' contents as they were written.
fn expected(n: u8) -> Vec<u8> {
    let mut bytes = vec![1; 16 << 20];
    for layer in 1..=n {
        let start = usize::from(layer) << 20;
        bytes[start..start + (2 << 20)].fill(layer + 1);
    }
    bytes
}

#[tokio::test]
async fn a_layer_is_pulled_into_its_child_while_the_guest_runs() {
    let chained = Chained::new().await;
    let merge = chained
        .process
        .pull(&id("pull"), &id("one-2"), Some(&id("one-0")))
        .await
        .unwrap();
    merge.wait(PATIENCE).await.unwrap();
    assert_eq!(chained.chain().await, ["one-0", "one-2", "one-3"]);
    chained.process.remove_node(&id("one-1")).await.unwrap();
    std::fs::remove_file(chained.file(1)).unwrap();
    let headers = [chained.file(3), chained.file(2), chained.file(0)];
    assert_eq!(chained.headers(3).await, headers);
    assert!(chained.content(0).await == expected(0));
    assert!(chained.content(2).await == expected(2));
    assert!(chained.content(3).await == expected(3));
    // The oldest one: the child then stands alone.
    let merge = chained
        .process
        .pull(&id("pull"), &id("one-2"), None)
        .await
        .unwrap();
    merge.wait(PATIENCE).await.unwrap();
    assert_eq!(chained.chain().await, ["one-2", "one-3"]);
    chained.process.quit(PATIENCE).await.unwrap();
    std::fs::remove_file(chained.file(0)).unwrap();
    assert!(chained.content(3).await == expected(3));
}

#[tokio::test]
async fn a_layer_is_committed_into_its_parent_while_the_guest_runs() {
    let chained = Chained::new().await;
    let job = id("commit");
    let (active, child, parent) = (id("one-3"), id("one-2"), id("one-1"));
    let merge = chained
        .process
        .commit(&job, &active, &child, &parent)
        .await
        .unwrap();
    merge.wait(PATIENCE).await.unwrap();
    assert_eq!(chained.chain().await, ["one-0", "one-1", "one-3"]);
    chained.process.remove_node(&child).await.unwrap();
    std::fs::remove_file(chained.file(2)).unwrap();
    assert!(chained.content(1).await == expected(2));
    assert!(chained.content(3).await == expected(3));
    // The active layer: its parent becomes it.
    let merge = chained
        .process
        .commit(&job, &active, &active, &parent)
        .await
        .unwrap();
    merge.wait(PATIENCE).await.unwrap();
    assert_eq!(chained.chain().await, ["one-0", "one-1"]);
    chained.process.remove_node(&active).await.unwrap();
    chained.write("one-1", 0, 4096, 99).await;
    chained.process.quit(PATIENCE).await.unwrap();
    let mut last = expected(3);
    last[..4096].fill(99);
    assert!(chained.content(1).await == last);
    assert!(chained.content(0).await == expected(0));
}

#[tokio::test]
async fn a_merge_is_cancelled_or_found_again() {
    let chained = Chained::new().await;
    let (job, process) = (id("pull"), &chained.process);
    assert!(process.adopt_merge(&job).await.unwrap().is_none());
    // As somebody else may have left it: under way, and too slow to end by itself.
    let begin_slowly = async || {
        let arguments = json!({
            "job-id": "pull", "device": "one-2", "base-node": "one-0", "speed": 1,
            "backing-file": chained.file(0), "auto-finalize": true, "auto-dismiss": true,
        });
        process
            .qmp()
            .execute("block-stream", arguments)
            .await
            .unwrap();
        process.adopt_merge(&job).await.unwrap().unwrap()
    };
    let merge = begin_slowly().await;
    let progress = merge.progress().await.unwrap();
    assert!(progress.done < progress.total, "{progress:?}");
    let soon = merge.wait(std::time::Duration::from_millis(100)).await;
    assert!(matches!(soon, Err(MergeError::TimedOut { .. })), "{soon:?}");
    merge.cancel().await.unwrap();
    assert_eq!(chained.chain().await.len(), 4);
    assert!(process.adopt_merge(&job).await.unwrap().is_none());

    let merge = begin_slowly().await;
    let full_speed = json!({"device": "pull", "speed": 0});
    process
        .qmp()
        .execute("block-job-set-speed", full_speed)
        .await
        .unwrap();
    merge.wait(PATIENCE).await.unwrap();
    assert_eq!(chained.chain().await, ["one-0", "one-2", "one-3"]);
    assert!(chained.content(3).await == expected(3));
    let absent = process.pull(&job, &id("one-2"), Some(&id("nothing"))).await;
    assert!(matches!(absent, Err(MergeError::NoSuchNode { .. })));
}

#[tokio::test]
async fn layers_are_merged_off_line_both_ways() {
    let chained = Chained::new().await;
    chained.process.quit(PATIENCE).await.unwrap();
    let img = chained.machine.img();
    let base = chained.file(0);
    for _ in 0..2 {
        // Twice, as after a crash.
        img.pull(&chained.file(2), Some((&base, Format::Raw)))
            .await
            .unwrap();
    }
    std::fs::remove_file(chained.file(1)).unwrap();
    assert_eq!(
        chained.headers(3).await,
        [chained.file(3), chained.file(2), base]
    );
    assert!(chained.content(2).await == expected(2));
    assert!(chained.content(3).await == expected(3));
    for _ in 0..2 {
        img.commit(&chained.file(3), &chained.file(2))
            .await
            .unwrap();
    }
    assert!(chained.content(2).await == expected(3));
    img.pull(&chained.file(2), None).await.unwrap();
    std::fs::remove_file(chained.file(0)).unwrap();
    assert!(chained.content(2).await == expected(3));
}
