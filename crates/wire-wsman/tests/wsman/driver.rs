//! What libvirt's driver for Hyper-V depends on, with requests as it and openwsman under it send
//! them: envelopes without declarations of what they do not use, a pull with the address of the class,
//! expressions that find things by literal prefixes.

use crate::support::{Raw, SHOP, basic, context, shop, value};
use wire_wsman::soap::uri;

fn request(action: &str, resource: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:wsa=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:wsman=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
         xmlns:wsen=\"http://schemas.xmlsoap.org/ws/2004/09/enumeration\"><s:Header>\
         <wsa:Action s:mustUnderstand=\"true\">{action}</wsa:Action>\
         <wsa:To s:mustUnderstand=\"true\">http://localhost:5985/wsman</wsa:To>\
         <wsman:ResourceURI s:mustUnderstand=\"true\">{resource}</wsman:ResourceURI>\
         <wsa:MessageID s:mustUnderstand=\"true\">uuid:6a4eb5cd-9b1d-1b1d-8002-8e1d5b1a1b2c</wsa:MessageID>\
         <wsa:ReplyTo><wsa:Address>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</wsa:Address></wsa:ReplyTo>\
         </s:Header><s:Body>{body}</s:Body></s:Envelope>\n"
    )
}

#[tokio::test]
async fn it_authenticates_at_the_second_try_on_one_connection() {
    let shop = shop().await;
    let mut raw = Raw::connect(shop.address).await;
    let action = format!("{}/Enumerate", uri::ENUMERATION);
    let filter = "<wsen:Enumerate><wsman:Filter Dialect=\"http://schemas.microsoft.com/wbem/wsman/1/WQL\">\
        SELECT * FROM Shop_Book WHERE Id LIKE '%%b1%%' </wsman:Filter></wsen:Enumerate>";
    let begin = request(&action, &format!("{SHOP}*"), filter);
    let unknown = "User-Agent: Openwsman\r\nContent-Type: application/soap+xml;charset=UTF-8\r\n";
    let reply = raw.post("/wsman", unknown, begin.as_bytes()).await;
    assert_eq!(reply.status, 401);
    assert!(
        reply.head.contains("Basic realm=\"WSMAN\""),
        "{}",
        reply.head
    );
    let reply = raw.post("/wsman", &basic("reader"), begin.as_bytes()).await;
    let text = reply.text();
    // Its expressions have these prefixes, which it takes from the envelope alone.
    for declaration in [
        "xmlns:s=",
        "xmlns:a=",
        "xmlns:w=",
        "xmlns:n=",
        "xmlns:wsen=",
        "xmlns:xsi=",
    ] {
        assert!(
            text[..text.find("<s:Header").unwrap()].contains(declaration),
            "{text}"
        );
    }
    let name = context(&reply.content()).expect("a context");
    let pull =
        format!("<wsen:Pull><wsen:EnumerationContext>{name}</wsen:EnumerationContext></wsen:Pull>");
    let pull = request(
        &format!("{}/Pull", uri::ENUMERATION),
        &format!("{SHOP}Shop_Book"),
        &pull,
    );
    let reply = raw.post("/wsman", &basic("reader"), pull.as_bytes()).await;
    assert!(
        reply
            .text()
            .contains("<n:PullResponse><n:Items><p:Shop_Book xmlns:p=\""),
        "{}",
        reply.text()
    );
    assert!(reply.text().contains("<n:EndOfSequence/>"));
}

#[tokio::test]
async fn it_calls_with_text_of_instances_and_reads_by_prefix() {
    let shop = shop().await;
    let class = format!("{SHOP}Shop_Clerk");
    let body = format!(
        "<p:Order_INPUT xmlns:p=\"{class}\"><p:Shelf>\
         <a:Address xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\">http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address>\
         <a:ReferenceParameters xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\">\
         <w:ResourceURI>{SHOP}Shop_Shelf</w:ResourceURI><w:SelectorSet><w:Selector Name=\"Id\">s1</w:Selector>\
         <w:Selector Name=\"__cimnamespace\">root/shop</w:Selector></w:SelectorSet></a:ReferenceParameters></p:Shelf>\
         <p:Books><![CDATA[<INSTANCE CLASSNAME=\"Shop_Book\"><PROPERTY NAME=\"Id\" TYPE=\"string\"><VALUE>b1</VALUE></PROPERTY>\
         <PROPERTY.ARRAY NAME=\"Keywords\" TYPE=\"string\"><VALUE.ARRAY><VALUE>k</VALUE></VALUE.ARRAY></PROPERTY.ARRAY></INSTANCE>]]></p:Books>\
         </p:Order_INPUT>"
    );
    let mut raw = Raw::connect(shop.address).await;
    let call = request(&format!("{class}/Order"), &class, &body);
    let reply = raw.post("/wsman", &basic("reader"), call.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = reply.text();
    assert!(
        text.contains(&format!("<s:Body><p:Order_OUTPUT xmlns:p=\"{class}\">")),
        "{text}"
    );
    assert!(text.contains("<p:ReturnValue>4096</p:ReturnValue></p:Order_OUTPUT>"));
    // The first selector of the answer is that of the first reference.
    let first = text.find("<w:Selector Name=\"Id\">").expect("a selector");
    assert!(
        text[first..].starts_with("<w:Selector Name=\"Id\">b1<"),
        "{text}"
    );
    assert_eq!(value(&reply.content(), "ReturnValue"), "4096");
}
