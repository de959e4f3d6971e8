//! From MOF as written to classes, qualifiers and instances with types: everything that can be said
//! about a declaration without its superclass.

use super::ast::{self, Literal, LiteralKind};
use super::{Fault, MofErrorKind, STANDARD_QUALIFIERS, parser};
use crate::convert::ConversionError;
use crate::{
    CimType, Class, Instance, MethodDecl, Name, ParameterDecl, Property, PropertyDecl, Qualifier,
    QualifierDecl, Type, Value,
};
use std::collections::{HashMap, HashSet};

/// The declared qualifiers, standard ones included.
#[derive(Debug, Default)]
pub(super) struct QualifierTable {
    declared: HashMap<Name, QualifierDecl>,
}

impl QualifierTable {
    pub(super) fn standard() -> Result<Self, super::MofError> {
        let mut table = QualifierTable::default();
        let locate = |fault: Fault| fault.within("qualifiers.mof", STANDARD_QUALIFIERS);
        for item in &parser::parse(STANDARD_QUALIFIERS).map_err(locate)?.items {
            if let ast::Item::Qualifier(declaration) = item {
                table.declare(declaration).map_err(locate)?;
            }
        }
        Ok(table)
    }

    pub(super) fn declare(&mut self, declaration: &ast::QualifierDecl) -> Result<(), Fault> {
        let declared = qualifier(declaration)?;
        self.declared.insert(declared.name.clone(), declared);
        Ok(())
    }

    pub(super) fn get(&self, name: &Name) -> Option<&QualifierDecl> {
        self.declared.get(name)
    }

    pub(super) fn into_sorted(self) -> Vec<QualifierDecl> {
        let mut all: Vec<_> = self.declared.into_values().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }
}

/// A class with its own members, and where they were declared.
#[derive(Debug)]
pub(super) struct Declared {
    pub class: Class,
    pub at: usize,
    /// Offsets of the properties and then of the methods, in order.
    pub members: Vec<usize>,
}

pub(super) fn qualifier(ast: &ast::QualifierDecl) -> Result<QualifierDecl, Fault> {
    let default = match &ast.default {
        Some(literal) => value(literal, ast.ty, &ast.name)?,
        None => Value::Null,
    };
    Ok(QualifierDecl {
        name: ast.name.clone(),
        ty: ast.ty,
        default,
        scopes: ast.scopes.clone(),
        overridable: ast.flavors.overridable.unwrap_or(true),
        to_subclass: ast.flavors.to_subclass.unwrap_or(true),
        translatable: ast.flavors.translatable.unwrap_or(false),
    })
}

pub(super) fn class(ast: &ast::Class, table: &QualifierTable) -> Result<Declared, Fault> {
    let mut seen = HashSet::new();
    for (name, at) in ast
        .properties
        .iter()
        .map(|property| (&property.element.name, property.element.at))
        .chain(ast.methods.iter().map(|method| (&method.name, method.at)))
    {
        if !seen.insert(name) {
            let member = format!("{}.{name}", ast.name);
            return Err(Fault::new(at, MofErrorKind::DuplicateMember(member)));
        }
    }
    let properties = ast
        .properties
        .iter()
        .map(|property| self::property(property, &ast.name, table))
        .collect::<Result<Vec<_>, _>>()?;
    let methods = ast
        .methods
        .iter()
        .map(|method| self::method(method, &ast.name, table))
        .collect::<Result<Vec<_>, _>>()?;
    let offsets = ast.properties.iter().map(|property| property.element.at);
    Ok(Declared {
        class: Class {
            name: ast.name.clone(),
            superclass: ast.superclass.clone(),
            qualifiers: qualifiers(&ast.qualifiers, Scope::Class, table)?,
            properties,
            methods,
        },
        at: ast.at,
        members: offsets
            .chain(ast.methods.iter().map(|method| method.at))
            .collect(),
    })
}

/// What a qualifier stands at.
#[derive(Clone, Copy)]
enum Scope {
    Class,
    Property,
    Reference,
    Method,
    Parameter,
}

impl Scope {
    fn name(self) -> &'static str {
        match self {
            Scope::Class => "class",
            Scope::Property => "property",
            Scope::Reference => "reference",
            Scope::Method => "method",
            Scope::Parameter => "parameter",
        }
    }

    /// Whether a qualifier with `scopes` may stand here. Whether a class is an association is known
    /// only with its superclass, so the three kinds of classes count as one.
    fn is_within(self, scopes: &[Name]) -> bool {
        scopes.iter().any(|scope| {
            scope.is("any")
                || scope.is(self.name())
                || (matches!(self, Scope::Class)
                    && (scope.is("association") || scope.is("indication")))
        })
    }
}

