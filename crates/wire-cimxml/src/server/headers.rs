//! The headers that DSP0200 adds to HTTP: what a request must carry, and whether it agrees with the
//! body.

use cim::Namespace;
use cim_xml::request::{Request, RequestMessage};
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

/// The name of this mapping, by which M-POST and OPTIONS refer to it.
const MAPPING: &str = "http://www.dmtf.org/cim/mapping/http/v1.0";

/// How the CIM headers of a request are spelled: plain with POST, with a prefix of the client's
/// choice with M-POST.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefix(Option<String>);

impl Prefix {
    /// From the request's method and, for M-POST, its `Man` header. `None`: the header is missing or
    /// speaks of another mapping.
    pub(super) fn of(method: &Method, headers: &HeaderMap) -> Option<Prefix> {
        if method.as_str() != "M-POST" {
            return Some(Prefix(None));
        }
        let man = headers.get("man")?.to_str().ok()?;
        let mut parts = man.split(';');
        let mapping = parts.next()?.trim().trim_matches('"');
        if mapping != MAPPING {
            return None;
        }
        let number = parts
            .find_map(|part| part.trim().strip_prefix("ns="))?
            .trim();
        let digits = (1..=4).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| Prefix(Some(number.to_owned())))
    }

    /// Whether this is M-POST's.
    pub(super) fn is_extended(&self) -> bool {
        self.0.is_some()
    }

    /// The spelling of `name`.
    pub(super) fn apply(&self, name: &str) -> String {
        match &self.0 {
            None => name.to_owned(),
            Some(number) => format!("{number}-{name}"),
        }
    }

    /// The value of the CIM header `name`.
    pub(super) fn get<'a>(&self, headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
        let value = headers.get(self.apply(name))?;
        // Some clients send UTF-8 as it is; a value that is not even that cannot agree with a body.
        std::str::from_utf8(value.as_bytes()).ok().map(str::trim)
    }
}

/// Whether `CIMMethod` and `CIMObject` (or `CIMBatch`) agree with the body. Clients write the same
/// path in different ways, so only the operation's name and the namespace are compared.
pub(super) fn agree(prefix: &Prefix, headers: &HeaderMap, message: &RequestMessage) -> bool {
    let method = prefix.get(headers, "CIMMethod");
    let object = prefix.get(headers, "CIMObject");
    let batch = prefix.get(headers, "CIMBatch").is_some();
    let (false, [request]) = (message.batch, message.requests.as_slice()) else {
        return batch && method.is_none() && object.is_none();
    };
    let (Some(method), Some(object)) = (method, object) else {
        return false;
    };
    let (Some(method), Some(object)) = (decode(method), decode(object)) else {
        return false;
    };
    !batch && request.name().eq_ignore_ascii_case(&method) && same_namespace(&object, request)
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text)
        .decode_utf8()
        .ok()
        .map(|text| text.into_owned())
}

/// `CIMObject` is a namespace, or a namespace, a colon and an object's name. Either may follow
/// `//host/`.
fn same_namespace(object: &str, request: &Request) -> bool {
    let namespace = object
        .split_once(':')
        .map_or(object, |(namespace, _)| namespace);
    let local = match namespace.strip_prefix("//") {
        Some(rest) => rest.split_once('/').map_or("", |(_, namespace)| namespace),
        None => namespace,
    };
    request
        .namespace()
        .is_some_and(|wanted| Namespace::new(local) == *wanted)
}

/// Whether a content type is one that CIM-XML comes in.
pub(super) fn is_xml(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let known = ["application/xml", "text/xml"];
    known.iter().any(|known| media.eq_ignore_ascii_case(known))
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                let charset = value.trim().trim_matches(['"', '\'']);
                charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
            }
            _ => true,
        })
}

/// What OPTIONS answers: names and values.
pub(super) fn capabilities() -> [(&'static str, String); 5] {
    [
        ("Opt", format!("{MAPPING} ; ns=77")),
        ("77-CIMProtocolVersion", "1.0".to_owned()),
        (
            "77-CIMSupportedFunctionalGroups",
            "basic-read, schema-read, association-traversal, query-execution, \
             qualifier-declaration"
                .to_owned(),
        ),
        ("77-CIMSupportsMultipleOperations", String::new()),
        ("77-CIMSupportedQueryLanguages", "WQL".to_owned()),
    ]
}
