//! Resource addresses and selectors: which class of which namespace, and which instance.
//!
//! An address comes in one of two families: WMI's, with the namespace in its path, and DMTF's (and
//! other vendors' of the same form), where a selector names the namespace. Answers stay in the
//! family of the request, in its spelling.

use crate::reference::{EndpointReference, Selector, SelectorValue};
use crate::soap::fault::Fault;
use crate::soap::uri;
use cim::{Class, KeyValue, Keys, Name, Namespace, ObjectPath};
use cim_broker::Broker;

/// The selector that names the namespace.
const NAMESPACE_SELECTOR: &str = "__cimnamespace";
/// Where DMTF's classes are looked for when nothing says where.
const DEFAULT_NAMESPACE: &str = "root/cimv2";

/// How addresses are made for answers to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// The start of WMI's form as the request spells it, and its namespace; `None` in DMTF's family.
    wmi: Option<(String, Namespace)>,
    /// What class names are appended to in DMTF's family.
    base: String,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// The address, as it came.
    pub uri: String,
    /// The namespace.
    pub namespace: Namespace,
    /// The class; `None` for all of the namespace.
    pub class: Option<Name>,
    /// The selectors, without the namespace's.
    pub selectors: Vec<Selector>,
    /// How addresses are made for the answer.
    pub family: Family,
}

impl Family {
    /// The address of a class.
    pub fn class_uri(&self, namespace: Option<&Namespace>, class: &Name) -> String {
        match &self.wmi {
            None => format!("{}{class}", self.base),
            Some((base, own)) => match namespace {
                Some(other) if other != own => {
                    format!("{}{}/{class}", uri::WMI, other.as_str().replace('\\', "/"))
                }
                _ => format!("{base}{class}"),
            },
        }
    }

    /// The endpoint reference of an object.
    pub fn reference(&self, path: &ObjectPath) -> EndpointReference {
        let mut selectors = Vec::new();
        match &path.keys {
            Keys::Named(keys) => {
                for (name, value) in keys {
                    selectors.push(Selector {
                        name: name.to_string(),
                        value: self.selector_value(value),
                    });
                }
            }
            Keys::Unnamed(value) => selectors.push(Selector {
                name: String::new(),
                value: self.selector_value(value),
            }),
            Keys::Class | Keys::Singleton => {}
        }
        if let Some(namespace) = &path.namespace {
            selectors.push(Selector {
                name: NAMESPACE_SELECTOR.to_owned(),
                value: SelectorValue::Text(namespace.as_str().replace('\\', "/")),
            });
        }
        EndpointReference {
            uri: self.class_uri(path.namespace.as_ref(), &path.class),
            selectors,
        }
    }

    fn selector_value(&self, value: &KeyValue) -> SelectorValue {
        SelectorValue::Text(match value {
            KeyValue::String(text) => text.clone(),
            KeyValue::Boolean(value) => value.to_string(),
            KeyValue::Signed(number) => number.to_string(),
            KeyValue::Unsigned(number) => number.to_string(),
            KeyValue::Reference(path) => {
                return SelectorValue::Reference(Box::new(self.reference(path)));
            }
        })
    }
}

