//! Messages as real clients write them, and as they must be written for them.

use cim::{CimError, CimStatus, CimType, KeyValue, Keys, Name, Namespace, Property, Type, Value};
use cim_xml::Limits;
use cim_xml::request::{ParameterValue, Request, RequestMessage};
use cim_xml::response::{
    InstanceForm, IntrinsicResult, MethodResult, Response, ResponseMessage, Returned,
};

fn read(body: &str) -> RequestMessage {
    let document = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\">\n\
         <MESSAGE ID=\"4711\" PROTOCOLVERSION=\"1.0\"><SIMPLEREQ>{body}</SIMPLEREQ>\n</MESSAGE></CIM>"
    );
    RequestMessage::decode(document.as_bytes(), Limits::REQUEST).expect("a good message")
}

/// Keys without a type, references with a host, arguments without a type.
#[test]
fn a_method_call_of_wbemcli_is_read() {
    let message = read(
        r#"<METHODCALL NAME="Order"><LOCALINSTANCEPATH><LOCALNAMESPACEPATH><NAMESPACE NAME="root"/><NAMESPACE NAME="shop"/></LOCALNAMESPACEPATH><INSTANCENAME CLASSNAME="Shop_Clerk"><KEYBINDING NAME="Name"><KEYVALUE VALUETYPE="string">Bob</KEYVALUE></KEYBINDING></INSTANCENAME></LOCALINSTANCEPATH><PARAMVALUE NAME="Shelf"><VALUE.REFERENCE><INSTANCEPATH><NAMESPACEPATH><HOST>127.0.0.1</HOST><LOCALNAMESPACEPATH><NAMESPACE NAME="root"></NAMESPACE><NAMESPACE NAME="shop"></NAMESPACE></LOCALNAMESPACEPATH></NAMESPACEPATH><INSTANCENAME CLASSNAME="Shop_Shelf"><KEYBINDING NAME="Id"><KEYVALUE VALUETYPE="numeric">0x10</KEYVALUE></KEYBINDING></INSTANCENAME></INSTANCEPATH></VALUE.REFERENCE></PARAMVALUE><PARAMVALUE NAME="Copies"><VALUE>2</VALUE></PARAMVALUE></METHODCALL>"#,
    );
    assert_eq!(message.id, "4711");
    let Request::Extrinsic(call) = &message.requests[0] else {
        panic!("not a method call");
    };
    assert_eq!(call.method, "Order");
    assert_eq!(call.target.key_str("name"), Some("Bob"));
    assert_eq!(call.target.namespace, Some(Namespace::new("root/shop")));
    let shelf = call.arguments[0].value.as_reference().unwrap();
    assert_eq!(shelf.host.as_deref(), Some("127.0.0.1"));
    assert_eq!(shelf.key("Id"), Some(&KeyValue::Unsigned(16)));
    assert_eq!(call.arguments[1].value, Value::String("2".into()));
}

#[test]
fn a_method_call_of_pywbem_is_read() {
    let message = read(
        r#"<METHODCALL NAME="M"><LOCALCLASSPATH><LOCALNAMESPACEPATH><NAMESPACE NAME="root"/></LOCALNAMESPACEPATH><CLASSNAME NAME="C"/></LOCALCLASSPATH><PARAMVALUE NAME="Null"/><PARAMVALUE NAME="N" PARAMTYPE="uint16"><VALUE>3</VALUE></PARAMVALUE><PARAMVALUE NAME="E" PARAMTYPE="string" EmbeddedObject="instance"><VALUE>&lt;INSTANCE CLASSNAME="X"&gt;&lt;PROPERTY NAME="P" TYPE="sint8"&gt;&lt;VALUE&gt;-1&lt;/VALUE&gt;&lt;/PROPERTY&gt;&lt;/INSTANCE&gt;</VALUE></PARAMVALUE><PARAMVALUE NAME="A" PARAMTYPE="string" EmbeddedObject="instance"><VALUE.ARRAY><VALUE>instance of X {};</VALUE></VALUE.ARRAY></PARAMVALUE><PARAMVALUE NAME="T" PARAMTYPE="datetime"><VALUE>tomorrow</VALUE></PARAMVALUE></METHODCALL>"#,
    );
    let Request::Extrinsic(call) = &message.requests[0] else {
        panic!("not a method call");
    };
    assert!(call.target.is_class());
    let values: Vec<&Value> = call.arguments.iter().map(|a| &a.value).collect();
    assert_eq!(values[0], &Value::Null);
    assert_eq!(values[1], &Value::Uint16(3));
    let embedded = values[2].as_instance().unwrap();
    assert_eq!(embedded.get("P"), Some(&Value::Sint8(-1)));
    // What is not what it says stays text, for the broker to read or refuse.
    assert_eq!(values[3], &Value::Array(vec!["instance of X {};".into()]));
    assert_eq!(values[4], &Value::from("tomorrow"));
}

