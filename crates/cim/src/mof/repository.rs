//! The classes of one namespace, compiled from MOF.

use super::ast::{self, Item, Literal, LiteralKind};
use super::declare::{self, Declared, QualifierTable};
use super::{Fault, MofError, MofErrorKind, parser, resolve};
use crate::{Class, Instance, Name, Namespace, ObjectPath, QualifierDecl, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// The classes of one namespace, resolved: every class with its inherited members, and its
/// subclasses. Cloning shares the classes.
#[derive(Clone, Debug, Default)]
pub struct Repository {
    classes: HashMap<Name, Arc<Class>>,
    /// In the order in which they were resolved: superclasses before subclasses.
    order: Vec<Arc<Class>>,
    /// Direct subclasses, in declared order.
    subclasses: HashMap<Name, Vec<Name>>,
    qualifiers: Vec<QualifierDecl>,
    instances: Vec<Instance>,
    namespace: Option<Namespace>,
}

impl Repository {
    /// Compiles the classes and instances of `files`, pairs of a name for error messages and MOF
    /// text. Classes may come in any order. The first error ends it.
    pub fn compile(files: &[(&str, &str)]) -> Result<Self, MofError> {
        let mut sources = Vec::with_capacity(files.len());
        let mut table = QualifierTable::standard()?;
        let mut repository = Repository::default();
        for (file, text) in files {
            let locate = |fault: Fault| fault.within(file, text);
            let parsed = parser::parse(text).map_err(locate)?;
            for item in &parsed.items {
                if let Item::Qualifier(qualifier) = item {
                    table.declare(qualifier).map_err(locate)?;
                }
            }
            repository
                .enter_namespace(parsed.namespace.as_deref())
                .map_err(|kind| locate(Fault::new(0, kind)))?;
            sources.push(parsed);
        }
        repository.add_classes(files, &sources, &table)?;
        repository.add_instances(files, &sources)?;
        repository.qualifiers = table.into_sorted();
        Ok(repository)
    }

    /// Takes a text's `#pragma namespace`, which must be the same in all texts that have one.
    fn enter_namespace(&mut self, pragma: Option<&str>) -> Result<(), MofErrorKind> {
        let Some(pragma) = pragma else {
            return Ok(());
        };
        // Written for a host: `\\\\.\\root\\virtualization`.
        let path = pragma.trim().replace('\\', "/");
        let local = match path.strip_prefix("//") {
            Some(rest) => rest.split_once('/').map_or("", |(_host, local)| local),
            None => path.as_str(),
        };
        let namespace = Namespace::new(local);
        match &self.namespace {
            Some(first) if *first != namespace => Err(MofErrorKind::Namespace {
                first: first.to_string(),
                second: namespace.to_string(),
            }),
            _ => {
                self.namespace = Some(namespace);
                Ok(())
            }
        }
    }

    fn add_classes(
        &mut self,
        files: &[(&str, &str)],
        sources: &[ast::Text],
        table: &QualifierTable,
    ) -> Result<(), MofError> {
        // Those that still wait for their superclass, by its name.
        let mut waiting: HashMap<Name, Vec<Pending<'_>>> = HashMap::new();
        let mut ready = Vec::new();
        let mut hierarchy = Hierarchy::default();
        for ((file, text), source) in files.iter().zip(sources) {
            let locate = |fault: Fault| fault.within(file, text);
            for item in &source.items {
                let Item::Class(class) = item else { continue };
                let known = hierarchy.insert(&class.name, class.superclass.as_ref());
                if known.is_some() {
                    let kind = MofErrorKind::DuplicateClass(class.name.clone());
                    return Err(locate(Fault::new(class.at, kind)));
                }
                let declared = declare::class(class, table).map_err(locate)?;
                let pending = Pending {
                    declared,
                    file,
                    text,
                };
                match &class.superclass {
                    Some(superclass) => {
                        waiting.entry(superclass.clone()).or_default().push(pending)
                    }
                    None => ready.push(pending),
                }
            }
        }
        // Depth first, so that a hierarchy stands together; reversed because the stack is.
        ready.reverse();
        while let Some(pending) = ready.pop() {
            let name = pending.declared.class.name.clone();
            self.add_class(pending, &hierarchy)?;
            if let Some(mut children) = waiting.remove(&name) {
                children.reverse();
                ready.extend(children);
            }
        }
        match waiting.into_values().flatten().min_by_key(Pending::place) {
            None => Ok(()),
            Some(stuck) => Err(stuck.explain(&hierarchy)),
        }
    }

    fn add_class(
        &mut self,
        pending: Pending<'_>,
        hierarchy: &Hierarchy<'_>,
    ) -> Result<(), MofError> {
        let Pending {
            declared,
            file,
            text,
        } = pending;
        let locate = |fault: Fault| fault.within(file, text);
        let superclass = declared.class.superclass.clone();
        let class = match superclass.as_ref().and_then(|name| self.classes.get(name)) {
            Some(superclass) => {
                let is_a = |class: &Name, ancestor: &Name| may_derive(hierarchy, class, ancestor);
                resolve::inherit(declared, superclass, &is_a).map_err(locate)?
            }
            None => {
                resolve::check_root(&declared).map_err(locate)?;
                declared.class
            }
        };
        let class = Arc::new(class);
        if let Some(superclass) = superclass {
            self.subclasses
                .entry(superclass)
                .or_default()
                .push(class.name.clone());
        }
        self.classes.insert(class.name.clone(), Arc::clone(&class));
        self.order.push(class);
        Ok(())
    }

    fn add_instances(
        &mut self,
        files: &[(&str, &str)],
        sources: &[ast::Text],
    ) -> Result<(), MofError> {
        let mut aliases: HashMap<Name, ObjectPath> = HashMap::new();
        for ((file, text), source) in files.iter().zip(sources) {
            for item in &source.items {
                let Item::Instance(ast) = item else { continue };
                let instance = self
                    .instance(ast, &aliases)
                    .map_err(|fault| fault.within(file, text))?;
                if let (Some(alias), Some(path)) = (&ast.alias, &instance.path) {
                    aliases.insert(alias.clone(), path.clone());
                }
                self.instances.push(instance);
            }
        }
        Ok(())
    }

    fn instance(
        &self,
        ast: &ast::Instance,
        aliases: &HashMap<Name, ObjectPath>,
    ) -> Result<Instance, Fault> {
        let fault = |kind: MofErrorKind| Fault::new(ast.at, kind);
        let class = self
            .class(&ast.class)
            .ok_or_else(|| fault(MofErrorKind::UnknownClass(ast.class.clone())))?;
        let resolve = |literal: &Literal| match &literal.kind {
            LiteralKind::Alias(name) => Some(match aliases.get(name) {
                Some(path) => Ok(Value::from(path.clone())),
                None => Err(Fault::new(
                    literal.at,
                    MofErrorKind::UnknownAlias(name.clone()),
                )),
            }),
            LiteralKind::Instance(nested) => Some(self.instance(nested, aliases).map(Value::from)),
            _ => None,
        };
        let mut instance = Instance::of_class(class);
        for (name, literal) in &ast.properties {
            let decl = class.property(name.as_str()).ok_or_else(|| {
                let error = crate::InstanceError::UnknownProperty {
                    class: class.name.clone(),
                    property: name.clone(),
                };
                Fault::new(literal.at, error)
            })?;
            let value = declare::instance_value(literal, decl, &resolve)?;
            instance
                .set(name.as_str(), value)
                .map_err(|error| Fault::new(literal.at, error))?;
        }
        // Embedded instances often have no keys; then they have no path either.
        instance.path = instance.path_from_keys(class).ok();
        Ok(instance)
    }

    /// The namespace that the files name with `#pragma namespace`, if they do.
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// The class called `name`, with inherited properties and methods.
    pub fn class(&self, name: &Name) -> Option<&Arc<Class>> {
        self.classes.get(name)
    }

    /// All classes, superclasses before subclasses.
    pub fn classes(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.order.iter()
    }

    /// The classes without a superclass.
    pub fn roots(&self) -> impl Iterator<Item = &Arc<Class>> {
        self.order.iter().filter(|class| class.superclass.is_none())
    }

    /// The subclasses of `name`, itself not included: direct ones, or with `deep` all of them, each
    /// after its superclass.
    pub fn subclasses(&self, name: &Name, deep: bool) -> Vec<&Arc<Class>> {
        let mut found = Vec::new();
        let mut stack: Vec<&Name> = self.direct(name).iter().rev().collect();
        while let Some(next) = stack.pop() {
            found.extend(self.classes.get(next));
            if deep {
                stack.extend(self.direct(next).iter().rev());
            }
        }
        found
    }

    fn direct(&self, name: &Name) -> &[Name] {
        self.subclasses.get(name).map_or(&[], Vec::as_slice)
    }

    /// The superclasses of `name`, nearest first.
    pub fn superclasses(&self, name: &Name) -> impl Iterator<Item = &Arc<Class>> {
        let superclass = |class: &Arc<Class>| {
            class
                .superclass
                .as_ref()
                .and_then(|name| self.classes.get(name))
        };
        std::iter::successors(self.classes.get(name).and_then(superclass), move |class| {
            superclass(class)
        })
    }

    /// Whether `class` is `ancestor` or derived from it.
    pub fn is_a(&self, class: &Name, ancestor: &Name) -> bool {
        class == ancestor || self.superclasses(class).any(|it| it.name == *ancestor)
    }

    /// The qualifier declarations, sorted by name.
    pub fn qualifiers(&self) -> &[QualifierDecl] {
        &self.qualifiers
    }

    /// The declaration of the qualifier called `name`.
    pub fn qualifier(&self, name: &str) -> Option<&QualifierDecl> {
        self.qualifiers.iter().find(|decl| decl.name.is(name))
    }

    /// The instances that the files declare, each with all properties of its class.
    pub fn instances(&self) -> &[Instance] {
        &self.instances
    }

    /// Classes that references and embedded instances name but nothing declares, as
    /// (`Class.Member`, the unknown class). They do no harm, but mostly are typing errors.
    pub fn unresolved(&self) -> Vec<(String, Name)> {
        let mut found = Vec::new();
        let mut check = |element: String, class: Option<&Name>| {
            if let Some(class) = class.filter(|class| !self.classes.contains_key(class)) {
                found.push((element, class.clone()));
            }
        };
        for class in &self.order {
            for property in class.properties.iter().filter(|it| !it.propagated) {
                let element = format!("{}.{}", class.name, property.name);
                check(element, property.class_ref.as_ref());
            }
            for method in class.methods.iter().filter(|it| !it.propagated) {
                for parameter in &method.parameters {
                    let element = format!("{}.{}({})", class.name, method.name, parameter.name);
                    check(element, parameter.class_ref.as_ref());
                }
            }
        }
        found
    }
}

/// A class that is not resolved yet, and where it comes from.
struct Pending<'a> {
    declared: Declared,
    file: &'a str,
    text: &'a str,
}

