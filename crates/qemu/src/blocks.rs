//! What a process's drives hold right now, and changing the medium of a CD drive.

use crate::command_line::block_node;
use crate::nbd::Record;
use crate::process::{Process, ProcessError, lacking};
use crate::qmp::QmpError;
use crate::spec::{Format, Id, Layer, check_path};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;

/// The longest chain of files that is followed.
const MAX_DEPTH: usize = 256;

/// A drive, with the files below it right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// The drive's id.
    pub drive: Id,
    /// The chain, oldest first; empty for an empty CD drive.
    pub layers: Vec<BlockNode>,
}

impl BlockDevice {
    /// The layer that is written (or the medium, of a CD drive).
    pub fn active(&self) -> Option<&BlockNode> {
        self.layers.last()
    }
}

/// A node of QEMU's block graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockNode {
    /// QEMU's name of the node. If one file serves several drives, the name below the active
    /// layer may be that of another drive's node for the same file.
    pub node: String,
    /// QEMU's driver.
    pub driver: String,
    /// The file.
    pub path: PathBuf,
    /// Whether it is read-only now.
    pub read_only: bool,
}

impl Process {
    /// What each drive stands on right now: the truth after a crash, whatever a journal says.
    pub async fn block_devices(&self) -> Result<Vec<BlockDevice>, QmpError> {
        let devices = self.qmp().execute("query-block", json!({})).await?;
        let nodes = self.block_nodes().await?;
        let graph = self.graph_if_served().await?;
        let devices = devices
            .as_array()
            .ok_or_else(|| lacking("query-block", "the list"))?;
        let mut found = Vec::new();
        for device in devices {
            // Drives without our name are not ours.
            let Some(drive) = text(device, "qdev").and_then(|id| Id::new(id).ok()) else {
                continue;
            };
            let layers = match device.get("inserted") {
                Some(inserted) => match &graph {
                    Some(graph) => graph.chain(inserted, &nodes)?,
                    None => chain(inserted, &nodes)?,
                },
                None => Vec::new(),
            };
            found.push(BlockDevice { drive, layers });
        }
        Ok(found)
    }

    /// Every node of the block graph, used or not. A file has one for itself (driver `file`) and
    /// one for its format.
    pub async fn block_nodes(&self) -> Result<Vec<BlockNode>, QmpError> {
        const COMMAND: &str = "query-named-block-nodes";
        let reply = self.qmp().execute(COMMAND, json!({"flat": true})).await?;
        let list = reply
            .as_array()
            .ok_or_else(|| lacking(COMMAND, "the list"))?;
        let mut nodes = list
            .iter()
            .map(|node| {
                Some(BlockNode {
                    node: text(node, "node-name")?.into(),
                    driver: text(node, "drv")?.into(),
                    path: file_of(text(node, "file")?),
                    read_only: node.get("ro")?.as_bool()?,
                })
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| lacking(COMMAND, "a node's name, driver or file"))?;
        if let Some(graph) = self.graph_if_served().await? {
            graph.name_files(&mut nodes, &self.served());
        }
        Ok(nodes)
    }

    /// QEMU shows what stands on a served disk by a description of everything below, which does
    /// not fit where the chain is long; the graph of its nodes tells as much.
    async fn graph_if_served(&self) -> Result<Option<Graph>, QmpError> {
        if self.served().is_empty() {
            return Ok(None);
        }
        const COMMAND: &str = "x-debug-query-block-graph";
        let reply = self.qmp().execute(COMMAND, json!({})).await?;
        Graph::parse(&reply)
            .ok_or_else(|| lacking(COMMAND, "nodes or edges"))
            .map(Some)
    }

    /// Makes durable what has been written to the disks: all nodes that can be written.
    pub async fn flush_disks(&self) -> Result<(), QmpError> {
        for node in self.block_nodes().await? {
            if node.read_only || node.driver == "file" {
                continue;
            }
            // QMP has no command for it.
            const COMMAND: &str = "human-monitor-command";
            let line = format!("qemu-io {} flush", node.node);
            let arguments = json!({"command-line": line});
            let said = self.qmp().execute(COMMAND, arguments).await?;
            let said = said.as_str().unwrap_or("no text").trim();
            let refused = |description: String| QmpError::Refused {
                command: line.clone(),
                class: "GenericError".into(),
                description,
            };
            if !said.is_empty() {
                return Err(refused(said.into()));
            }
            // QEMU does not tell whether the disk under the file failed; this does.
            let sync = async { tokio::fs::File::open(&node.path).await?.sync_data().await };
            sync.await.map_err(|error| refused(error.to_string()))?;
        }
        Ok(())
    }

    /// Opens the drive's tray, even if the guest has locked it, and takes the medium out.
    pub async fn eject(&self, drive: &Id) -> Result<(), QmpError> {
        let devices = self.block_devices().await?;
        let inside = devices.iter().find(|d| d.drive == *drive);
        let node = inside.and_then(|d| d.active()).map(|n| n.node.clone());
        let id = json!({"id": drive.as_str()});
        let open = json!({"id": drive.as_str(), "force": true});
        self.qmp().execute("blockdev-open-tray", open).await?;
        if let Some(node) = node {
            self.qmp()
                .execute("blockdev-remove-medium", id.clone())
                .await?;
            self.qmp()
                .execute("blockdev-del", json!({"node-name": node}))
                .await?;
        }
        self.qmp()
            .execute("blockdev-close-tray", id)
            .await
            .map(drop)
    }

    /// Puts a medium into an empty CD drive.
    pub async fn insert(&self, drive: &Id, medium: &Layer) -> Result<(), ProcessError> {
        check_path(&medium.path)?;
        let id = json!({"id": drive.as_str()});
        let node = medium.node.as_str();
        self.qmp()
            .execute("blockdev-add", block_node(medium, true))
            .await?;
        let insert = async {
            let open = json!({"id": drive.as_str(), "force": true});
            self.qmp().execute("blockdev-open-tray", open).await?;
            let medium = json!({"id": drive.as_str(), "node-name": node});
            self.qmp().execute("blockdev-insert-medium", medium).await?;
            self.qmp().execute("blockdev-close-tray", id).await
        };
        if let Err(error) = insert.await {
            // The first error counts; the node goes if nothing uses it.
            let _ = self
                .qmp()
                .execute("blockdev-del", json!({"node-name": node}))
                .await;
            return Err(error.into());
        }
        Ok(())
    }
}

fn text<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

/// QEMU shows a file by its path, or, where the path alone would not tell all, as JSON.
fn file_of(shown: &str) -> PathBuf {
    let described = shown
        .strip_prefix("json:")
        .and_then(|t| serde_json::from_str(t).ok());
    let path = described.as_ref().and_then(|value: &Value| {
        let inner = value.get("file").unwrap_or(value);
        text(inner, "filename").or_else(|| text(value, "filename"))
    });
    PathBuf::from(path.unwrap_or(shown))
}

/// The chain below what is inserted, oldest first.
fn chain(inserted: &Value, nodes: &[BlockNode]) -> Result<Vec<BlockNode>, QmpError> {
    let bad = |what| lacking("query-block", what);
    let top = text(inserted, "node-name").ok_or_else(|| bad("a node's name"))?;
    let mut layers = Vec::new();
    let mut image = inserted.get("image");
    while let Some(here) = image {
        if layers.len() >= MAX_DEPTH {
            return Err(bad("an end of the chain of images"));
        }
        let driver = text(here, "format").ok_or_else(|| bad("an image's format"))?;
        let path = file_of(text(here, "filename").ok_or_else(|| bad("an image's file"))?);
        let node = nodes.iter().find(|n| match layers.is_empty() {
            true => n.node == top,
            false => n.path == path && n.driver == driver,
        });
        let node = node.ok_or_else(|| bad("an image's node"))?;
        layers.push(BlockNode {
            path,
            ..node.clone()
        });
        image = here.get("backing-image");
    }
    layers.reverse();
    Ok(layers)
}

/// Which node stands on which.
struct Graph {
    /// Name of the upper node and of the connection, to the name of the lower node.
    edges: HashMap<(String, String), String>,
}

impl Graph {
    fn parse(reply: &Value) -> Option<Graph> {
        let mut names = HashMap::new();
        for node in reply.get("nodes")?.as_array()? {
            names.insert(node.get("id")?.as_u64()?, text(node, "name")?);
        }
        let mut edges = HashMap::new();
        for edge in reply.get("edges")?.as_array()? {
            let name = |key| names.get(&edge.get(key)?.as_u64()?).copied();
            let key = (name("parent")?.to_owned(), text(edge, "name")?.to_owned());
            edges.insert(key, name("child")?.to_owned());
        }
        Some(Graph { edges })
    }

