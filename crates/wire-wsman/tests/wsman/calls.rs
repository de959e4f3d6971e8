//! Get, Put, Create, Delete, Invoke, Identify.

use crate::support::{
    DECLARATIONS, Raw, SHOP, SOAP_TYPE, ask, ask_as, envelope, selectors, shop, transfer, value,
};
use wire_wsman::soap::uri;

fn book(id: &str) -> String {
    selectors(&[("Id", id)])
}

#[tokio::test]
async fn get_finds_by_all_keys() {
    let shop = shop().await;
    let class = format!("{SHOP}Shop_Book");
    let reply = ask(&shop, &transfer("Get", &class, &book("B1"), "")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        Some("application/soap+xml;charset=UTF-8")
    );
    assert_eq!(
        reply.soap_header(uri::ADDRESSING, "Action").as_deref(),
        Some("http://schemas.xmlsoap.org/ws/2004/09/transfer/GetResponse")
    );
    assert_eq!(
        reply.soap_header(uri::ADDRESSING, "RelatesTo").as_deref(),
        Some("uuid:c5c5a5c3-1d3e-4711-9f7b-000000000001")
    );
    assert_eq!(value(&reply.content(), "Title"), "The book of b1");
    // The namespace in a selector, too, and values in quotation marks.
    let both = selectors(&[("id", "&quot;b1&quot;"), ("__cimnamespace", "Root/Shop")]);
    assert_eq!(
        ask(&shop, &transfer("Get", &class, &both, "")).await.status,
        200
    );
    let dmtf = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/Shop_Book";
    let reply = ask(
        &shop,
        &transfer(
            "Get",
            dmtf,
            &selectors(&[("Id", "b1"), ("__cimnamespace", "root/shop")]),
            "",
        ),
    )
    .await;
    assert!(reply.content().is(dmtf, "Shop_Book"), "{}", reply.text());
    let cases = [
        (
            book("nothing"),
            (
                "DestinationUnreachable",
                "InvalidResourceURI",
                2_150_858_752,
            ),
        ),
        (
            String::new(),
            ("InvalidSelectors", "InsufficientSelectors", 2_150_858_842),
        ),
        (
            selectors(&[("Id", "b1"), ("Colour", "red")]),
            ("InvalidSelectors", "UnexpectedSelectors", 2_150_858_843),
        ),
        (
            selectors(&[("Id", "b1"), ("ID", "b1")]),
            ("InvalidSelectors", "DuplicateSelectors", 2_150_858_847),
        ),
        (
            selectors(&[("Id", "b1"), ("__cimnamespace", "root/cimv2")]),
            ("InvalidSelectors", "UnexpectedSelectors", 2_150_858_843),
        ),
    ];
    for (headers, (subcode, detail, number)) in cases {
        let reply = ask(&shop, &transfer("Get", &class, &headers, "")).await;
        assert_eq!(
            reply.fault(),
            (subcode.to_owned(), detail.to_owned(), number),
            "{headers}"
        );
    }
    for wrong in [
        "http://schemas.microsoft.com/wbem/wsman/1/wmi/root/nowhere/X",
        &format!("{SHOP}Shop_Car"),
        "urn:x",
    ] {
        let reply = ask(&shop, &transfer("Get", wrong, &book("b1"), "")).await;
        assert_eq!(reply.fault().0, "DestinationUnreachable", "{wrong}");
    }
}

#[tokio::test]
async fn a_link_is_found_by_its_ends() {
    let shop = shop().await;
    let end = |class: &str, id: &str| {
        format!(
            "<wsa:EndpointReference><wsa:Address>x</wsa:Address><wsa:ReferenceParameters>\
             <wsman:ResourceURI>{SHOP}{class}</wsman:ResourceURI>{}</wsa:ReferenceParameters>\
             </wsa:EndpointReference>",
            selectors(&[("Id", id)])
        )
    };
    let ends = selectors(&[
        ("Shelf", &end("Shop_Shelf", "s1")),
        ("Book", &end("Shop_Book", "b1")),
    ]);
    let reply = ask(
        &shop,
        &transfer("Get", &format!("{SHOP}Shop_OnShelf"), &ends, ""),
    )
    .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let link = reply.content();
    let book = link.child_local("Book").unwrap();
    assert!(book.child(uri::ADDRESSING, "ReferenceParameters").is_some());
}

