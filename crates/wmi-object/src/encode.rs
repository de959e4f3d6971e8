//! Classes into class parts and methods parts (MS-WMIO 2.2.15 and 2.2.38).

use crate::block::Decoration;
use crate::heap::{self, Heap};
use crate::qualifiers::QualifierSet;
use crate::text::{self, NOWHERE};
use crate::types;
use crate::value::Values;
use crate::{block, parameters};
use cim::{Class, MethodDecl, Name, PropertyDecl, Type, Value};
use xxhash_rust::xxh3::xxh3_128;

/// Why an object cannot be encoded.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// A value of another type than declared.
    #[error("{class}.{element}: the value is not of the declared type {expected}")]
    Type {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
        /// Its declared type.
        expected: Type,
    },
    /// An array item is NULL, for which the encoding has no form.
    #[error("{class}.{element}: an array item is NULL, which WMI's arrays cannot hold")]
    NullItem {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
    },
    /// A string holds U+0000, which ends strings in the encoding.
    #[error("{class}.{element}: the text holds U+0000, which ends strings in WMI's encoding")]
    Nul {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
    },
    /// An embedded object of a class that the schema does not have.
    #[error("{class}.{element}: the embedded object's class {embedded} is not known")]
    UnknownClass {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
        /// The class of the object in it.
        embedded: Name,
    },
    /// Objects in objects, deeper than any reader accepts.
    #[error("{class}.{element}: objects stand in each other deeper than 8 levels")]
    TooDeep {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
    },
    /// An embedded object that cannot be encoded itself.
    #[error("{class}.{element}: {reason}")]
    Embedded {
        /// The class.
        class: Name,
        /// The property.
        element: Name,
        /// What is wrong inside.
        #[source]
        reason: Box<EncodeError>,
    },
    /// More than the format's fields, or sense, allow.
    #[error("class {class} or its instance is too large to be encoded (64 MiB, 65535 members)")]
    TooLarge {
        /// The class.
        class: Name,
    },
    /// The instance is of another class than the layout it was to be encoded with.
    #[error("an instance of {found} was to be encoded as one of {expected}")]
    OtherClass {
        /// The layout's class.
        expected: Name,
        /// The instance's class.
        found: Name,
    },
}

/// What went wrong, before it is known where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fault {
    Type,
    NullItem,
    Nul,
    UnknownClass(Name),
    TooDeep,
    TooLarge,
    Embedded(Box<EncodeError>),
}

impl Fault {
    pub(crate) fn at(self, class: &Name, element: &Name, expected: Type) -> EncodeError {
        let (class, element) = (class.clone(), element.clone());
        match self {
            Fault::Type => EncodeError::Type {
                class,
                element,
                expected,
            },
            Fault::NullItem => EncodeError::NullItem { class, element },
            Fault::Nul => EncodeError::Nul { class, element },
            Fault::UnknownClass(embedded) => EncodeError::UnknownClass {
                class,
                element,
                embedded,
            },
            Fault::TooDeep => EncodeError::TooDeep { class, element },
            Fault::TooLarge => EncodeError::TooLarge { class },
            Fault::Embedded(reason) => EncodeError::Embedded {
                class,
                element,
                reason,
            },
        }
    }

    /// Of a name or qualifier of the class, or of the class as a whole.
    pub(crate) fn of_class(self, class: &Name) -> EncodeError {
        self.at(class, class, Type::scalar(cim::CimType::String))
    }
}

/// A class and its ancestors, nearest first, each with its inherited members.
#[derive(Clone, Debug)]
pub struct Lineage<'a> {
    classes: Vec<&'a Class>,
}

impl<'a> Lineage<'a> {
    /// A class without a superclass.
    pub fn root(class: &'a Class) -> Self {
        Lineage {
            classes: vec![class],
        }
    }

    /// A class and its ancestors, nearest first.
    pub fn new(class: &'a Class, ancestors: impl IntoIterator<Item = &'a Class>) -> Self {
        let mut classes = vec![class];
        classes.extend(ancestors);
        Lineage { classes }
    }

    /// The class itself.
    pub fn class(&self) -> &'a Class {
        self.classes[0]
    }

    /// Its ancestors, nearest first.
    pub(crate) fn ancestors(&self) -> &[&'a Class] {
        self.classes.get(1..).unwrap_or(&[])
    }

    pub(crate) fn superclass(&self) -> Option<Lineage<'a>> {
        let (first, rest) = self.ancestors().split_first()?;
        Some(Lineage::new(first, rest.iter().copied()))
    }

    /// The number of the class that introduced a member: the root is 0. A class that is not in the
    /// lineage counts as the class itself.
    fn origin(&self, class: &Name) -> u32 {
        let last = self.classes.len() - 1;
        let from_class = self.classes.iter().position(|it| it.name == *class);
        u32::try_from(last - from_class.unwrap_or(0)).unwrap_or(u32::MAX)
    }
}

