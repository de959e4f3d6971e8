//! Response messages: `MESSAGE` with `SIMPLERSP` or `MULTIRSP`, both ways.

use crate::class::{read_class, read_qualifier_decl, write_class, write_qualifier_decl};
use crate::element::{Attribute, Element};
use crate::instance::{
    SystemProperties, read_instance, read_instance_holder, read_typed, write_instance,
    write_instance_with_path, write_named_instance, write_typed,
};
use crate::path::{is_path, read_path, read_reference_target, write_full_path, write_name};
use crate::reader::{Reader, Tag, misplaced};
use crate::request::{
    Versions, close_message, open_message, write_message_end, write_message_start,
};
use crate::value::{Declared, read_value, write_value};
use crate::writer::Writer;
use crate::{Limits, XmlError};
use cim::{
    CimError, CimStatus, CimType, Class, Instance, Name, ObjectPath, Property, QualifierDecl, Type,
    Value,
};

/// A message from server to client.
#[derive(Clone, Debug, PartialEq)]
pub struct ResponseMessage {
    /// The request's.
    pub id: String,
    /// Whether this is a `MULTIRSP`.
    pub batch: bool,
    /// One for each request, in order.
    pub responses: Vec<Response>,
}

/// The answer to one operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// `IMETHODRESPONSE`.
    Intrinsic {
        /// The operation, spelled as in the request.
        operation: String,
        /// What it came to.
        outcome: Result<IntrinsicResult, CimError>,
    },
    /// `METHODRESPONSE`.
    Extrinsic {
        /// The method, spelled as in the request.
        method: Name,
        /// What it came to.
        outcome: Result<MethodResult, CimError>,
    },
}

/// What an operation of DSP0200 came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntrinsicResult {
    /// `IRETURNVALUE`; operations that return nothing must not have one.
    pub returned: Option<Returned>,
    /// `PARAMVALUE`s: what open and pull operations say beside the objects.
    pub parameters: Vec<Property>,
}

/// What a method came to.
#[derive(Clone, Debug, PartialEq)]
pub struct MethodResult {
    /// The return value.
    pub return_value: Option<(Type, Value)>,
    /// The output parameters.
    pub parameters: Vec<Property>,
}

/// The children of `IRETURNVALUE`, which are all of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Returned {
    /// No children, or nothing is known about their kind.
    Nothing,
    /// `CLASS`.
    Classes {
        /// The classes.
        classes: Vec<Class>,
        /// Whether members name the class that introduced them.
        class_origin: bool,
    },
    /// `CLASSNAME`.
    ClassNames(Vec<Name>),
    /// `INSTANCE`, `VALUE.NAMEDINSTANCE` and so on.
    Instances {
        /// In which element each one stands.
        form: InstanceForm,
        /// The instances, with paths where the form wants them.
        instances: Vec<Instance>,
        /// Whether properties name the class that introduced them.
        class_origin: bool,
    },
    /// `VALUE.OBJECTWITHPATH` with classes.
    ClassesWithPath {
        /// Paths and classes.
        classes: Vec<(ObjectPath, Class)>,
        /// Whether members name the class that introduced them.
        class_origin: bool,
    },
    /// `INSTANCENAME`, `INSTANCEPATH` or `OBJECTPATH`.
    Paths {
        /// In which element each one stands.
        form: PathForm,
        /// The paths.
        paths: Vec<ObjectPath>,
    },
    /// `QUALIFIER.DECLARATION`.
    Qualifiers(Vec<QualifierDecl>),
    /// `VALUE`, `VALUE.ARRAY` or `VALUE.REFERENCE`. Read back as text: its type is not stated.
    Value(Value),
}

/// The elements an instance can stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceForm {
    /// `INSTANCE`: no path.
    Plain,
    /// `VALUE.NAMEDINSTANCE`: a path without namespace.
    Named,
    /// `VALUE.INSTANCEWITHPATH`: a full path.
    WithPath,
    /// `VALUE.OBJECT`: no path.
    Object,
    /// `VALUE.OBJECTWITHPATH`: a full path.
    ObjectWithPath,
}

