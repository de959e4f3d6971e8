//! What an upper crate implements, and what it is told of a call.

use crate::fault::Fault;
use crate::ndr::Reader;
use crate::syntax::SyntaxId;
use async_trait::async_trait;
use std::net::SocketAddr;
use std::sync::Arc;
use uuid::Uuid;

/// How a message is protected (MS-RPCE 2.2.1.1.8). Ordered: each is at least as strong as the ones
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Not at all, and nobody has logged on.
    None,
    /// The client has logged on; messages are not protected.
    Connect,
    /// Messages are signed. The levels `call` and `packet` mean the same with NTLM.
    Integrity,
    /// Messages are signed and encrypted.
    Privacy,
}

impl Level {
    /// From the number on the wire, if it is one that is served.
    pub(crate) fn from_wire(number: u8) -> Option<Self> {
        match number {
            2 => Some(Level::Connect),
            3..=5 => Some(Level::Integrity),
            6 => Some(Level::Privacy),
            _ => None,
        }
    }

    /// The number on the wire.
    pub(crate) fn to_wire(self) -> u8 {
        match self {
            Level::None => 1,
            Level::Connect => 2,
            Level::Integrity => 5,
            Level::Privacy => 6,
        }
    }
}

/// A TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Tells connections of this process apart; never used twice.
    pub id: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client connected to: one that it can reach.
    pub local: SocketAddr,
}

/// Who has logged on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account, as the service spells it.
    pub account: String,
    /// What the client calls its machine. Nobody checks it.
    pub workstation: String,
}

/// Who makes a call, and how it came.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The connection.
    pub connection: Arc<Connection>,
    /// Who has logged on; nobody at [`Level::None`].
    pub identity: Option<Arc<Identity>>,
    /// How the request was protected. Its result is protected alike.
    pub level: Level,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The interface of the presentation context that the request came on.
    pub interface: SyntaxId,
    /// The operation.
    pub opnum: u16,
    /// The arguments.
    pub stub: &'a [u8],
    /// Who calls.
    pub caller: &'a Caller,
}

impl<'a> Call<'a> {
    /// Reads the arguments from their start.
    pub fn arguments(&self) -> Reader<'a> {
        Reader::new(self.stub)
    }
}

/// An interface that an endpoint offers.
#[async_trait]
pub trait Interface: Send + Sync + 'static {
    /// Its name and version.
    fn syntax(&self) -> SyntaxId;

    /// The weakest protection that calls may come with; weaker ones are refused with
    /// [`Fault::ACCESS_DENIED`] before their arguments are taken in.
    fn required_level(&self) -> Level {
        Level::Integrity
    }

    /// Makes a call. The result is the stub of the response; an operation that does not exist is
    /// [`Fault::OPERATION_RANGE`].
    ///
    /// The future is dropped if the client goes away or cancels the call.
    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault>;
}

/// Objects that requests name, on whatever presentation context the requests come.
#[async_trait]
pub trait Objects: Send + Sync + 'static {
    /// Whether clients may bind to an interface, that is: whether any object may have it.
    fn offers(&self, interface: &SyntaxId) -> bool;

    /// As [`Interface::required_level`].
    fn required_level(&self) -> Level {
        Level::Integrity
    }

    /// Makes a call on an object, as [`Interface::call`]. Its interface follows from the object and
    /// not from the presentation context.
    async fn call(&self, object: Uuid, call: Call<'_>) -> Result<Vec<u8>, Fault>;

    /// A connection has ended.
    fn disconnected(&self, connection: &Connection) {
        let _ = connection;
    }
}
