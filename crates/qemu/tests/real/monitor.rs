//! The QMP client against peers that are not QEMU, or QEMU in a bad hour.

use proptest::prelude::*;
use qemu::qmp::{Disconnection, MAX_RECORDED, Message, Qmp, QmpError, parse};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

const SOON: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(30);
const GREETING: &str = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n";

struct Peer {
    _dir: tempfile::TempDir,
    path: PathBuf,
    listener: UnixListener,
}

impl Peer {
    fn new() -> Peer {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("qmp");
        Peer {
            listener: UnixListener::bind(&path).unwrap(),
            path,
            _dir: dir,
        }
    }

    /// Greets like QEMU and accepts the first command.
    async fn greeted(&self) -> (Qmp, BufReader<UnixStream>) {
        let peer = async {
            let mut stream = BufReader::new(self.listener.accept().await.unwrap().0);
            stream.write_all(GREETING.as_bytes()).await.unwrap();
            answer(&mut stream, "{}").await;
            stream
        };
        let (qmp, stream) = tokio::join!(Qmp::connect(&self.path, PATIENCE), peer);
        (qmp.unwrap(), stream)
    }
}

async fn answer(stream: &mut BufReader<UnixStream>, result: &str) {
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let request: serde_json::Value = serde_json::from_str(&line).unwrap();
    let reply = format!("{{\"return\": {result}, \"id\": {}}}\n", request["id"]);
    stream.write_all(reply.as_bytes()).await.unwrap();
}

