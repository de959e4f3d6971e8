//! Connections: accepted within the limits, then PDU by PDU and call by call.

use super::assembly::{Assembly, Target};
use super::association::{Association, Received};
use super::fragments::{Fragments, ReadError};
use super::prompt::Prompt;
use super::{Admission, Endpoint, Shared};
use crate::fault::Fault;
use crate::interface::{Call, Connection};
use crate::pdu::{self, Fragment, PacketType, flags};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

/// How long to wait after an accept that failed: the usual cause is that the process has run out of
/// descriptors, which closing connections gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// PDUs that are read ahead while a call runs.
const READ_AHEAD: usize = 2;

/// Accepts until told to stop, then waits for the connections it has.
pub(super) async fn accept_all(
    listener: TcpListener,
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(shared.limits.connections.max(1)));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            _ = stopped.changed() => break,
            accepted = async {
                let permit = permits.clone().acquire_owned().await;
                (permit, listener.accept().await)
            } => accepted,
        };
        let (permit, stream) = match accepted {
            (Ok(permit), Ok((stream, _))) => (permit, stream),
            (Err(_), _) => break,
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some((connection, admission)) = admit(&stream, &shared) else {
            continue;
        };
        let (endpoint, shared) = (endpoint.clone(), shared.clone());
        let stopped = stopped.clone();
        connections.spawn(async move {
            let _places = (permit, admission);
            serve(Prompt(stream), connection, endpoint, shared, stopped).await;
        });
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

fn admit(stream: &TcpStream, shared: &Arc<Shared>) -> Option<(Arc<Connection>, Admission)> {
    // All of these fail only for connections that are gone already.
    let (peer, local) = (stream.peer_addr().ok()?, stream.local_addr().ok()?);
    stream.set_nodelay(true).ok()?;
    let Some(admission) = shared.admit(peer.ip()) else {
        tracing::warn!(%peer, "too many connections from one address");
        return None;
    };
    let id = shared.next_connection();
    Some((Arc::new(Connection { id, peer, local }), admission))
}

/// Tells the objects that a connection has ended, however it ended.
struct Farewell(Arc<Endpoint>, Arc<Connection>);

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(objects) = &self.0.objects {
            objects.disconnected(&self.1);
        }
    }
}

pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
    stream: S,
    connection: Arc<Connection>,
    endpoint: Arc<Endpoint>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let _farewell = Farewell(endpoint.clone(), connection.clone());
    let (read, write) = tokio::io::split(stream);
    let mut conversation = Conversation {
        fragments: Fragments::new(read, shared.limits.fragment),
        output: Output {
            stream: write,
            stall_time: shared.limits.stall_time,
        },
        association: Association::new(shared.clone(), endpoint, connection.clone()),
        ahead: Vec::new(),
        logon_deadline: Instant::now() + shared.limits.logon_time,
        shared,
    };
    let ended = conversation.run(&mut stopped).await;
    tracing::debug!(peer = %connection.peer, ended = %ended, "an RPC connection has ended");
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a time limit was reached")]
    Time,
    #[error("the client does not take in what it is sent")]
    Write,
    #[error("the protocol was broken, or the server refused to go on")]
    Refused,
    #[error("the server stops")]
    Stopped,
}

struct Output<W> {
    stream: W,
    stall_time: Duration,
}

impl<W: AsyncWrite + Unpin> Output<W> {
    async fn send(&mut self, pdu: &[u8]) -> Result<(), End> {
        match timeout(self.stall_time, self.stream.write_all(pdu)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Write),
        }
    }
}

struct Conversation<S> {
    fragments: Fragments<ReadHalf<S>>,
    output: Output<WriteHalf<S>>,
    association: Association,
    /// PDUs that came while a call ran, the first last.
    ahead: Vec<Fragment>,
    logon_deadline: Instant,
    shared: Arc<Shared>,
}

impl<S: AsyncRead + AsyncWrite> Conversation<S> {
    async fn run(&mut self, stopped: &mut watch::Receiver<bool>) -> End {
        loop {
            let fragment = match self.ahead.pop() {
                Some(fragment) => Ok(fragment),
                None => tokio::select! {
                    _ = stopped.wait_for(|stop| *stop) => Err(End::Stopped),
                    fragment = self.next() => fragment,
                },
            };
            let handled = match fragment {
                Ok(fragment) => self.handle(fragment).await,
                Err(end) => Err(end),
            };
            if let Err(end) = handled {
                self.say_goodbye(&end).await;
                return end;
            }
        }
    }

