//! `CLASS`, `METHOD`, `PARAMETER...`, `QUALIFIER` and `QUALIFIER.DECLARATION`.

use crate::XmlError;
use crate::element::{Attribute, Element};
use crate::reader::{Reader, Tag, misplaced};
use crate::value::{Declared, read_value, type_name, write_value};
use crate::writer::Writer;
use cim::{
    CimType, Class, MethodDecl, Name, ParameterDecl, PropertyDecl, Qualifier, QualifierDecl, Type,
    Value,
};

/// Where a qualifier may stand, by the names that MOF and `SCOPE` both use.
const SCOPES: [(Attribute, &str); 7] = [
    (Attribute::Class, "class"),
    (Attribute::Association, "association"),
    (Attribute::Reference, "reference"),
    (Attribute::Property, "property"),
    (Attribute::Method, "method"),
    (Attribute::Parameter, "parameter"),
    (Attribute::Indication, "indication"),
];

/// Reads `CLASS`, whose start is `tag`.
pub(crate) fn read_class(reader: &mut Reader<'_>, tag: &Tag) -> Result<Class, XmlError> {
    let name = Name::from(tag.required(Attribute::Name)?);
    let mut class = Class {
        superclass: tag.attribute(Attribute::SuperClass).map(Name::from),
        qualifiers: Vec::new(),
        properties: Vec::new(),
        methods: Vec::new(),
        name,
    };
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Qualifier) => class.qualifiers.push(read_qualifier(reader, &child)?),
            Some(Element::Property | Element::PropertyArray | Element::PropertyReference) => {
                let property = read_property_decl(reader, &child, &class.name)?;
                class.properties.push(property);
            }
            Some(Element::Method) => {
                let method = read_method(reader, &child, &class.name)?;
                class.methods.push(method);
            }
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(class)
}

fn read_property_decl(
    reader: &mut Reader<'_>,
    tag: &Tag,
    class: &Name,
) -> Result<PropertyDecl, XmlError> {
    let mut default = Value::Null;
    let mut qualifiers = Vec::new();
    let reference = tag.element == Some(Element::PropertyReference);
    let declared = if reference {
        Declared {
            kind: CimType::Reference,
        }
    } else {
        tag.required(Attribute::Type)?;
        Declared::of(tag, Attribute::Type)?
    };
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Qualifier) => qualifiers.push(read_qualifier(reader, &child)?),
            _ if default.is_null() => default = read_value(reader, &child, declared)?,
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(PropertyDecl {
        name: Name::from(tag.required(Attribute::Name)?),
        ty: Type {
            kind: declared.kind,
            array: tag.element == Some(Element::PropertyArray),
        },
        class_ref: referenced_class(tag, &qualifiers),
        array_size: array_size(tag)?,
        default,
        qualifiers,
        origin: origin(tag, class),
        propagated: tag.flag(Attribute::Propagated, false)?,
    })
}

fn read_method(reader: &mut Reader<'_>, tag: &Tag, class: &Name) -> Result<MethodDecl, XmlError> {
    let mut parameters = Vec::new();
    let mut qualifiers = Vec::new();
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Qualifier) => qualifiers.push(read_qualifier(reader, &child)?),
            Some(
                Element::Parameter
                | Element::ParameterReference
                | Element::ParameterArray
                | Element::ParameterRefArray,
            ) => parameters.push(read_parameter(reader, &child)?),
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(MethodDecl {
        name: Name::from(tag.required(Attribute::Name)?),
        // The DTD lets TYPE away for a method without a return value, which CIM does not have.
        return_type: Type::scalar(Declared::of(tag, Attribute::Type)?.kind),
        parameters,
        qualifiers,
        origin: origin(tag, class),
        propagated: tag.flag(Attribute::Propagated, false)?,
    })
}

fn read_parameter(reader: &mut Reader<'_>, tag: &Tag) -> Result<ParameterDecl, XmlError> {
    let mut qualifiers = Vec::new();
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Qualifier) => qualifiers.push(read_qualifier(reader, &child)?),
            _ => return Err(misplaced(&child)),
        }
    }
    let kind = match tag.element {
        Some(Element::ParameterReference | Element::ParameterRefArray) => CimType::Reference,
        _ => {
            tag.required(Attribute::Type)?;
            Declared::of(tag, Attribute::Type)?.kind
        }
    };
    Ok(ParameterDecl {
        name: Name::from(tag.required(Attribute::Name)?),
        ty: Type {
            kind,
            array: matches!(
                tag.element,
                Some(Element::ParameterArray | Element::ParameterRefArray)
            ),
        },
        class_ref: referenced_class(tag, &qualifiers),
        array_size: array_size(tag)?,
        qualifiers,
    })
}

