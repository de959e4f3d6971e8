//! Object paths: the names of classes and instances, in every spelling that clients use.
//!
//! Reading accepts what clients write: `\\\\HOST\\ns:Class.Key="v"`, the same with slashes, WBEM URIs,
//! paths relative to a host or namespace, both kinds of quotes, backslashes doubled or not.
//! Printing knows two forms: WMI's ([`ObjectPath`]'s `Display`) and the URI of DSP0207
//! ([`ObjectPath::wbem_uri`]).
//!
//! A key value in quotes is read as a string, also where it names another object: only the class
//! says which keys are references. [`ObjectPath::typed_by`] gives keys their declared types, and
//! [`ObjectPath::names_same_object`] compares without needing it. The grammar is in `path_text`.

use crate::convert::{CoercionError, ConversionError, excerpt};
use crate::{CimType, Class, Name, Namespace, PropertyDecl, Type, Value};

pub use crate::path_text::{MAX_LENGTH, MAX_NESTING};

/// The value of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum KeyValue {
    String(String),
    Boolean(bool),
    Signed(i64),
    Unsigned(u64),
    Reference(Box<ObjectPath>),
}

/// What follows the class name in a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Keys {
    /// No keys: the path names the class itself.
    Class,
    /// `=@`: the only instance of a class without keys.
    Singleton,
    /// One value without a name (`Class="value"`): it belongs to the class's only key.
    Unnamed(KeyValue),
    /// Named keys, sorted by name. May be fewer than the class declares (a partial key).
    Named(Vec<(Name, KeyValue)>),
}

/// An object path. Derived equality compares names without case and key values exactly; see
/// [`ObjectPath::names_same_object`] for the comparison that clients need.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ObjectPath {
    /// Server name, when given.
    pub host: Option<String>,
    /// Namespace, when given.
    pub namespace: Option<Namespace>,
    /// The class.
    pub class: Name,
    /// Which instance.
    pub keys: Keys,
}

/// Why text is not an object path, or a path does not fit a class.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PathError {
    /// Longer than [`MAX_LENGTH`].
    #[error("an object path must not be longer than {MAX_LENGTH} bytes; this one has {0}")]
    TooLong(usize),
    /// The text is empty, or has nothing where the class name should be.
    #[error("{0:?} names no class")]
    NoClass(String),
    /// The text names a namespace and nothing in it.
    #[error("{0:?} names a namespace, not a class or an instance in it")]
    NamespaceOnly(String),
    /// Something else was expected.
    #[error("expected {expected} at character {at} of an object path, found {found:?}")]
    Expected {
        /// What should be there.
        expected: &'static str,
        /// Counted from one.
        at: usize,
        /// What is there, cut to a readable length; empty at the end.
        found: String,
    },
    /// A quoted value without its closing quote.
    #[error("the value that starts at character {at} of an object path has no closing quote")]
    Unterminated {
        /// Counted from one.
        at: usize,
    },
    /// A number that no key type can hold.
    #[error("the key value {0} is out of range")]
    OutOfRange(String),
    /// One key twice.
    #[error("key {0} is given twice")]
    DuplicateKey(Name),
    /// The class has no such key.
    #[error("class {class} has no key {key}")]
    UnknownKey {
        /// The class.
        class: Name,
        /// The name that it lacks.
        key: Name,
    },
    /// A value without a name, for a class that has not exactly one key.
    #[error("class {class} has {count} keys: say which one the value is for")]
    UnnamedKey {
        /// The class.
        class: Name,
        /// How many keys it has.
        count: usize,
    },
    /// A key value that cannot be of the declared type.
    #[error("key {0}")]
    KeyType(#[from] CoercionError),
    /// A value of a type that keys cannot have.
    #[error("a {0} value cannot be a key")]
    NotAKeyType(String),
}