impl Pending<'_> {
    fn place(&self) -> (String, usize) {
        (self.file.to_owned(), self.declared.at)
    }

    /// Why it is stuck: some ancestor is unknown, or it is its own.
    fn explain(self, hierarchy: &Hierarchy<'_>) -> MofError {
        let class = &self.declared.class.name;
        let unknown = ancestry(hierarchy, class)
            .filter_map(|class| Some((class, (*hierarchy.get(class)?)?)))
            .find(|(_, superclass)| !hierarchy.contains_key(superclass));
        let kind = match unknown {
            Some((class, superclass)) => MofErrorKind::UnknownSuperclass {
                class: class.clone(),
                superclass: superclass.clone(),
            },
            None => MofErrorKind::Cycle(class.clone()),
        };
        Fault::new(self.declared.at, kind).within(self.file, self.text)
    }
}

/// Every class that is declared, with its superclass as written: it may be unknown, or a cycle.
type Hierarchy<'a> = HashMap<&'a Name, Option<&'a Name>>;

/// `class` and its superclasses; around a cycle once.
fn ancestry<'a>(hierarchy: &Hierarchy<'a>, class: &'a Name) -> impl Iterator<Item = &'a Name> {
    std::iter::successors(Some(class), |class| hierarchy.get(class).copied().flatten())
        .take(hierarchy.len() + 1)
}

/// Whether `class` is derived from `ancestor`, or at least one of them is not declared here.
fn may_derive(hierarchy: &Hierarchy<'_>, class: &Name, ancestor: &Name) -> bool {
    ancestry(hierarchy, class).any(|it| it == ancestor)
        || !hierarchy.contains_key(class)
        || !hierarchy.contains_key(ancestor)
}
