//! The text of object paths: reading all spellings, printing the canonical ones. See
//! [`crate::path`] for what they mean.

use crate::convert::{excerpt, parse_boolean, parse_integer};
use crate::path::PathError;
use crate::{KeyValue, Keys, Name, Namespace, ObjectPath};
use std::fmt::{self, Write as _};
use std::str::FromStr;

/// Longest text of a path, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// How deep object paths may stand in the key values of others.
pub const MAX_NESTING: usize = 8;

/// Most keys in one path; no class comes near it.
const MAX_KEYS: usize = 256;

impl ObjectPath {
    /// Reads a path in any of the spellings that clients use. Absent parts stay absent; nothing is
    /// filled in.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_LENGTH {
            return Err(PathError::TooLong(text.len()));
        }
        let mut reader = Reader {
            text,
            at: text.len() - text.trim_start().len(),
        };
        let (host, namespace) = reader.location()?;
        let class = reader.class()?;
        let keys = reader.keys()?;
        Ok(ObjectPath {
            host,
            namespace,
            class,
            keys,
        })
    }

    /// The part after the colon: `Class.Key="value"`.
    pub fn relpath(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail.
        let _ = write_relpath(&mut out, self, 0);
        out
    }

    /// The WBEM URI (DSP0207): `//host/root/virtualization:Class.Key="value"`.
    pub fn wbem_uri(&self) -> String {
        let mut out = String::new();
        if let Some(namespace) = &self.namespace {
            if let Some(host) = &self.host {
                out.push_str("//");
                out.push_str(host);
            }
            for segment in namespace.segments() {
                out.push('/');
                out.push_str(segment);
            }
            out.push(':');
        }
        let _ = write_relpath(&mut out, self, 0);
        out
    }
}

impl FromStr for ObjectPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        ObjectPath::parse(text)
    }
}

impl fmt::Display for ObjectPath {
    /// WMI's full form, `\\\\HOST\\root\\virtualization:Class.Key="value"`, or as much of it as is
    /// known. A host without a namespace cannot be written and is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_full(f, self, 0)
    }
}

fn write_full(out: &mut impl fmt::Write, path: &ObjectPath, level: usize) -> fmt::Result {
    if let Some(namespace) = &path.namespace {
        if let Some(host) = &path.host {
            write!(out, "\\\\{host}\\")?;
        }
        write!(out, "{namespace}:")?;
    }
    write_relpath(out, path, level)
}

fn write_relpath(out: &mut impl fmt::Write, path: &ObjectPath, level: usize) -> fmt::Result {
    write!(out, "{}", path.class)?;
    match &path.keys {
        Keys::Class => Ok(()),
        Keys::Singleton => out.write_str("=@"),
        Keys::Unnamed(value) => {
            out.write_char('=')?;
            write_value(out, value, level)
        }
        Keys::Named(keys) if keys.windows(2).all(|pair| pair[0].0 <= pair[1].0) => {
            write_named(out, keys.iter(), level)
        }
        Keys::Named(keys) => {
            let mut sorted: Vec<_> = keys.iter().collect();
            sorted.sort_by(|a, b| a.0.cmp(&b.0));
            write_named(out, sorted.into_iter(), level)
        }
    }
}

fn write_named<'a>(
    out: &mut impl fmt::Write,
    keys: impl Iterator<Item = &'a (Name, KeyValue)>,
    level: usize,
) -> fmt::Result {
    for (position, (name, value)) in keys.enumerate() {
        out.write_char(if position == 0 { '.' } else { ',' })?;
        write!(out, "{name}=")?;
        write_value(out, value, level)?;
    }
    Ok(())
}

fn write_value(out: &mut impl fmt::Write, value: &KeyValue, level: usize) -> fmt::Result {
    match value {
        KeyValue::String(text) => write_quoted(out, text),
        KeyValue::Boolean(value) => out.write_str(if *value { "TRUE" } else { "FALSE" }),
        KeyValue::Signed(n) => write!(out, "{n}"),
        KeyValue::Unsigned(n) => write!(out, "{n}"),
        KeyValue::Reference(path) => {
            let mut text = String::new();
            // Each level doubles the backslashes of those below it: deeper than this no path is
            // read, and the text would grow without bound.
            if level < MAX_NESTING {
                write_full(&mut text, path, level + 1)?;
            } else {
                write!(text, "{}", path.class)?;
            }
            write_quoted(out, &text)
        }
    }
}

fn write_quoted(out: &mut impl fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(c)?;
    }
    out.write_char('"')
}

