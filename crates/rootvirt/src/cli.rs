//! The command line: what may be typed, and its help. No system calls, no meaning; see
//! `commands` and `serve` for those.

use clap::{Args, Parser, Subcommand, ValueEnum};
use http_server::x509::Fingerprint;
use std::path::PathBuf;

const EXAMPLES: &str = "\
A first machine:
  rootvirt --data-dir DIR serve
  rootvirt --data-dir DIR vm create web01 --memory 1G --disk /srv/web01.qcow2
  rootvirt --data-dir DIR vm start web01
  rootvirt --data-dir DIR snapshot create web01 --name 'before the update'
  rootvirt --data-dir DIR snapshot list web01

Exit status: 0 done, 1 failed (what, why and what to do on standard error), 2 wrong usage.";

/// Virtual machines on QEMU/KVM behind Hyper-V's management API.
///
/// `rootvirt serve` runs the service: it answers `root\virtualization` over CIM-XML,
/// DCOM and WS-Management and runs the machines. Every other command is a client of it, through the service's local socket
/// (--data-dir) or over the network (--url).
#[derive(Debug, Parser)]
#[command(
    name = "rootvirt",
    version,
    max_term_width = 100,
    arg_required_else_help = true,
    after_help = EXAMPLES
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// The heading in the help over what every command takes.
const COMMON: &str = "Common options";

/// Options that every command takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// The service's data directory; clients find its local socket there
    #[arg(
        long,
        global = true,
        help_heading = COMMON,
        value_name = "DIR",
        env = "ROOTVIRT_DATA_DIR",
        default_value = "/var/lib/rootvirt"
    )]
    pub data_dir: PathBuf,
    /// Talk to a service over the network instead, at `http://HOST:5988` or `https://HOST:5989`
    #[arg(long, global = true, value_name = "URL", help_heading = "Another service", requires_all = ["user", "password_file"])]
    pub url: Option<String>,
    /// Account for --url
    #[arg(
        long,
        global = true,
        help_heading = "Another service",
        value_name = "NAME"
    )]
    pub user: Option<String>,
    /// File whose first line is the password for --url
    #[arg(
        long,
        global = true,
        help_heading = "Another service",
        value_name = "FILE"
    )]
    pub password_file: Option<PathBuf>,
    /// Certificate authority or server certificate (PEM) to trust for https
    #[arg(
        long,
        global = true,
        help_heading = "Another service",
        value_name = "FILE"
    )]
    pub ca_file: Option<PathBuf>,
    /// How to print answers
    #[arg(long, global = true, help_heading = COMMON, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Namespace that requests go to
    #[arg(
        long,
        global = true,
        help_heading = COMMON,
        value_name = "NAMESPACE",
        default_value = "root\\virtualization"
    )]
    pub namespace: String,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    Table,
    /// Arrays of objects with snake_case keys
    Json,
    /// MOF text, for instances and classes
    Mof,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the service in the foreground
    Serve(Box<Serve>),
    /// Manage the accounts that may use the service
    #[command(subcommand)]
    Account(Account),
    /// Manage virtual machines
    #[command(subcommand)]
    Vm(Vm),
    /// Take, list, apply, verify, rehearse and remove snapshots
    #[command(subcommand)]
    Snapshot(Snapshot),
    /// Watch and cancel jobs
    #[command(subcommand)]
    Job(Job),
    /// Run a WQL query
    ///
    /// Example: rootvirt query "SELECT ElementName FROM Msvm_ComputerSystem WHERE EnabledState = 2"
    Query {
        /// The query
        wql: String,
    },
    /// Print one instance by its object path
    ///
    /// Example: rootvirt get 'Msvm_ConcreteJob.InstanceID="..."'
    Get {
        /// Object path, in any form that WMI accepts
        path: String,
    },
    /// Call a method
    ///
    /// Parameters are PARAM=VALUE; a reference is an object path, an array repeats the parameter,
    /// an embedded instance is MOF or CIM-XML text (or @FILE that holds it).
    Call {
        /// Object path of the instance
        path: String,
        /// Method name
        method: String,
        /// PARAM=VALUE
        #[arg(value_name = "PARAM=VALUE")]
        parameters: Vec<String>,
    },
    /// Print a class: its properties and methods
    Class {
        /// Class name
        name: String,
        /// As MOF (the same as --format mof)
        #[arg(long)]
        mof: bool,
    },
}