impl Resource {
    /// What an endpoint reference means.
    pub fn of(reference: &EndpointReference) -> Result<Resource, Fault> {
        let address = reference.uri.trim();
        let (selected, selectors) = split_namespace(&reference.selectors)?;
        // Clients of winrm.exe's kind put selectors into the address.
        let (address, query) = address.split_once('?').unwrap_or((address, ""));
        let mut selectors = selectors;
        selectors.extend(query_selectors(query));
        let malformed = || {
            Fault::resource_malformed(format!(
                "{address} is not the address of a resource here. Classes are at \
                 {}NAMESPACE/CLASS, or at {}CLASS with the selector {NAMESPACE_SELECTOR}.",
                uri::WMI,
                uri::CIM_SCHEMA
            ))
        };
        if let Some(rest) = strip_prefix(address, uri::WMI) {
            let (space, class) = rest.rsplit_once('/').ok_or_else(malformed)?;
            let namespace = Namespace::new(space);
            if let Some(selected) = selected.filter(|it| *it != namespace) {
                let reason = format!(
                    "The address names namespace {namespace}, the selector {NAMESPACE_SELECTOR} \
                     names {selected}."
                );
                return Err(Fault::selectors("UnexpectedSelectors", reason));
            }
            let base = &address[..address.len() - class.len()];
            return Ok(Resource {
                uri: address.to_owned(),
                class: class_of(class).ok_or_else(malformed)?,
                selectors,
                family: Family {
                    wmi: Some((base.to_owned(), namespace.clone())),
                    base: uri::CIM_SCHEMA.to_owned(),
                },
                namespace,
            });
        }
        let namespace = selected.unwrap_or_else(|| Namespace::new(DEFAULT_NAMESPACE));
        let (base, class) = match strip_prefix(address, uri::ALL_CLASSES) {
            Some("") => (uri::CIM_SCHEMA, "*"),
            _ => {
                let (base, class) = address.rsplit_once('/').ok_or_else(malformed)?;
                let base = &address[..base.len() + 1];
                if !is_schema(base) {
                    return Err(malformed());
                }
                (base, class)
            }
        };
        Ok(Resource {
            uri: address.to_owned(),
            namespace,
            class: class_of(class).ok_or_else(malformed)?,
            selectors,
            family: Family {
                wmi: None,
                base: base.to_owned(),
            },
        })
    }

    /// The class as declared.
    pub fn declared<'a>(&self, broker: &'a Broker) -> Result<&'a Class, Fault> {
        let schema = broker.schema(&self.namespace)?;
        let Some(name) = &self.class else {
            let reason = format!("{} names no class; this operation needs one.", self.uri);
            return Err(Fault::resource_malformed(reason));
        };
        let found = schema.class(name).or(broker.system_schema().class(name));
        Ok(found.ok_or_else(|| {
            Fault::resource_not_found(format!(
                "There is no class {name} in namespace {}. Check the spelling and the namespace.",
                self.namespace
            ))
        })?)
    }

    /// The path of the instance that the selectors name. With `whole`, they must be all keys.
    pub fn path(&self, class: &Class, whole: bool) -> Result<ObjectPath, Fault> {
        let keys: Vec<&Name> = class.keys().map(|key| &key.name).collect();
        let known = || {
            let names: Vec<&str> = keys.iter().map(|it| it.as_str()).collect();
            match names.as_slice() {
                [] => format!("{} has no keys.", class.name),
                names => format!("The keys of {} are: {}.", class.name, names.join(", ")),
            }
        };
        let has = |name: &str| {
            self.selectors
                .iter()
                .any(|it| it.name.eq_ignore_ascii_case(name))
        };
        if let Some(strange) = self
            .selectors
            .iter()
            .find(|it| !keys.is_empty() && !keys.iter().any(|key| key.is(&it.name)))
        {
            let reason = format!("The selector {} is not a key. {}", strange.name, known());
            return Err(Fault::selectors("UnexpectedSelectors", reason));
        }
        if whole && let Some(missing) = keys.iter().find(|key| !has(key.as_str())) {
            let reason = format!("The selector {missing} is missing. {}", known());
            return Err(Fault::selectors("InsufficientSelectors", reason));
        }
        let keys = match self.selectors.is_empty() {
            true => Keys::Singleton,
            false => {
                let values = self.selectors.iter();
                let values = values.map(|it| Ok((Name::new(&it.name), key_value(&it.value)?)));
                Keys::named(values.collect::<Result<Vec<_>, Fault>>()?)
            }
        };
        let path = ObjectPath {
            host: None,
            namespace: Some(self.namespace.clone()),
            class: class.name.clone(),
            keys,
        };
        path.typed_by(class)
            .map_err(|error| Fault::selectors("TypeMismatch", format!("{error}.")))
    }
}

