//! Requests that are wrong, and what they are told.

use crate::support::{
    Raw, SHOP, WQL, ask, basic, enumerate, envelope, filter, selectors, shop, transfer,
};
use wire_wsman::soap::uri;

fn get(headers: &str) -> String {
    let headers = format!("{}{headers}", selectors(&[("Id", "b1")]));
    transfer("Get", &format!("{SHOP}Shop_Book"), &headers, "")
}

#[tokio::test]
async fn headers_that_must_be_understood_are_known_or_refused() {
    let shop = shop().await;
    let known = "<wsman:OptionSet s:mustUnderstand=\"true\"/>\
        <wsman:Locale xml:lang=\"de-DE\" s:mustUnderstand=\"true\"/>\
        <p:DataLocale xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" xml:lang=\"de\" s:mustUnderstand=\"1\"/>\
        <wsman:MaxEnvelopeSize s:mustUnderstand=\"true\">102400</wsman:MaxEnvelopeSize>\
        <wsman:OperationTimeout>PT60.000S</wsman:OperationTimeout>\
        <x:Strange xmlns:x=\"urn:x\"/>";
    assert_eq!(ask(&shop, &get(known)).await.status, 200);
    let reply = ask(
        &shop,
        &get("<x:Strange xmlns:x=\"urn:x\" s:mustUnderstand=\"1\"/>"),
    )
    .await;
    assert_eq!(reply.fault().0, "MustUnderstand");
    let header = reply.envelope();
    let header = header.child(uri::SOAP, "Header").unwrap();
    let strange = header.child(uri::SOAP, "NotUnderstood").unwrap();
    assert_eq!(strange.attribute("qname"), Some("h:Strange"));
    let option = "<wsman:OptionSet><wsman:Option Name=\"Odd\" MustComply=\"true\">1</wsman:Option></wsman:OptionSet>";
    assert_eq!(ask(&shop, &get(option)).await.fault().0, "InvalidOptions");
    assert_eq!(
        ask(&shop, &get(&option.replace("true", "false")))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn faults_are_whole_messages_with_the_prefixes_of_the_request() {
    let shop = shop().await;
    let reply = ask(&shop, &transfer("Get", &format!("{SHOP}Shop_Book"), "", "")).await;
    assert_eq!(reply.fault().0, "InvalidSelectors");
    assert!(
        reply
            .text()
            .contains("<s:Value>wsman:InvalidSelectors</s:Value>"),
        "{}",
        reply.text()
    );
    assert_eq!(
        reply.soap_header(uri::ADDRESSING, "Action").as_deref(),
        Some("http://schemas.dmtf.org/wbem/wsman/1/wsman/fault")
    );
    assert!(reply.soap_header(uri::ADDRESSING, "RelatesTo").is_some());
    // The same request with the prefixes that Windows uses.
    let windows = transfer("Get", &format!("{SHOP}Shop_Book"), "", "")
        .replace("wsman:", "w:")
        .replace("xmlns:wsman=", "xmlns:w=");
    assert!(
        ask(&shop, &windows)
            .await
            .text()
            .contains("<s:Value>w:InvalidSelectors</s:Value>")
    );
    // The object manager's error comes with WMI's number for it.
    let reply = ask(
        &shop,
        &transfer(
            "Get",
            &format!("{SHOP}Shop_Book"),
            &selectors(&[("Id", "no")]),
            "",
        ),
    )
    .await;
    let detail = reply.content().child(uri::SOAP, "Detail").unwrap().clone();
    let error = detail.child(uri::WMI_ERROR, "MSFT_WmiError").unwrap();
    assert_eq!(
        error.child_local("error_Code").unwrap().text,
        0x8004_1002_u32.to_string()
    );
}

#[tokio::test]
async fn what_is_missing_or_foreign_is_named() {
    let shop = shop().await;
    let whole = get("");
    let cases = [
        (
            whole.replace("wsa:MessageID", "wsa:Other"),
            "MessageInformationHeaderRequired",
        ),
        (
            whole.replace("wsa:ReplyTo", "wsa:Other"),
            "MessageInformationHeaderRequired",
        ),
        (
            whole.replace("/role/anonymous", "/role/other"),
            "InvalidMessageInformationHeader",
        ),
        (
            whole.replace("wsman:ResourceURI", "wsman:Locale"),
            "MessageInformationHeaderRequired",
        ),
        (
            whole.replace("http://www.w3.org/2003/05/soap-envelope", uri::SOAP_11),
            "VersionMismatch",
        ),
        (
            whole.replace("/transfer/Get", "/transfer/Fetch"),
            "ActionNotSupported",
        ),
        (whole.replace("</s:Envelope>", ""), "SchemaValidationError"),
        ("<a/>".to_owned(), "SchemaValidationError"),
        ("<!DOCTYPE a []><a/>".to_owned(), "SchemaValidationError"),
        (
            get("<wsman:OperationTimeout>soon</wsman:OperationTimeout>"),
            "InvalidMessageInformationHeader",
        ),
        (
            envelope("urn:x/Do", &format!("{SHOP}Shop_Clerk"), "", ""),
            "ActionNotSupported",
        ),
        (
            transfer("Get", &format!("{SHOP}*"), "", ""),
            "DestinationUnreachable",
        ),
    ];
    for (request, subcode) in cases {
        // Some of these bind every prefix as before, so the rest of the message still makes sense.
        let reply = ask(
            &shop,
            &request.replace("wsa:Other s:mustUnderstand=\"true\"", "wsa:Other"),
        )
        .await;
        assert_eq!(reply.fault().0, subcode, "{request}");
    }
    let deep = format!("<a>{}", "<b>".repeat(100_000));
    assert_eq!(
        ask(&shop, &deep).await.fault(),
        (
            "EncodingLimit".to_owned(),
            "ServiceEnvelopeLimit".to_owned(),
            2_150_858_823
        )
    );
}

#[tokio::test]
async fn filters_that_cannot_be_worked_on_say_why() {
    let shop = shop().await;
    let ask_filter = async |dialect: &str, text: &str| {
        let request = enumerate(&format!("{SHOP}*"), &filter(dialect, text));
        ask(&shop, &request).await.fault()
    };
    assert_eq!(
        ask_filter("http://www.w3.org/TR/1999/REC-xpath-19991116", "x")
            .await
            .0,
        "FilterDialectRequestedUnavailable"
    );
    assert_eq!(ask_filter(WQL, "SELECT FROM").await.2, 2_150_858_778);
    assert_eq!(
        ask_filter(WQL, "SELECT * FROM Shop_Car").await.0,
        "CannotProcessFilter"
    );
    assert_eq!(
        ask_filter(WQL, "SELECT * FROM Shop_Book WHERE Wings = 2")
            .await
            .0,
        "CannotProcessFilter"
    );
}

#[tokio::test]
async fn http_itself_is_strict() {
    let shop = shop().await;
    let body = get("");
    let mut raw = Raw::connect(shop.address).await;
    let as_reader = basic("reader");
    let with =
        |content_type: &str| as_reader.replace("application/soap+xml;charset=UTF-8", content_type);
    for (path, headers, status) in [
        ("/wsman/?x=y", as_reader.clone(), 200),
        ("/other", as_reader.clone(), 404),
        ("/wsman", as_reader.replace("cmVhZGVy", "b3RoZXJz"), 401),
        ("/wsman", with("text/plain"), 415),
        (
            "/wsman",
            as_reader.split("Content-Type").next().unwrap().to_owned(),
            200,
        ),
    ] {
        let reply = raw.post(path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, status, "{path} {headers}: {}", reply.text());
    }
    // UTF-16 with a byte order mark.
    let mut wide = vec![0xff, 0xfe];
    wide.extend(
        body.replace("encoding=\"UTF-8\"", "encoding=\"UTF-16\"")
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    let reply = raw
        .post(
            "/wsman",
            &with("application/soap+xml;charset=UTF-16"),
            &wide,
        )
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}
