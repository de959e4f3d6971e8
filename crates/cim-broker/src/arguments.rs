//! The arguments of a method call: names checked against the declaration, values brought into
//! their declared types, embedded instances decoded, references made canonical.
//!
//! A wrong name is the protocol's error. A missing or wrong value is told to the provider as a
//! fault, because Hyper-V's classes answer return codes for those.

use crate::access::Context;
use crate::broker::Broker;
use crate::namespaces::ServedNamespace;
use crate::provider::{ArgumentFault, ArgumentFaultKind, Arguments};
use cim::{
    CimError, CimStatus, CimType, Class, Embedded, Instance, MethodDecl, Name, ObjectPath,
    ParameterDecl, PropertyDecl, Type, Value,
};

/// Most bytes of the text of one embedded instance.
const LONGEST_EMBEDDED: usize = 4 << 20;

/// How deep embedded instances may stand in each other.
const DEEPEST_EMBEDDED: usize = 8;

/// Why arguments were not accepted.
pub(crate) enum Refusal {
    /// They do not fit the protocol's view of the method.
    Call(CimError),
    /// A value is missing or wrong: the provider says what that comes to.
    Fault(ArgumentFault),
}

/// Where a value stands, for messages: `parameter ResourceSettingData[2], property Limit`.
#[derive(Clone, Copy)]
enum Place<'a> {
    Parameter(&'a Name),
    Item(&'a Place<'a>, usize),
    Property(&'a Place<'a>, &'a Name),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Parameter(name) => write!(f, "parameter {name}"),
            Place::Item(outer, index) => write!(f, "{outer}[{index}]"),
            Place::Property(outer, name) => write!(f, "{outer}, property {name}"),
        }
    }
}

/// A wrong value, before it is known whose parameter it is.
struct Wrong {
    kind: ArgumentFaultKind,
    error: CimError,
}

impl Wrong {
    fn type_clash(place: Place<'_>, reason: impl std::fmt::Display) -> Self {
        Wrong {
            kind: ArgumentFaultKind::Type,
            error: CimError::new(
                CimStatus::TypeMismatch,
                format!("The value of {place} has the wrong type: {reason}."),
            ),
        }
    }

    fn embedded(place: Place<'_>, reason: impl std::fmt::Display) -> Self {
        Wrong {
            kind: ArgumentFaultKind::Embedded,
            error: CimError::new(
                CimStatus::InvalidParameter,
                format!("The embedded instance in {place} cannot be used: {reason}."),
            ),
        }
    }
}

impl Broker {
    /// What the caller gave, as `method` of `class` declares it: in declared order, every input,
    /// NULL where nothing was given.
    pub(crate) fn bind_arguments(
        &self,
        context: &Context,
        space: &ServedNamespace,
        class: &Name,
        method: &MethodDecl,
        given: Vec<(Name, Value)>,
    ) -> Result<Arguments, Refusal> {
        let mut given = named_once(class, method, given).map_err(Refusal::Call)?;
        let binder = Binder {
            broker: self,
            context,
            space,
        };
        let mut values = Vec::new();
        for parameter in method.inputs() {
            let position = given.iter().position(|(name, _)| *name == parameter.name);
            let value = position.map_or(Value::Null, |at| given.swap_remove(at).1);
            let fault = |wrong: Wrong| {
                Refusal::Fault(ArgumentFault {
                    parameter: parameter.name.clone(),
                    kind: wrong.kind,
                    error: wrong.error,
                })
            };
            let value = binder.bind(parameter, value).map_err(fault)?;
            if value.is_null() && parameter.required() {
                return Err(fault(missing(class, method, parameter)));
            }
            values.push((parameter.name.clone(), value));
        }
        Ok(Arguments { values })
    }
}

fn missing(class: &Name, method: &MethodDecl, parameter: &ParameterDecl) -> Wrong {
    Wrong {
        kind: ArgumentFaultKind::Missing,
        error: CimError::new(
            CimStatus::InvalidParameter,
            format!(
                "{class}.{} needs a value for parameter {} ({}).",
                method.name, parameter.name, parameter.ty
            ),
        ),
    }
}

