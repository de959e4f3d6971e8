//! A request: the headers that mean something here, and the body.

use super::duration::parse_duration;
use super::fault::Fault;
use super::uri;
use super::xml::{Document, Element};
use crate::reference::{EndpointReference, Selector, read_selectors};
use std::sync::Arc;
use std::time::Duration;

/// The least that a client must be able to take (DSP0226 R13.1-5).
const SMALLEST_ENVELOPE: usize = 8192;
/// The longest wait that a client may ask for.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);

/// What an answer needs to know of its request, whatever is wrong with that.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// `wsa:MessageID`, as it came.
    pub message_id: Option<String>,
    /// The prefixes that the request's envelope binds.
    pub prefixes: Vec<(String, Arc<str>)>,
}

/// An option of `w:OptionSet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestOption {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Whether the request fails if it cannot be complied with.
    pub must_comply: bool,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Request {
    /// `wsa:Action`; empty for Identify, which needs no headers.
    pub action: String,
    /// Whether this is Identify.
    pub identify: bool,
    /// `w:ResourceURI`.
    pub resource_uri: Option<String>,
    /// `w:SelectorSet`.
    pub selectors: Vec<Selector>,
    /// `w:OptionSet`.
    pub options: Vec<RequestOption>,
    /// `w:MaxEnvelopeSize`: bytes that the answer may have.
    pub max_envelope: Option<usize>,
    /// `w:OperationTimeout`.
    pub timeout: Option<Duration>,
    /// `w:FragmentTransfer`.
    pub fragment: Option<String>,
    /// `w:RequestTotalItemsCountEstimate`.
    pub wants_total: bool,
    /// `e:Identifier` of a subscription.
    pub subscription: Option<String>,
    /// The first element of the body.
    pub body: Option<Element>,
}

/// Headers that are known, by namespace.
const KNOWN: [(&str, &[&str]); 5] = [
    (
        uri::ADDRESSING,
        &[
            "Action",
            "To",
            "MessageID",
            "ReplyTo",
            "FaultTo",
            "From",
            "RelatesTo",
        ],
    ),
    (
        uri::WSMAN,
        &[
            "ResourceURI",
            "SelectorSet",
            "OptionSet",
            "MaxEnvelopeSize",
            "OperationTimeout",
            "Locale",
            "FragmentTransfer",
            "RequestTotalItemsCountEstimate",
        ],
    ),
    (
        uri::MICROSOFT,
        &[
            "DataLocale",
            "SessionId",
            "OperationID",
            "SequenceId",
            "ActivityId",
        ],
    ),
    (uri::EVENTING, &["Identifier"]),
    (uri::ENUMERATION, &["EnumerationContext"]),
];

/// Reads a request out of its document.
pub fn read(document: Document) -> (Origin, Result<Request, Fault>) {
    let Document { root, prefixes } = document;
    let mut origin = Origin {
        message_id: None,
        prefixes,
    };
    if !root.is(uri::SOAP, "Envelope") {
        let fault = match (&*root.namespace, root.local.as_str()) {
            (_, "Envelope") => Fault::version_mismatch(),
            _ => Fault::schema("The document is not a SOAP envelope."),
        };
        return (origin, Err(fault));
    }
    let mut header = None;
    let mut body = None;
    for child in root.children {
        if child.is(uri::SOAP, "Header") {
            header = header.or(Some(child));
        } else if child.is(uri::SOAP, "Body") {
            body = body.or(Some(child));
        }
    }
    let headers = header.map(|it| it.children).unwrap_or_default();
    let id = headers
        .iter()
        .find(|it| it.is(uri::ADDRESSING, "MessageID"));
    origin.message_id = id.map(|it| it.text.clone()).filter(|it| it.len() <= 1024);
    let Some(body) = body else {
        let fault = Fault::schema("The envelope has no Body.");
        return (origin, Err(fault));
    };
    let body = body.children.into_iter().next();
    let request = of_parts(&headers, body);
    (origin, request)
}