#[tokio::test]
async fn who_does_not_greet_or_greets_otherwise_is_refused() {
    let peer = Peer::new();
    let error = Qmp::connect(&peer.path, SOON).await.err().unwrap();
    assert!(matches!(error, QmpError::NoGreeting { .. }), "{error}");
    for nonsense in ["HTTP/1.1 200 OK\r\n", "[]\n", "\n", "{\"QMP\"\n"] {
        let peer = Peer::new();
        let speak = async {
            let (mut stream, _) = peer.listener.accept().await.unwrap();
            stream.write_all(nonsense.as_bytes()).await.unwrap();
            stream
        };
        let (result, _stream) = tokio::join!(Qmp::connect(&peer.path, PATIENCE), speak);
        let error = result.err().unwrap();
        assert!(matches!(error, QmpError::NotQmp { .. }), "{error}");
    }
    let path = peer.path.with_file_name("nothing");
    let error = Qmp::connect(&path, SOON).await.err().unwrap();
    assert!(matches!(error, QmpError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn what_was_left_for_an_earlier_client_is_passed_over() {
    let peer = Peer::new();
    let speak = async {
        let (stream, _) = peer.listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let left = "seconds\": 7}}\r\n{\"event\": \"RESUME\", \"data\": {}}\r\n";
        stream.write_all(left.as_bytes()).await.unwrap();
        stream.write_all(GREETING.as_bytes()).await.unwrap();
        answer(&mut stream, "{}").await;
        stream
    };
    let (result, _stream) = tokio::join!(Qmp::connect(&peer.path, PATIENCE), speak);
    result.unwrap();
}

#[tokio::test]
async fn everybody_who_waits_learns_of_the_end() {
    let peer = Peer::new();
    let (qmp, stream) = peer.greeted().await;
    let recorder = qmp.record();
    let one = qmp.execute("one", json!({}));
    let two = qmp.execute("two", json!({}));
    let event = recorder.wait_for("x", PATIENCE, |_| None::<()>);
    let end = async {
        tokio::task::yield_now().await;
        drop(stream);
    };
    let (one, two, event, ()) = tokio::join!(one, two, event, end);
    for error in [one.unwrap_err(), two.unwrap_err(), event.unwrap_err()] {
        assert!(matches!(error, QmpError::Disconnected { .. }), "{error}");
    }
    qmp.closed().await;
    assert!(qmp.is_closed());
    let late = qmp.execute("late", json!({})).await.unwrap_err();
    assert!(matches!(late, QmpError::Disconnected { .. }), "{late}");
}

#[tokio::test]
async fn nonsense_and_endless_lines_end_the_connection() {
    let peer = Peer::new();
    let (qmp, mut stream) = peer.greeted().await;
    stream.write_all(b"\xff\xfe\n").await.unwrap();
    let error = qmp.execute("x", json!({})).await.unwrap_err();
    let cause = Disconnection::Garbage;
    assert_eq!(error, QmpError::Disconnected { cause });

    let peer = Peer::new();
    let (qmp, mut stream) = peer.greeted().await;
    let flood = async {
        let blanks = vec![b' '; 1 << 20];
        // Until the other end has had enough.
        while stream.write_all(&blanks).await.is_ok() && !qmp.is_closed() {}
    };
    let (result, ()) = tokio::join!(qmp.execute("x", json!({})), flood);
    let cause = Disconnection::LineTooLong;
    assert_eq!(result.unwrap_err(), QmpError::Disconnected { cause });
}

#[tokio::test]
async fn silence_is_a_time_out_and_a_late_reply_harms_nobody() {
    let peer = Peer::new();
    let (qmp, mut stream) = peer.greeted().await;
    let error = qmp
        .execute_within("slow", json!({}), SOON)
        .await
        .unwrap_err();
    assert!(matches!(error, QmpError::TimedOut { .. }), "{error}");
    // The late reply, one to nobody, and one without a number, then the right one.
    stream
        .write_all(b"{\"return\": 1, \"id\": 2}\n{\"return\": 2, \"id\": 99}\n")
        .await
        .unwrap();
    stream
        .write_all(b"{\"return\": 3}\n{\"what\": 4}\n")
        .await
        .unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).await.unwrap();
    let ask = qmp.execute("quick", json!({}));
    let (result, ()) = tokio::join!(ask, answer(&mut stream, "5"));
    assert_eq!(result.unwrap(), json!(5));
}

#[tokio::test]
async fn a_refusal_has_its_class_and_reason() {
    let peer = Peer::new();
    let (qmp, mut stream) = peer.greeted().await;
    let refuse = async {
        let error = "{\"error\": {\"class\": \"DeviceNotFound\", \"desc\": \"no\"}, \"id\": 2}\n";
        stream.write_all(error.as_bytes()).await.unwrap();
    };
    let (result, ()) = tokio::join!(qmp.execute("x", json!({})), refuse);
    let error = result.unwrap_err();
    assert!(error.is_class("DeviceNotFound"));
    assert!(error.to_string().contains("no"), "{error}");
}

#[tokio::test]
async fn recorded_events_are_complete_and_a_loss_is_told() {
    let peer = Peer::new();
    let (qmp, mut stream) = peer.greeted().await;
    let (recorder, early) = (qmp.record(), qmp.record());
    let event = |name: &str, at: usize| {
        let time = format!("{{\"seconds\": 1, \"microseconds\": {at}}}");
        format!("{{\"event\": \"{name}\", \"timestamp\": {time}}}\n")
    };
    for at in 0..2000 {
        let line = event("RTC_CHANGE", at) + &event("STOP", at);
        stream.write_all(line.as_bytes()).await.unwrap();
    }
    let all = |n| move |events: &[qemu::qmp::Event]| (events.len() == n).then(|| events.to_vec());
    let events = recorder
        .wait_for("events", PATIENCE, all(2000))
        .await
        .unwrap();
    assert!(
        (0..)
            .zip(&events)
            .all(|(at, e)| e.timestamp_micros == 1_000_000 + at)
    );
    drop(early);
    let flood = event("STOP", 0).repeat(MAX_RECORDED);
    stream.write_all(flood.as_bytes()).await.unwrap();
    let end = recorder.wait_for("events", PATIENCE, |_| None::<()>).await;
    assert_eq!(end, Err(QmpError::EventsLost));
}

proptest! {
    #[test]
    fn no_line_makes_the_parser_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
        parse(&line);
    }

    #[test]
    fn what_looks_like_qmp_does_not_either(
        key in "return|error|event|QMP|id|timestamp",
        value in "(null|1|-1|1e99|\"x\"|\\[\\]|\\{\\}|\\{\"seconds\":9223372036854775807\\})",
    ) {
        let line = format!("{{\"{key}\": {value}, \"event\": \"E\", \"timestamp\": {value}}}");
        prop_assert!(parse(line.as_bytes()).is_some());
    }
}

#[test]
fn a_deep_line_is_refused() {
    assert_eq!(parse("[".repeat(100_000).as_bytes()), None);
    let deep = format!("{{\"return\": {}}}", "[".repeat(1000) + &"]".repeat(1000));
    assert_eq!(parse(deep.as_bytes()), None);
    assert_eq!(parse(b"{}"), Some(Message::Unknown));
}