impl KeyValue {
    /// `value` as a key. Datetimes and characters become strings; reals, arrays, embedded objects
    /// and NULL cannot be keys.
    pub fn from_value(value: &Value) -> Result<Self, PathError> {
        Ok(match value {
            Value::String(text) => KeyValue::String(text.clone()),
            Value::Boolean(value) => KeyValue::Boolean(*value),
            Value::Reference(path) => KeyValue::Reference(path.clone()),
            Value::DateTime(value) => KeyValue::String(value.to_string()),
            Value::Char16(_) => KeyValue::String(value.to_text().unwrap_or_default()),
            Value::Null => return Err(PathError::NotAKeyType("NULL".to_owned())),
            other => match other.as_integer().and_then(KeyValue::from_integer) {
                Some(key) => key,
                None => {
                    let found = other.type_of();
                    return Err(PathError::NotAKeyType(
                        found.map_or_else(|| "array".to_owned(), |ty| ty.to_string()),
                    ));
                }
            },
        })
    }

    /// A whole number: signed only where it is negative, so that equal numbers are equal keys.
    pub(crate) fn from_integer(n: i128) -> Option<Self> {
        match u64::try_from(n) {
            Ok(unsigned) => Some(KeyValue::Unsigned(unsigned)),
            Err(_) => i64::try_from(n).ok().map(KeyValue::Signed),
        }
    }

    /// The text of a string key.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            KeyValue::String(text) => Some(text),
            _ => None,
        }
    }

    fn as_integer(&self) -> Option<i128> {
        match self {
            KeyValue::Signed(n) => Some(i128::from(*n)),
            KeyValue::Unsigned(n) => Some(i128::from(*n)),
            _ => None,
        }
    }

    /// Whether both mean the same key: strings without case and without regard to which way and
    /// how often slashes are written, numbers and booleans by value also when one is quoted,
    /// references by the object they name also when one is text.
    pub fn means_same(&self, other: &KeyValue) -> bool {
        self.means_same_within(other, MAX_NESTING)
    }

    fn means_same_within(&self, other: &KeyValue, levels: usize) -> bool {
        use KeyValue::{Boolean, Reference, String};
        match (self, other) {
            (String(a), String(b)) => same_key_text(a, b),
            (Boolean(a), Boolean(b)) => a == b,
            (Boolean(value), String(text)) | (String(text), Boolean(value)) => {
                crate::convert::parse_boolean(text) == Some(*value)
            }
            (Reference(a), Reference(b)) => levels > 0 && a.same_within(b, levels - 1),
            (Reference(path), String(text)) | (String(text), Reference(path)) => {
                levels > 0
                    && ObjectPath::parse(text)
                        .is_ok_and(|other| path.same_within(&other, levels - 1))
            }
            (number, String(text)) | (String(text), number) => {
                number.as_integer().is_some()
                    && number.as_integer() == crate::convert::parse_integer(text.trim())
            }
            (a, b) => a.as_integer().is_some() && a.as_integer() == b.as_integer(),
        }
    }
}

impl From<&str> for KeyValue {
    fn from(text: &str) -> Self {
        KeyValue::String(text.to_owned())
    }
}

impl From<String> for KeyValue {
    fn from(text: String) -> Self {
        KeyValue::String(text)
    }
}

impl From<bool> for KeyValue {
    fn from(value: bool) -> Self {
        KeyValue::Boolean(value)
    }
}

macro_rules! key_from_unsigned {
    ($($number:ty),*) => {$(
        impl From<$number> for KeyValue {
            fn from(number: $number) -> Self {
                KeyValue::Unsigned(number.into())
            }
        }
    )*};
}

key_from_unsigned!(u8, u16, u32, u64);

impl From<i64> for KeyValue {
    /// Signed only where it is negative, so that equal numbers are equal keys.
    fn from(number: i64) -> Self {
        u64::try_from(number).map_or(KeyValue::Signed(number), KeyValue::Unsigned)
    }
}

impl From<ObjectPath> for KeyValue {
    fn from(path: ObjectPath) -> Self {
        KeyValue::Reference(Box::new(path))
    }
}

/// Whether two key texts are the same when case and the way slashes are written do not count.
/// Clients turn every backslash of a path into a slash before they open it again, the doubled ones
/// inside key values included, so `A\B` comes back as `A//B`.
pub fn same_key_text(a: &str, b: &str) -> bool {
    a == b || folded(a).eq(folded(b))
}

/// `text` in the form under which equal keys are equal strings: lower case, and each run of slashes
/// and backslashes one backslash. For indexes.
pub fn fold_key_text(text: &str) -> String {
    folded(text).collect()
}