/// The path that an endpoint reference means, its values as they came.
pub fn path_of(reference: &EndpointReference) -> Result<ObjectPath, Fault> {
    let resource = Resource::of(reference)?;
    let Some(class) = resource.class else {
        let reason = format!("{} names no class.", resource.uri);
        return Err(Fault::resource_malformed(reason));
    };
    let keys = match resource.selectors.is_empty() {
        true => Keys::Singleton,
        false => {
            let values = resource.selectors.iter();
            let values = values.map(|it| Ok((Name::new(&it.name), key_value(&it.value)?)));
            Keys::named(values.collect::<Result<Vec<_>, Fault>>()?)
        }
    };
    Ok(ObjectPath {
        host: None,
        namespace: Some(resource.namespace),
        class,
        keys,
    })
}

fn key_value(value: &SelectorValue) -> Result<KeyValue, Fault> {
    Ok(match value {
        SelectorValue::Text(text) => KeyValue::String(text.clone()),
        SelectorValue::Reference(reference) => KeyValue::Reference(Box::new(path_of(reference)?)),
    })
}

/// The same path with one pair of enclosing quotation marks taken off each value, if there is any.
pub fn unquoted(path: &ObjectPath) -> Option<ObjectPath> {
    let Keys::Named(keys) = &path.keys else {
        return None;
    };
    let mut changed = false;
    let keys = keys.iter().map(|(name, value)| {
        let bare = match value {
            KeyValue::String(text) => text.strip_prefix('"').and_then(|it| it.strip_suffix('"')),
            _ => None,
        };
        changed |= bare.is_some();
        let value = bare.map_or_else(|| value.clone(), |it| KeyValue::String(it.to_owned()));
        (name.clone(), value)
    });
    let keys = Keys::named(keys.collect::<Vec<_>>());
    changed.then(|| ObjectPath {
        keys,
        ..path.clone()
    })
}

pub(crate) fn split_namespace(
    selectors: &[Selector],
) -> Result<(Option<Namespace>, Vec<Selector>), Fault> {
    let mut found = None;
    let mut rest = Vec::new();
    for selector in selectors {
        if !selector.name.eq_ignore_ascii_case(NAMESPACE_SELECTOR) {
            rest.push(selector.clone());
            continue;
        }
        let SelectorValue::Text(text) = &selector.value else {
            let reason = format!("The selector {NAMESPACE_SELECTOR} must be text.");
            return Err(Fault::selectors("TypeMismatch", reason));
        };
        found = Some(Namespace::new(text.trim()));
    }
    Ok((found, rest))
}

fn query_selectors(query: &str) -> impl Iterator<Item = Selector> {
    let pairs = query.split(['&', '+']).filter_map(|it| it.split_once('='));
    pairs.map(|(name, value)| Selector {
        name: name.trim().to_owned(),
        value: SelectorValue::Text(value.to_owned()),
    })
}

fn strip_prefix<'a>(address: &'a str, prefix: &str) -> Option<&'a str> {
    let start = address.get(..prefix.len())?;
    start
        .eq_ignore_ascii_case(prefix)
        .then(|| &address[prefix.len()..])
}

/// `http://VENDOR/wbem/wscim/1/NAME-schema/2/`.
fn is_schema(base: &str) -> bool {
    let rest = base
        .strip_prefix("http://")
        .and_then(|it| it.split_once("/wbem/wscim/1/"));
    rest.and_then(|(_, it)| it.strip_suffix("-schema/2/"))
        .is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

/// The class at the end of an address; `Some(None)` for all.
#[allow(clippy::option_option)]
fn class_of(text: &str) -> Option<Option<Name>> {
    match text {
        "*" => Some(None),
        "" => None,
        name => {
            let plausible = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            plausible.then(|| Some(Name::new(name)))
        }
    }
}