struct Reader<'a> {
    text: &'a str,
    /// Byte position, always on a character's border.
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.at += expected.len_utf8();
        }
        found
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Characters before byte `at`, plus one: what an error says.
    fn character(&self, at: usize) -> usize {
        self.text.get(..at).map_or(0, |head| head.chars().count()) + 1
    }

    fn expected(&self, expected: &'static str) -> PathError {
        PathError::Expected {
            expected,
            at: self.character(self.at),
            found: excerpt(self.rest()),
        }
    }

    /// Host and namespace: everything up to the colon before the class name.
    fn location(&mut self) -> Result<(Option<String>, Option<Namespace>), PathError> {
        for scheme in ["https:", "http:"] {
            let head = self.rest().get(..scheme.len());
            let slashes = self.rest().get(scheme.len()..).unwrap_or("");
            if head.is_some_and(|head| head.eq_ignore_ascii_case(scheme))
                && slashes.starts_with("//")
            {
                self.at += scheme.len();
            }
        }
        let mut host = None;
        let rest = self.rest();
        if rest.starts_with("\\\\") || rest.starts_with("//") {
            let after = &rest[2..];
            let Some(end) = after.find(['/', '\\']) else {
                return Err(PathError::NamespaceOnly(excerpt(self.text)));
            };
            if end == 0 || !after[..end].chars().all(is_host_character) {
                self.at += 2;
                return Err(self.expected("a host name"));
            }
            host = Some(after[..end].to_owned());
            // The slash stays: it belongs to the namespace, which drops it.
            self.at += 2 + end;
        }
        let rest = self.rest();
        match rest.find([':', '"', '\'', '=']) {
            Some(end) if rest[end..].starts_with(':') => {
                let named = rest[..end].trim();
                if !named
                    .chars()
                    .all(|c| matches!(c, '/' | '\\') || is_host_character(c))
                {
                    return Err(self.expected("a namespace"));
                }
                let namespace = Namespace::new(named);
                self.at += end + 1;
                let named = !namespace.as_str().is_empty();
                if host.is_some() && !named {
                    return Err(self.expected("a namespace before the colon"));
                }
                Ok((host, named.then_some(namespace)))
            }
            _ if host.is_some() => Err(PathError::NamespaceOnly(excerpt(self.text))),
            _ => Ok((None, None)),
        }
    }

    fn class(&mut self) -> Result<Name, PathError> {
        self.skip_blanks();
        if self.rest().is_empty() {
            return Err(PathError::NoClass(excerpt(self.text)));
        }
        if let (Some(slash), None) = (
            self.rest().find(['/', '\\']),
            self.rest().find(['.', '=', '"', '\'']),
        ) && slash > 0
        {
            return Err(PathError::NamespaceOnly(excerpt(self.text)));
        }
        self.identifier("a class name")
    }

    fn identifier(&mut self, expected: &'static str) -> Result<Name, PathError> {
        let rest = self.rest();
        let end = rest
            .char_indices()
            .find(|&(at, c)| !is_name_character(c, at == 0))
            .map_or(rest.len(), |(at, _)| at);
        if end == 0 {
            return Err(self.expected(expected));
        }
        self.at += end;
        Ok(Name::new(&rest[..end]))
    }

    fn keys(&mut self) -> Result<Keys, PathError> {
        self.skip_blanks();
        let keys = if self.take('=') {
            self.skip_blanks();
            if self.take('@') {
                Keys::Singleton
            } else {
                Keys::Unnamed(self.value()?)
            }
        } else if self.take('.') {
            self.named_keys()?
        } else {
            Keys::Class
        };
        self.skip_blanks();
        if self.rest().is_empty() {
            Ok(keys)
        } else {
            Err(self.expected("the end of the path"))
        }
    }

    fn named_keys(&mut self) -> Result<Keys, PathError> {
        let mut keys: Vec<(Name, KeyValue)> = Vec::new();
        loop {
            self.skip_blanks();
            let name = self.identifier("a key name")?;
            self.skip_blanks();
            if !self.take('=') {
                return Err(self.expected("="));
            }
            self.skip_blanks();
            let value = self.value()?;
            if keys.iter().any(|(other, _)| *other == name) {
                return Err(PathError::DuplicateKey(name));
            }
            if keys.len() == MAX_KEYS {
                return Err(self.expected("no more than 256 keys"));
            }
            keys.push((name, value));
            self.skip_blanks();
            if !self.take(',') {
                return Ok(Keys::named(keys));
            }
        }
    }

    fn value(&mut self) -> Result<KeyValue, PathError> {
        match self.peek() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(KeyValue::String),
            _ => self.bare(),
        }
    }

    /// `\\`, `\"` and `\'` stand for their second character; before any other, a backslash stands for
    /// itself, since many clients do not double them.
    fn quoted(&mut self, quote: char) -> Result<String, PathError> {
        let start = self.at;
        let mut out = String::new();
        let mut characters = self.rest().char_indices().skip(1).peekable();
        while let Some((at, c)) = characters.next() {
            match c {
                '\\' => match characters.next_if(|(_, next)| matches!(next, '\\' | '"' | '\'')) {
                    Some((_, escaped)) => out.push(escaped),
                    None => out.push('\\'),
                },
                c if c == quote => {
                    self.at = start + at + 1;
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        Err(PathError::Unterminated {
            at: self.character(start),
        })
    }

    fn bare(&mut self) -> Result<KeyValue, PathError> {
        let rest = self.rest();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-')))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let value = if let Some(value) = parse_boolean(word) {
            KeyValue::Boolean(value)
        } else if let Some(number) = parse_integer(word) {
            KeyValue::from_integer(number).ok_or_else(|| PathError::OutOfRange(excerpt(word)))?
        } else {
            return Err(self.expected("a key value: text in quotes, a number, TRUE or FALSE"));
        };
        self.at += end;
        Ok(value)
    }
}

fn is_name_character(c: char, first: bool) -> bool {
    c == '_'
        || c.is_ascii_alphabetic()
        || (!c.is_ascii() && c.is_alphanumeric())
        || (!first && c.is_ascii_digit())
}

/// Names and addresses, with a port; segments of namespaces are made of nothing else either.
fn is_host_character(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '.' | '_' | ':' | '[' | ']' | '%')
}