#[test]
fn operation_parameters_keep_their_form() {
    let message = read(
        r#"<IMETHODCALL NAME="Op"><LOCALNAMESPACEPATH><NAMESPACE NAME="/interop/"/></LOCALNAMESPACEPATH><IPARAMVALUE NAME="Class"><CLASSNAME NAME="C"/></IPARAMVALUE><IPARAMVALUE NAME="Null"/><IPARAMVALUE NAME="Text"><VALUE> a </VALUE></IPARAMVALUE><IPARAMVALUE NAME="None"><VALUE.ARRAY/></IPARAMVALUE><IPARAMVALUE NAME="Two"><VALUE.ARRAY><VALUE>a</VALUE><VALUE.NULL/><VALUE>b</VALUE></VALUE.ARRAY></IPARAMVALUE><IPARAMVALUE NAME="One"><INSTANCENAME CLASSNAME="C"><KEYVALUE VALUETYPE="boolean">TRUE</KEYVALUE></INSTANCENAME></IPARAMVALUE><IPARAMVALUE NAME="Only"><INSTANCENAME CLASSNAME="C"/></IPARAMVALUE></IMETHODCALL>"#,
    );
    let Request::Intrinsic(call) = &message.requests[0] else {
        panic!("not an operation");
    };
    assert_eq!(call.namespace, Namespace::new("interop"));
    let values: Vec<&ParameterValue> = call.parameters.iter().map(|(_, value)| value).collect();
    assert!(matches!(values[0], ParameterValue::Path(path) if path.is_class()));
    assert_eq!(values[1], &ParameterValue::Null);
    assert_eq!(values[2], &ParameterValue::Text(" a ".into()));
    assert_eq!(values[3], &ParameterValue::Texts(vec![]));
    assert_eq!(
        values[4],
        &ParameterValue::Texts(vec!["a".into(), "b".into()])
    );
    let unnamed = Keys::Unnamed(KeyValue::Boolean(true));
    assert!(matches!(values[5], ParameterValue::Path(path) if path.keys == unnamed));
    assert!(matches!(values[6], ParameterValue::Path(path) if path.keys == Keys::Singleton));
}

fn parameter(name: &str, ty: Type, value: Value) -> Property {
    Property {
        name: Name::from(name),
        ty,
        value,
        origin: None,
    }
}

fn written(response: Response) -> String {
    let message = ResponseMessage {
        id: "1001".into(),
        batch: false,
        responses: vec![response],
    };
    let text = message.encode();
    assert!(
        ResponseMessage::decode(text.as_bytes(), Limits::RESPONSE).is_ok(),
        "{text}"
    );
    let start = text.find("<SIMPLERSP>").expect("an answer") + "<SIMPLERSP>".len();
    text[start..text.find("</SIMPLERSP>").expect("its end")].to_owned()
}

fn intrinsic(outcome: Result<IntrinsicResult, CimError>) -> String {
    written(Response::Intrinsic {
        operation: "Op".into(),
        outcome,
    })
}

