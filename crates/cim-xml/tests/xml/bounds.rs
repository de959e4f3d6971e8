//! Documents that must be refused, and in which way.

use cim_xml::request::RequestMessage;
use cim_xml::{ErrorKind, Limits, embedded};
use proptest::prelude::*;

fn refusal(document: &[u8]) -> ErrorKind {
    match RequestMessage::decode(document, Limits::REQUEST) {
        Ok(message) => panic!("accepted: {message:?}"),
        Err(error) => error.kind,
    }
}

fn message(body: &str) -> String {
    format!(
        "<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\"><MESSAGE ID=\"1\" PROTOCOLVERSION=\"1.0\">\
         {body}</MESSAGE></CIM>"
    )
}

const CALL: &str = "<SIMPLEREQ><IMETHODCALL NAME=\"X\"><LOCALNAMESPACEPATH><NAMESPACE \
                    NAME=\"root\"/></LOCALNAMESPACEPATH></IMETHODCALL></SIMPLEREQ>";

#[test]
fn what_is_not_xml_is_not_well_formed() {
    for document in [
        "",
        "garbage",
        "<CIM",
        "<CIM>",
        "<CIM></MESSAGE>",
        "<CIM></CIM><CIM/>",
        "<CIM/>text",
        "<CIM a=\"1\" a=\"2\"/>",
        "<CIM a=b/>",
        "<CIM>&undefined;</CIM>",
        "<CIM>&#0;</CIM>",
        "<CIM>&#xd800;</CIM>",
        "<CIM>&#x1b;</CIM>",
        "<CIM a=\"&#x1b;\"/>",
        "<CIM>\u{1}</CIM>",
        "<CIM>\u{fffe}</CIM>",
        "<CIM><!-- a -- b --></CIM>",
        "<CIM>]]></CIM>",
        "<?xml version=\"1.0\" encoding=\"utf-16\"?><CIM/>",
    ] {
        assert_eq!(
            refusal(document.as_bytes()),
            ErrorKind::NotWellFormed,
            "{document:?}"
        );
    }
    assert_eq!(refusal(b"<CIM>\xff</CIM>"), ErrorKind::NotWellFormed);
    // A surrogate encoded as if it were a character.
    assert_eq!(
        refusal(b"<CIM>\xed\xa0\x80</CIM>"),
        ErrorKind::NotWellFormed
    );
}

#[test]
fn what_is_not_cim_xml_is_not_loosely_valid() {
    let twice = message(&CALL.repeat(2));
    let wrong_place = message("<INSTANCE CLASSNAME=\"X\"/>");
    let nameless = message(&CALL.replace("NAME=\"X\"", ""));
    let text = message(&format!("text{CALL}"));
    for document in [
        "<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\"/>",
        "<html/>",
        &twice,
        &wrong_place,
        &nameless,
        &text,
    ] {
        assert_eq!(
            refusal(document.as_bytes()),
            ErrorKind::NotLooselyValid,
            "{document:?}"
        );
    }
}

#[test]
fn entities_are_refused_and_a_plain_doctype_is_passed_over() {
    let bomb = "<!DOCTYPE CIM [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;&a;\">]><CIM>&b;</CIM>";
    assert_eq!(refusal(bomb.as_bytes()), ErrorKind::NotWellFormed);
    let external = "<!DOCTYPE CIM SYSTEM \"file:///etc/passwd\">";
    let document = format!("<?xml version=\"1.0\"?>{external}{}", message(CALL));
    let read = RequestMessage::decode(document.as_bytes(), Limits::REQUEST).unwrap();
    assert_eq!(read.requests[0].name(), "X");
}

#[test]
fn unknown_elements_and_attributes_are_passed_over() {
    let body = CALL.replace(
        "<IMETHODCALL ",
        "<NEW.THING><INSTANCE/></NEW.THING><IMETHODCALL FUTURE=\"1\" ",
    );
    let document = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!-- c -->{}",
        message(&body)
    );
    let read = RequestMessage::decode(document.as_bytes(), Limits::REQUEST).unwrap();
    assert_eq!(read.requests[0].name(), "X");
}