    fn below(&self, node: &str, connection: &str) -> Option<&str> {
        let key = (node.to_owned(), connection.to_owned());
        self.edges.get(&key).map(String::as_str)
    }

    /// Gives every node the file that it stands for.
    fn name_files(&self, nodes: &mut [BlockNode], served: &Record) {
        let paths: HashMap<_, _> = nodes
            .iter()
            .filter(|n| n.driver == "file")
            .map(|n| (n.node.clone(), n.path.clone()))
            .collect();
        for node in nodes {
            let file = self.below(&node.node, "file").and_then(|n| paths.get(n));
            if let Some(export) = served.of_node(&node.node) {
                node.driver = export.format.driver().into();
                node.path.clone_from(&export.path);
            } else if let Some(path) = file {
                node.path.clone_from(path);
            }
        }
    }

    /// The chain below what is inserted, oldest first.
    fn chain(&self, inserted: &Value, nodes: &[BlockNode]) -> Result<Vec<BlockNode>, QmpError> {
        let bad = |what| lacking("query-block", what);
        let mut next = Some(text(inserted, "node-name").ok_or_else(|| bad("a node's name"))?);
        let mut layers = Vec::new();
        for _ in 0..MAX_DEPTH {
            let Some(name) = next else {
                layers.reverse();
                return Ok(layers);
            };
            let node = nodes.iter().find(|n| n.node == name);
            let node = node.ok_or_else(|| bad("an image's node"))?;
            if Format::from_driver(&node.driver).is_some() {
                layers.push(node.clone());
                next = self.below(name, "backing");
            } else {
                // A job's own node, which passes everything through.
                next = self
                    .below(name, "backing")
                    .or_else(|| self.below(name, "file"));
            }
        }
        Err(bad("an end of the chain of images"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_both_ways_of_showing_them() {
        assert_eq!(file_of("/a/b.vhd"), PathBuf::from("/a/b.vhd"));
        let shown =
            r#"json:{"driver":"qcow2","backing":null,"file":{"driver":"file","filename":"/a"}}"#;
        assert_eq!(file_of(shown), PathBuf::from("/a"));
        assert_eq!(file_of("json:{"), PathBuf::from("json:{"));
    }

    #[test]
    fn an_endless_chain_of_images_is_refused() {
        let nodes = [BlockNode {
            node: "n".into(),
            driver: "qcow2".into(),
            path: "/a".into(),
            read_only: false,
        }];
        let mut image = json!({"format": "qcow2", "filename": "/a"});
        for _ in 0..MAX_DEPTH {
            image = json!({"format": "qcow2", "filename": "/a", "backing-image": image});
        }
        assert!(chain(&json!({"node-name": "n", "image": image}), &nodes).is_err());
    }
}