/// Where the classes of embedded objects come from.
pub trait ClassSource {
    /// The class called `name` and its ancestors.
    fn lineage(&self, name: &Name) -> Option<Lineage<'_>>;
}

impl ClassSource for cim::mof::Repository {
    fn lineage(&self, name: &Name) -> Option<Lineage<'_>> {
        let class = self.class(name)?;
        Some(Lineage::new(
            class,
            self.superclasses(name).map(AsRef::as_ref),
        ))
    }
}

/// No classes: for objects without embedded objects.
pub struct NoClasses;

impl ClassSource for NoClasses {
    fn lineage(&self, _name: &Name) -> Option<Lineage<'_>> {
        None
    }
}

/// Where a property's value stands in an instance.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) name: Name,
    pub(crate) ty: Type,
}

/// The encoded class part of a class: the same in all its instances, so it is made once.
#[derive(Clone, Debug)]
pub struct ClassLayout {
    name: Name,
    part: Vec<u8>,
    slots: Vec<Slot>,
    id: [u8; 16],
}

impl ClassLayout {
    /// The layout of whole instances.
    pub fn new(lineage: &Lineage<'_>) -> Result<Self, EncodeError> {
        Self::of(lineage, |_| true)
    }

    /// The layout of instances of which a query selected only some properties. Those of the keys
    /// among them should be there: clients make `__PATH` from them.
    pub fn projected<S: AsRef<str>>(
        lineage: &Lineage<'_>,
        keep: &[S],
    ) -> Result<Self, EncodeError> {
        Self::of(lineage, |decl| {
            keep.iter().any(|name| decl.name.is(name.as_ref()))
        })
    }

    fn of(
        lineage: &Lineage<'_>,
        keep: impl Fn(&PropertyDecl) -> bool,
    ) -> Result<Self, EncodeError> {
        let class = lineage.class();
        let kept: Vec<&PropertyDecl> = class.properties.iter().filter(|it| keep(it)).collect();
        let part = class_part(lineage, &kept)?;
        let slots = kept.iter().map(|decl| Slot {
            name: decl.name.clone(),
            ty: decl.ty,
        });
        Ok(ClassLayout {
            name: class.name.clone(),
            slots: slots.collect(),
            id: xxh3_128(&part).to_le_bytes(),
            part,
        })
    }

    /// The class.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Tells layouts apart in enumeration packets: equal layouts have equal ids.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    pub(crate) fn part(&self) -> &[u8] {
        &self.part
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// The class part of nothing: the parent of a root class.
pub(crate) fn empty_class_part(out: &mut Vec<u8>) {
    let words: [&[u8]; 7] = [
        &29_u32.to_le_bytes(),
        &[0],
        &NOWHERE.to_le_bytes(),
        &0_u32.to_le_bytes(),
        &[4, 0, 0, 0, 4, 0, 0, 0],
        &0_u32.to_le_bytes(),
        &[0, 0, 0, 0x80],
    ];
    out.extend(words.concat());
}

/// The methods part of a class without methods.
pub(crate) fn empty_methods_part(out: &mut Vec<u8>) {
    out.extend_from_slice(&[12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80]);
}

fn class_part(lineage: &Lineage<'_>, kept: &[&PropertyDecl]) -> Result<Vec<u8>, EncodeError> {
    let class = lineage.class();
    let whole = |fault: Fault| fault.of_class(&class.name);
    let mut heap = Heap::default();
    // First in the heap: clients take offset 0 for "nothing" elsewhere.
    let name = match class.name.as_str() {
        // The class that clients make new ones of has none.
        "" => NOWHERE,
        name => heap.text(name).map_err(whole)?,
    };
    let table = property_table(lineage, kept, &mut heap)?;
    let mut qualifiers = QualifierSet::new();
    let superior = lineage.superclass();
    let inherited = superior
        .as_ref()
        .map_or(&[][..], |it| &it.class().qualifiers);
    qualifiers
        .extend(&mut heap, &class.qualifiers, inherited)
        .map_err(whole)?;

    let mut part = vec![0; 4];
    part.push(0);
    part.extend_from_slice(&name.to_le_bytes());
    let tables = table.flags.len() + table.values.len();
    part.extend_from_slice(&heap::length(tables).map_err(whole)?.to_le_bytes());
    part.extend(derivation(lineage).map_err(whole)?);
    part.extend(qualifiers.finish().map_err(whole)?);
    part.extend(table.lookup);
    part.extend(table.flags);
    part.extend(table.values);
    heap.finish(&mut part).map_err(whole)?;
    heap::set_length(&mut part, 0).map_err(whole)?;
    Ok(part)
}

/// The ancestors' names, nearest first, each followed by its length.
fn derivation(lineage: &Lineage<'_>) -> Result<Vec<u8>, Fault> {
    let mut list = vec![0; 4];
    for ancestor in lineage.ancestors() {
        let start = list.len();
        text::push(&mut list, ancestor.name.as_str()).ok_or(Fault::Nul)?;
        let length = heap::length(list.len() - start)?;
        list.extend_from_slice(&length.to_le_bytes());
    }
    heap::set_length(&mut list, 0)?;
    Ok(list)
}

/// Two flags a property, in the order of declaration (MS-WMIO 2.2.26).
pub(crate) struct Flags {
    bytes: Vec<u8>,
}

impl Flags {
    pub(crate) const NULL: u8 = 1;
    /// The value is the superclass's, or in an instance the class's.
    pub(crate) const DEFAULT: u8 = 2;

