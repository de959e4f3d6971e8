//! Bytes from a fuzzer: none make the server panic or hang.

use crate::service::{Seen, endpoint, logons};
use dce_rpc::pdu::Fragment;
use dce_rpc::{Connection, Limits, Server};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn recorded_bytes_are_survived() {
    let folder = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fuzz/seeds/rpc_connection"
    );
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        files += 1;
        for end in [bytes.len(), bytes.len() / 2, bytes.len().saturating_sub(1)] {
            converse(&bytes[..end]).await;
        }
    }
    assert!(files > 3);
}

#[test]
fn recorded_pdus_are_read_within_their_bounds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/rpc_pdu");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for end in 0..=bytes.len() {
            let mut bytes = bytes[..end].to_vec();
            // As if it had been sent at this length.
            if let Some(length) = bytes.get_mut(8..10) {
                length.copy_from_slice(&u16::try_from(end).unwrap().to_le_bytes());
            }
            let Ok(fragment) = Fragment::decode(bytes) else {
                continue;
            };
            read += usize::from(fragment.bind().is_ok());
            read += usize::from(fragment.bind_result().is_ok());
            if let Ok(request) = fragment.request() {
                assert!(fragment.body_from(request.stub_start).len() < end);
                read += 1;
            }
        }
    }
    assert!(read > 4, "{read}");
}

async fn converse(bytes: &[u8]) {
    let seen = Arc::new(Seen::default());
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let address = ([127, 0, 0, 1], 1).into();
    let connection = Connection {
        id: 1,
        peer: address,
        local: address,
    };
    let served = Server::serve_stream(
        theirs,
        connection,
        endpoint(&seen),
        logons(&seen),
        Limits::default(),
    );
    let (mut read, mut write) = tokio::io::split(ours);
    let talk = async {
        let _ = write.write_all(bytes).await;
        let _ = write.shutdown().await;
        let mut answers = Vec::new();
        let _ = read.read_to_end(&mut answers).await;
    };
    tokio::join!(served, talk);
}