fn folded(text: &str) -> impl Iterator<Item = char> {
    let mut after_slash = false;
    text.chars()
        .filter_map(move |c| {
            let slash = matches!(c, '/' | '\\');
            let repeated = slash && after_slash;
            after_slash = slash;
            match (slash, repeated) {
                (_, true) => None,
                (true, false) => Some('\\'),
                (false, false) => Some(c),
            }
        })
        .flat_map(char::to_lowercase)
}

impl Keys {
    /// Named keys, sorted; without any, the path names the class.
    pub fn named(keys: impl IntoIterator<Item = (Name, KeyValue)>) -> Self {
        let mut keys: Vec<_> = keys.into_iter().collect();
        keys.sort_by(|a, b| a.0.cmp(&b.0));
        if keys.is_empty() {
            Keys::Class
        } else {
            Keys::Named(keys)
        }
    }
}

impl ObjectPath {
    /// A path relative to whatever namespace it is used in.
    pub fn new(class: impl Into<Name>, keys: Keys) -> Self {
        ObjectPath {
            host: None,
            namespace: None,
            class: class.into(),
            keys,
        }
    }

    /// The path of a class.
    pub fn of_class(class: impl Into<Name>) -> Self {
        ObjectPath::new(class, Keys::Class)
    }

    /// The path of an instance by its named keys.
    pub fn of_instance<N: Into<Name>, V: Into<KeyValue>>(
        class: impl Into<Name>,
        keys: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let keys = keys
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()));
        ObjectPath::new(class, Keys::named(keys))
    }

    /// The same object, with its namespace and host said.
    #[must_use]
    pub fn located(mut self, host: impl Into<String>, namespace: Namespace) -> Self {
        self.host = Some(host.into());
        self.namespace = Some(namespace);
        self
    }

    /// The same object, without namespace and host.
    #[must_use]
    pub fn relative(&self) -> Self {
        ObjectPath::new(self.class.clone(), self.keys.clone())
    }

    /// Whether it names a class rather than an instance.
    pub fn is_class(&self) -> bool {
        self.keys == Keys::Class
    }

    /// The value of the key called `name`. An unnamed value answers to any name.
    pub fn key(&self, name: &str) -> Option<&KeyValue> {
        match &self.keys {
            Keys::Class | Keys::Singleton => None,
            Keys::Unnamed(value) => Some(value),
            Keys::Named(keys) => keys.iter().find(|(key, _)| key.is(name)).map(|(_, v)| v),
        }
    }

    /// The text of the string key called `name`.
    pub fn key_str(&self, name: &str) -> Option<&str> {
        self.key(name).and_then(KeyValue::as_str)
    }

    /// Whether both name the same object within a namespace: same class, same keys, compared as
    /// [`KeyValue::means_same`] does. Host and namespace do not count. A single named key equals an
    /// unnamed one.
    pub fn names_same_object(&self, other: &ObjectPath) -> bool {
        self.same_within(other, MAX_NESTING)
    }

    fn same_within(&self, other: &ObjectPath, levels: usize) -> bool {
        if self.class != other.class {
            return false;
        }
        match (&self.keys, &other.keys) {
            (Keys::Class, Keys::Class) | (Keys::Singleton, Keys::Singleton) => true,
            (Keys::Unnamed(a), Keys::Unnamed(b)) => a.means_same_within(b, levels),
            (Keys::Unnamed(value), Keys::Named(keys))
            | (Keys::Named(keys), Keys::Unnamed(value)) => match keys.as_slice() {
                [(_, only)] => only.means_same_within(value, levels),
                _ => false,
            },
            (Keys::Named(a), Keys::Named(b)) => a.len() == b.len() && covers(a, b, levels),
            _ => false,
        }
    }

    /// Whether each key given here has the same value in `full`: how a partial key picks instances.
    /// The class is not compared, for it may be a superclass.
    pub fn keys_cover(&self, full: &ObjectPath) -> bool {
        match (&self.keys, &full.keys) {
            (Keys::Named(some), Keys::Named(all)) => covers(some, all, MAX_NESTING),
            (Keys::Class, _) => true,
            (Keys::Unnamed(value), Keys::Named(all)) => match all.as_slice() {
                [(_, only)] => only.means_same(value),
                _ => false,
            },
            (Keys::Singleton, other) => *other == Keys::Singleton,
            (Keys::Unnamed(a), Keys::Unnamed(b)) => a.means_same(b),
            _ => false,
        }
    }

    /// This path with its keys as `class` declares them: an unnamed value gets its name, values the
    /// declared types (strings become numbers, references, ...), names the class's spelling. Keys
    /// may be missing; unknown ones are an error.
    pub fn typed_by(&self, class: &Class) -> Result<ObjectPath, PathError> {
        let keys = match &self.keys {
            Keys::Class => Keys::Class,
            Keys::Singleton => Keys::Singleton,
            Keys::Unnamed(value) => {
                let mut declared = class.keys();
                match (declared.next(), declared.count()) {
                    (Some(decl), 0) => Keys::Named(vec![typed_key(decl, value)?]),
                    (first, more) => {
                        return Err(PathError::UnnamedKey {
                            class: class.name.clone(),
                            count: more + usize::from(first.is_some()),
                        });
                    }
                }
            }
            Keys::Named(given) => Keys::named(
                given
                    .iter()
                    .map(|(name, value)| {
                        let decl = class.property(name.as_str()).filter(|decl| decl.is_key());
                        let decl = decl.ok_or_else(|| PathError::UnknownKey {
                            class: class.name.clone(),
                            key: name.clone(),
                        })?;
                        typed_key(decl, value)
                    })
                    .collect::<Result<Vec<_>, _>>()?,
            ),
        };
        Ok(ObjectPath {
            host: self.host.clone(),
            namespace: self.namespace.clone(),
            class: self.class.clone(),
            keys,
        })
    }

    /// A string that is equal for paths that name the same object, for indexes: lower case, slashes
    /// folded. Both sides must have been typed by the same class first, for quoted numbers and
    /// references are text until then.
    pub fn index_key(&self) -> String {
        let mut out = self.class.as_str().to_ascii_lowercase();
        match &self.keys {
            Keys::Class => {}
            Keys::Singleton => out.push_str("=@"),
            Keys::Unnamed(value) => push_index_value(&mut out, value),
            Keys::Named(keys) => {
                for (name, value) in keys {
                    out.push('.');
                    out.push_str(&name.as_str().to_ascii_lowercase());
                    push_index_value(&mut out, value);
                }
            }
        }
        out
    }
}

