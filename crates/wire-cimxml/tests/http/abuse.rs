//! Input that no well-meaning client sends: a specific refusal each, and a server that goes on.

use crate::support::{AUTHORIZATION, PATIENCE, Raw, class_names, message, operation, post, shop};
use http_server::HttpLimits;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

async fn works(address: SocketAddr) {
    let mut raw = Raw::connect(address).await;
    raw.send(post("", "EnumerateClassNames", "root/shop", &class_names()))
        .await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(reply.body.contains("Shop_Thing"), "{reply:?}");
}

/// Resident memory of this process, where the server runs too.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status
        .lines()
        .find(|l| l.starts_with("VmHWM:"))
        .expect("a peak");
    let number = line.split_whitespace().nth(1).expect("a number");
    number.parse::<usize>().expect("a number") * 1024
}

#[tokio::test]
async fn garbage_is_refused_whatever_its_size() {
    let shop = shop(HttpLimits::default()).await;
    let garbage: String = (0..1_u32 << 20)
        .map(|n| char::from(32 + u8::try_from(n.wrapping_mul(2_654_435_761) >> 25).unwrap() % 90))
        .collect();
    let mut raw = Raw::connect(shop.address).await;
    raw.send(post("", "X", "root/shop", &garbage)).await;
    let reply = raw.reply().await;
    assert_eq!(reply.status, 400, "{}", reply.head);
    assert_eq!(reply.header("cimerror"), Some("request-not-well-formed"));
    // The connection is still good: what was refused was the message.
    raw.send(post("", "EnumerateClassNames", "root/shop", &class_names()))
        .await;
    assert_eq!(raw.reply().await.status, 200);
    // Garbage instead of HTTP.
    let mut raw = Raw::connect(shop.address).await;
    raw.send("\0\u{1}\u{2} garbage\r\n\r\n").await;
    assert!(raw.closed().await);
    works(shop.address).await;
}

#[tokio::test]
async fn a_body_that_is_too_big_is_refused_without_keeping_it() {
    let shop = shop(HttpLimits::default()).await;
    works(shop.address).await;
    let before = resident();
    let hundred = 100 << 20;
    let piece = vec![b' '; 1 << 20];
    let head = |length: &str| {
        format!(
            "POST / HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\nCIMOperation: MethodCall\r\n\
             CIMMethod: X\r\nCIMObject: root\r\nContent-Type: text/xml\r\n{length}\r\n\r\n"
        )
    };
    let mut raw = Raw::connect(shop.address).await;
    raw.send(head(&format!("Content-Length: {hundred}"))).await;
    for _ in 0..hundred / piece.len() {
        raw.send(&piece).await;
    }
    assert_eq!(raw.reply().await.status, 413);

    let mut raw = Raw::connect(shop.address).await;
    raw.send(head("Transfer-Encoding: chunked")).await;
    for _ in 0..hundred / piece.len() {
        raw.send(format!("{:x}\r\n", piece.len())).await;
        raw.send(&piece).await;
        raw.send("\r\n").await;
    }
    raw.send("0\r\n\r\n").await;
    assert_eq!(raw.reply().await.status, 413);

    // Somebody unknown is not even listened to.
    let mut raw = Raw::connect(shop.address).await;
    let stranger = head(&format!("Content-Length: {hundred}")).replace(AUTHORIZATION, "X: y");
    raw.send(stranger).await;
    assert_eq!(raw.reply_after_sending(&piece, 100).await, 401);

    let grown = resident().saturating_sub(before);
    assert!(grown < 40 << 20, "peak memory grew by {grown} bytes");
    works(shop.address).await;
}

impl Raw {
    /// Sends `count` pieces or as many as the server takes before it hangs up, and gives the status
    /// it answered with.
    async fn reply_after_sending(&mut self, piece: &[u8], count: usize) -> u16 {
        let reply = {
            for _ in 0..4.min(count) {
                if self.0.write_all(piece).await.is_err() {
                    break;
                }
            }
            self.reply().await
        };
        reply.status
    }
}