fn qualifiers(
    list: &[ast::Qualifier],
    scope: Scope,
    table: &QualifierTable,
) -> Result<Vec<Qualifier>, Fault> {
    let mut out: Vec<Qualifier> = Vec::with_capacity(list.len());
    for ast in list {
        let fault = |kind: MofErrorKind| Fault::new(ast.at, kind);
        let Some(declared) = table.get(&ast.name) else {
            return Err(fault(MofErrorKind::UnknownQualifier(ast.name.clone())));
        };
        if !scope.is_within(&declared.scopes) {
            return Err(fault(MofErrorKind::QualifierScope {
                qualifier: ast.name.clone(),
                scope: scope.name(),
            }));
        }
        if out.iter().any(|other| other.name == ast.name) {
            return Err(fault(MofErrorKind::DuplicateQualifier(ast.name.clone())));
        }
        let value = match &ast.value {
            Some(literal) => value(literal, declared.ty, &ast.name)?,
            None if declared.ty == Type::scalar(CimType::Boolean) => Value::Boolean(true),
            None => Value::Null,
        };
        out.push(Qualifier {
            name: declared.name.clone(),
            ty: declared.ty,
            value,
            overridable: ast.flavors.overridable.unwrap_or(declared.overridable),
            to_subclass: ast.flavors.to_subclass.unwrap_or(declared.to_subclass),
            translatable: ast.flavors.translatable.unwrap_or(declared.translatable),
        });
    }
    Ok(out)
}

/// The class of an element: as referred to, or as embedded.
fn class_ref(element: &ast::Element, qualifiers: &[Qualifier]) -> Option<Name> {
    element.class_ref.clone().or_else(|| {
        let embedded = qualifiers
            .iter()
            .find(|qualifier| qualifier.name.is("EmbeddedInstance"))?;
        embedded.value.as_str().map(Name::new)
    })
}

fn property(
    ast: &ast::Property,
    class: &Name,
    table: &QualifierTable,
) -> Result<PropertyDecl, Fault> {
    let element = &ast.element;
    let scope = if element.ty.kind == CimType::Reference {
        Scope::Reference
    } else {
        Scope::Property
    };
    let qualifiers = qualifiers(&element.qualifiers, scope, table)?;
    let default = match &ast.default {
        Some(literal) => value(literal, element.ty, &element.name)?,
        None => Value::Null,
    };
    Ok(PropertyDecl {
        name: element.name.clone(),
        ty: element.ty,
        class_ref: class_ref(element, &qualifiers),
        array_size: element.array_size,
        default,
        qualifiers,
        origin: class.clone(),
        propagated: false,
    })
}

fn method(ast: &ast::Method, class: &Name, table: &QualifierTable) -> Result<MethodDecl, Fault> {
    let mut parameters: Vec<ParameterDecl> = Vec::with_capacity(ast.parameters.len());
    for element in &ast.parameters {
        if parameters.iter().any(|other| other.name == element.name) {
            let member = format!("{class}.{}({})", ast.name, element.name);
            return Err(Fault::new(
                element.at,
                MofErrorKind::DuplicateMember(member),
            ));
        }
        let qualifiers = qualifiers(&element.qualifiers, Scope::Parameter, table)?;
        parameters.push(ParameterDecl {
            name: element.name.clone(),
            ty: element.ty,
            class_ref: class_ref(element, &qualifiers),
            array_size: element.array_size,
            qualifiers,
        });
    }
    Ok(MethodDecl {
        name: ast.name.clone(),
        return_type: ast.return_type,
        parameters,
        qualifiers: qualifiers(&ast.qualifiers, Scope::Method, table)?,
        origin: class.clone(),
        propagated: false,
    })
}