fn push_index_value(out: &mut String, value: &KeyValue) {
    out.push('=');
    match value {
        KeyValue::String(text) => {
            // Debug form: quotes inside are escaped, so values cannot run into each other.
            out.push_str(&format!("{:?}", fold_key_text(text)));
        }
        KeyValue::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        KeyValue::Signed(n) => out.push_str(&n.to_string()),
        KeyValue::Unsigned(n) => out.push_str(&n.to_string()),
        KeyValue::Reference(path) => {
            out.push('(');
            out.push_str(&path.index_key());
            out.push(')');
        }
    }
}

fn covers(some: &[(Name, KeyValue)], all: &[(Name, KeyValue)], levels: usize) -> bool {
    some.iter().all(|(name, value)| {
        all.iter()
            .any(|(other, theirs)| name == other && value.means_same_within(theirs, levels))
    })
}

fn typed_key(decl: &PropertyDecl, value: &KeyValue) -> Result<(Name, KeyValue), PathError> {
    let name = decl.name.clone();
    let at = |reason: ConversionError| PathError::KeyType(reason.at(name.clone()));
    let value = match (decl.ty.kind, value) {
        (CimType::Reference, KeyValue::String(text)) => {
            ObjectPath::parse(text).map(KeyValue::from).map_err(|_| {
                at(ConversionError::NotA {
                    expected: CimType::Reference,
                    text: excerpt(text),
                })
            })?
        }
        (kind, value) => {
            let coerced = Value::from(value.clone())
                .coerce(Type::scalar(kind))
                .map_err(at)?;
            KeyValue::from_value(&coerced)?
        }
    };
    Ok((name, value))
}
