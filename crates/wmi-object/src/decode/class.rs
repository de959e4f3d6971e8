//! Class parts and methods parts.

use super::cursor::{Cursor, Heap};
use super::instance::{NullAndDefault, split_tables, within};
use super::{DecodeError, DecodeErrorKind, Object, Reading};
use crate::encode::METHOD_INHERITED;
use crate::parameters;
use crate::qualifiers::{AMENDED, CIMTYPE, NOT_OVERRIDABLE, TO_SUBCLASS};
use crate::text::NOWHERE;
use crate::types;
use cim::{CimType, Class, MethodDecl, Name, PropertyDecl, Qualifier, Type, Value};

/// A class part that was read.
pub(super) struct ClassPart {
    pub(super) name: Name,
    /// Nearest first.
    ancestors: Vec<Name>,
    qualifiers: Vec<Qualifier>,
    /// In the order of declaration.
    pub(super) properties: Vec<PartProperty>,
    /// Bytes of the tables of flags and values, here and in instances.
    pub(super) tables_length: usize,
}

/// A property, and where its value stands in the value table.
pub(super) struct PartProperty {
    pub(super) decl: PropertyDecl,
    pub(super) offset: usize,
}

impl ClassPart {
    /// The class that introduced a member, by its number: the root is 0.
    fn origin(&self, number: u32) -> Name {
        let from_class = usize::try_from(number)
            .ok()
            .and_then(|number| self.ancestors.len().checked_sub(number + 1));
        let ancestor = from_class.and_then(|at| self.ancestors.get(at));
        ancestor.unwrap_or(&self.name).clone()
    }
}

/// A property's entry, before the value table is at hand.
struct Info {
    ty: Type,
    inherited: bool,
    order: usize,
    offset: usize,
    origin: u32,
    qualifiers: Vec<Qualifier>,
}

impl Reading {
    /// A class: the parent's parts are read past, for the class's own have all its members.
    pub(super) fn class(&mut self, cursor: &mut Cursor<'_>) -> Result<Object, DecodeError> {
        cursor.part("parent's class part")?;
        cursor.part("parent's methods part")?;
        let part = self.class_part(cursor)?;
        let methods = self.methods_part(cursor, &part)?;
        let superclass = part.ancestors.first().cloned();
        Ok(Object::Class {
            class: Class {
                name: part.name,
                superclass,
                qualifiers: part.qualifiers,
                properties: part.properties.into_iter().map(|it| it.decl).collect(),
                methods,
            },
            ancestors: part.ancestors,
        })
    }

    pub(super) fn class_part(&mut self, cursor: &mut Cursor<'_>) -> Result<ClassPart, DecodeError> {
        let mut part = cursor.part("class part")?;
        let _reserved = part.u8()?;
        let name = part.u32()?;
        let tables_length = part.length()?;
        let ancestors = self.derivation(&mut part)?;
        let qualifiers = part.part("class qualifiers")?;
        let count = part.length()?;
        if count > self.limits.properties {
            return Err(DecodeErrorKind::Limit("properties of a class").at("class part"));
        }
        let mut lookup = Cursor::new(part.take(count * 8)?, "property table");
        let tables = part.take(tables_length)?;
        let heap = part.heap()?;

        let mut read = ClassPart {
            name: Name::from(heap.name(name, "class name")?),
            ancestors,
            qualifiers: self.qualifiers(qualifiers, heap)?,
            properties: Vec::new(),
            tables_length,
        };
        let mut found = Vec::with_capacity(count);
        while !lookup.is_empty() {
            let name = heap.name(lookup.u32()?, "property name")?;
            self.spend(name.len().saturating_add(64), "property table")?;
            let info = self.property_info(heap.at(lookup.u32()?, "property")?, heap)?;
            found.push((name, info));
        }
        found.sort_by_key(|(_, info)| info.order);
        let (flags, values) = split_tables(tables, count)
            .ok_or_else(|| DecodeErrorKind::Truncated.at("value table"))?;
        for (order, (name, info)) in found.into_iter().enumerate() {
            if info.order != order {
                return Err(DecodeErrorKind::Order.at("property table"));
            }
            let property = self.property(name, info, &read, (flags, values), heap)?;
            read.properties.push(property);
        }
        unique_names(&read)?;
        Ok(read)
    }

    fn derivation(&mut self, part: &mut Cursor<'_>) -> Result<Vec<Name>, DecodeError> {
        let mut list = part.part("list of ancestors")?;
        let mut ancestors = Vec::new();
        while !list.is_empty() {
            let name = list.text()?;
            let _length = list.u32()?;
            self.spend(name.len().saturating_add(16), "list of ancestors")?;
            ancestors.push(Name::from(name));
        }
        Ok(ancestors)
    }

    fn property_info(&mut self, mut info: Cursor<'_>, heap: Heap<'_>) -> Result<Info, DecodeError> {
        let code = info.u32()?;
        let ty =
            types::from_code(code).ok_or_else(|| DecodeErrorKind::Type(code).at("property"))?;
        let order = usize::from(info.u16()?);
        let offset = info.length()?;
        let origin = info.u32()?;
        let qualifiers = info.part("property qualifiers")?;
        Ok(Info {
            ty,
            inherited: code & types::INHERITED != 0,
            order,
            offset,
            origin,
            qualifiers: self.qualifiers(qualifiers, heap)?,
        })
    }