/// The arguments, if each names an input parameter and none comes twice.
fn named_once(
    class: &Name,
    method: &MethodDecl,
    given: Vec<(Name, Value)>,
) -> Result<Vec<(Name, Value)>, CimError> {
    let refuse = |reason: String| {
        let inputs: Vec<&str> = method.inputs().map(|input| input.name.as_str()).collect();
        let inputs = match inputs.as_slice() {
            [] => "It has no input parameters.".to_owned(),
            names => format!("Its input parameters are: {}.", names.join(", ")),
        };
        let message = format!("{class}.{} {reason}. {inputs}", method.name);
        Err(CimError::new(CimStatus::InvalidParameter, message))
    };
    let mut kept: Vec<(Name, Value)> = Vec::with_capacity(given.len());
    for (name, value) in given {
        match method.parameter(name.as_str()) {
            None => return refuse(format!("has no parameter {name}")),
            Some(parameter) if !parameter.is_in() => {
                // Some clients send back the whole parameter object, outputs at NULL.
                if !value.is_null() {
                    return refuse(format!("does not take {name}: it is an output"));
                }
            }
            Some(_) if kept.iter().any(|(other, _)| *other == name) => {
                return refuse(format!("was given parameter {name} twice"));
            }
            Some(_) => kept.push((name, value)),
        }
    }
    Ok(kept)
}

struct Binder<'a> {
    broker: &'a Broker,
    context: &'a Context,
    space: &'a ServedNamespace,
}