/// Options of `serve`.
#[derive(Debug, Clone, Args)]
pub struct Serve {
    /// CIM-XML over HTTP: HOST:PORT or off; port 0 takes any free port [default: 127.0.0.1:5988]
    #[arg(long, help_heading = "Listeners", value_name = "ADDRESS")]
    pub cimxml: Option<String>,
    /// CIM-XML over HTTPS: HOST:PORT or off [default: 127.0.0.1:5989]
    #[arg(long, help_heading = "Listeners", value_name = "ADDRESS")]
    pub cimxml_tls: Option<String>,
    /// WMI over DCOM: HOST:PORT or off. Clients of Windows look for it on port 135, which takes the
    /// right to bind low ports [default: off]
    #[arg(long, help_heading = "Listeners", value_name = "ADDRESS")]
    pub dcom: Option<String>,
    /// Port on which DCOM's objects are called, at the same address; clients are told which; 0 takes
    /// any free port [default: 0]
    #[arg(long, help_heading = "Listeners", value_name = "PORT")]
    pub dcom_objects_port: Option<u16>,
    /// The weakest protection of DCOM calls that is accepted: signed, or encrypted too
    /// [default: integrity]
    #[arg(long, help_heading = "Listeners", value_name = "integrity|privacy")]
    pub dcom_level: Option<String>,
    /// WS-Management over HTTP: HOST:PORT or off. From other hosts only encrypted messages are taken
    /// [default: 127.0.0.1:5985]
    #[arg(long, help_heading = "Listeners", value_name = "ADDRESS")]
    pub wsman: Option<String>,
    /// WS-Management over HTTPS: HOST:PORT or off [default: 127.0.0.1:5986]
    #[arg(long, help_heading = "Listeners", value_name = "ADDRESS")]
    pub wsman_tls: Option<String>,
    /// What machines run on; auto takes KVM only after it has run a guest [default: auto]
    #[arg(long, help_heading = "Machines", value_name = "auto|kvm|tcg")]
    pub accelerator: Option<String>,
    /// How far the host's pool of huge pages may be grown for guests' memory, which makes
    /// snapshots faster: auto (three quarters of the host's memory, an eighth stays available), off
    /// (only pages that are there), or MiB in all [default: auto]
    #[arg(long, help_heading = "Machines", value_name = "auto|off|MIB")]
    pub huge_pages_limit: Option<String>,
    /// How much of a snapshot's files is looked at before it is applied: nothing, headers and
    /// lengths, or every byte [default: metadata]
    #[arg(long, help_heading = "Machines", value_name = "off|metadata|full")]
    pub verify_before_apply: Option<String>,
    /// How many MiB a second of frozen disk layers are read in the background to hash them; 0: they
    /// are not hashed [default: 256]
    #[arg(long, help_heading = "Machines", value_name = "MIB")]
    pub hash_rate: Option<u64>,
    /// When a machine started from a saved state runs: as soon as its devices are there, its memory
    /// on demand, or with all of its memory [default: on-demand]
    #[arg(long, help_heading = "Machines", value_name = "on-demand|whole")]
    pub restore: Option<String>,
    /// Whether machines that start from their disks have a channel for the guest's agent, a virtio
    /// serial port; a restored guest keeps what it was saved with [default: on]
    #[arg(long, help_heading = "Machines", value_name = "on|off")]
    pub agent_channel: Option<String>,
    /// Whether memory images are compressed, in the background, after they were taken: off or zstd
    /// [default: off]
    #[arg(long, help_heading = "Machines", value_name = "off|zstd")]
    pub memory_compression: Option<String>,
    /// Settings file (TOML; the same names as the options); options given here win
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `account ...`; works on the data directory, whether or not the service runs.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Make an account, with a password, certificates, or both
    Add {
        /// Account name
        name: String,
        /// What it may do
        #[arg(long, value_enum)]
        role: Role,
        /// File whose first line is the password
        #[arg(long, value_name = "FILE", required_unless_present = "certificate")]
        password_file: Option<PathBuf>,
        /// File with a certificate (PEM) that logs on as the account over WS-Management and TLS; may
        /// be given several times. Of several certificates in a file the first counts
        #[arg(long, value_name = "FILE")]
        certificate: Vec<PathBuf>,
        /// Allow NTLM, which DCOM clients log on with. Keeps the password's NT hash in the catalog,
        /// and whoever has that can log on without the password
        #[arg(long, requires = "password_file")]
        ntlm: bool,
    },
    /// List the accounts
    List,
    /// Remove an account
    Remove {
        /// Account name
        name: String,
    },
    /// Change an account's password
    Passwd {
        /// Account name
        name: String,
        /// File whose first line is the new password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
        /// Allow NTLM from now on, as with `add --ntlm`; otherwise it stays as it is
        #[arg(long)]
        ntlm: bool,
        /// Allow NTLM no more, and forget the NT hash
        #[arg(long, conflicts_with = "ntlm")]
        no_ntlm: bool,
    },
    /// List, add and remove the certificates of an account
    ///
    /// Who has the key of one logs on as the account, over WS-Management and TLS. It is this very
    /// certificate that counts, whoever has signed it, as long as it is valid by its dates. Prints
    /// those that the account has then.
    Certificate {
        /// Account name
        name: String,
        /// File with a certificate (PEM) to add; of several certificates in it the first counts
        #[arg(long, value_name = "FILE")]
        add: Vec<PathBuf>,
        /// Fingerprint (SHA-256, hexadecimal) of a certificate to remove; it holds at once, on
        /// connections that are open, too
        #[arg(long, value_name = "FINGERPRINT")]
        remove: Vec<Fingerprint>,
    },
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Everything
    Administrator,
    /// Change the state of machines, take and apply snapshots, read
    Operator,
    /// Read
    Viewer,
}

