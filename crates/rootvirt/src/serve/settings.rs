//! What `serve` runs with: its options, then the settings file, then the defaults.

use crate::cli::{Global, Serve};
use crate::failure::Failure;
use machines::integrity::Depth;
use qemu::memory_backing::PoolLimit;
use qemu::memory_image::Compression;
use serde::Deserialize;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use wire_dcom::Level;

/// The settings file: TOML with the options' names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    cimxml: Option<String>,
    cimxml_tls: Option<String>,
    dcom: Option<String>,
    dcom_objects_port: Option<u16>,
    dcom_level: Option<String>,
    wsman: Option<String>,
    wsman_tls: Option<String>,
    accelerator: Option<String>,
    huge_pages_limit: Option<TextOrNumber>,
    verify_before_apply: Option<String>,
    hash_rate: Option<u64>,
    restore: Option<String>,
    agent_channel: Option<String>,
    memory_compression: Option<String>,
}

/// A number, with or without quotation marks, or a word.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum TextOrNumber {
    Number(u64),
    Text(String),
}

impl TextOrNumber {
    fn text(self) -> String {
        match self {
            TextOrNumber::Number(number) => number.to_string(),
            TextOrNumber::Text(text) => text,
        }
    }
}

/// Where a listener listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// Here.
    At(SocketAddr),
}

/// Everything `serve` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The data directory.
    pub data_dir: PathBuf,
    /// CIM-XML over HTTP.
    pub cimxml: Listen,
    /// CIM-XML over HTTPS.
    pub cimxml_tls: Listen,
    /// WMI over DCOM: where clients begin.
    pub dcom: Listen,
    /// Port on which DCOM's objects are called; 0 takes any.
    pub dcom_objects_port: u16,
    /// The weakest protection of DCOM calls that is accepted.
    pub dcom_level: Level,
    /// WS-Management over HTTP.
    pub wsman: Listen,
    /// WS-Management over HTTPS.
    pub wsman_tls: Listen,
    /// auto, kvm or tcg.
    pub accelerator: qemu::accelerator::Choice,
    /// How far the host's pool of huge pages may be grown.
    pub huge_pages_limit: PoolLimit,
    /// How much of a snapshot is looked at before it is applied.
    pub verify_before_apply: Depth,
    /// How fast frozen layers are read to hash them, in MiB a second; 0: they are not.
    pub hash_rate_mib: u64,
    /// Whether a machine runs before all of a saved state's memory is there.
    pub restore_on_demand: bool,
    /// Whether machines that start from their disks have a channel for the guest's agent.
    pub agent_channel: bool,
    /// How memory images are stored in the long run.
    pub memory_compression: Compression,
}

