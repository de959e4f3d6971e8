//! Request messages: `MESSAGE` with `SIMPLEREQ` or `MULTIREQ`, both ways.

use crate::class::{read_class, read_qualifier_decl, write_class, write_qualifier_decl};
use crate::element::{Attribute, Element};
use crate::instance::{
    SystemProperties, read_instance, read_instance_holder, read_typed, write_instance,
    write_named_instance, write_typed,
};
use crate::path::{
    is_path, read_local_namespace, read_path, read_reference_target, write_local_namespace,
    write_name, write_reference_target,
};
use crate::reader::{Reader, Tag, misplaced};
use crate::writer::Writer;
use crate::{Limits, XmlError};
use cim::{Class, Instance, Keys, Name, Namespace, ObjectPath, QualifierDecl, Type, Value};

/// A message from client to server.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestMessage {
    /// What the answer repeats.
    pub id: String,
    /// Which versions the client speaks.
    pub versions: Versions,
    /// Whether this is a `MULTIREQ`; otherwise there is exactly one request.
    pub batch: bool,
    /// The operations, in order.
    pub requests: Vec<Request>,
}

/// The versions a message states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    /// `CIMVERSION`.
    pub cim: String,
    /// `DTDVERSION`.
    pub dtd: String,
    /// `PROTOCOLVERSION`.
    pub protocol: String,
}

impl Versions {
    /// What this implementation writes: every client takes these.
    pub fn ours() -> Self {
        Versions {
            cim: "2.0".to_owned(),
            dtd: "2.0".to_owned(),
            protocol: "1.0".to_owned(),
        }
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// `IMETHODCALL`: an operation of DSP0200.
    Intrinsic(IntrinsicCall),
    /// `METHODCALL`: a method of a class.
    Extrinsic(MethodCall),
}

/// An operation of DSP0200 such as `GetInstance`.
#[derive(Clone, Debug, PartialEq)]
pub struct IntrinsicCall {
    /// Its name, as the client spelled it.
    pub operation: String,
    /// Where.
    pub namespace: Namespace,
    /// Parameters in the order they came, duplicates included.
    pub parameters: Vec<(Name, ParameterValue)>,
}

/// The value of an operation's parameter.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    /// No value: the default.
    Null,
    /// `VALUE`: text whose type the operation knows.
    Text(String),
    /// `VALUE.ARRAY`; NULL items are left out.
    Texts(Vec<String>),
    /// `INSTANCENAME`, `CLASSNAME` (then the keys are [`Keys::Class`]) or `VALUE.REFERENCE`.
    Path(ObjectPath),
    /// `INSTANCE` or `VALUE.NAMEDINSTANCE`.
    Instance(Box<Instance>),
    /// `CLASS`.
    Class(Box<Class>),
    /// `QUALIFIER.DECLARATION`.
    Qualifier(Box<QualifierDecl>),
}

/// A method call.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodCall {
    /// The method's name, as the client spelled it.
    pub method: Name,
    /// The instance, or the class of a static method, with its namespace.
    pub target: ObjectPath,
    /// Arguments in the order they came, of the type the client stated; strings where it stated
    /// none.
    pub arguments: Vec<Argument>,
}

/// An argument of a method call.
#[derive(Clone, Debug, PartialEq)]
pub struct Argument {
    /// The parameter's name.
    pub name: Name,
    /// The type that goes with it on the wire.
    pub ty: Type,
    /// Its value.
    pub value: Value,
}

impl Request {
    /// The operation's or method's name.
    pub fn name(&self) -> &str {
        match self {
            Request::Intrinsic(call) => &call.operation,
            Request::Extrinsic(call) => call.method.as_str(),
        }
    }

    /// The namespace it works in.
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Request::Intrinsic(call) => Some(&call.namespace),
            Request::Extrinsic(call) => call.target.namespace.as_ref(),
        }
    }
}

impl RequestMessage {
    /// A message with one request.
    pub fn single(id: impl Into<String>, request: Request) -> Self {
        RequestMessage {
            id: id.into(),
            versions: Versions::ours(),
            batch: false,
            requests: vec![request],
        }
    }