    /// The next PDU, within the limits of time.
    async fn next(&mut self) -> Result<Fragment, End> {
        let limits = self.shared.limits;
        let mut deadline = Instant::now() + limits.idle_time;
        if let Some(since) = self.association.assembling_since() {
            deadline = deadline.min(since + limits.request_time);
        }
        if !self.association.is_authenticated() {
            deadline = deadline.min(self.logon_deadline);
        }
        in_time(deadline, self.fragments.begun()).await?;
        if let Some(started) = self.fragments.started() {
            deadline = deadline.min(started + limits.fragment_time);
        }
        in_time(deadline, self.fragments.next()).await
    }

    async fn handle(&mut self, fragment: Fragment) -> Result<(), End> {
        match self.association.receive(fragment).await {
            Received::Nothing | Received::Cancelled { .. } => Ok(()),
            Received::Send(pdu) => self.output.send(&pdu).await,
            Received::Refused(delay, pdu) => {
                tokio::time::sleep(delay).await;
                self.send_optional(pdu).await
            }
            Received::Close(delay, pdu) => {
                tokio::time::sleep(delay).await;
                self.send_optional(pdu).await?;
                Err(End::Refused)
            }
            Received::Call(assembly) => self.call(*assembly).await,
        }
    }

    async fn send_optional(&mut self, pdu: Option<Vec<u8>>) -> Result<(), End> {
        match pdu {
            Some(pdu) => self.output.send(&pdu).await,
            None => Ok(()),
        }
    }

    /// Makes a call, and notices meanwhile if the client goes away or cancels it.
    async fn call(&mut self, assembly: Assembly) -> Result<(), End> {
        let result = {
            let mut work = std::pin::pin!(perform(&assembly));
            loop {
                let may_read = self.ahead.len() < READ_AHEAD;
                tokio::select! {
                    biased;
                    result = &mut work => break Some(result),
                    fragment = self.fragments.next(), if may_read => {
                        match read_ahead(fragment?, assembly.call) {
                            Meanwhile::Later(fragment) => self.ahead.insert(0, fragment),
                            Meanwhile::Control(fragment) => {
                                match self.association.receive(fragment).await {
                                    Received::Cancelled { orphaned: true, .. } => break None,
                                    Received::Cancelled { .. } => {
                                        break Some(Err(Fault::CANCELLED));
                                    }
                                    _ => return Err(End::Refused),
                                }
                            }
                        }
                    }
                }
            }
        };
        let Some(result) = result else {
            return Ok(());
        };
        let Assembly {
            call,
            context,
            protection,
            ..
        } = assembly;
        for pdu in self.association.response(call, context, protection, result) {
            self.output.send(&pdu).await?;
        }
        Ok(())
    }

    /// An idle client learns that the server stops; all others see the connection close.
    async fn say_goodbye(&mut self, end: &End) {
        if let End::Stopped = end
            && let Some(pdu) = pdu::encode(PacketType::SHUTDOWN, flags::WHOLE, 0, &[], None)
        {
            // It is gone either way.
            let _ = self.output.send(&pdu).await;
        }
    }
}

async fn in_time<T>(
    deadline: Instant,
    reading: impl Future<Output = Result<T, ReadError>>,
) -> Result<T, End> {
    match timeout_at(deadline, reading).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(End::Time),
    }
}

/// What to do with a PDU that comes while a call runs.
enum Meanwhile {
    /// It waits for its turn.
    Later(Fragment),
    /// It is about the call that runs.
    Control(Fragment),
}

fn read_ahead(fragment: Fragment, running: u32) -> Meanwhile {
    match fragment.header.packet_type {
        PacketType::CO_CANCEL | PacketType::ORPHANED if fragment.header.call == running => {
            Meanwhile::Control(fragment)
        }
        _ => Meanwhile::Later(fragment),
    }
}

async fn perform(assembly: &Assembly) -> Result<Vec<u8>, Fault> {
    let call = Call {
        interface: assembly.interface,
        opnum: assembly.opnum,
        stub: &assembly.stub,
        caller: &assembly.caller,
    };
    match &assembly.target {
        Target::Interface(interface) => interface.call(call).await,
        Target::Object(objects, object) => objects.call(*object, call).await,
    }
}