    pub(crate) fn new(properties: usize) -> Self {
        Flags {
            bytes: vec![0; types::flag_table_size(properties)],
        }
    }

    pub(crate) fn set(&mut self, property: usize, flags: u8) {
        if let Some(byte) = self.bytes.get_mut(property / 4) {
            *byte |= flags << (property % 4 * 2);
        }
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

struct PropertyTable {
    lookup: Vec<u8>,
    flags: Vec<u8>,
    values: Vec<u8>,
}

fn property_table(
    lineage: &Lineage<'_>,
    kept: &[&PropertyDecl],
    heap: &mut Heap,
) -> Result<PropertyTable, EncodeError> {
    let class = lineage.class();
    let too_large = |_| Fault::TooLarge.of_class(&class.name);
    let superior = lineage.superclass();
    let mut flags = Flags::new(kept.len());
    let mut values = Vec::new();
    let mut entries: Vec<(&Name, [u32; 2])> = Vec::with_capacity(kept.len());
    for (order, decl) in kept.iter().enumerate() {
        let at = |fault: Fault| fault.at(&class.name, &decl.name, decl.ty);
        let above = superior
            .as_ref()
            .and_then(|it| it.class().property(decl.name.as_str()));
        // Never a word of the dictionary, which would lose the spelling.
        let name = heap.text(decl.name.as_str()).map_err(at)?;
        let info = PropertyInfo {
            order: u16::try_from(order).map_err(too_large)?,
            offset: heap::length(values.len()).map_err(at)?,
            origin: lineage.origin(&decl.origin),
        };
        let info = info.put(decl, above, heap).map_err(at)?;
        entries.push((&decl.name, [name, info]));
        let inherited = above.is_some_and(|above| above.default == decl.default);
        if inherited {
            flags.set(order, Flags::DEFAULT);
        }
        if decl.default.is_null() {
            flags.set(order, Flags::NULL);
            no_default(decl.ty, &mut values);
        } else {
            put_default(decl, heap, &mut values).map_err(at)?;
        }
    }
    // Clients search the table by halves.
    entries.sort_by(|a, b| a.0.cmp(b.0));
    let mut lookup = u32::try_from(entries.len())
        .map_err(too_large)?
        .to_le_bytes()
        .to_vec();
    for (_, references) in entries {
        lookup.extend(references.iter().flat_map(|it| it.to_le_bytes()));
    }
    Ok(PropertyTable {
        lookup,
        flags: flags.into_bytes(),
        values,
    })
}

/// What stands in the value table for a property without a default. Nobody should look at it (the
/// flags say NULL), and WMI writes ones. Some clients do look, and take the ones for a number or for
/// TRUE: zeroes they take for nothing. References are ones, for zero refers to the class's name.
fn no_default(ty: Type, values: &mut Vec<u8>) {
    let is_reference = ty.array || types::is_in_heap(ty.kind);
    let filler = if is_reference { 0xff } else { 0 };
    values.extend(std::iter::repeat_n(filler, types::slot_size(ty)));
}

fn put_default(decl: &PropertyDecl, heap: &mut Heap, values: &mut Vec<u8>) -> Result<(), Fault> {
    let context = Values {
        classes: &NoClasses,
        decoration: None,
        depth: 0,
    };
    context.put(heap, decl.ty, &decl.default, values)
}

struct PropertyInfo {
    order: u16,
    /// In the value table.
    offset: u32,
    origin: u32,
}

impl PropertyInfo {
    fn put(
        &self,
        decl: &PropertyDecl,
        above: Option<&PropertyDecl>,
        heap: &mut Heap,
    ) -> Result<u32, Fault> {
        let mut qualifiers = QualifierSet::new();
        qualifiers.cim_type(heap, &cim_type_text(decl), above.is_some())?;
        let superior = above.map_or(&[][..], |above| &above.qualifiers);
        qualifiers.extend(heap, &decl.qualifiers, superior)?;
        let mut code = types::code(decl.ty);
        if decl.propagated {
            code |= types::INHERITED;
        }
        let mut info = code.to_le_bytes().to_vec();
        info.extend_from_slice(&self.order.to_le_bytes());
        info.extend_from_slice(&self.offset.to_le_bytes());
        info.extend_from_slice(&self.origin.to_le_bytes());
        info.extend(qualifiers.finish()?);
        heap.append(&info)
    }
}

/// The type in WMI's words: `uint16`, `ref:CIM_X`, `object:X`.
fn cim_type_text(decl: &PropertyDecl) -> String {
    use cim::CimType::{Object, Reference};
    match (decl.ty.kind, &decl.class_ref) {
        (Reference, Some(class)) => format!("ref:{class}"),
        (Reference, None) => "ref".to_owned(),
        (Object, Some(class)) => format!("object:{class}"),
        (kind, _) => kind.name().to_owned(),
    }
}

/// Flag of a method that the class inherited unchanged.
pub(crate) const METHOD_INHERITED: u8 = 0x20;

/// The methods part of a class.
pub(crate) fn methods_part(
    lineage: &Lineage<'_>,
    decoration: Option<&Decoration>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let class = lineage.class();
    if class.methods.is_empty() {
        empty_methods_part(out);
        return Ok(());
    }
    let whole = |fault: Fault| fault.of_class(&class.name);
    let count = u16::try_from(class.methods.len()).map_err(|_| whole(Fault::TooLarge))?;
    let mut heap = Heap::default();
    let mut part = vec![0; 4];
    part.extend_from_slice(&count.to_le_bytes());
    part.extend_from_slice(&[0, 0]);
    for method in &class.methods {
        part.extend(method_description(lineage, method, decoration, &mut heap)?);
    }
    heap.finish(&mut part).map_err(whole)?;
    heap::set_length(&mut part, 0).map_err(whole)?;
    out.extend(part);
    Ok(())
}

fn method_description(
    lineage: &Lineage<'_>,
    method: &MethodDecl,
    decoration: Option<&Decoration>,
    heap: &mut Heap,
) -> Result<Vec<u8>, EncodeError> {
    let class = lineage.class();
    let at = |fault: Fault| {
        fault.at(
            &class.name,
            &method.name,
            Type::scalar(method.return_type.kind),
        )
    };
    let superior = lineage.superclass();
    let above = superior
        .as_ref()
        .and_then(|it| it.class().method(method.name.as_str()));
    // Always text: some clients do not know the dictionary here.
    let name = heap.text(method.name.as_str()).map_err(at)?;
    let mut qualifiers = QualifierSet::new();
    qualifiers
        .extend(
            heap,
            &method.qualifiers,
            above.map_or(&[][..], |above| &above.qualifiers),
        )
        .map_err(at)?;
    let qualifiers = qualifiers.finish().map_err(at)?;
    let qualifiers = heap.append(&qualifiers).map_err(at)?;
    let inputs = signature(parameters::input_class(method).as_ref(), decoration)?;
    let inputs = heap.append(&inputs).map_err(at)?;
    let outputs = signature(Some(&parameters::output_class(method)), decoration)?;
    let outputs = heap.append(&outputs).map_err(at)?;

    let mut description = name.to_le_bytes().to_vec();
    description.push(if method.propagated {
        METHOD_INHERITED
    } else {
        0
    });
    description.extend_from_slice(&[0; 3]);
    for word in [lineage.origin(&method.origin), qualifiers, inputs, outputs] {
        description.extend_from_slice(&word.to_le_bytes());
    }
    Ok(description)
}

/// A length and the object block of a parameter class. The length of none is zero: some clients
/// follow the reference in any case.
fn signature(
    class: Option<&Class>,
    decoration: Option<&Decoration>,
) -> Result<Vec<u8>, EncodeError> {
    let Some(class) = class else {
        return Ok(vec![0; 4]);
    };
    let block = block::encode_class(&Lineage::root(class), decoration)?;
    let length = heap::length(block.len()).map_err(|fault| fault.of_class(&class.name))?;
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend(block);
    Ok(bytes)
}

/// Whether a value needs no slot of its own in an instance.
pub(crate) fn is_absent(value: Option<&Value>) -> bool {
    value.is_none_or(Value::is_null)
}
