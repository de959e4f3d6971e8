//! `serve`: puts the parts together and runs until SIGTERM or SIGINT. Guests run on afterwards.

mod authentication;
mod certificate;
mod dcom;
mod logons;
mod settings;
mod wsman;

use crate::cli::{Global, Serve};
use crate::failure::{Failure, chain};
use authentication::CatalogAccounts;
use cim_broker::Broker;
use cim_broker::enumeration::{Enumerations, Limits};
use cim_broker::interop::{Authentication, CommunicationMechanism, Product, Protocol, add_interop};
use http_server::{HttpLimits, LocalAddress};
use machines::Machines;
use machines::accounts::Accounts;
use serde_json::{Map, json};
use settings::{Listen, Settings};
use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use wire_cimxml::{Server, ServerConfig};

/// How long requests under way may take to finish after SIGTERM.
const GRACE: Duration = Duration::from_secs(10);

/// Where clients on this host find the service, below the data directory.
pub const LOCAL_SOCKET: &str = "run/rootvirt.sock";

/// Runs the service.
pub async fn run(global: &Global, options: &Serve) -> Result<(), Failure> {
    let settings = Settings::resolve(global, options)?;
    log_to_stderr();
    // Before anything is started, so that a signal during start-up is not lost.
    let mut stop = Stop::listen()?;
    let machines = open_machines(&settings).await?;
    let host_name = host_name();
    let broker = Arc::new(object_manager(&host_name, &machines)?);
    let enumerations = Arc::new(Enumerations::new(Limits::default()));
    let accounts = Accounts::open(&settings.data_dir);
    let accounts = Arc::new(accounts.map_err(|error| Failure::new(chain(&error)))?);
    let logons = logons::door(&host_name, &accounts);
    let server = bind(&settings, &host_name, &broker, &enumerations, &accounts).await?;
    let dcom = dcom::bind(&settings, &host_name, &broker, &accounts, &logons).await?;
    let wsman = wsman::bind(&settings, &host_name, &broker, &accounts, &logons).await?;
    report_ready(&server, dcom.as_ref(), wsman.as_ref())?;
    tracing::info!("ready");
    stop.wait().await;
    tracing::info!("stopping; the guests run on");
    enumerations.stop();
    tokio::join!(
        server.shutdown(GRACE),
        async {
            if let Some(dcom) = dcom {
                dcom.shutdown(GRACE).await;
            }
        },
        async {
            if let Some(wsman) = wsman {
                wsman.shutdown(GRACE).await;
            }
        }
    );
    machines.close().await;
    Ok(())
}

async fn open_machines(settings: &Settings) -> Result<Arc<Machines>, Failure> {
    let installation = qemu::Installation::find()
        .await
        .map_err(|error| Failure::new(chain(&error)))?;
    let verdict = qemu::accelerator::decide(&installation.system, settings.accelerator)
        .await
        .map_err(|error| Failure::new(chain(&error)))?;
    tracing::info!(accelerator = ?verdict.accelerator, reason = %verdict.reason, "accelerator");
    let config = machines::Config {
        accelerator: verdict.accelerator.as_str().to_owned(),
        accelerator_reason: verdict.reason,
        huge_pages_limit: settings.huge_pages_limit,
        verify_before_apply: settings.verify_before_apply,
        hash_rate_mib: settings.hash_rate_mib,
        restore_on_demand: settings.restore_on_demand,
        agent_channel: settings.agent_channel,
        memory_compression: settings.memory_compression,
        ..machines::Config::new(&settings.data_dir)
    };
    Machines::open(config)
        .await
        .map_err(|error| Failure::new(chain(&error)).remedy(error.remedy()))
}