/// A literal as a value of the declared type. Numbers in quotes are not numbers here, except the
/// reals that have no other spelling (`"INF"`).
fn value(literal: &Literal, ty: Type, element: &Name) -> Result<Value, Fault> {
    let fault = |reason| Fault::new(literal.at, MofErrorKind::value(element.clone(), reason));
    match (&literal.kind, ty.array) {
        (LiteralKind::Null, _) => Ok(Value::Null),
        (LiteralKind::Array(items), true) => items
            .iter()
            .map(|item| value(item, Type::scalar(ty.kind), element))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (LiteralKind::Array(_), false) => Err(fault(ConversionError::Clash {
            expected: ty,
            found: "array".to_owned(),
        })),
        (_, true) => {
            let item = value(literal, Type::scalar(ty.kind), element)?;
            Ok(Value::Array(vec![item]))
        }
        (LiteralKind::Integer(n), false) if ty.kind.is_numeric() => {
            Value::from_integer(*n, ty.kind).map_err(fault)
        }
        (LiteralKind::Text(_), false) if ty.kind.is_integer() || ty.kind == CimType::Boolean => {
            Err(fault(ConversionError::Clash {
                expected: ty,
                found: CimType::String.to_string(),
            }))
        }
        _ => {
            let (_, found) = untyped(literal)?;
            found.coerce(ty).map_err(fault)
        }
    }
}

/// A literal by itself: the type that its spelling suggests, and its value.
fn untyped(literal: &Literal) -> Result<(Type, Value), Fault> {
    let scalar = |kind, value| Ok((Type::scalar(kind), value));
    match &literal.kind {
        LiteralKind::Null => scalar(CimType::String, Value::Null),
        LiteralKind::Boolean(value) => scalar(CimType::Boolean, Value::Boolean(*value)),
        LiteralKind::Real(real) => scalar(CimType::Real64, Value::Real64(*real)),
        LiteralKind::Text(text) => scalar(CimType::String, Value::String(text.clone())),
        LiteralKind::Character(unit) => scalar(CimType::Char16, Value::Char16(*unit)),
        LiteralKind::Integer(n) => {
            let kind = if i64::try_from(*n).is_ok() {
                CimType::Sint64
            } else {
                CimType::Uint64
            };
            let value = Value::from_integer(*n, kind)
                .map_err(|reason| Fault::new(literal.at, MofErrorKind::value("number", reason)))?;
            scalar(kind, value)
        }
        LiteralKind::Alias(name) => Err(Fault::new(
            literal.at,
            MofErrorKind::UnknownAlias(name.clone()),
        )),
        LiteralKind::Instance(instance) => {
            scalar(CimType::Object, Value::from(untyped_instance(instance)?))
        }
        LiteralKind::Array(items) => {
            let mut values = Vec::with_capacity(items.len());
            let mut kind = None;
            for item in items {
                let (ty, value) = untyped(item)?;
                if !value.is_null() {
                    kind = Some(kind.map_or(ty.kind, |kind| wider(kind, ty.kind)));
                }
                values.push(value);
            }
            let ty = Type::array(kind.unwrap_or(CimType::String));
            let value = Value::Array(values)
                .coerce(ty)
                .map_err(|reason| Fault::new(literal.at, MofErrorKind::value("array", reason)))?;
            Ok((ty, value))
        }
    }
}

/// The type of an array with items that are spelled as numbers of both kinds.
fn wider(first: CimType, second: CimType) -> CimType {
    if !(first.is_numeric() && second.is_numeric()) {
        first
    } else if [first, second].contains(&CimType::Real64) {
        CimType::Real64
    } else if [first, second].contains(&CimType::Uint64) {
        CimType::Uint64
    } else {
        first
    }
}

pub(super) fn untyped_instance(ast: &ast::Instance) -> Result<Instance, Fault> {
    let properties = ast
        .properties
        .iter()
        .map(|(name, literal)| {
            let (ty, value) = untyped(literal)?;
            Ok(Property {
                name: name.clone(),
                ty,
                value,
                origin: None,
            })
        })
        .collect::<Result<_, Fault>>()?;
    Ok(Instance {
        class: ast.class.clone(),
        path: None,
        properties,
    })
}

/// A property's value in an instance whose class is known: lenient like everything that comes from
/// clients. `resolve` knows the paths of aliases and the classes of nested instances.
pub(super) fn instance_value(
    literal: &Literal,
    decl: &PropertyDecl,
    resolve: &dyn Fn(&Literal) -> Option<Result<Value, Fault>>,
) -> Result<Value, Fault> {
    let single = |literal: &Literal| match resolve(literal) {
        Some(resolved) => resolved,
        None => untyped(literal).map(|(_, value)| value),
    };
    let value = match &literal.kind {
        LiteralKind::Array(items) => {
            Value::Array(items.iter().map(single).collect::<Result<_, _>>()?)
        }
        _ => single(literal)?,
    };
    value
        .coerce(decl.ty)
        .map_err(|reason| Fault::new(literal.at, MofErrorKind::value(decl.name.clone(), reason)))
}