impl Binder<'_> {
    fn bind(&self, parameter: &ParameterDecl, value: Value) -> Result<Value, Wrong> {
        let place = Place::Parameter(&parameter.name);
        self.typed(place, parameter.ty, parameter.embedded(), value, 0)
    }

    /// `value` as declared. An empty array stays one; a single value becomes an array of one.
    fn typed(
        &self,
        place: Place<'_>,
        ty: Type,
        embedded: Option<Embedded<'_>>,
        value: Value,
        depth: usize,
    ) -> Result<Value, Wrong> {
        match value {
            Value::Null => Ok(Value::Null),
            Value::Array(items) if ty.array => {
                let items = items.into_iter().enumerate().map(|(index, item)| {
                    self.scalar(Place::Item(&place, index), ty.kind, embedded, item, depth)
                });
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Value::Array(_) => Err(Wrong::type_clash(
                place,
                format!("an array was given, a single {} is declared", ty.kind),
            )),
            single if ty.array => {
                let item = self.scalar(place, ty.kind, embedded, single, depth)?;
                Ok(Value::Array(vec![item]))
            }
            single => self.scalar(place, ty.kind, embedded, single, depth),
        }
    }

    fn scalar(
        &self,
        place: Place<'_>,
        kind: CimType,
        embedded: Option<Embedded<'_>>,
        value: Value,
        depth: usize,
    ) -> Result<Value, Wrong> {
        match embedded {
            Some(embedded) => self.embedded(place, embedded, value, depth),
            None if kind == CimType::Reference => self.reference(place, value),
            None => value
                .coerce(Type::scalar(kind))
                .map_err(|reason| Wrong::type_clash(place, reason)),
        }
    }

    /// A reference. What names an existing object becomes its canonical path; the rest is handed
    /// on, for only the method knows what a wrong reference comes to.
    fn reference(&self, place: Place<'_>, value: Value) -> Result<Value, Wrong> {
        let path = match value {
            Value::Null => return Ok(Value::Null),
            Value::Reference(path) => *path,
            Value::String(text) => match ObjectPath::parse(&text) {
                Ok(path) => path,
                Err(_) => return Ok(Value::String(text)),
            },
            Value::Instance(instance) if instance.path.is_some() => {
                return Ok(instance.path.map_or(Value::Null, Value::from));
            }
            other => {
                let found = other
                    .type_of()
                    .map_or_else(|| "array".to_owned(), |ty| ty.to_string());
                return Err(Wrong::type_clash(
                    place,
                    format!("{found} was given, a reference is declared"),
                ));
            }
        };
        let resolved = self
            .broker
            .namespace_of(&self.space.name, &path)
            .and_then(|home| self.broker.resolve(self.context, home, &path));
        Ok(Value::from(match resolved {
            Ok(instance) => instance.path.unwrap_or(path),
            Err(_) => path,
        }))
    }

    fn embedded(
        &self,
        place: Place<'_>,
        embedded: Embedded<'_>,
        value: Value,
        depth: usize,
    ) -> Result<Value, Wrong> {
        if depth >= DEEPEST_EMBEDDED {
            let reason = format!(
                "embedded instances stand in each other deeper than {DEEPEST_EMBEDDED} levels"
            );
            return Err(Wrong::embedded(place, reason));
        }
        let instance = match value {
            Value::Null => return Ok(Value::Null),
            Value::Instance(instance) => *instance,
            Value::Class(class) if embedded == Embedded::Object => return Ok(Value::Class(class)),
            Value::String(text) if text.trim().is_empty() => return Ok(Value::Null),
            Value::String(text) => {
                read_instance(&text).map_err(|why| Wrong::embedded(place, why))?
            }
            other => {
                let found = other
                    .type_of()
                    .map_or_else(|| "array".to_owned(), |ty| ty.to_string());
                return Err(Wrong::type_clash(
                    place,
                    format!("{found} was given, the text of an instance is declared"),
                ));
            }
        };
        let class = self.space.find_class(&instance.class).ok_or_else(|| {
            let reason = format!(
                "there is no class {} in namespace {}",
                instance.class, self.space.name
            );
            Wrong::embedded(place, reason)
        })?;
        if let Embedded::Instance(declared) = embedded
            && !self.space.is_a(&class.name, &Name::new(declared))
        {
            let reason = format!(
                "it is of class {}, but {declared} or a subclass is declared",
                class.name
            );
            return Err(Wrong::embedded(place, reason));
        }
        self.conforming(place, class, instance, depth)
            .map(Value::from)
    }

    /// `instance` in the terms of its class: declared spelling and types, system properties left
    /// out, what was not given left absent. Of two properties of one name the last counts.
    fn conforming(
        &self,
        place: Place<'_>,
        class: &Class,
        instance: Instance,
        depth: usize,
    ) -> Result<Instance, Wrong> {
        let mut properties: Vec<cim::Property> = Vec::with_capacity(instance.properties.len());
        for given in instance.properties {
            if given.name.as_str().starts_with("__") {
                continue;
            }
            let decl = class.property(given.name.as_str()).ok_or_else(|| {
                let reason = format!("class {} has no property {}", class.name, given.name);
                Wrong::embedded(place, reason)
            })?;
            let value = self.property_value(place, decl, given.value, depth)?;
            properties.retain(|earlier| earlier.name != decl.name);
            properties.push(cim::Property {
                name: decl.name.clone(),
                ty: decl.ty,
                value,
                origin: Some(decl.origin.clone()),
            });
        }
        Ok(Instance {
            class: class.name.clone(),
            path: instance.path,
            properties,
        })
    }

    fn property_value(
        &self,
        place: Place<'_>,
        decl: &PropertyDecl,
        value: Value,
        depth: usize,
    ) -> Result<Value, Wrong> {
        let place = Place::Property(&place, &decl.name);
        if decl.ty.array
            && decl.embedded().is_none()
            && matches!(&value, Value::String(text) if text.is_empty())
        {
            // An empty VALUE where an array is declared: the way to say "clear it".
            return Ok(Value::Array(Vec::new()));
        }
        self.typed(place, decl.ty, decl.embedded(), value, depth + 1)
    }
}

/// An instance from its text: CIM-XML, or MOF.
fn read_instance(text: &str) -> Result<Instance, String> {
    if text.len() > LONGEST_EMBEDDED {
        let found = text.len();
        return Err(format!(
            "its text has {found} bytes; at most {LONGEST_EMBEDDED} are read"
        ));
    }
    if text.trim_start().starts_with('<') {
        return cim_xml::embedded::parse_instance(text)
            .map_err(|error| format!("CIM-XML, {error}"));
    }
    let mut instances = cim::mof::parse_instances(text).map_err(|error| format!("MOF, {error}"))?;
    match (instances.pop(), instances.len()) {
        (Some(instance), 0) => Ok(instance),
        (None, _) => Err("the text holds no instance".to_owned()),
        (Some(_), more) => Err(format!("the text holds {} instances, not one", more + 1)),
    }
}