fn object_manager(host_name: &str, machines: &Arc<Machines>) -> Result<Broker, Failure> {
    let mut broker = Broker::new(host_name);
    msvm::register(&mut broker, machines.clone(), host_name)
        .map_err(|error| Failure::new(chain(&error)))?;
    cimv2::register(&mut broker, host_name, virtual_processors(machines))
        .map_err(|error| Failure::new(chain(&error)))?;
    let product = Product {
        name: "rootvirt".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let mechanisms = [CommunicationMechanism {
        name: "cimxml".to_owned(),
        protocol: Protocol::CimXml,
        authentication: vec![Authentication::Basic],
    }];
    add_interop(&mut broker, &product, &mechanisms).map_err(|error| Failure::new(chain(&error)))?;
    Ok(broker)
}

/// What `root\cimv2` tells of machines.
fn virtual_processors(machines: &Arc<Machines>) -> cimv2::VirtualProcessors {
    let machines = machines.clone();
    Arc::new(move |name| {
        let asked = name.map_or_else(|| machines.all(), |name| machines.by_name(name));
        let of = |machine: &Arc<machines::model::Machine>| {
            let times = machines.processor_times(machine.id).into_iter();
            times
                .map(|time| cimv2::VirtualProcessor {
                    machine: machine.settings.name.clone(),
                    number: time.number,
                    total: time.total,
                    guest: time.guest,
                })
                .collect::<Vec<_>>()
        };
        asked.iter().flat_map(of).collect()
    })
}

async fn bind(
    settings: &Settings,
    host_name: &str,
    broker: &Arc<Broker>,
    enumerations: &Arc<Enumerations>,
    accounts: &Arc<Accounts>,
) -> Result<Server, Failure> {
    let socket = settings.data_dir.join(LOCAL_SOCKET);
    let mut listeners = vec![http_server::Listen::Unix(socket)];
    if let Listen::At(address) = settings.cimxml {
        listeners.push(http_server::Listen::Plain(address));
    }
    if let Listen::At(address) = settings.cimxml_tls {
        let clients = certificate::ClientCertificates::NotAsked;
        let tls = certificate::server_config(&settings.data_dir, host_name, clients)?;
        listeners.push(http_server::Listen::Tls(address, tls));
    }
    let config = ServerConfig {
        listeners,
        limits: HttpLimits::default(),
        authenticator: Arc::new(CatalogAccounts::new(accounts.clone())),
        realm: "rootvirt".to_owned(),
    };
    Server::bind(config, broker.clone(), enumerations.clone())
        .await
        .map_err(|error| Failure::new(chain(&error)))
}

/// The contract's one line of JSON, once every listener accepts.
fn report_ready(
    server: &Server,
    dcom: Option<&wire_dcom::Server>,
    wsman: Option<&wire_wsman::Server>,
) -> Result<(), Failure> {
    let mut endpoints = Map::new();
    for address in server.local_addresses() {
        let (name, place) = match address {
            LocalAddress::Plain(address) => ("cimxml", address.to_string()),
            LocalAddress::Tls(address) => ("cimxml_tls", address.to_string()),
            LocalAddress::Unix(path) => ("local", path.display().to_string()),
        };
        endpoints.insert(name.to_owned(), json!(place));
    }
    if let Some(dcom) = dcom {
        let mut tell = |name: &str, address: std::net::SocketAddr| {
            endpoints.insert(name.to_owned(), json!(address.to_string()));
        };
        tell("dcom", dcom.resolver_address());
        tell("dcom_objects", dcom.object_address());
    }
    for address in wsman
        .map(wire_wsman::Server::local_addresses)
        .unwrap_or_default()
    {
        let name = match address {
            LocalAddress::Tls(_) => "wsman_tls",
            LocalAddress::Plain(_) | LocalAddress::Unix(_) => "wsman",
        };
        endpoints.insert(name.to_owned(), json!(address.to_string()));
    }
    crate::output::write_out(&format!(
        "{}\n",
        json!({ "ready": true, "endpoints": endpoints })
    ))
}

/// The host's name without domain, as `__SERVER` shows it.
fn host_name() -> String {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    let short = name.split('.').next().unwrap_or_default();
    if short.is_empty() {
        "localhost".to_owned()
    } else {
        short.to_owned()
    }
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("ROOTVIRT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::new(format!("Signals cannot be received: {error}")))
        };
        Ok(Stop {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The local socket of the service that runs on `data_dir`.
pub fn local_socket(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join(LOCAL_SOCKET)
}