/// The elements a path can stand in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathForm {
    /// `INSTANCENAME`: no namespace.
    Name,
    /// `INSTANCEPATH`: host and namespace.
    Instance,
    /// `OBJECTPATH`: host and namespace, of an instance or a class.
    Object,
}

impl ResponseMessage {
    /// The message as text.
    pub fn encode(&self) -> String {
        let mut writer = Writer::document();
        write_message_start(&mut writer, &self.id, &Versions::ours());
        if self.batch {
            writer.open(Element::MultiRsp, &[]);
        }
        for response in &self.responses {
            writer.open(Element::SimpleRsp, &[]);
            write_response(&mut writer, response);
            writer.close(Element::SimpleRsp);
        }
        if self.batch {
            writer.close(Element::MultiRsp);
        }
        write_message_end(&mut writer);
        writer.finish()
    }

    /// Reads a message.
    pub fn decode(document: &[u8], limits: Limits) -> Result<Self, XmlError> {
        let mut reader = Reader::new(document, limits)?;
        Self::read(&mut reader).map_err(|error| reader.judge(error))
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, XmlError> {
        let (id, _) = open_message(reader)?;
        let Some(body) = reader.child()? else {
            return Err(reader.invalid("MESSAGE is empty"));
        };
        let (batch, responses) = match body.element {
            Some(Element::SimpleRsp) => (false, vec![read_response(reader, &body)?]),
            Some(Element::MultiRsp) => {
                let mut responses = Vec::new();
                while let Some(tag) = reader.child()? {
                    match tag.element {
                        Some(Element::SimpleRsp) => {
                            responses.push(read_response(reader, &tag)?);
                        }
                        _ => return Err(misplaced(&tag)),
                    }
                }
                (true, responses)
            }
            _ => return Err(misplaced(&body)),
        };
        close_message(reader)?;
        Ok(ResponseMessage {
            id,
            batch,
            responses,
        })
    }
}

fn write_response(writer: &mut Writer, response: &Response) {
    match response {
        Response::Intrinsic { operation, outcome } => {
            writer.open(
                Element::IMethodResponse,
                &[(Attribute::Name, Some(operation))],
            );
            match outcome {
                Err(error) => write_error(writer, error),
                Ok(result) => {
                    if let Some(returned) = &result.returned {
                        writer.open(Element::IReturnValue, &[]);
                        write_returned(writer, returned);
                        writer.close(Element::IReturnValue);
                    }
                    write_parameters(writer, &result.parameters);
                }
            }
            writer.close(Element::IMethodResponse);
        }
        Response::Extrinsic { method, outcome } => {
            writer.open(
                Element::MethodResponse,
                &[(Attribute::Name, Some(method.as_str()))],
            );
            match outcome {
                Err(error) => write_error(writer, error),
                Ok(result) => {
                    if let Some((ty, value)) = &result.return_value {
                        write_typed(writer, Element::ReturnValue, None, *ty, value);
                    }
                    write_parameters(writer, &result.parameters);
                }
            }
            writer.close(Element::MethodResponse);
        }
    }
}

fn write_error(writer: &mut Writer, error: &CimError) {
    let code = (error.status as u16).to_string();
    writer.empty(
        Element::Error,
        &[
            (Attribute::Code, Some(&code)),
            (Attribute::Description, Some(&error.message)),
        ],
    );
}

fn write_parameters(writer: &mut Writer, parameters: &[Property]) {
    for parameter in parameters {
        write_typed(
            writer,
            Element::ParamValue,
            Some(&parameter.name),
            parameter.ty,
            &parameter.value,
        );
    }
}

fn write_returned(writer: &mut Writer, returned: &Returned) {
    match returned {
        Returned::Nothing => {}
        Returned::Classes {
            classes,
            class_origin,
        } => {
            for class in classes {
                write_class(writer, class, *class_origin);
            }
        }
        Returned::ClassNames(names) => {
            for name in names {
                writer.empty(
                    Element::ClassName,
                    &[(Attribute::Name, Some(name.as_str()))],
                );
            }
        }
        Returned::Instances {
            form,
            instances,
            class_origin,
        } => {
            for instance in instances {
                write_formed_instance(writer, *form, instance, *class_origin);
            }
        }
        Returned::ClassesWithPath {
            classes,
            class_origin,
        } => {
            for (path, class) in classes {
                writer.open(Element::ValueObjectWithPath, &[]);
                write_full_path(writer, path);
                write_class(writer, class, *class_origin);
                writer.close(Element::ValueObjectWithPath);
            }
        }
        Returned::Paths { form, paths } => {
            for path in paths {
                match form {
                    PathForm::Name => write_name(writer, path),
                    PathForm::Instance => write_full_path(writer, path),
                    PathForm::Object => {
                        writer.open(Element::ObjectPath, &[]);
                        write_full_path(writer, path);
                        writer.close(Element::ObjectPath);
                    }
                }
            }
        }
        Returned::Qualifiers(declarations) => {
            for declaration in declarations {
                write_qualifier_decl(writer, declaration);
            }
        }
        Returned::Value(value) => write_value(writer, CimType::String, value),
    }
}

fn write_formed_instance(
    writer: &mut Writer,
    form: InstanceForm,
    instance: &Instance,
    class_origin: bool,
) {
    match form {
        InstanceForm::Plain => write_instance(writer, instance, class_origin),
        InstanceForm::Named => write_named_instance(writer, instance, class_origin),
        InstanceForm::WithPath => {
            let holder = Element::ValueInstanceWithPath;
            write_instance_with_path(writer, holder, instance, class_origin);
        }
        InstanceForm::Object => {
            writer.open(Element::ValueObject, &[]);
            write_instance(writer, instance, class_origin);
            writer.close(Element::ValueObject);
        }
        InstanceForm::ObjectWithPath => {
            let holder = Element::ValueObjectWithPath;
            write_instance_with_path(writer, holder, instance, class_origin);
        }
    }
}

fn read_response(reader: &mut Reader<'_>, tag: &Tag) -> Result<Response, XmlError> {
    let Some(child) = reader.child()? else {
        return Err(tag.invalid("SIMPLERSP is empty"));
    };
    let response = match child.element {
        Some(Element::IMethodResponse) => {
            let operation = child.required(Attribute::Name)?.to_owned();
            let outcome = read_intrinsic_outcome(reader)?;
            Response::Intrinsic { operation, outcome }
        }
        Some(Element::MethodResponse) => {
            let method = Name::from(child.required(Attribute::Name)?);
            let outcome = read_method_outcome(reader)?;
            Response::Extrinsic { method, outcome }
        }
        _ => return Err(misplaced(&child)),
    };
    reader.end()?;
    Ok(response)
}

fn read_intrinsic_outcome(
    reader: &mut Reader<'_>,
) -> Result<Result<IntrinsicResult, CimError>, XmlError> {
    let mut result = IntrinsicResult::default();
    let mut first = true;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Error) if first => {
                let error = read_error(reader, &child)?;
                reader.end()?;
                return Ok(Err(error));
            }
            Some(Element::IReturnValue) if result.returned.is_none() => {
                result.returned = Some(read_returned(reader)?);
            }
            Some(Element::ParamValue) => result.parameters.push(read_parameter(reader, &child)?),
            _ => return Err(misplaced(&child)),
        }
        first = false;
    }
    Ok(Ok(result))
}