impl Settings {
    /// Merges options, file and defaults, and refuses what must not run.
    pub fn resolve(global: &Global, options: &Serve) -> Result<Self, Failure> {
        let file = match &options.config {
            Some(path) => read_file(path)?,
            None => File::default(),
        };
        let cimxml = listen(
            "cimxml",
            options.cimxml.as_ref().or(file.cimxml.as_ref()),
            5988,
        )?;
        let cimxml_tls = listen(
            "cimxml-tls",
            options.cimxml_tls.as_ref().or(file.cimxml_tls.as_ref()),
            5989,
        )?;
        if let Listen::At(address) = cimxml
            && !address.ip().is_loopback()
        {
            return Err(Failure::usage(format!(
                "--cimxml {address} would carry passwords in plain text over the network."
            ))
            .remedy("Use --cimxml-tls for addresses other than loopback."));
        }
        let dcom = match options.dcom.as_ref().or(file.dcom.as_ref()) {
            Some(text) => listen("dcom", Some(text), 135)?,
            None => Listen::Off,
        };
        let dcom_objects_port = options.dcom_objects_port.or(file.dcom_objects_port);
        let dcom_level = options.dcom_level.as_ref().or(file.dcom_level.as_ref());
        let dcom_level = dcom_level.map_or(Ok(Level::Integrity), |text| level(text))?;
        let wsman = listen(
            "wsman",
            options.wsman.as_ref().or(file.wsman.as_ref()),
            5985,
        )?;
        let wsman_tls = listen(
            "wsman-tls",
            options.wsman_tls.as_ref().or(file.wsman_tls.as_ref()),
            5986,
        )?;
        let accelerator = options.accelerator.clone().or(file.accelerator);
        let accelerator = accelerator
            .as_deref()
            .unwrap_or("auto")
            .parse()
            .map_err(|error| Failure::usage(format!("--accelerator: {error}")))?;
        let huge_pages_limit = options.huge_pages_limit.clone();
        let huge_pages_limit = huge_pages_limit
            .or(file.huge_pages_limit.map(TextOrNumber::text))
            .map_or(Ok(PoolLimit::default()), |text| text.parse())
            .map_err(|error| Failure::usage(format!("--huge-pages-limit: {error}")))?;
        let verify_before_apply = options.verify_before_apply.as_ref();
        let verify_before_apply = verify_before_apply
            .or(file.verify_before_apply.as_ref())
            .map_or(Ok(Depth::default()), |text| text.parse())
            .map_err(|error| Failure::usage(format!("--verify-before-apply: {error}")))?;
        let hash_rate_mib = options.hash_rate.or(file.hash_rate).unwrap_or(256);
        let restore = options.restore.as_ref().or(file.restore.as_ref());
        let restore_on_demand = match restore.map(String::as_str) {
            None | Some("on-demand") => true,
            Some("whole") => false,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "--restore: {other:?} is neither on-demand nor whole"
                )));
            }
        };
        let agent_channel = options.agent_channel.as_ref();
        let agent_channel = agent_channel.or(file.agent_channel.as_ref());
        let agent_channel = match agent_channel.map(String::as_str) {
            None | Some("on") => true,
            Some("off") => false,
            Some(other) => {
                return Err(Failure::usage(format!(
                    "--agent-channel: {other:?} is neither on nor off"
                )));
            }
        };
        let memory_compression = options.memory_compression.as_ref();
        let memory_compression = memory_compression
            .or(file.memory_compression.as_ref())
            .map_or(Ok(Compression::None), |text| text.parse())
            .map_err(|error| Failure::usage(format!("--memory-compression: {error}")))?;
        let data_dir = std::path::absolute(&global.data_dir).map_err(|error| {
            Failure::usage(format!("--data-dir {}: {error}", global.data_dir.display()))
        })?;
        Ok(Settings {
            data_dir,
            cimxml,
            cimxml_tls,
            dcom,
            dcom_objects_port: dcom_objects_port.unwrap_or(0),
            dcom_level,
            wsman,
            wsman_tls,
            accelerator,
            huge_pages_limit,
            verify_before_apply,
            hash_rate_mib,
            restore_on_demand,
            agent_channel,
            memory_compression,
        })
    }
}

fn read_file(path: &Path) -> Result<File, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::usage(format!("--config {}: {error}", path.display())))?;
    toml::from_str(&text)
        .map_err(|error| Failure::usage(format!("--config {}: {error}", path.display())))
}

fn level(text: &str) -> Result<Level, Failure> {
    match text.to_ascii_lowercase().as_str() {
        "integrity" => Ok(Level::Integrity),
        "privacy" => Ok(Level::Privacy),
        _ => Err(Failure::usage(format!(
            "--dcom-level {text}: this is neither integrity nor privacy."
        ))),
    }
}

fn listen(option: &str, text: Option<&String>, default_port: u16) -> Result<Listen, Failure> {
    let Some(text) = text else {
        return Ok(Listen::At(SocketAddr::from(([127, 0, 0, 1], default_port))));
    };
    if text.eq_ignore_ascii_case("off") {
        return Ok(Listen::Off);
    }
    text.to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .map(Listen::At)
        .ok_or_else(|| {
            Failure::usage(format!(
                "--{option} {text}: this is neither HOST:PORT nor off."
            ))
        })
}
