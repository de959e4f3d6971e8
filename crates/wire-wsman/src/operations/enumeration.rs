//! Enumerate, Pull, Release (DSP0226 section 8). An enumeration is known by its context alone:
//! clients pull with the address of another class than they enumerated.

use super::Call;
use super::classes::{self, ClassForm};
use super::enumerations::{Enumeration, Mode, ObjectForm, Rest, Shown};
use super::filter::{Filter, Polymorphism, read_filter};
use crate::instance::{Form, write_instance};
use crate::soap::duration::{format_duration, parse_expiry};
use crate::soap::fault::Fault;
use crate::soap::reply::Reply;
use crate::soap::uri;
use crate::soap::writer::Writer;
use crate::soap::xml::Element;
use cim::{Instance, Name, Namespace};
use std::time::Duration;

/// Objects that one answer may hold, whatever the client asks for.
const MOST_ITEMS: usize = 32_000;

pub(super) fn enumerate(call: &Call) -> Result<Reply, Fault> {
    let body = operation(call, "Enumerate")?;
    let resource = call.resource()?;
    let mode = mode(body)?;
    let polymorphism = polymorphism(body)?;
    let filter = read_filter(body)?;
    let lifetime = lifetime(call, body, uri::ENUMERATION)?;
    let (namespace, rest) = call.find(&resource, filter, mode)?;
    let class = resource.class.as_ref();
    let form = ObjectForm {
        subclasses: class.map(|it| (it.clone(), polymorphism)),
        family: resource.family,
        mode,
        without_nil: call.without_nil(),
    };
    let shown = Shown::Objects(form);
    opened(
        call,
        body,
        Enumeration::new(shown, namespace, rest, lifetime),
    )
}

/// Enumerates classes (MS-WSMV 3.1.4.1.34), as CIM cmdlets list them.
pub(super) fn enumerate_classes(call: &Call) -> Result<Reply, Fault> {
    let body = operation(call, "Enumerate")?;
    if mode(body)? != Mode::Objects {
        let reason = "Classes have no endpoint references; leave EnumerationMode out.";
        return Err(Fault::unsupported("EnumerationMode", reason));
    }
    if read_filter(body)? != Filter::None {
        let reason = "Classes are not filtered here: give the selector ClassName for what derives \
                      from one, and choose among the answers.";
        return Err(Fault::unsupported("FilteredEnumeration", reason));
    }
    let lifetime = lifetime(call, body, uri::ENUMERATION)?;
    let deep = polymorphism(body)? != Polymorphism::None;
    let (namespace, names) = classes::find(call, deep)?;
    let shown = Shown::Classes(ClassForm::of(call));
    let rest = Rest::of_paths(names);
    opened(
        call,
        body,
        Enumeration::new(shown, namespace, rest, lifetime),
    )
}

/// How long the enumeration is to wait for each pull, or the subscription to last, as the operation of
/// this protocol asks.
pub(super) fn lifetime(
    call: &Call,
    body: &Element,
    protocol: &'static str,
) -> Result<Duration, Fault> {
    let limits = call.operations.enumerations.limits();
    let Some(expires) = body.child(protocol, "Expires") else {
        return Ok(limits.lifetime);
    };
    let asked = parse_expiry(expires.trimmed()).ok_or_else(|| {
        let reason = "Expires is neither a duration nor a moment to come.";
        Fault::expiry(protocol, reason)
    })?;
    Ok(asked.min(limits.longest_lifetime))
}

/// The answer to Enumerate, with the first items if they are wanted.
fn opened(call: &Call, body: &Element, mut enumeration: Enumeration) -> Result<Reply, Fault> {
    let (total, lifetime) = (enumeration.rest.len(), enumeration.lifetime);
    let optimized = body.child(uri::WSMAN, "OptimizeEnumeration").is_some();
    let items = match optimized {
        true => {
            let most = count(body, uri::WSMAN, "MaxElements")?.unwrap_or(1);
            Some(call.items(&mut enumeration, most, None)?)
        }
        false => None,
    };
    let mut w = Writer::default();
    w.open("n:EnumerateResponse");
    if body.child(uri::ENUMERATION, "Expires").is_some() {
        w.leaf("n:Expires", &format_duration(lifetime));
    }
    let over = optimized && enumeration.is_over();
    if over {
        w.empty("n:EnumerationContext", &[]);
    } else {
        let id = call
            .operations
            .enumerations
            .keep(&call.context.user, enumeration)?;
        w.leaf("n:EnumerationContext", &format!("uuid:{id}"));
    }
    if let Some(items) = items {
        w.open("w:Items").raw(&items).close();
        if over {
            w.empty("w:EndOfSequence", &[]);
        }
    }
    Ok(Reply {
        headers: total_header(call, Some(total)),
        ..Reply::with_body(w.finish())
    })
}