/// `vm ...`
#[derive(Debug, Subcommand)]
pub enum Vm {
    /// Define a machine with its disks
    ///
    /// The first disks go to the IDE controllers, the rest to a SCSI controller. Disk files stay
    /// where they are; raw, qcow2, VHD and VHDX files work.
    Create {
        /// Name of the machine
        name: String,
        /// Memory: a number with M or G
        #[arg(long, value_name = "SIZE", default_value = "512M")]
        memory: String,
        /// Number of virtual processors
        #[arg(long, value_name = "N", default_value_t = 1)]
        processors: u32,
        /// A disk file; may be given several times. scsi:FILE puts it on the SCSI controller
        #[arg(long, value_name = "FILE")]
        disk: Vec<String>,
        /// An ISO image for a DVD drive
        #[arg(long, value_name = "FILE")]
        iso: Option<PathBuf>,
        /// Unix socket that the first serial port listens on
        #[arg(long, value_name = "SOCKET")]
        serial: Option<PathBuf>,
    },
    /// List the machines
    List,
    /// Show a machine and its devices
    Show(MachineArg),
    /// Start, or restore from disk
    Start(StateArg),
    /// Turn off, as by pulling the plug
    Stop(StateArg),
    /// Ask the guest to shut down, again if it has missed it
    Shutdown(StateArg),
    /// Reset, as by the button
    Reset(StateArg),
    /// Make the guest stand still in memory
    Pause(StateArg),
    /// Let a paused guest go on
    Resume(StateArg),
    /// Save memory to disk and free it; start restores
    Save(StateArg),
    /// Delete a machine and its snapshots; its disk files stay
    Delete(StateArg),
}

/// A machine by name or id.
#[derive(Debug, Clone, Args)]
pub struct MachineArg {
    /// Name or id (GUID) of the machine
    #[arg(value_name = "NAME")]
    pub vm: String,
}

/// A machine whose state changes.
#[derive(Debug, Clone, Args)]
pub struct StateArg {
    /// Name or id (GUID) of the machine
    #[arg(value_name = "NAME")]
    pub vm: String,
    /// Print the job instead of waiting for it
    #[arg(long)]
    pub no_wait: bool,
}

/// How the guest is prepared for a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Consistency {
    /// By its agent.
    Application,
    /// Not at all.
    Crash,
}

/// `snapshot ...`
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Take a snapshot; a running machine goes on running
    Create {
        /// Name or id of the machine
        vm: String,
        /// How the guest is prepared: application has its agent bring its file systems to rest, and is
        /// refused where that cannot be; crash does not ask the guest
        #[arg(long, value_name = "LEVEL", default_value = "crash")]
        consistency: Consistency,
        /// Name of the snapshot [default: the machine's name, date and time]
        #[arg(long)]
        name: Option<String>,
        /// Print the job instead of waiting for it
        #[arg(long, conflicts_with = "name")]
        no_wait: bool,
        /// Take none: print what it would need and cost, and fail if it would be refused
        #[arg(long, conflicts_with_all = ["name", "no_wait"])]
        check: bool,
    },
    /// List a machine's snapshots, oldest first
    List(MachineArg),
    /// Show a snapshot and its devices
    Show(SnapshotArg),
    /// Bring a machine that is off or saved back to a snapshot
    Apply(SnapshotArg),
    /// Remove a snapshot; those made after it stay
    Remove {
        #[command(flatten)]
        which: SnapshotArg,
        /// Remove all snapshots made after it, too
        #[arg(long)]
        tree: bool,
        /// Print the job instead of waiting for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Look whether a snapshot's files still are what they were
    ///
    /// Every byte of manifest, memory image and disk layers is compared with the hashes taken when
    /// they were frozen. Prints each file; fails, and says where, if one is not what it was.
    Verify {
        #[command(flatten)]
        which: SnapshotArg,
        /// Only what is read in no time: that all files are there, lengths, headers, manifest
        #[arg(long)]
        quick: bool,
        /// Print the job instead of waiting for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Start a snapshot as a clone without a network, see whether it runs, and throw it away
    ///
    /// Neither the machine, which may run, nor the snapshot is changed.
    Rehearse {
        #[command(flatten)]
        which: SnapshotArg,
        /// How long to wait for a sign of life (output on a serial port, use of a disk)
        #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=600))]
        patience: u32,
        /// Print the job instead of waiting for it
        #[arg(long)]
        no_wait: bool,
    },
    /// Give a snapshot another name
    Rename {
        #[command(flatten)]
        which: SnapshotArg,
        /// The new name
        new_name: String,
    },
}

/// A snapshot of a machine.
#[derive(Debug, Clone, Args)]
pub struct SnapshotArg {
    /// Name or id of the machine
    pub vm: String,
    /// Name or id of the snapshot
    pub snapshot: String,
}

/// `job ...`
#[derive(Debug, Subcommand)]
pub enum Job {
    /// List the jobs: running, and ended in the last minutes
    List,
    /// Show a job, with its error
    Show(JobArg),
    /// Cancel a job; what it did is undone
    Cancel(JobArg),
}

/// A job.
#[derive(Debug, Clone, Args)]
pub struct JobArg {
    /// Id (GUID) of the job
    pub id: String,
}
