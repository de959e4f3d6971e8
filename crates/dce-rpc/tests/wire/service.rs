//! A server with two interfaces and an object, and clients of it.

use dce_rpc::client::{Client, Credentials};
use dce_rpc::{
    Call, Connection, Endpoint, Fault, Interface, Level, Limits, Listener, Objects, Server,
    SyntaxId,
};
use ntlm::initiator::Initiator;
use ntlm::{NtHash, ServerNames};
use spnego::{Account, Accounts, Attempt, Audit, Dialect, Logons, Lookup, Refusal};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::net::TcpStream;
use tokio::sync::watch;
use uuid::{Uuid, uuid};

pub const GUARDED: SyntaxId = SyntaxId::new(uuid!("11111111-2222-3333-4444-555555555555"), 1);
pub const OPEN: SyntaxId = SyntaxId::new(uuid!("66666666-2222-3333-4444-555555555555"), 1);
pub const OF_OBJECTS: SyntaxId = SyntaxId::new(uuid!("77777777-2222-3333-4444-555555555555"), 0);
pub const OBJECT: Uuid = uuid!("88888888-2222-3333-4444-555555555555");

/// Gives its arguments back.
pub const ECHO: u16 = 0;
/// Waits until its client loses interest.
pub const WAIT: u16 = 1;
/// Says who calls.
pub const WHO: u16 = 2;

/// What happened in the service.
#[derive(Default)]
pub struct Seen {
    pub calls: AtomicUsize,
    pub waiting: watch::Sender<usize>,
    pub disconnected: watch::Sender<usize>,
    pub audit: Mutex<Vec<String>>,
}

impl Seen {
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

struct Echo {
    syntax: SyntaxId,
    required: Level,
    seen: Arc<Seen>,
}

struct Waiting<'a>(&'a Seen);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}

async fn perform(seen: &Seen, call: Call<'_>) -> Result<Vec<u8>, Fault> {
    seen.calls.fetch_add(1, Ordering::SeqCst);
    match call.opnum {
        ECHO => Ok(call.stub.to_vec()),
        WAIT => {
            seen.waiting.send_modify(|count| *count += 1);
            let _waiting = Waiting(seen);
            std::future::pending().await
        }
        WHO => {
            let who = call.caller.identity.as_ref();
            let account = who.map_or("nobody", |who| &who.account);
            Ok(format!("{account} at {:?}", call.caller.level).into_bytes())
        }
        _ => Err(Fault::OPERATION_RANGE),
    }
}

#[async_trait::async_trait]
impl Interface for Echo {
    fn syntax(&self) -> SyntaxId {
        self.syntax
    }

    fn required_level(&self) -> Level {
        self.required
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        perform(&self.seen, call).await
    }
}

struct OneObject(Arc<Seen>);

#[async_trait::async_trait]
impl Objects for OneObject {
    fn offers(&self, interface: &SyntaxId) -> bool {
        *interface == OF_OBJECTS
    }

    async fn call(&self, object: Uuid, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        match object {
            OBJECT => perform(&self.0, call).await,
            _ => Err(Fault::CONTEXT_MISMATCH),
        }
    }

    fn disconnected(&self, _: &Connection) {
        self.0.disconnected.send_modify(|count| *count += 1);
    }
}

struct OneAccount;

impl Accounts for OneAccount {
    fn find<'a>(&'a self, attempt: &'a Attempt) -> Lookup<'a> {
        let found = attempt.user.eq_ignore_ascii_case("alice").then(|| Account {
            name: "alice".to_owned(),
            hash: NtHash::of_password("secret"),
        });
        Box::pin(async { found })
    }
}

struct Log(Arc<Seen>);

impl Audit for Log {
    fn accepted(&self, attempt: &Attempt, account: &str) {
        let line = format!("{} is {account}", attempt.peer);
        self.0.audit.lock().unwrap().push(line);
    }

    fn refused(&self, peer: &str, attempt: Option<&Attempt>, refusal: &Refusal) {
        let user = attempt.map_or("nobody", |attempt| &attempt.user);
        let line = format!("{peer} {user}: {refusal}");
        self.0.audit.lock().unwrap().push(line);
    }
}

pub struct Service {
    pub seen: Arc<Seen>,
    pub address: SocketAddr,
    pub server: Server,
}

pub fn endpoint(seen: &Arc<Seen>) -> Endpoint {
    let interface = |syntax, required| {
        let seen = seen.clone();
        Arc::new(Echo {
            syntax,
            required,
            seen,
        }) as Arc<dyn Interface>
    };
    Endpoint {
        interfaces: vec![
            interface(GUARDED, Level::Integrity),
            interface(OPEN, Level::None),
        ],
        objects: Some(Arc::new(OneObject(seen.clone()))),
    }
}

pub fn logons(seen: &Arc<Seen>) -> Arc<Logons> {
    let names = ServerNames::of_host("host.example.org");
    Arc::new(Logons::new(
        names,
        Arc::new(OneAccount),
        Arc::new(Log(seen.clone())),
    ))
}

impl Service {
    pub async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub async fn start_with(limits: Limits) -> Self {
        let seen = Arc::new(Seen::default());
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address();
        let server = Server::start(vec![(listener, endpoint(&seen))], logons(&seen), limits);
        Service {
            seen,
            address,
            server,
        }
    }

    pub async fn connect(&self) -> Client<TcpStream> {
        Client::new(TcpStream::connect(self.address).await.unwrap())
    }

    /// A client that has bound everything and logged on.
    pub async fn log_on(&self, credentials: &Credentials) -> Client<TcpStream> {
        let mut client = self.connect().await;
        let interfaces = [GUARDED, OPEN, OF_OBJECTS];
        client.bind(&interfaces, Some(credentials)).await.unwrap();
        client
    }
}

pub fn credentials(level: Level) -> Credentials {
    Credentials {
        initiator: Initiator::new("Alice", "secret"),
        dialect: Dialect::Ntlm,
        level,
        context: 0,
    }
}

/// Every way to log on and to protect messages.
pub fn all_credentials() -> Vec<Credentials> {
    let mut all = Vec::new();
    for dialect in [Dialect::Ntlm, Dialect::Negotiate] {
        for level in [Level::Integrity, Level::Privacy] {
            for key_exchange in [false, true] {
                let mut one = credentials(level);
                one.dialect = dialect;
                one.initiator.key_exchange = key_exchange;
                one.initiator.integrity_code = !key_exchange;
                all.push(one);
            }
        }
    }
    all
}