pub(super) fn pull(call: &Call) -> Result<Reply, Fault> {
    let body = operation(call, "Pull")?;
    let most = count(body, uri::ENUMERATION, "MaxElements")?.unwrap_or(1);
    let characters = count(body, uri::ENUMERATION, "MaxCharacters")?;
    let open = &call.operations.enumerations;
    let (id, mut enumeration) = open.take(&call.context.user, context(body)?)?;
    let items = call.items(&mut enumeration, most, characters);
    let left = enumeration.rest.len() + usize::from(enumeration.pending.is_some());
    let over = enumeration.is_over();
    if !over {
        // A failure of one pull does not end the enumeration.
        open.put(id, &call.context.user, enumeration)?;
    }
    let items = items?;
    let mut w = Writer::default();
    w.open("n:PullResponse");
    if !over {
        w.leaf("n:EnumerationContext", &format!("uuid:{id}"));
    }
    w.open("n:Items").raw(&items).close();
    if over {
        w.empty("n:EndOfSequence", &[]);
    }
    Ok(Reply {
        headers: total_header(call, Some(left)),
        ..Reply::with_body(w.finish())
    })
}

/// How many items a Pull wants.
pub(super) fn most_items(call: &Call) -> Result<usize, Fault> {
    let body = operation(call, "Pull")?;
    Ok(count(body, uri::ENUMERATION, "MaxElements")?.unwrap_or(1))
}

pub(super) fn release(call: &Call) -> Result<Reply, Fault> {
    let body = operation(call, "Release")?;
    let open = &call.operations.enumerations;
    open.take(&call.context.user, context(body)?)?;
    Ok(Reply::default())
}

impl Call {
    /// The next items, as many as are wanted and fit: at least one, if there is any.
    fn items(
        &self,
        enumeration: &mut Enumeration,
        most: usize,
        characters: Option<usize>,
    ) -> Result<String, Fault> {
        let room = self.room.saturating_sub(512);
        let room = characters.map_or(room, |it| it.min(room));
        let mut items = String::new();
        let mut count = 0;
        while count < most.min(MOST_ITEMS) {
            let item = match enumeration.pending.take() {
                Some(item) => item,
                None => match self.next_item(enumeration)? {
                    Some(item) => item,
                    None => break,
                },
            };
            if items.len() + item.len() > room {
                if count == 0 {
                    let reason = format!(
                        "One item alone has {} bytes; the answer may have {room} of items. Ask \
                         with a larger MaxEnvelopeSize or MaxCharacters.",
                        item.len()
                    );
                    enumeration.pending = Some(item);
                    return Err(Fault::encoding_limit("MaxEnvelopeSizeExceeded", reason));
                }
                enumeration.pending = Some(item);
                break;
            }
            items.push_str(&item);
            count += 1;
        }
        // Looked at now, so that the last item is known for the last.
        if enumeration.pending.is_none() {
            enumeration.pending = self.next_item(enumeration)?;
            enumeration.ended = enumeration.pending.is_none();
        }
        Ok(items)
    }