fn origin(tag: &Tag, class: &Name) -> Name {
    match tag.attribute(Attribute::ClassOrigin) {
        Some(origin) => Name::from(origin),
        None => class.clone(),
    }
}

fn referenced_class(tag: &Tag, qualifiers: &[Qualifier]) -> Option<Name> {
    if let Some(class) = tag.attribute(Attribute::ReferenceClass) {
        return Some(Name::from(class));
    }
    let embedded = qualifiers
        .iter()
        .find(|qualifier| qualifier.name.is("EmbeddedInstance"))?;
    match &embedded.value {
        Value::String(class) => Some(Name::from(class.as_str())),
        _ => None,
    }
}

fn array_size(tag: &Tag) -> Result<Option<u32>, XmlError> {
    match tag.attribute(Attribute::ArraySize) {
        None => Ok(None),
        Some(text) => match text.trim().parse() {
            Ok(size) => Ok(Some(size)),
            Err(_) => Err(tag.invalid("ARRAYSIZE is not a number")),
        },
    }
}

/// Reads `QUALIFIER`, whose start is `tag`.
fn read_qualifier(reader: &mut Reader<'_>, tag: &Tag) -> Result<Qualifier, XmlError> {
    tag.required(Attribute::Type)?;
    let declared = Declared::of(tag, Attribute::Type)?;
    let mut value = Value::Null;
    while let Some(child) = reader.child()? {
        if !value.is_null() {
            return Err(misplaced(&child));
        }
        value = read_value(reader, &child, declared)?;
    }
    Ok(Qualifier {
        name: Name::from(tag.required(Attribute::Name)?),
        ty: Type {
            kind: declared.kind,
            array: matches!(value, Value::Array(_)),
        },
        value,
        overridable: tag.flag(Attribute::Overridable, true)?,
        to_subclass: tag.flag(Attribute::ToSubclass, true)?,
        translatable: tag.flag(Attribute::Translatable, false)?,
    })
}

/// Reads `QUALIFIER.DECLARATION`, whose start is `tag`.
pub(crate) fn read_qualifier_decl(
    reader: &mut Reader<'_>,
    tag: &Tag,
) -> Result<QualifierDecl, XmlError> {
    tag.required(Attribute::Type)?;
    let declared = Declared::of(tag, Attribute::Type)?;
    let mut scopes = Vec::new();
    let mut default = Value::Null;
    while let Some(child) = reader.child()? {
        match child.element {
            Some(Element::Scope) if scopes.is_empty() => {
                for (attribute, scope) in SCOPES {
                    if child.flag(attribute, false)? {
                        scopes.push(Name::from(scope));
                    }
                }
                reader.end()?;
            }
            _ if default.is_null() => default = read_value(reader, &child, declared)?,
            _ => return Err(misplaced(&child)),
        }
    }
    Ok(QualifierDecl {
        name: Name::from(tag.required(Attribute::Name)?),
        ty: Type {
            kind: declared.kind,
            array: tag.flag(Attribute::IsArray, matches!(default, Value::Array(_)))?,
        },
        default,
        scopes,
        overridable: tag.flag(Attribute::Overridable, true)?,
        to_subclass: tag.flag(Attribute::ToSubclass, true)?,
        translatable: tag.flag(Attribute::Translatable, false)?,
    })
}

/// Writes `CLASS`. Qualifiers are written as the class holds them; `class_origin` says whether each
/// member names the class that introduced it.
pub(crate) fn write_class(writer: &mut Writer, class: &Class, class_origin: bool) {
    write_class_with(writer, class, class_origin, None);
}

/// The same with `DERIVATION`, which Microsoft's protocols have beside `SUPERCLASS`.
pub(crate) fn write_class_with(
    writer: &mut Writer,
    class: &Class,
    class_origin: bool,
    derivation: Option<&str>,
) {
    writer.open(
        Element::Class,
        &[
            (Attribute::Name, Some(class.name.as_str())),
            (
                Attribute::SuperClass,
                class.superclass.as_ref().map(Name::as_str),
            ),
            (Attribute::Derivation, derivation),
        ],
    );
    write_qualifiers(writer, &class.qualifiers);
    for property in &class.properties {
        write_property_decl(writer, property, class_origin);
    }
    for method in &class.methods {
        write_method(writer, method, class_origin);
    }
    writer.close(Element::Class);
}