    fn property(
        &mut self,
        name: String,
        info: Info,
        part: &ClassPart,
        (flags, values): (&[u8], &[u8]),
        heap: Heap<'_>,
    ) -> Result<PartProperty, DecodeError> {
        let default = if NullAndDefault::of(flags, info.order).is_null {
            Value::Null
        } else {
            let slot = values.get(info.offset..).unwrap_or(&[]);
            self.value(&mut Cursor::new(slot, "default"), info.ty, heap)
                .map_err(|error| within(error, &name))?
        };
        let mut qualifiers = info.qualifiers;
        let class_ref = take_cim_type(&mut qualifiers, info.ty);
        Ok(PartProperty {
            decl: PropertyDecl {
                name: Name::from(name),
                ty: info.ty,
                class_ref,
                array_size: None,
                default,
                qualifiers,
                origin: part.origin(info.origin),
                propagated: info.inherited,
            },
            offset: info.offset,
        })
    }

    fn qualifiers(
        &mut self,
        mut set: Cursor<'_>,
        heap: Heap<'_>,
    ) -> Result<Vec<Qualifier>, DecodeError> {
        let mut qualifiers = Vec::new();
        while !set.is_empty() {
            let name = heap.name(set.u32()?, "qualifier name")?;
            let flavor = set.u8()?;
            let code = set.u32()?;
            let ty = types::from_code(code)
                .ok_or_else(|| DecodeErrorKind::Type(code).at(format!("qualifier {name}")))?;
            self.spend(name.len().saturating_add(64), "qualifiers")?;
            let value = self
                .value(&mut set, ty, heap)
                .map_err(|error| DecodeError {
                    place: format!("qualifier {name}"),
                    ..error
                })?;
            qualifiers.push(Qualifier {
                name: Name::from(name),
                ty,
                value,
                overridable: flavor & NOT_OVERRIDABLE == 0,
                to_subclass: flavor & TO_SUBCLASS != 0,
                translatable: flavor & AMENDED != 0,
            });
        }
        Ok(qualifiers)
    }

    fn methods_part(
        &mut self,
        cursor: &mut Cursor<'_>,
        class: &ClassPart,
    ) -> Result<Vec<MethodDecl>, DecodeError> {
        let mut part = cursor.part("methods part")?;
        let count = usize::from(part.u16()?);
        let _padding = part.u16()?;
        if count > self.limits.methods {
            return Err(DecodeErrorKind::Limit("methods of a class").at("methods part"));
        }
        let mut descriptions = Cursor::new(part.take(count * 24)?, "methods part");
        let heap = part.heap()?;
        let mut methods = Vec::with_capacity(count);
        while !descriptions.is_empty() {
            methods.push(self.method(&mut descriptions, heap, class)?);
        }
        Ok(methods)
    }

    fn method(
        &mut self,
        description: &mut Cursor<'_>,
        heap: Heap<'_>,
        class: &ClassPart,
    ) -> Result<MethodDecl, DecodeError> {
        let name = heap.name(description.u32()?, "method name")?;
        self.spend(name.len().saturating_add(64), "methods part")?;
        let flags = description.u8()?;
        description.take(3)?;
        let origin = description.u32()?;
        let qualifiers = match description.u32()? {
            NOWHERE => Vec::new(),
            at => {
                let set = heap
                    .at(at, "method qualifiers")?
                    .part("method qualifiers")?;
                self.qualifiers(set, heap)?
            }
        };
        let input = self.signature(description.u32()?, heap)?;
        let output = self.signature(description.u32()?, heap)?;
        let method = parameters::method_from(Name::new(&name), input.as_ref(), output.as_ref());
        let Some(mut method) = method else {
            return Err(DecodeErrorKind::Parameters(name).at("methods part"));
        };
        method.qualifiers = qualifiers;
        method.origin = class.origin(origin);
        method.propagated = flags & METHOD_INHERITED != 0;
        Ok(method)
    }

    /// A parameter class; `None` when there is none.
    fn signature(&mut self, at: u32, heap: Heap<'_>) -> Result<Option<Class>, DecodeError> {
        if at == NOWHERE {
            return Ok(None);
        }
        let mut block = heap.at(at, "method signature")?;
        let length = block.length()?;
        if length == 0 {
            return Ok(None);
        }
        let block = block.take(length)?;
        if self.depth >= self.limits.depth {
            return Err(DecodeErrorKind::Limit("objects inside objects").at("method signature"));
        }
        self.depth += 1;
        let decoded = self.block(block);
        self.depth -= 1;
        match decoded?.object {
            Object::Class { class, .. } => Ok(Some(class)),
            Object::Instance(_) => Err(DecodeErrorKind::Flags(2).at("method signature")),
        }
    }
}

/// Takes the type in words out of the qualifiers: the class that a reference or object is of.
fn take_cim_type(qualifiers: &mut Vec<Qualifier>, ty: Type) -> Option<Name> {
    let at = qualifiers.iter().position(|it| it.name.is(CIMTYPE))?;
    let text = qualifiers.remove(at).value;
    if !matches!(ty.kind, CimType::Reference | CimType::Object) {
        return None;
    }
    let (_, class) = text.as_str()?.split_once(':')?;
    Some(Name::new(class))
}

fn unique_names(part: &ClassPart) -> Result<(), DecodeError> {
    let mut names: Vec<&Name> = part.properties.iter().map(|it| &it.decl.name).collect();
    names.sort();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(DecodeErrorKind::Name(pair[0].to_string()).at("property table")),
        None => Ok(()),
    }
}