fn read_method_outcome(
    reader: &mut Reader<'_>,
) -> Result<Result<MethodResult, CimError>, XmlError> {
    let mut result = MethodResult {
        return_value: None,
        parameters: Vec::new(),
    };
    let mut first = true;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Error) if first => {
                let error = read_error(reader, &child)?;
                reader.end()?;
                return Ok(Err(error));
            }
            Some(Element::ReturnValue) if first => {
                result.return_value = Some(read_typed(reader, &child)?);
            }
            Some(Element::ParamValue) => result.parameters.push(read_parameter(reader, &child)?),
            _ => return Err(misplaced(&child)),
        }
        first = false;
    }
    Ok(Ok(result))
}

fn read_parameter(reader: &mut Reader<'_>, tag: &Tag) -> Result<Property, XmlError> {
    let name = Name::from(tag.required(Attribute::Name)?);
    let (ty, value) = read_typed(reader, tag)?;
    Ok(Property {
        name,
        ty,
        value,
        origin: None,
    })
}

fn read_error(reader: &mut Reader<'_>, tag: &Tag) -> Result<CimError, XmlError> {
    let code = tag.required(Attribute::Code)?.trim();
    let description = tag.attribute(Attribute::Description).unwrap_or_default();
    let status = code.parse().ok().and_then(status_of);
    let error = match status {
        Some(status) => CimError::new(status, description),
        None => CimError::new(
            CimStatus::Failed,
            format!("{description} (status code {code})"),
        ),
    };
    reader.skip()?;
    Ok(error)
}