fn write_property_decl(writer: &mut Writer, property: &PropertyDecl, class_origin: bool) {
    let reference = property.ty.kind == CimType::Reference;
    let element = match (reference, property.ty.array) {
        (true, _) => Element::PropertyReference,
        (false, true) => Element::PropertyArray,
        (false, false) => Element::Property,
    };
    let size = property.array_size.map(|size| size.to_string());
    // The qualifiers say it for clients that know them; the attribute is for a type that they do not
    // explain.
    let explained = property.qualifier("EmbeddedInstance").is_some()
        || property.qualifier("EmbeddedObject").is_some();
    let embedded = match property.ty.kind {
        CimType::Object if !explained => Some("object"),
        _ => None,
    };
    writer.open(
        element,
        &[
            (Attribute::Name, Some(property.name.as_str())),
            (
                Attribute::Type,
                (!reference).then(|| type_name(property.ty)),
            ),
            (Attribute::ArraySize, size.as_deref()),
            (
                Attribute::ReferenceClass,
                property
                    .class_ref
                    .as_ref()
                    .filter(|_| reference)
                    .map(Name::as_str),
            ),
            (
                Attribute::ClassOrigin,
                class_origin.then(|| property.origin.as_str()),
            ),
            (Attribute::Propagated, property.propagated.then_some("true")),
            (Attribute::EmbeddedObject, embedded),
        ],
    );
    write_qualifiers(writer, &property.qualifiers);
    write_value(writer, property.ty.kind, &property.default);
    writer.close(element);
}

fn write_method(writer: &mut Writer, method: &MethodDecl, class_origin: bool) {
    writer.open(
        Element::Method,
        &[
            (Attribute::Name, Some(method.name.as_str())),
            (Attribute::Type, Some(type_name(method.return_type))),
            (
                Attribute::ClassOrigin,
                class_origin.then(|| method.origin.as_str()),
            ),
            (Attribute::Propagated, method.propagated.then_some("true")),
        ],
    );
    write_qualifiers(writer, &method.qualifiers);
    for parameter in &method.parameters {
        write_parameter(writer, parameter);
    }
    writer.close(Element::Method);
}

fn write_parameter(writer: &mut Writer, parameter: &ParameterDecl) {
    let reference = parameter.ty.kind == CimType::Reference;
    let element = match (reference, parameter.ty.array) {
        (true, true) => Element::ParameterRefArray,
        (true, false) => Element::ParameterReference,
        (false, true) => Element::ParameterArray,
        (false, false) => Element::Parameter,
    };
    let size = parameter.array_size.map(|size| size.to_string());
    writer.open(
        element,
        &[
            (Attribute::Name, Some(parameter.name.as_str())),
            (
                Attribute::Type,
                (!reference).then(|| type_name(parameter.ty)),
            ),
            (
                Attribute::ReferenceClass,
                parameter
                    .class_ref
                    .as_ref()
                    .filter(|_| reference)
                    .map(Name::as_str),
            ),
            (Attribute::ArraySize, size.as_deref()),
        ],
    );
    write_qualifiers(writer, &parameter.qualifiers);
    writer.close(element);
}

fn write_qualifiers(writer: &mut Writer, qualifiers: &[Qualifier]) {
    for qualifier in qualifiers {
        let [overridable, to_subclass, translatable] = flavors(
            qualifier.overridable,
            qualifier.to_subclass,
            qualifier.translatable,
        );
        writer.open(
            Element::Qualifier,
            &[
                (Attribute::Name, Some(qualifier.name.as_str())),
                (Attribute::Type, Some(type_name(qualifier.ty))),
                overridable,
                to_subclass,
                translatable,
            ],
        );
        write_value(writer, qualifier.ty.kind, &qualifier.value);
        writer.close(Element::Qualifier);
    }
}

/// Writes `QUALIFIER.DECLARATION`.
pub(crate) fn write_qualifier_decl(writer: &mut Writer, decl: &QualifierDecl) {
    let [overridable, to_subclass, translatable] =
        flavors(decl.overridable, decl.to_subclass, decl.translatable);
    writer.open(
        Element::QualifierDeclaration,
        &[
            (Attribute::Name, Some(decl.name.as_str())),
            (Attribute::Type, Some(type_name(decl.ty))),
            (Attribute::IsArray, decl.ty.array.then_some("true")),
            overridable,
            to_subclass,
            translatable,
        ],
    );
    let any = decl.scopes.iter().any(|scope| scope.is("any"));
    let scopes = SCOPES.map(|(attribute, name)| {
        let inside = any || decl.scopes.iter().any(|scope| scope.is(name));
        (attribute, inside.then_some("true"))
    });
    if scopes.iter().any(|(_, inside)| inside.is_some()) {
        writer.empty(Element::Scope, &scopes);
    }
    write_value(writer, decl.ty.kind, &decl.default);
    writer.close(Element::QualifierDeclaration);
}

/// The flavor attributes that differ from the DTD's defaults.
fn flavors(
    overridable: bool,
    to_subclass: bool,
    translatable: bool,
) -> [(Attribute, Option<&'static str>); 3] {
    [
        (Attribute::Overridable, (!overridable).then_some("false")),
        (Attribute::ToSubclass, (!to_subclass).then_some("false")),
        (Attribute::Translatable, translatable.then_some("true")),
    ]
}