    /// The next item, as XML.
    fn next_item(&self, enumeration: &mut Enumeration) -> Result<Option<String>, Fault> {
        let (space, rest) = (&enumeration.namespace, &mut enumeration.rest);
        let form = match &enumeration.shown {
            Shown::Objects(form) => form,
            Shown::Classes(form) => {
                let next = rest.next_path()?;
                let text = next.map(|it| form.text(self, space, &it.class));
                return text.transpose();
            }
        };
        let exact = match &form.subclasses {
            Some((class, Polymorphism::None)) => Some(class),
            _ => None,
        };
        let wanted = |class: &Name| exact.is_none_or(|it| it == class);
        if form.mode == Mode::References {
            while let Some(path) = rest.next_path()? {
                if wanted(&path.class) {
                    let mut w = Writer::default();
                    w.open("a:EndpointReference");
                    form.family.reference(&path).write(&mut w);
                    return Ok(Some(w.finish()));
                }
            }
            return Ok(None);
        }
        while let Some(instance) = rest.next_object()? {
            if wanted(&instance.class) {
                return self.item(form, space, instance).map(Some);
            }
        }
        Ok(None)
    }

    fn item(
        &self,
        shown: &ObjectForm,
        space: &Namespace,
        mut instance: Instance,
    ) -> Result<String, Fault> {
        let shown_as = match &shown.subclasses {
            Some((class, Polymorphism::Exclude)) => {
                let schema = self.broker().schema(space)?;
                schema.class(class)
            }
            _ => None,
        };
        if let Some(class) = shown_as {
            instance
                .properties
                .retain(|it| class.property(it.name.as_str()).is_some());
        }
        let form = Form {
            class: shown_as.map(|it| &it.name),
            without_nil: shown.without_nil,
        };
        let mut w = Writer::default();
        let both = shown.mode == Mode::Both;
        if both {
            w.open("w:Item");
        }
        write_instance(&mut w, &instance, &shown.family, form);
        if both {
            let path = instance.path.as_ref().ok_or_else(|| {
                Fault::unsupported(
                    "EnumerationMode",
                    "What is enumerated are results without paths; there are no references to them.",
                )
            })?;
            w.open("a:EndpointReference");
            shown.family.reference(path).write(&mut w);
            w.close();
        }
        Ok(w.finish())
    }
}

fn operation<'a>(call: &'a Call, name: &str) -> Result<&'a Element, Fault> {
    let body = call.request.body.as_ref();
    body.filter(|it| it.is(uri::ENUMERATION, name))
        .ok_or_else(|| Fault::schema(format!("The body is not wsen:{name}.")))
}

fn context(body: &Element) -> Result<&str, Fault> {
    let context = body.child(uri::ENUMERATION, "EnumerationContext");
    context
        .map(Element::trimmed)
        .ok_or_else(Fault::enumeration_context)
}

fn mode(body: &Element) -> Result<Mode, Fault> {
    let mode = body.child(uri::WSMAN, "EnumerationMode");
    match mode.map(Element::trimmed) {
        None => Ok(Mode::Objects),
        Some("EnumerateEPR") => Ok(Mode::References),
        Some("EnumerateObjectAndEPR") => Ok(Mode::Both),
        Some(other) => {
            let reason = format!(
                "There is no enumeration mode {other:?}; there are EnumerateEPR and \
                 EnumerateObjectAndEPR."
            );
            Err(Fault::unsupported("EnumerationMode", reason))
        }
    }
}

fn polymorphism(body: &Element) -> Result<Polymorphism, Fault> {
    let mode = body.child(uri::BINDING, "PolymorphismMode");
    match mode.map(Element::trimmed) {
        None | Some("IncludeSubClassProperties") => Ok(Polymorphism::Include),
        Some("ExcludeSubClassProperties") => Ok(Polymorphism::Exclude),
        Some("None") => Ok(Polymorphism::None),
        Some(other) => Err(Fault::polymorphism(other)),
    }
}

/// A positive number.
fn count(body: &Element, namespace: &str, name: &str) -> Result<Option<usize>, Fault> {
    let Some(element) = body.child(namespace, name) else {
        return Ok(None);
    };
    let number = element.trimmed().parse::<u64>().ok().filter(|it| *it > 0);
    let number =
        number.ok_or_else(|| Fault::schema(format!("{name} is not a positive number.")))?;
    Ok(Some(usize::try_from(number).unwrap_or(usize::MAX)))
}

fn total_header(call: &Call, total: Option<usize>) -> String {
    let mut w = Writer::default();
    if let Some(total) = total.filter(|_| call.request.wants_total) {
        w.leaf("w:TotalItemsCountEstimate", &total.to_string());
    }
    w.finish()
}