/// The status that DSP0200 numbers `code`.
fn status_of(code: u16) -> Option<CimStatus> {
    const ALL: [CimStatus; 26] = [
        CimStatus::Failed,
        CimStatus::AccessDenied,
        CimStatus::InvalidNamespace,
        CimStatus::InvalidParameter,
        CimStatus::InvalidClass,
        CimStatus::NotFound,
        CimStatus::NotSupported,
        CimStatus::ClassHasChildren,
        CimStatus::ClassHasInstances,
        CimStatus::InvalidSuperclass,
        CimStatus::AlreadyExists,
        CimStatus::NoSuchProperty,
        CimStatus::TypeMismatch,
        CimStatus::QueryLanguageNotSupported,
        CimStatus::InvalidQuery,
        CimStatus::MethodNotAvailable,
        CimStatus::MethodNotFound,
        CimStatus::NamespaceNotEmpty,
        CimStatus::InvalidEnumerationContext,
        CimStatus::InvalidOperationTimeout,
        CimStatus::PullHasBeenAbandoned,
        CimStatus::PullCannotBeAbandoned,
        CimStatus::FilteredEnumerationNotSupported,
        CimStatus::ContinuationOnErrorNotSupported,
        CimStatus::ServerLimitsExceeded,
        CimStatus::ServerIsShuttingDown,
    ];
    ALL.into_iter().find(|status| *status as u16 == code)
}

/// Reads the children of `IRETURNVALUE`. The first decides of which kind all must be.
fn read_returned(reader: &mut Reader<'_>) -> Result<Returned, XmlError> {
    let mut returned = Returned::Nothing;
    while let Some(tag) = reader.child()? {
        returned = match (tag.element, returned) {
            (Some(Element::Class), Returned::Nothing) => Returned::Classes {
                classes: vec![read_class(reader, &tag)?],
                class_origin: true,
            },
            (Some(Element::Class), Returned::Classes { mut classes, .. }) => {
                classes.push(read_class(reader, &tag)?);
                Returned::Classes {
                    classes,
                    class_origin: true,
                }
            }
            (Some(Element::ClassName), Returned::Nothing) => {
                Returned::ClassNames(vec![read_path(reader, &tag)?.class])
            }
            (Some(Element::ClassName), Returned::ClassNames(mut names)) => {
                names.push(read_path(reader, &tag)?.class);
                Returned::ClassNames(names)
            }
            (Some(Element::QualifierDeclaration), Returned::Nothing) => {
                Returned::Qualifiers(vec![read_qualifier_decl(reader, &tag)?])
            }
            (Some(Element::QualifierDeclaration), Returned::Qualifiers(mut declarations)) => {
                declarations.push(read_qualifier_decl(reader, &tag)?);
                Returned::Qualifiers(declarations)
            }
            (
                Some(Element::Value | Element::ValueArray | Element::ValueReference),
                Returned::Nothing,
            ) => {
                let kind = CimType::String;
                Returned::Value(read_value(reader, &tag, Declared { kind })?)
            }
            (_, before) => read_returned_object(reader, &tag, before)?,
        };
    }
    Ok(returned)
}