#[tokio::test]
async fn bodies_together_stay_within_their_budget() {
    let limits = HttpLimits {
        bodies: 3 << 20,
        ..HttpLimits::default()
    };
    let shop = shop(limits).await;
    let head = format!(
        "POST / HTTP/1.1\r\nHost: x\r\n{AUTHORIZATION}\r\nCIMOperation: MethodCall\r\n\
         CIMMethod: X\r\nCIMObject: root\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
        (2 << 20) + 1
    );
    let piece = vec![b' '; 2 << 20];
    let mut first = Raw::connect(shop.address).await;
    first.send(&head).await;
    first.send(&piece).await;
    // The first holds two of three megabytes; a second of the same size cannot fit beside it.
    let mut second = Raw::connect(shop.address).await;
    second.send(&head).await;
    second.send(&piece).await;
    second.send(" ").await;
    first.send(" ").await;
    let mut statuses = [first.reply().await.status, second.reply().await.status];
    statuses.sort_unstable();
    assert!(
        statuses == [400, 503] || statuses == [400, 400],
        "{statuses:?}"
    );
    works(shop.address).await;
}

#[tokio::test]
async fn slow_senders_are_cut_off() {
    let limits = HttpLimits {
        header_time: Duration::from_millis(300),
        body_time: Duration::from_millis(300),
        ..HttpLimits::default()
    };
    let shop = shop(limits).await;
    let started = Instant::now();
    let mut headers = Raw::connect(shop.address).await;
    headers.send("POST / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    let mut body = Raw::connect(shop.address).await;
    let whole = post("", "EnumerateClassNames", "root/shop", &class_names());
    body.send(&whole[..whole.len() - 10]).await;
    assert!(headers.closed().await);
    assert_eq!(body.reply().await.status, 408);
    assert!(body.closed().await);
    assert!(started.elapsed() < PATIENCE);
    works(shop.address).await;
}

#[tokio::test]
async fn headers_have_limits() {
    let shop = shop(HttpLimits::default()).await;
    let many = (0..200)
        .map(|n| format!("X-{n}: y\r\n"))
        .collect::<String>();
    for more in [many, format!("X-Long: {}\r\n", "y".repeat(200_000))] {
        let mut raw = Raw::connect(shop.address).await;
        // The server may hang up while this is being sent.
        let request = post(&more, "EnumerateClassNames", "root/shop", &class_names());
        let _ = raw.0.write_all(request.as_bytes()).await;
        assert!(raw.closed().await);
    }
    works(shop.address).await;
}

#[tokio::test]
async fn bombs_and_depth_are_refused() {
    let shop = shop(HttpLimits::default()).await;
    let mut lol = "<!DOCTYPE lolz [<!ENTITY lol \"lol\">".to_owned();
    for n in 1..10 {
        let inner = format!("&lol{};", n - 1).repeat(10);
        lol.push_str(&format!("<!ENTITY lol{n} \"{inner}\">"));
    }
    lol.push_str("]><CIM>&lol9;</CIM>");
    let deep = message(&"<VALUE.ARRAY>".repeat(500_000));
    let attributes = message(&format!(
        "<SIMPLEREQ {}/>",
        (0..10_000)
            .map(|n| format!("a{n}=\"\" "))
            .collect::<String>()
    ));
    let twice = message(&operation("EnumerateClassNames", "").repeat(2));
    let truncated = &class_names()[..60];
    let invalid = message("<SIMPLEREQ><INSTANCE CLASSNAME=\"X\"/></SIMPLEREQ>");
    for (body, token) in [
        (lol.as_str(), "request-not-well-formed"),
        (&deep, "request-not-valid"),
        (&attributes, "request-not-valid"),
        (&twice, "request-not-loosely-valid"),
        (truncated, "request-not-well-formed"),
        ("", "request-not-well-formed"),
        (&invalid, "request-not-loosely-valid"),
    ] {
        let mut raw = Raw::connect(shop.address).await;
        raw.send(post("", "EnumerateClassNames", "root/shop", body))
            .await;
        let reply = raw.reply().await;
        assert_eq!(reply.status, 400, "{reply:?}");
        assert_eq!(reply.header("cimerror"), Some(token), "{reply:?}");
    }
    works(shop.address).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = HttpLimits {
        stall_time: Duration::from_millis(300),
        connections: 1,
        ..HttpLimits::default()
    };
    let shop = shop(limits).await;
    let mut raw = Raw::connect(shop.address).await;
    // Enough answers to fill every buffer between the two: the server stops and gives up.
    let query = operation("EnumerateQualifiers", "");
    let request = post("", "EnumerateQualifiers", "root/shop", &message(&query));
    let flood = async { while raw.0.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("the server hangs up");
    // There is only one connection, and it is free again.
    tokio::time::timeout(PATIENCE, works(shop.address))
        .await
        .expect("the next client gets through");
}