#[test]
fn limits_hold() {
    let limits = Limits {
        bytes: 1000,
        depth: 8,
        attributes: 3,
        elements: 12,
        text: 100,
        embedding: 1,
    };
    let too_large = |document: &str| {
        let error = RequestMessage::decode(document.as_bytes(), limits).unwrap_err();
        assert_eq!(error.kind, ErrorKind::TooLarge, "{document}: {error}");
    };
    assert!(RequestMessage::decode(message(CALL).as_bytes(), limits).is_ok());
    too_large(&" ".repeat(1001));
    too_large(&message(&"<X>".repeat(9)));
    too_large(&message(&"<X/>".repeat(13)));
    too_large(&message("<X a=\"\" b=\"\" c=\"\" d=\"\"/>"));
    too_large(&message(&format!("<X a=\"{}\"/>", "a".repeat(101))));
    let parameter = |text: &str| {
        let value = format!("<IPARAMVALUE NAME=\"P\"><VALUE>{text}</VALUE></IPARAMVALUE></IMETH");
        message(&CALL.replace("</IMETH", &value))
    };
    too_large(&parameter(&"a".repeat(101)));
    assert!(RequestMessage::decode(parameter("a").as_bytes(), limits).is_ok());
    let deep = format!(
        "{}{}",
        "<VALUE.ARRAY>".repeat(100_000),
        "</VALUE.ARRAY>".repeat(100_000)
    );
    assert_eq!(refusal(message(&deep).as_bytes()), ErrorKind::TooLarge);
}

#[test]
fn errors_say_where() {
    let error = RequestMessage::decode(b"<CIM>\n&nope;</CIM>", Limits::REQUEST).unwrap_err();
    assert!((5..=13).contains(&error.position), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = RequestMessage::decode(&bytes, Limits::REQUEST);
        let _ = cim_xml::response::ResponseMessage::decode(&bytes, Limits::REQUEST);
        let _ = embedded::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn almost_messages_never_panic(parts in prop::collection::vec(prop::sample::select(PARTS), 0..60)) {
        let text = parts.concat();
        let _ = RequestMessage::decode(text.as_bytes(), Limits::REQUEST);
        let _ = RequestMessage::decode(message(&text).as_bytes(), Limits::REQUEST);
        let _ = cim_xml::response::ResponseMessage::decode(message(&text).as_bytes(), Limits::REQUEST);
        let _ = embedded::parse(&text);
    }
}

const PARTS: &[&str] = &[
    "<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\">",
    "</CIM>",
    "<SIMPLEREQ>",
    "</SIMPLEREQ>",
    "<SIMPLERSP>",
    "</SIMPLERSP>",
    "<MULTIREQ>",
    "<IMETHODCALL NAME=\"X\">",
    "</IMETHODCALL>",
    "<METHODCALL NAME=\"M\">",
    "</METHODCALL>",
    "<LOCALNAMESPACEPATH>",
    "</LOCALNAMESPACEPATH>",
    "<NAMESPACE NAME=\"root\"/>",
    "<NAMESPACE NAME=\"\"/>",
    "<INSTANCENAME CLASSNAME=\"C\">",
    "</INSTANCENAME>",
    "<KEYBINDING NAME=\"K\">",
    "</KEYBINDING>",
    "<KEYVALUE VALUETYPE=\"numeric\">",
    "</KEYVALUE>",
    "0x",
    "-1",
    "<VALUE>",
    "</VALUE>",
    "<VALUE.ARRAY>",
    "</VALUE.ARRAY>",
    "<VALUE.NULL/>",
    "<VALUE.REFERENCE>",
    "</VALUE.REFERENCE>",
    "<INSTANCE CLASSNAME=\"C\">",
    "</INSTANCE>",
    "<PROPERTY NAME=\"P\" TYPE=\"uint8\">",
    "</PROPERTY>",
    "<PROPERTY.ARRAY NAME=\"P\" TYPE=\"string\" EmbeddedObject=\"instance\">",
    "</PROPERTY.ARRAY>",
    "&lt;INSTANCE CLASSNAME=\"D\"/&gt;",
    "<![CDATA[<INSTANCE CLASSNAME=\"E\"/>]]>",
    "&amp;",
    "&x;",
    "<IPARAMVALUE NAME=\"P\">",
    "</IPARAMVALUE>",
    "<PARAMVALUE NAME=\"P\" PARAMTYPE=\"datetime\">",
    "</PARAMVALUE>",
    "<CLASS NAME=\"C\">",
    "</CLASS>",
    "<QUALIFIER NAME=\"Q\" TYPE=\"boolean\">",
    "</QUALIFIER>",
    "<METHOD NAME=\"M\" TYPE=\"uint32\">",
    "</METHOD>",
    "<UNKNOWN>",
    "</UNKNOWN>",
    "<IRETURNVALUE>",
    "</IRETURNVALUE>",
    "<ERROR CODE=\"6\"/>",
    "<IMETHODRESPONSE NAME=\"X\">",
    "</IMETHODRESPONSE>",
    "<LOCALINSTANCEPATH>",
    "</LOCALINSTANCEPATH>",
    " ",
    "é",
    "\u{10ffff}",
];
