//! HTTP as DSP0200 wants it: methods, headers, statuses, tokens.

use crate::support::{
    AUTHORIZATION, Raw, Reply, ask, class_names, class_parameter, message, operation, post, shop,
    text_parameter,
};
use http_server::HttpLimits;
use std::sync::atomic::Ordering;
use std::time::Duration;

async fn send(request: impl AsRef<[u8]>) -> Reply {
    let shop = shop(HttpLimits::default()).await;
    let mut raw = Raw::connect(shop.address).await;
    raw.send(request).await;
    raw.reply().await
}

fn good() -> String {
    post("", "EnumerateClassNames", "root/shop", &class_names())
}

#[tokio::test]
async fn a_good_answer_has_the_headers_clients_check() {
    let reply = send(good()).await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("content-type"),
        Some("application/xml; charset=\"utf-8\"")
    );
    assert_eq!(reply.header("cimoperation"), Some("MethodResponse"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    let micros = reply.header("wbemserverresponsetime").expect("a time");
    assert!(micros.parse::<u64>().is_ok(), "{micros}");
    assert!(
        reply
            .body
            .starts_with("<?xml version=\"1.0\" encoding=\"utf-8\" ?>")
    );
    assert!(
        reply
            .body
            .contains("<MESSAGE ID=\"4711\" PROTOCOLVERSION=\"1.0\">")
    );
    assert!(
        reply
            .body
            .contains("<IMETHODRESPONSE NAME=\"EnumerateClassNames\"><IRETURNVALUE>")
    );
}

#[tokio::test]
async fn methods_other_than_post_are_refused() {
    for method in ["GET", "PUT", "DELETE", "BREW"] {
        let reply = send(format!("{method} /cimom HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        assert_eq!(reply.status, 405, "{method}");
        assert_eq!(reply.header("allow"), Some("POST, M-POST, OPTIONS"));
    }
    let reply = send("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("77-cimprotocolversion"), Some("1.0"));
}

#[tokio::test]
async fn extended_posts_have_prefixed_headers_both_ways() {
    let extended = |man: &str| {
        good()
            .replace("POST", "M-POST")
            .replace("CIMOperation", "73-CIMOperation")
            .replace("CIMMethod", "73-CIMMethod")
            .replace("CIMObject", "73-CIMObject")
            .replace("Host: x\r\n", &format!("Host: x\r\n{man}"))
    };
    let man = "Man: http://www.dmtf.org/cim/mapping/http/v1.0 ; ns=73\r\n";
    let reply = send(extended(man)).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("ext"), Some(""));
    assert_eq!(reply.header("73-cimoperation"), Some("MethodResponse"));
    assert_eq!(send(extended("")).await.status, 510);
    assert_eq!(
        send(extended("Man: http://x ; ns=73\r\n")).await.status,
        510
    );
    // Headers of another prefix are not there.
    let reply = send(extended(&man.replace("ns=73", "ns=74"))).await;
    assert_eq!(
        (reply.status, reply.header("cimerror")),
        (400, Some("unsupported-operation"))
    );
}

#[tokio::test]
async fn wrong_headers_are_refused_by_name() {
    for (from, to, status, token) in [
        (
            "CIMOperation: MethodCall\r\n",
            "",
            400,
            Some("unsupported-operation"),
        ),
        (
            "MethodCall",
            "MethodRequest",
            501,
            Some("unsupported-operation"),
        ),
        (
            "CIMMethod: EnumerateClassNames\r\n",
            "",
            400,
            Some("header-mismatch"),
        ),
        (
            "CIMMethod: EnumerateClassNames",
            "CIMMethod: GetClass",
            400,
            Some("header-mismatch"),
        ),
        (
            "CIMObject: root/shop",
            "CIMObject: root/other",
            400,
            Some("header-mismatch"),
        ),
        (
            "CIMObject: root/shop",
            "CIMBatch:",
            400,
            Some("header-mismatch"),
        ),
        ("application/xml", "text/plain", 415, None),
        ("\"utf-8\"", "\"utf-16\"", 415, None),
        ("Content-Type", "X-Content-Type", 415, None),
        ("Host: x", "Content-Encoding: gzip", 415, None),
        (
            "Host: x",
            "CIMProtocolVersion: 2.0",
            501,
            Some("unsupported-protocol-version"),
        ),
        (
            "CIMVERSION=\"2",
            "CIMVERSION=\"3",
            501,
            Some("unsupported-cim-version"),
        ),
        (
            "DTDVERSION=\"2",
            "DTDVERSION=\"1",
            501,
            Some("unsupported-dtd-version"),
        ),
        (
            "PROTOCOLVERSION=\"1",
            "PROTOCOLVERSION=\"2",
            501,
            Some("unsupported-protocol-version"),
        ),
    ] {
        let reply = send(good().replacen(from, to, 1)).await;
        assert_eq!(reply.status, status, "{from} -> {to}: {reply:?}");
        assert_eq!(reply.header("cimerror"), token, "{from} -> {to}");
    }
}

#[tokio::test]
async fn headers_are_compared_as_what_they_mean() {
    for (from, to) in [
        ("root/shop", "root%2Fshop"),
        ("root/shop", "/ROOT/Shop/"),
        ("root/shop", "root%2Fshop%3AShop_Book.Id=%22x%22"),
        ("root/shop", "//some.host/root/shop:Shop_Book"),
        ("CIMMethod: Enum", "CIMMethod: %45num"),
        ("Host: x", "CIMProtocolVersion: 1.1"),
        ("application/xml; charset=\"utf-8\"", "text/xml"),
        ("CIMVERSION=\"2.0\"", "CIMVERSION=\"2.8\""),
    ] {
        let reply = send(good().replacen(from, to, 1)).await;
        assert_eq!(reply.status, 200, "{from} -> {to}: {reply:?}");
    }
}

#[tokio::test]
async fn credentials_are_asked_for_and_remembered() {
    let shop = shop(HttpLimits::default()).await;
    for wrong in [
        "X: y",
        "Authorization: Basic !",
        "Authorization: Bearer x",
        "Authorization: Basic cmVhZGVyOndyb25n",
    ] {
        let mut raw = Raw::connect(shop.address).await;
        raw.send(good().replace(AUTHORIZATION, wrong)).await;
        let reply = raw.reply().await;
        assert_eq!(reply.status, 401, "{wrong}");
        // Some clients split this header at commas.
        assert_eq!(
            reply.header("www-authenticate"),
            Some("Basic realm=\"a book shop\"")
        );
    }
    let before = shop.accounts.verifications.load(Ordering::Relaxed);
    let mut raw = Raw::connect(shop.address).await;
    for _ in 0..5 {
        raw.send(good()).await;
        assert_eq!(raw.reply().await.status, 200);
    }
    assert_eq!(
        shop.accounts.verifications.load(Ordering::Relaxed),
        before + 1
    );
    // What was good for one account is not good for the next.
    raw.send(good().replace(AUTHORIZATION, "Authorization: Basic cmVhZGVyOndyb25n"))
        .await;
    assert_eq!(raw.reply().await.status, 401);
}

#[tokio::test]
async fn guessing_gets_slower() {
    let shop = shop(HttpLimits::default()).await;
    let wrong = good().replace(AUTHORIZATION, "Authorization: Basic cmVhZGVyOndyb25n");
    let mut times = Vec::new();
    for _ in 0..4 {
        let started = std::time::Instant::now();
        let mut raw = Raw::connect(shop.address).await;
        raw.send(&wrong).await;
        assert_eq!(raw.reply().await.status, 401);
        times.push(started.elapsed());
    }
    assert!(times[3] >= Duration::from_millis(800), "{times:?}");
    assert!(times[3] < Duration::from_secs(5), "{times:?}");
}

#[tokio::test]
async fn batches_are_run_in_order() {
    let body = message(&format!(
        "<MULTIREQ>{}{}</MULTIREQ>",
        operation("EnumerateInstanceNames", &class_parameter("Shop_Shelf")),
        operation("GetClass", &class_parameter("Nope")),
    ));
    let request = post("", "X", "Y", &body)
        .replace("CIMMethod: X\r\n", "CIMBatch:\r\n")
        .replace("CIMObject: Y\r\n", "");
    let reply = send(request).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let first = reply
        .body
        .find("<IMETHODRESPONSE NAME=\"EnumerateInstanceNames\">");
    let second = reply
        .body
        .find("<IMETHODRESPONSE NAME=\"GetClass\"><ERROR CODE=\"5\"");
    assert!(first.is_some() && first < second, "{}", reply.body);
    assert!(reply.body.contains("<MULTIRSP><SIMPLERSP>"));
}

#[tokio::test]
async fn chunked_requests_are_read() {
    let body = class_names();
    let (one, two) = body.split_at(70);
    let chunks = format!(
        "{:x}\r\n{one}\r\n{:x};ext=1\r\n{two}\r\n0\r\nTrailer: x\r\n\r\n",
        one.len(),
        two.len()
    );
    let request = post("", "EnumerateClassNames", "root/shop", "")
        .replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let reply = send(request + &chunks).await;
    assert_eq!(reply.status, 200, "{reply:?}");
}

#[tokio::test]
async fn parameters_are_checked() {
    let shop = shop(HttpLimits::default()).await;
    let book = class_parameter("Shop_Book");
    for (name, parameters, wanted) in [
        ("GetClass", String::new(), "ERROR CODE=\"4\""),
        ("GetClass", book.repeat(2), "ERROR CODE=\"4\""),
        (
            "GetClass",
            book.clone() + &text_parameter("Unknown", "1"),
            "ERROR CODE=\"4\"",
        ),
        (
            "GetClass",
            book.clone() + &text_parameter("LocalOnly", "maybe"),
            "ERROR CODE=\"4\"",
        ),
        (
            "GetClass",
            text_parameter("ClassName", "shop_book"),
            "<CLASS NAME=\"Shop_Book\"",
        ),
        (
            "getclass",
            book.clone() + "<IPARAMVALUE NAME=\"LOCALONLY\"/>",
            "<IMETHODRESPONSE NAME=\"getclass\"><IRETURNVALUE><CLASS ",
        ),
        ("GetInstance", book.clone(), "ERROR CODE=\"4\""),
        (
            "EnumerateInstances",
            book.clone() + "<IPARAMVALUE NAME=\"PropertyList\"><VALUE.ARRAY/></IPARAMVALUE>",
            "<INSTANCE CLASSNAME=\"Shop_Book\"></INSTANCE>",
        ),
        (
            "EnumerateInstances",
            class_parameter("Nope"),
            "ERROR CODE=\"5\"",
        ),
        ("DoSomething", String::new(), "ERROR CODE=\"7\""),
        ("CreateInstance", String::new(), "ERROR CODE=\"7\""),
        ("SetQualifier", String::new(), "ERROR CODE=\"7\""),
        (
            "OpenEnumerateInstances",
            book.clone() + &text_parameter("ContinueOnError", "true"),
            "ERROR CODE=\"26\"",
        ),
        (
            "OpenEnumerateInstances",
            book.clone() + &text_parameter("FilterQuery", "x"),
            "ERROR CODE=\"25\"",
        ),
        (
            "OpenEnumerateInstances",
            book.clone() + &text_parameter("OperationTimeout", "999999"),
            "ERROR CODE=\"22\"",
        ),
        (
            "OpenEnumerateInstances",
            book.clone() + &text_parameter("MaxObjectCount", "-1"),
            "ERROR CODE=\"4\"",
        ),
        (
            "OpenQueryInstances",
            text_parameter("FilterQueryLanguage", "WQL"),
            "ERROR CODE=\"4\"",
        ),
        (
            "PullInstances",
            text_parameter("EnumerationContext", "x"),
            "ERROR CODE=\"21\"",
        ),
        (
            "CloseEnumeration",
            text_parameter("EnumerationContext", "x"),
            "ERROR CODE=\"21\"",
        ),
        (
            "ExecQuery",
            text_parameter("QueryLanguage", "WQL") + &text_parameter("Query", "selct"),
            "ERROR CODE=\"15\"",
        ),
    ] {
        let reply = ask(shop.address, name, &parameters).await;
        assert_eq!(reply.status, 200);
        assert!(
            reply.body.contains(wanted),
            "{name} {parameters}: {}",
            reply.body
        );
    }
    // Any operation says first that there is no such namespace.
    let elsewhere = message(&operation("CreateInstance", "")).replace("\"shop\"", "\"nowhere\"");
    let mut raw = Raw::connect(shop.address).await;
    raw.send(post("", "CreateInstance", "root/nowhere", &elsewhere))
        .await;
    let reply = raw.reply().await;
    assert!(reply.body.contains("<ERROR CODE=\"3\""), "{}", reply.body);
}

#[tokio::test]
async fn an_open_that_finds_little_answers_both_parameters() {
    let shop = shop(HttpLimits::default()).await;
    let parameters = class_parameter("Shop_Shelf") + &text_parameter("MaxObjectCount", "9");
    let reply = ask(shop.address, "OpenEnumerateInstancePaths", &parameters).await;
    assert!(reply.body.contains("</IRETURNVALUE><PARAMVALUE NAME=\"EndOfSequence\" PARAMTYPE=\"boolean\"><VALUE>TRUE</VALUE></PARAMVALUE><PARAMVALUE NAME=\"EnumerationContext\" PARAMTYPE=\"string\"><VALUE></VALUE></PARAMVALUE>"), "{}", reply.body);
    assert!(
        reply
            .body
            .contains("<IRETURNVALUE><INSTANCEPATH><NAMESPACEPATH><HOST>shop.example</HOST>")
    );
}

#[tokio::test]
async fn a_host_that_is_the_start_of_a_namespace_is_understood() {
    let shop = shop(HttpLimits::default()).await;
    let body = message(
        "<SIMPLEREQ><METHODCALL NAME=\"Order\"><LOCALINSTANCEPATH><LOCALNAMESPACEPATH>\
         <NAMESPACE NAME=\"root\"/><NAMESPACE NAME=\"shop\"/></LOCALNAMESPACEPATH>\
         <INSTANCENAME CLASSNAME=\"Shop_Clerk\"><KEYBINDING NAME=\"Name\"><KEYVALUE>Bob</KEYVALUE>\
         </KEYBINDING></INSTANCENAME></LOCALINSTANCEPATH><PARAMVALUE NAME=\"Shelf\">\
         <VALUE.REFERENCE><INSTANCEPATH><NAMESPACEPATH><HOST>root</HOST><LOCALNAMESPACEPATH>\
         <NAMESPACE NAME=\"shop\"/></LOCALNAMESPACEPATH></NAMESPACEPATH><INSTANCENAME \
         CLASSNAME=\"Shop_Shelf\"><KEYBINDING NAME=\"Id\"><KEYVALUE>s1</KEYVALUE></KEYBINDING>\
         </INSTANCENAME></INSTANCEPATH></VALUE.REFERENCE></PARAMVALUE></METHODCALL></SIMPLEREQ>",
    );
    let mut raw = Raw::connect(shop.address).await;
    raw.send(post("", "Order", "root%2Fshop%3AShop_Clerk", &body))
        .await;
    let reply = raw.reply().await;
    let there = "<PARAMVALUE NAME=\"PlacedOn\" PARAMTYPE=\"reference\"><VALUE.REFERENCE>\
                 <LOCALINSTANCEPATH><LOCALNAMESPACEPATH><NAMESPACE NAME=\"root\"/><NAMESPACE \
                 NAME=\"shop\"/></LOCALNAMESPACEPATH><INSTANCENAME CLASSNAME=\"Shop_Shelf\">";
    assert!(reply.body.contains(there), "{}", reply.body);
}

#[tokio::test]
async fn class_origins_are_told_only_when_asked_for() {
    let shop = shop(HttpLimits::default()).await;
    let few = text_parameter("MaxObjectCount", "1");
    let origin = text_parameter("IncludeClassOrigin", "true");
    let book = class_parameter("Shop_Book");
    let query = text_parameter("FilterQueryLanguage", "WQL")
        + &text_parameter("FilterQuery", "SELECT * FROM Shop_Book");
    for (open, pull, parameters, wanted) in [
        (
            "OpenEnumerateInstances",
            "PullInstancesWithPath",
            book.clone(),
            false,
        ),
        (
            "OpenEnumerateInstances",
            "PullInstancesWithPath",
            book + &origin,
            true,
        ),
        ("OpenQueryInstances", "PullInstances", query, false),
    ] {
        let opened = ask(shop.address, open, &(parameters + &few)).await.body;
        let start = opened.find("\"EnumerationContext\"").expect("a context");
        let context = opened[start..].split(['<', '>']).nth(3).expect("its text");
        let next = text_parameter("EnumerationContext", context) + &few;
        let pulled = ask(shop.address, pull, &next).await.body;
        for answer in [opened.as_str(), &pulled] {
            assert!(answer.contains("<INSTANCE "), "{answer}");
            assert_eq!(answer.contains("CLASSORIGIN="), wanted, "{open}: {answer}");
        }
    }
}