    /// Reads a message.
    pub fn decode(document: &[u8], limits: Limits) -> Result<Self, XmlError> {
        let mut reader = Reader::new(document, limits)?;
        Self::read(&mut reader).map_err(|error| reader.judge(error))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, XmlError> {
        let (id, versions) = open_message(reader)?;
        let Some(body) = reader.child()? else {
            return Err(reader.invalid("MESSAGE is empty"));
        };
        let (batch, requests) = match body.element {
            Some(Element::SimpleReq) => (false, vec![read_simple(reader, &body)?]),
            Some(Element::MultiReq) => {
                let mut requests = Vec::new();
                while let Some(tag) = reader.child()? {
                    match tag.element {
                        Some(Element::SimpleReq) => requests.push(read_simple(reader, &tag)?),
                        _ => return Err(misplaced(&tag)),
                    }
                }
                if requests.len() < 2 {
                    return Err(body.invalid("MULTIREQ needs two requests or more"));
                }
                (true, requests)
            }
            _ => return Err(misplaced(&body)),
        };
        close_message(reader)?;
        Ok(RequestMessage {
            id,
            versions,
            batch,
            requests,
        })
    }

    /// The message as text.
    pub fn encode(&self) -> String {
        let mut writer = Writer::document();
        write_message_start(&mut writer, &self.id, &self.versions);
        if self.batch {
            writer.open(Element::MultiReq, &[]);
        }
        for request in &self.requests {
            writer.open(Element::SimpleReq, &[]);
            match request {
                Request::Intrinsic(call) => write_intrinsic(&mut writer, call),
                Request::Extrinsic(call) => write_method_call(&mut writer, call),
            }
            writer.close(Element::SimpleReq);
        }
        if self.batch {
            writer.close(Element::MultiReq);
        }
        write_message_end(&mut writer);
        writer.finish()
    }
}

/// Reads `CIM` and `MESSAGE` up to the first child of `MESSAGE`.
pub(crate) fn open_message(reader: &mut Reader<'_>) -> Result<(String, Versions), XmlError> {
    let root = reader.root()?;
    if root.element != Some(Element::Cim) {
        return Err(root.invalid("the root element must be CIM"));
    }
    let Some(message) = reader.child()? else {
        return Err(root.invalid("CIM is empty"));
    };
    if message.element != Some(Element::Message) {
        return Err(misplaced(&message));
    }
    let versions = Versions {
        cim: root.required(Attribute::CimVersion)?.to_owned(),
        dtd: root.required(Attribute::DtdVersion)?.to_owned(),
        protocol: message.required(Attribute::ProtocolVersion)?.to_owned(),
    };
    Ok((message.required(Attribute::Id)?.to_owned(), versions))
}

/// Reads the ends of `MESSAGE` and `CIM`: there is one request or response, and one message.
pub(crate) fn close_message(reader: &mut Reader<'_>) -> Result<(), XmlError> {
    reader.end()?;
    reader.end()?;
    reader.finish()
}

pub(crate) fn write_message_start(writer: &mut Writer, id: &str, versions: &Versions) {
    writer.open(
        Element::Cim,
        &[
            (Attribute::CimVersion, Some(&versions.cim)),
            (Attribute::DtdVersion, Some(&versions.dtd)),
        ],
    );
    writer.open(
        Element::Message,
        &[
            (Attribute::Id, Some(id)),
            (Attribute::ProtocolVersion, Some(&versions.protocol)),
        ],
    );
}

pub(crate) fn write_message_end(writer: &mut Writer) {
    writer.close(Element::Message);
    writer.close(Element::Cim);
}

fn read_simple(reader: &mut Reader<'_>, tag: &Tag) -> Result<Request, XmlError> {
    let mut request = None;
    while let Some(child) = reader.child()? {
        if request.is_some() {
            return Err(misplaced(&child));
        }
        match child.element {
            Some(Element::Correlator) => reader.skip()?,
            Some(Element::IMethodCall) => {
                request = Some(Request::Intrinsic(read_intrinsic(reader, &child)?));
            }
            Some(Element::MethodCall) => {
                request = Some(Request::Extrinsic(read_method_call(reader, &child)?));
            }
            _ => return Err(misplaced(&child)),
        }
    }
    request.ok_or_else(|| tag.invalid("SIMPLEREQ is empty"))
}

fn read_intrinsic(reader: &mut Reader<'_>, tag: &Tag) -> Result<IntrinsicCall, XmlError> {
    let operation = tag.required(Attribute::Name)?.to_owned();
    let mut namespace = None;
    let mut parameters = Vec::new();
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::LocalNamespacePath) if namespace.is_none() => {
                namespace = Some(read_local_namespace(reader, &child)?);
            }
            Some(Element::IParamValue) => {
                let name = Name::from(child.required(Attribute::Name)?);
                parameters.push((name, read_parameter_value(reader)?));
            }
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(IntrinsicCall {
        operation,
        namespace: namespace.ok_or_else(|| tag.invalid("IMETHODCALL needs LOCALNAMESPACEPATH"))?,
        parameters,
    })
}

