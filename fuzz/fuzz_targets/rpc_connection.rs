//! RPC: whatever a client sends, PDU by PDU, the server neither panics nor hangs, answers in PDUs,
//! and calls nothing that needs a logon.
#![no_main]

use dce_rpc::pdu::Header;
use dce_rpc::{Call, Connection, Endpoint, Fault, Interface, Level, Limits, Server, SyntaxId};
use spnego::{Account, Accounts, Attempt, Audit, Logons, Lookup, Refusal};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use uuid::uuid;

struct Echo(SyntaxId, Level);

#[async_trait::async_trait]
impl Interface for Echo {
    fn syntax(&self) -> SyntaxId {
        self.0
    }

    fn required_level(&self) -> Level {
        self.1
    }

    async fn call(&self, call: Call<'_>) -> Result<Vec<u8>, Fault> {
        assert_eq!(self.1, Level::None);
        Ok(call.stub.to_vec())
    }
}

struct Nobody;

impl Accounts for Nobody {
    fn find<'a>(&'a self, _: &'a Attempt) -> Lookup<'a> {
        Box::pin(async {
            Some(Account {
                name: "User".to_owned(),
                hash: ntlm::NtHash::of_password("never guessed"),
            })
        })
    }
}

impl Audit for Nobody {
    fn accepted(&self, _: &Attempt, _: &str) {
        panic!("a logon without a password");
    }

    fn refused(&self, _: &str, _: Option<&Attempt>, _: &Refusal) {}
}

async fn converse(data: &[u8]) {
    let open = SyntaxId::new(uuid!("66666666-2222-3333-4444-555555555555"), 1);
    let guarded = SyntaxId::new(uuid!("11111111-2222-3333-4444-555555555555"), 1);
    let endpoint = Endpoint {
        interfaces: vec![
            Arc::new(Echo(open, Level::None)),
            Arc::new(Echo(guarded, Level::Integrity)),
        ],
        objects: None,
    };
    let names = ntlm::ServerNames::of_host("host");
    let logons = Arc::new(Logons::new(names, Arc::new(Nobody), Arc::new(Nobody)));
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let address = ([127, 0, 0, 1], 1).into();
    let connection = Connection {
        id: 1,
        peer: address,
        local: address,
    };
    let served = Server::serve_stream(theirs, connection, endpoint, logons, Limits::default());
    let (mut read, mut write) = tokio::io::split(ours);
    let talk = async {
        let _ = write.write_all(data).await;
        let _ = write.shutdown().await;
        let mut answers = Vec::new();
        let _ = read.read_to_end(&mut answers).await;
        answers
    };
    let ((), answers) = tokio::join!(served, talk);
    let mut rest = &answers[..];
    while let Some(header) = rest.first_chunk() {
        let header = Header::decode(header).expect("the server sends PDUs");
        rest = rest.get(usize::from(header.length)..).expect("whole PDUs");
    }
    assert!(rest.is_empty());
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    // Time is skipped while everybody waits: delays after failed logons cost nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(converse(data));
});
