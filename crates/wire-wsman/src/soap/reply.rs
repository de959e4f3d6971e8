//! An answer's envelope.

use super::fault::{Code, Fault};
use super::request::Origin;
use super::uri;
use super::writer::Writer;
use uuid::Uuid;

/// What an operation answers, before it is put into an envelope.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The action.
    pub action: String,
    /// Headers of this operation, as XML.
    pub headers: String,
    /// The body, as XML.
    pub body: String,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whether it is a fault.
    pub is_fault: bool,
    /// The text.
    pub text: String,
}

/// The envelope of an answer. An answer without an action (to Identify) has no headers.
pub fn envelope(reply: &Reply, origin: &Origin) -> Envelope {
    let mut w = begin();
    if reply.action.is_empty() {
        w.empty("s:Header", &[]);
    } else {
        headers(&mut w, &reply.action, origin, &reply.headers);
    }
    w.open("s:Body").raw(&reply.body);
    Envelope {
        is_fault: false,
        text: w.finish(),
    }
}

/// The envelope of a fault. `machine` is this host's name.
pub fn fault_envelope(fault: &Fault, origin: &Origin, machine: &str) -> Envelope {
    let mut w = begin();
    let mut more = Writer::default();
    if fault.code == Code::VersionMismatch {
        more.open("s:Upgrade").empty(
            "s:SupportedEnvelope",
            &[("qname", "soap12:Envelope"), ("xmlns:soap12", uri::SOAP)],
        );
        more.close();
    }
    for (namespace, local) in &fault.not_understood {
        let qname = format!("h:{local}");
        let attributes = [("qname", qname.as_str()), ("xmlns:h", namespace.as_str())];
        more.empty("s:NotUnderstood", &attributes);
    }
    headers(&mut w, fault.action(), origin, &more.finish());
    w.open("s:Body");
    fault.write(&mut w, machine, &origin.prefixes);
    Envelope {
        is_fault: true,
        text: w.finish(),
    }
}

/// A message that is sent without having been asked for.
pub fn message(action: &str, to: &str, headers: &str, body: &str) -> String {
    let mut w = begin();
    let id = Uuid::new_v4().to_string().to_uppercase();
    w.open("s:Header");
    w.leaf("a:Action", action);
    w.leaf("a:MessageID", &format!("uuid:{id}"));
    w.leaf("a:To", to);
    w.open("a:ReplyTo");
    w.leaf("a:Address", uri::ANONYMOUS).close();
    w.raw(headers).close();
    w.open("s:Body").raw(body);
    w.finish()
}

fn begin() -> Writer {
    let declarations = uri::PREFIXES.map(|(prefix, uri)| (format!("xmlns:{prefix}"), uri));
    let mut attributes = vec![("xml:lang", "en-US")];
    attributes.extend(declarations.iter().map(|(name, uri)| (name.as_str(), *uri)));
    let mut w = Writer::default();
    w.open_with("s:Envelope", &attributes);
    w
}

fn headers(w: &mut Writer, action: &str, origin: &Origin, more: &str) {
    let id = Uuid::new_v4();
    w.open("s:Header");
    w.leaf("a:Action", action);
    w.leaf(
        "a:MessageID",
        &format!("uuid:{}", id.to_string().to_uppercase()),
    );
    w.leaf("a:To", uri::ANONYMOUS);
    if let Some(request) = &origin.message_id {
        w.leaf("a:RelatesTo", request);
    }
    w.raw(more).close();
}

/// How many bytes an envelope has around its body, at most, for an answer to this request.
pub fn overhead(origin: &Origin) -> usize {
    let longest_action = 512;
    let empty = Reply {
        action: "x".to_owned(),
        ..Reply::default()
    };
    envelope(&empty, origin).text.len() + longest_action
}