fn read_parameter_value(reader: &mut Reader<'_>) -> Result<ParameterValue, XmlError> {
    let mut value = None;
    while let Some(child) = reader.child()? {
        if value.is_some() {
            return Err(misplaced(&child));
        }
        value = Some(match child.element {
            Some(Element::Value) => ParameterValue::Text(reader.text()?),
            Some(Element::ValueArray) => {
                let mut items = Vec::new();
                while let Some(item) = reader.child()? {
                    match item.element {
                        Some(Element::Value) => items.push(reader.text()?),
                        Some(Element::ValueNull) => reader.end()?,
                        _ => return Err(misplaced(&item)),
                    }
                }
                ParameterValue::Texts(items)
            }
            Some(Element::ValueReference) => {
                ParameterValue::Path(read_reference_target(reader, &child)?)
            }
            _ if is_path(&child) => ParameterValue::Path(read_path(reader, &child)?),
            Some(Element::Instance) => {
                let instance = read_instance(reader, &child, SystemProperties::Drop)?;
                ParameterValue::Instance(Box::new(instance))
            }
            Some(Element::ValueNamedInstance) => {
                ParameterValue::Instance(Box::new(read_instance_holder(reader, &child)?))
            }
            Some(Element::Class) => ParameterValue::Class(Box::new(read_class(reader, &child)?)),
            Some(Element::QualifierDeclaration) => {
                ParameterValue::Qualifier(Box::new(read_qualifier_decl(reader, &child)?))
            }
            _ => return Err(misplaced(&child)),
        });
    }
    Ok(value.unwrap_or(ParameterValue::Null))
}

fn read_method_call(reader: &mut Reader<'_>, tag: &Tag) -> Result<MethodCall, XmlError> {
    let method = Name::from(tag.required(Attribute::Name)?);
    let mut target = None;
    let mut arguments = Vec::new();
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::LocalInstancePath | Element::LocalClassPath) if target.is_none() => {
                target = Some(read_path(reader, &child)?);
            }
            Some(Element::ParamValue) => {
                let name = Name::from(child.required(Attribute::Name)?);
                let (ty, value) = read_typed(reader, &child)?;
                arguments.push(Argument { name, ty, value });
            }
            _ => return Err(misplaced(&child)),
        }
    }
    let message = "METHODCALL needs LOCALINSTANCEPATH or LOCALCLASSPATH";
    Ok(MethodCall {
        method,
        target: target.ok_or_else(|| tag.invalid(message))?,
        arguments,
    })
}

fn write_intrinsic(writer: &mut Writer, call: &IntrinsicCall) {
    writer.open(
        Element::IMethodCall,
        &[(Attribute::Name, Some(&call.operation))],
    );
    write_local_namespace(writer, &call.namespace);
    for (name, value) in &call.parameters {
        writer.open(
            Element::IParamValue,
            &[(Attribute::Name, Some(name.as_str()))],
        );
        match value {
            ParameterValue::Null => {}
            ParameterValue::Text(text) => writer.leaf(Element::Value, text),
            ParameterValue::Texts(items) => {
                writer.open(Element::ValueArray, &[]);
                for item in items {
                    writer.leaf(Element::Value, item);
                }
                writer.close(Element::ValueArray);
            }
            ParameterValue::Path(path) => write_name(writer, path),
            ParameterValue::Instance(instance) if instance.path.is_some() => {
                write_named_instance(writer, instance, false);
            }
            ParameterValue::Instance(instance) => write_instance(writer, instance, false),
            ParameterValue::Class(class) => write_class(writer, class, false),
            ParameterValue::Qualifier(decl) => write_qualifier_decl(writer, decl),
        }
        writer.close(Element::IParamValue);
    }
    writer.close(Element::IMethodCall);
}

fn write_method_call(writer: &mut Writer, call: &MethodCall) {
    writer.open(
        Element::MethodCall,
        &[(Attribute::Name, Some(call.method.as_str()))],
    );
    match &call.target.namespace {
        Some(_) => write_reference_target(writer, &call.target),
        None => {
            // The DTD wants a namespace here; the server says which one is missing.
            let element = match call.target.keys {
                Keys::Class => Element::LocalClassPath,
                _ => Element::LocalInstancePath,
            };
            writer.open(element, &[]);
            write_local_namespace(writer, &Namespace::new(""));
            write_name(writer, &call.target);
            writer.close(element);
        }
    }
    for argument in &call.arguments {
        write_typed(
            writer,
            Element::ParamValue,
            Some(&argument.name),
            argument.ty,
            &argument.value,
        );
    }
    writer.close(Element::MethodCall);
}