#[test]
fn answers_hold_nothing_that_clients_refuse() {
    assert_eq!(
        intrinsic(Ok(IntrinsicResult::default())),
        "<IMETHODRESPONSE NAME=\"Op\"></IMETHODRESPONSE>"
    );
    let error = CimError::new(CimStatus::NotFound, "No <such> \"thing\"\u{0}.");
    assert_eq!(
        intrinsic(Err(error)),
        "<IMETHODRESPONSE NAME=\"Op\"><ERROR CODE=\"6\" DESCRIPTION=\"No &lt;such&gt; \
         &quot;thing&quot;\u{fffd}.\"/></IMETHODRESPONSE>"
    );
    let empty = Returned::Instances {
        form: InstanceForm::Named,
        instances: vec![],
        class_origin: false,
    };
    let result = IntrinsicResult {
        returned: Some(empty),
        parameters: vec![],
    };
    assert_eq!(
        intrinsic(Ok(result)),
        "<IMETHODRESPONSE NAME=\"Op\"><IRETURNVALUE></IRETURNVALUE></IMETHODRESPONSE>"
    );
}

#[test]
fn method_answers_say_types_and_embedded_objects() {
    let inner = cim_xml::embedded::parse_instance("<INSTANCE CLASSNAME=\"X\"/>").unwrap();
    let string = Type::scalar(CimType::String);
    let object = Type::scalar(CimType::Object);
    let text = written(Response::Extrinsic {
        method: Name::from("M"),
        outcome: Ok(MethodResult {
            return_value: Some((Type::scalar(CimType::Uint32), Value::Uint32(4096))),
            parameters: vec![
                parameter("A", string, Value::from(inner.clone())),
                parameter("B", object, "<INSTANCE CLASSNAME=\"Y\"/>".into()),
                parameter("C", object, "no xml".into()),
                parameter("D", Type::array(CimType::Reference), Value::Array(vec![])),
                parameter("E", Type::array(CimType::String), vec!["", "x"].into()),
            ],
        }),
    });
    assert_eq!(
        text,
        "<METHODRESPONSE NAME=\"M\"><RETURNVALUE PARAMTYPE=\"uint32\"><VALUE>4096</VALUE></RETURNVALUE>\
         <PARAMVALUE NAME=\"A\" PARAMTYPE=\"string\" EmbeddedObject=\"instance\"><VALUE>&lt;INSTANCE \
         CLASSNAME=\"X\"&gt;&lt;/INSTANCE&gt;</VALUE></PARAMVALUE><PARAMVALUE NAME=\"B\" \
         PARAMTYPE=\"string\" EmbeddedObject=\"instance\"><VALUE>&lt;INSTANCE CLASSNAME=\"Y\"/&gt;\
         </VALUE></PARAMVALUE><PARAMVALUE NAME=\"C\" PARAMTYPE=\"string\"><VALUE>no xml</VALUE>\
         </PARAMVALUE><PARAMVALUE NAME=\"D\" PARAMTYPE=\"reference\"><VALUE.REFARRAY></VALUE.REFARRAY>\
         </PARAMVALUE><PARAMVALUE NAME=\"E\" PARAMTYPE=\"string\"><VALUE.ARRAY><VALUE></VALUE>\
         <VALUE>x</VALUE></VALUE.ARRAY></PARAMVALUE></METHODRESPONSE>"
    );
}

#[test]
fn an_unknown_status_code_is_told_in_words() {
    let text = "<CIM CIMVERSION=\"2.0\" DTDVERSION=\"2.0\"><MESSAGE ID=\"1\" PROTOCOLVERSION=\"1.0\">\
                <SIMPLERSP><IMETHODRESPONSE NAME=\"Op\"><ERROR CODE=\"77\" DESCRIPTION=\"Odd.\">\
                <INSTANCE CLASSNAME=\"CIM_Error\"/></ERROR></IMETHODRESPONSE></SIMPLERSP></MESSAGE></CIM>";
    let message = ResponseMessage::decode(text.as_bytes(), Limits::RESPONSE).unwrap();
    let Response::Intrinsic {
        outcome: Err(error),
        ..
    } = &message.responses[0]
    else {
        panic!("not an error: {message:?}");
    };
    assert_eq!(error.status, CimStatus::Failed);
    assert!(error.message.contains("77"), "{error}");
}