fn read_returned_object(
    reader: &mut Reader<'_>,
    tag: &Tag,
    before: Returned,
) -> Result<Returned, XmlError> {
    let path_form = match tag.element {
        Some(Element::InstanceName) => Some(PathForm::Name),
        Some(Element::InstancePath) => Some(PathForm::Instance),
        Some(Element::ObjectPath) => Some(PathForm::Object),
        _ => None,
    };
    if let Some(form) = path_form {
        let mut paths = match before {
            Returned::Nothing => Vec::new(),
            Returned::Paths { form: other, paths } if other == form => paths,
            _ => return Err(misplaced(tag)),
        };
        paths.push(match form {
            PathForm::Object => read_reference_target(reader, tag)?,
            PathForm::Name | PathForm::Instance => read_path(reader, tag)?,
        });
        return Ok(Returned::Paths { form, paths });
    }
    let form = match tag.element {
        Some(Element::Instance) => InstanceForm::Plain,
        Some(Element::ValueNamedInstance) => InstanceForm::Named,
        Some(Element::ValueInstanceWithPath) => InstanceForm::WithPath,
        Some(Element::ValueObject) => InstanceForm::Object,
        Some(Element::ValueObjectWithPath) => InstanceForm::ObjectWithPath,
        _ => return Err(misplaced(tag)),
    };
    let found = match form {
        InstanceForm::Plain => Found::Instance(read_instance(reader, tag, SystemProperties::Keep)?),
        InstanceForm::Named | InstanceForm::WithPath => {
            Found::Instance(read_instance_holder(reader, tag)?)
        }
        InstanceForm::Object | InstanceForm::ObjectWithPath => read_object(reader, tag)?,
    };
    match (found, before) {
        (Found::Instance(instance), Returned::Nothing) => Ok(Returned::Instances {
            form,
            instances: vec![instance],
            class_origin: true,
        }),
        (
            Found::Instance(instance),
            Returned::Instances {
                form: other,
                mut instances,
                ..
            },
        ) if other == form => {
            instances.push(instance);
            Ok(Returned::Instances {
                form,
                instances,
                class_origin: true,
            })
        }
        (Found::Class(path, class), Returned::Nothing) => Ok(Returned::ClassesWithPath {
            classes: vec![(path, class)],
            class_origin: true,
        }),
        (Found::Class(path, class), Returned::ClassesWithPath { mut classes, .. }) => {
            classes.push((path, class));
            Ok(Returned::ClassesWithPath {
                classes,
                class_origin: true,
            })
        }
        _ => Err(tag.invalid("IRETURNVALUE holds objects of different kinds")),
    }
}

enum Found {
    Instance(Instance),
    Class(ObjectPath, Class),
}

/// Reads `VALUE.OBJECT` or `VALUE.OBJECTWITHPATH`: an instance or a class, perhaps with its path.
fn read_object(reader: &mut Reader<'_>, tag: &Tag) -> Result<Found, XmlError> {
    let mut path: Option<ObjectPath> = None;
    let mut found = None;
    while let Some(child) = reader.child()? {
        match child.element {
            _ if found.is_some() => return Err(misplaced(&child)),
            _ if is_path(&child) && path.is_none() => path = Some(read_path(reader, &child)?),
            Some(Element::Instance) => {
                let mut instance = read_instance(reader, &child, SystemProperties::Keep)?;
                instance.path = path.take();
                found = Some(Found::Instance(instance));
            }
            Some(Element::Class) => {
                let class = read_class(reader, &child)?;
                let path = path.take().unwrap_or_else(|| ObjectPath {
                    host: None,
                    namespace: None,
                    class: class.name.clone(),
                    keys: cim::Keys::Class,
                });
                found = Some(Found::Class(path, class));
            }
            _ => return Err(misplaced(&child)),
        }
    }
    found.ok_or_else(|| tag.invalid(format!("{} holds no object", tag.name())))
}