fn of_parts(headers: &[Element], body: Option<Element>) -> Result<Request, Fault> {
    check_understood(headers)?;
    let find = |namespace: &str, local: &str| headers.iter().find(|it| it.is(namespace, local));
    let text =
        |namespace: &str, local: &str| find(namespace, local).map(|it| it.trimmed().to_owned());
    let identify = body
        .as_ref()
        .is_some_and(|it| it.is(uri::IDENTITY, "Identify"));
    let action = text(uri::ADDRESSING, "Action").unwrap_or_default();
    if !identify {
        for name in ["Action", "To", "MessageID"] {
            if text(uri::ADDRESSING, name).is_none_or(|it| it.is_empty()) {
                return Err(Fault::header_required(&format!("wsa:{name}")));
            }
        }
        let reply_to = find(uri::ADDRESSING, "ReplyTo")
            .ok_or_else(|| Fault::header_required("wsa:ReplyTo"))?;
        let address = reply_to.child(uri::ADDRESSING, "Address");
        if address.is_none_or(|it| it.trimmed() != uri::ANONYMOUS) {
            return Err(Fault::addressing_mode());
        }
    }
    let selectors = find(uri::WSMAN, "SelectorSet");
    Ok(Request {
        action,
        identify,
        resource_uri: text(uri::WSMAN, "ResourceURI").filter(|it| !it.is_empty()),
        selectors: selectors.map_or(Ok(Vec::new()), read_selectors)?,
        options: find(uri::WSMAN, "OptionSet").map_or_else(Vec::new, options),
        max_envelope: max_envelope(text(uri::WSMAN, "MaxEnvelopeSize"))?,
        timeout: timeout(text(uri::WSMAN, "OperationTimeout"))?,
        fragment: text(uri::WSMAN, "FragmentTransfer"),
        wants_total: find(uri::WSMAN, "RequestTotalItemsCountEstimate").is_some(),
        subscription: text(uri::EVENTING, "Identifier"),
        body,
    })
}

fn check_understood(headers: &[Element]) -> Result<(), Fault> {
    let must = |it: &&Element| {
        let flag = it.attributes.iter().find(|attribute| {
            attribute.local == "mustUnderstand" && &*attribute.namespace == uri::SOAP
        });
        flag.is_some_and(|it| matches!(it.value.trim(), "true" | "1"))
    };
    let known = |it: &&Element| {
        KNOWN.iter().any(|(namespace, names)| {
            &*it.namespace == *namespace && names.contains(&it.local.as_str())
        })
    };
    let strange = headers.iter().filter(must).filter(|it| !known(it));
    let strange: Vec<(String, String)> = strange
        .map(|it| (it.namespace.to_string(), it.local.clone()))
        .collect();
    match strange.is_empty() {
        true => Ok(()),
        false => Err(Fault::not_understood(strange)),
    }
}

fn options(set: &Element) -> Vec<RequestOption> {
    let options = set.children.iter().filter(|it| it.local == "Option");
    options
        .map(|it| RequestOption {
            name: it.attribute("Name").unwrap_or_default().to_owned(),
            value: it.trimmed().to_owned(),
            must_comply: it
                .attribute("MustComply")
                .is_some_and(|flag| matches!(flag.trim(), "true" | "1")),
        })
        .collect()
}

fn max_envelope(text: Option<String>) -> Result<Option<usize>, Fault> {
    let Some(text) = text.filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let size = text.parse::<u64>();
    let size = size.map_err(|_| Fault::header_invalid("MaxEnvelopeSize is not a number."))?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size < SMALLEST_ENVELOPE {
        let reason =
            format!("MaxEnvelopeSize is {size}; at least {SMALLEST_ENVELOPE} bytes are needed.");
        return Err(Fault::encoding_limit("MinimumEnvelopeLimit", reason));
    }
    Ok(Some(size))
}

fn timeout(text: Option<String>) -> Result<Option<Duration>, Fault> {
    let Some(text) = text.filter(|it| !it.is_empty()) else {
        return Ok(None);
    };
    let found = parse_duration(&text);
    let found = found.ok_or_else(|| {
        Fault::header_invalid("OperationTimeout is not a duration such as PT60S.")
    })?;
    Ok(Some(found.min(LONGEST_TIMEOUT)))
}

impl Request {
    /// The resource that the headers name.
    pub fn target(&self) -> Result<EndpointReference, Fault> {
        let uri = self.resource_uri.clone();
        Ok(EndpointReference {
            uri: uri.ok_or_else(|| Fault::header_required("wsman:ResourceURI"))?,
            selectors: self.selectors.clone(),
        })
    }
}