#[tokio::test]
async fn fragments_are_one_property() {
    let shop = shop().await;
    for expression in ["Pages", "p:Pages", "/p:Shop_Book/p:Pages", "Pages/text()"] {
        let headers = format!(
            "{}<wsman:FragmentTransfer s:mustUnderstand=\"true\">{expression}</wsman:FragmentTransfer>",
            book("b1")
        );
        let reply = ask(
            &shop,
            &transfer("Get", &format!("{SHOP}Shop_Book"), &headers, ""),
        )
        .await;
        let content = reply.content();
        assert!(content.is(uri::WSMAN, "XmlFragment"), "{}", reply.text());
        assert_eq!(value(&content, "Pages"), "321");
        assert_eq!(
            reply.soap_header(uri::WSMAN, "FragmentTransfer").as_deref(),
            Some(expression)
        );
    }
}

#[tokio::test]
async fn put_changes_nothing_and_says_so() {
    let shop = shop().await;
    let class = format!("{SHOP}Shop_Book");
    let whole = ask(&shop, &transfer("Get", &class, &book("b1"), ""))
        .await
        .text();
    let start = whole.find("<p:Shop_Book").unwrap();
    let end = whole.find("</s:Body>").unwrap();
    let body = whole[start..end].replace(
        "xmlns:p=",
        "xmlns:cim=\"http://schemas.dmtf.org/wbem/wscim/1/common\" xmlns:p=",
    );
    let reply = ask(&shop, &transfer("Put", &class, &book("b1"), &body)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(value(&reply.content(), "Pages"), "321");
    let changed = body.replace("321", "322");
    let reply = ask(&shop, &transfer("Put", &class, &book("b1"), &changed)).await;
    assert_eq!(reply.fault().0, "ActionNotSupported");
    assert!(reply.text().contains("Pages"));
    let strange = body.replace("p:Pages>", "p:Wings>");
    let reply = ask(&shop, &transfer("Put", &class, &book("b1"), &strange)).await;
    assert_eq!(reply.fault().0, "InvalidRepresentation");
    let reply = ask(&shop, &transfer("Delete", &class, &book("b1"), "")).await;
    assert_eq!(reply.fault().0, "ActionNotSupported");
    let reply = ask(&shop, &transfer("Delete", &class, &book("nothing"), "")).await;
    assert_eq!(reply.fault().0, "DestinationUnreachable");
    let reply = ask(&shop, &transfer("Create", &class, "", &body)).await;
    assert_eq!(reply.fault().0, "ActionNotSupported");
}

fn call(method: &str, headers: &str, parameters: &str) -> String {
    let class = format!("{SHOP}Shop_Clerk");
    let body = format!("<p:{method}_INPUT xmlns:p=\"{class}\">{parameters}</p:{method}_INPUT>");
    envelope(&format!("{class}/{method}"), &class, headers, &body)
}

const SHELF: &str = "<p:Shelf><wsa:Address>x</wsa:Address><wsa:ReferenceParameters><wsman:ResourceURI>\
    http://schemas.microsoft.com/wbem/wsman/1/wmi/root/shop/Shop_Shelf</wsman:ResourceURI>\
    <wsman:SelectorSet><wsman:Selector Name=\"Id\">s1</wsman:Selector></wsman:SelectorSet>\
    </wsa:ReferenceParameters></p:Shelf>";

#[tokio::test]
async fn methods_take_embedded_instances_in_every_spelling() {
    let shop = shop().await;
    let cim_xml = |id: &str| {
        format!(
            "<INSTANCE CLASSNAME=\"Shop_Book\"><PROPERTY NAME=\"Id\" TYPE=\"string\"><VALUE>{id}</VALUE></PROPERTY></INSTANCE>"
        )
    };
    let escaped = cim_xml("b1").replace('<', "&lt;").replace('>', "&gt;");
    let typed = format!(
        "<p:Books xmlns:p1=\"{SHOP}Shop_Book\" xmlns:xsi=\"http://www.w3.org/2001/XMLSchema\" \
         xsi:type=\"p1:Shop_Book_Type\"><p1:Id>b1</p1:Id><p1:InPrint>1</p1:InPrint>\
         <p1:Keywords>a</p1:Keywords><p1:Keywords>b</p1:Keywords></p:Books>"
    );
    let spellings = [
        format!("<p:Books><![CDATA[{}]]></p:Books>", cim_xml("b1")),
        format!("<p:Books>{escaped}</p:Books>"),
        format!("<p:Books>{}</p:Books>", cim_xml("b1")),
        typed,
        "<p:Books>instance of Shop_Book { Id = \"b1\"; };</p:Books>".to_owned(),
    ];
    for spelling in spellings {
        let by = "<p:By><c:Datetime xmlns:c=\"http://schemas.dmtf.org/wbem/wscim/1/common\">2030-01-02T03:04:05Z</c:Datetime></p:By>";
        let parameters = format!(
            "{SHELF}{spelling}{spelling}<p:Copies> 3 </p:Copies>{by}<p:Note>quick</p:Note>"
        );
        let reply = ask(
            &shop,
            &call("Order", &selectors(&[("Name", "Bob")]), &parameters),
        )
        .await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let output = reply.content();
        assert!(output.is(&format!("{SHOP}Shop_Clerk"), "Order_OUTPUT"));
        assert_eq!(value(&output, "ReturnValue"), "4096");
        assert_eq!(
            (value(&output, "Count"), value(&output, "Note")),
            ("6".to_owned(), "QUICK".to_owned())
        );
        let ordered: Vec<_> = output
            .children
            .iter()
            .filter(|it| it.local == "Ordered")
            .collect();
        assert_eq!(ordered.len(), 2, "{spelling}");
        let parameters = ordered[0]
            .child(uri::ADDRESSING, "ReferenceParameters")
            .unwrap();
        let set = parameters.child(uri::WSMAN, "SelectorSet").unwrap();
        assert_eq!(set.children[0].attribute("Name"), Some("Id"));
        assert_eq!(output.children.last().unwrap().local, "ReturnValue");
        let action = reply.soap_header(uri::ADDRESSING, "Action");
        assert_eq!(action, Some(format!("{SHOP}Shop_Clerk/OrderResponse")));
    }
}

#[tokio::test]
async fn methods_find_their_object_by_part_of_its_keys() {
    let shop = shop().await;
    let path = "<p:Shelf>\\\\shop\\root\\shop:Shop_Shelf.Id=\"s1\"</p:Shelf>";
    for headers in [
        selectors(&[("Name", "Bob")]),
        String::new(),
        selectors(&[("Name", "&quot;bob&quot;")]),
    ] {
        let reply = ask(&shop, &call("Order", &headers, path)).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.content().child_local("PlacedOn").is_some());
    }
    let reply = ask(&shop, &call("Motto", "", "")).await;
    assert_eq!(value(&reply.content(), "ReturnValue"), "Read <more>");
    let bob = selectors(&[("Name", "Bob")]);
    let cases = [
        (call("Sing", &bob, ""), "ActionNotSupported"),
        (
            call("Order", &bob, "<p:Wings>2</p:Wings>"),
            "InvalidParameter",
        ),
        (
            call("Order", &bob, "<p:Copies>many</p:Copies>"),
            "InvalidParameter",
        ),
        (
            call("Order", &selectors(&[("Name", "Eve")]), ""),
            "DestinationUnreachable",
        ),
        (call("Break", &bob, ""), "InternalError"),
    ];
    for (request, subcode) in cases {
        assert_eq!(ask(&shop, &request).await.fault().0, subcode, "{request}");
    }
    let reply = ask_as(&shop, "none", &call("Order", &bob, path)).await;
    assert_eq!(reply.fault(), ("AccessDenied".to_owned(), String::new(), 5));
}

#[tokio::test]
async fn identify_needs_no_headers_and_elsewhere_no_account() {
    let shop = shop().await;
    let request = format!(
        "<s:Envelope {DECLARATIONS} xmlns:wsmid=\"http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd\">\
         <s:Header/><s:Body><wsmid:Identify/></s:Body></s:Envelope>"
    );
    let reply = ask(&shop, &request).await;
    assert_eq!(
        value(&reply.content(), "ProtocolVersion"),
        "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
    );
    let mut raw = Raw::connect(shop.address).await;
    let reply = raw
        .post("/wsman-anon/identify", SOAP_TYPE, request.as_bytes())
        .await;
    assert_eq!(value(&reply.content(), "ProductVendor"), "a shop");
    let get = transfer("Get", &format!("{SHOP}Shop_Book"), &book("b1"), "");
    let reply = raw
        .post("/wsman-anon/identify", SOAP_TYPE, get.as_bytes())
        .await;
    assert_eq!(reply.fault().0, "AccessDenied");
    let reply = raw.post("/wsman", SOAP_TYPE, request.as_bytes()).await;
    assert_eq!(reply.status, 401);
    assert!(reply.head.contains("Basic realm=\"WSMAN\"") && reply.head.contains("Negotiate"));
}
