//! The association table at work: association instances, associators, references.
//!
//! A [`Link`] is one pair of ends in one row. Everything here first finds the links (from one end,
//! or all of a class) and then makes what was asked for of them: the far ends, the association
//! instances, or their paths. So the operations cannot disagree about what there is.

use crate::access::Context;
use crate::broker::{AssociatorFilter, Broker, ReferenceFilter};
use crate::errors;
use crate::instances::{Shape, localized};
use crate::namespaces::{End, ServedNamespace};
use crate::provider::{Association, Equality};
use crate::resolve::is_a_miss;
use cim::{
    CimError, CimStatus, Class, Instance, KeyValue, Keys, Name, Namespace, ObjectPath, Value,
};
use std::collections::HashMap;

/// One pair of ends. The paths are complete but for the host.
pub(crate) struct Link<'a> {
    row: &'a Association,
    first: ObjectPath,
    second: ObjectPath,
    /// At which end the search began.
    near: End,
}

impl Broker {
    /// The link that a provider says there is, or was, between two objects. `None` when the class is
    /// no association of this namespace.
    pub(crate) fn link_between<'a>(
        &self,
        space: &'a ServedNamespace,
        association: &Name,
        (first, second): (ObjectPath, ObjectPath),
    ) -> Option<Link<'a>> {
        let row = space
            .rows_below(association)
            .find(|row| row.class == *association)?;
        Some(Link {
            row,
            first: localized(&space.name, first),
            second: localized(&space.name, second),
            near: End::First,
        })
    }
}

impl Link<'_> {
    fn at(&self, end: End) -> &ObjectPath {
        match end {
            End::First => &self.first,
            End::Second => &self.second,
        }
    }

    fn far(&self) -> &ObjectPath {
        self.at(self.near.other())
    }
}

/// The filters of associators and references, with classes known to exist.
#[derive(Default)]
struct LinkFilter<'a> {
    association: Option<&'a Name>,
    far_class: Option<&'a Name>,
    near_role: Option<Name>,
    far_role: Option<Name>,
    association_qualifier: Option<Name>,
    far_qualifier: Option<Name>,
}

fn trimmed(name: Option<&Name>) -> Option<Name> {
    name.map(|name| Name::new(name.as_str().trim()))
}

impl<'a> LinkFilter<'a> {
    fn of_associators(
        space: &'a ServedNamespace,
        filter: &AssociatorFilter,
    ) -> Result<Self, CimError> {
        Ok(LinkFilter {
            association: space.association_filter("AssocClass", filter.assoc_class.as_ref())?,
            far_class: space.class_filter("ResultClass", filter.result_class.as_ref())?,
            near_role: trimmed(filter.role.as_ref()),
            far_role: trimmed(filter.result_role.as_ref()),
            association_qualifier: filter.required_assoc_qualifier.clone(),
            far_qualifier: filter.required_qualifier.clone(),
        })
    }

    fn of_references(
        space: &'a ServedNamespace,
        filter: &ReferenceFilter,
    ) -> Result<Self, CimError> {
        Ok(LinkFilter {
            association: space.association_filter("ResultClass", filter.result_class.as_ref())?,
            near_role: trimmed(filter.role.as_ref()),
            association_qualifier: filter.required_qualifier.clone(),
            ..LinkFilter::default()
        })
    }

    /// Whether links of `row`, seen from `near`, can pass at all.
    fn admits_row(&self, space: &ServedNamespace, row: &Association, near: End) -> bool {
        let far = near.other();
        self.association
            .is_none_or(|base| space.is_a(&row.class, base))
            && self
                .near_role
                .as_ref()
                .is_none_or(|role| role == row.role(near))
            && self
                .far_role
                .as_ref()
                .is_none_or(|role| role == row.role(far))
            && has_qualifier(space, &row.class, self.association_qualifier.as_ref())
            && self.far_class.is_none_or(|wanted| {
                row.classes_at(far)
                    .iter()
                    .any(|class| space.is_a(class, wanted) || space.is_a(wanted, class))
            })
    }

    fn admits_far(&self, space: &ServedNamespace, far: &ObjectPath) -> bool {
        self.far_class
            .is_none_or(|wanted| space.is_a(&far.class, wanted))
            && has_qualifier(space, &far.class, self.far_qualifier.as_ref())
    }
}

fn has_qualifier(space: &ServedNamespace, class: &Name, qualifier: Option<&Name>) -> bool {
    qualifier.is_none_or(|qualifier| {
        space
            .find_class(class)
            .is_some_and(|class| class.qualifier(qualifier.as_str()).is_some())
    })
}

impl Broker {
    pub(crate) fn associated_instances(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
        shape: Shape<'_>,
    ) -> Result<Vec<Instance>, CimError> {
        let space = self.namespace_of(namespace, source)?;
        let filter = LinkFilter::of_associators(space, filter)?;
        let mut found = Vec::new();
        for link in self.links_from(context, space, source, &filter)? {
            // An end that has gone since the table was read is not an answer any more.
            if let Some(mut instance) = self.far_instance(context, space, link.far())? {
                shape.apply(&mut instance);
                found.push(instance);
            }
        }
        Ok(found)
    }

    pub(crate) fn associated_paths(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &AssociatorFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        let space = self.namespace_of(namespace, source)?;
        let filter = LinkFilter::of_associators(space, filter)?;
        let links = self.links_from(context, space, source, &filter)?;
        let paths = links
            .into_iter()
            .map(|link| self.complete(space, link.far().clone()));
        Ok(paths.collect())
    }

    pub(crate) fn referring_instances(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
        shape: Shape<'_>,
    ) -> Result<Vec<Instance>, CimError> {
        let space = self.namespace_of(namespace, source)?;
        let filter = LinkFilter::of_references(space, filter)?;
        let mut found = Vec::new();
        for link in self.links_from(context, space, source, &filter)? {
            let mut instance = self.association_instance(space, &link)?;
            shape.apply(&mut instance);
            found.push(instance);
        }
        Ok(found)
    }

    pub(crate) fn referring_paths(
        &self,
        context: &Context,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &ReferenceFilter,
    ) -> Result<Vec<ObjectPath>, CimError> {
        let space = self.namespace_of(namespace, source)?;
        let filter = LinkFilter::of_references(space, filter)?;
        self.links_from(context, space, source, &filter)?
            .iter()
            .map(|link| self.association_path(space, link))
            .collect()
    }

    /// The links of the object that `source` means, in table order.
    fn links_from<'a>(
        &self,
        context: &Context,
        space: &'a ServedNamespace,
        source: &ObjectPath,
        filter: &LinkFilter<'_>,
    ) -> Result<Vec<Link<'a>>, CimError> {
        let source = self.canonical(context, space, source)?;
        let mut found = Vec::new();
        for (row, near) in space.rows_at(&source.class) {
            let Some(row) = space.associations.get(row) else {
                continue;
            };
            if !filter.admits_row(space, row, near) {
                continue;
            }
            // A link of an object to itself shows at both ends of its row, but is one link.
            let seen_from_first = near == End::Second && filter.admits_row(space, row, End::First);
            for link in self.traverse(context, space, row, near, &source)? {
                let seen = seen_from_first && link.first == link.second;
                if !seen && filter.admits_far(space, link.far()) {
                    found.push(link);
                }
            }
        }
        Ok(found)
    }

    /// Crosses one row from `source` (canonical). Ends that the caller may not see are left out.
    fn traverse<'a>(
        &self,
        context: &Context,
        space: &ServedNamespace,
        row: &'a Association,
        near: End,
        source: &ObjectPath,
    ) -> Result<Vec<Link<'a>>, CimError> {
        let cross = match near {
            End::First => &row.forward,
            End::Second => &row.backward,
        };
        let source = localized(&space.name, source.clone());
        let far_ends = cross(context, &self.complete(space, source.clone()))?;
        let mut links = Vec::with_capacity(far_ends.len());
        for far in far_ends {
            let far = localized(&space.name, far);
            match space.provider_of(&far.class) {
                Some(served) if context.role >= served.provider.read_role(&served.class) => {}
                Some(_) => continue,
                None => {
                    tracing::error!(association = %row.class, end = %far, "an end of a class that nobody serves");
                    continue;
                }
            }
            let (first, second) = match near {
                End::First => (source.clone(), far),
                End::Second => (far, source.clone()),
            };
            links.push(Link {
                row,
                first,
                second,
                near,
            });
        }
        Ok(links)
    }

    /// The path of the instance that `path` means, complete.
    fn canonical(
        &self,
        context: &Context,
        space: &ServedNamespace,
        path: &ObjectPath,
    ) -> Result<ObjectPath, CimError> {
        let instance = self.resolve(context, space, path)?;
        instance.path.ok_or_else(|| errors::no_instance(path))
    }

    fn far_instance(
        &self,
        context: &Context,
        space: &ServedNamespace,
        path: &ObjectPath,
    ) -> Result<Option<Instance>, CimError> {
        let Some(served) = space.provider_of(&path.class) else {
            return Ok(None);
        };
        let class = space.class(&served.class)?;
        served
            .provider
            .get(context, path)?
            .map(|instance| self.finish(space, class, instance))
            .transpose()
    }

    /// All links of the association classes at or below `class`. An equality on a role that
    /// names an object starts there instead of walking everything.
    pub(crate) fn links_below<'a>(
        &self,
        context: &Context,
        space: &'a ServedNamespace,
        class: &Class,
        filter: &[Equality],
    ) -> Result<Vec<Link<'a>>, CimError> {
        let mut found = Vec::new();
        for row in space.rows_below(&class.name) {
            let anchor = filter
                .iter()
                .find_map(|equality| Some((row.end_of_role(&equality.property)?, &equality.value)));
            match anchor {
                Some((near, value)) => {
                    if let Some(source) = self.object_of_literal(context, space, value)? {
                        found.extend(self.traverse(context, space, row, near, &source)?);
                    }
                }
                None => found.extend(self.links_of_row(context, space, row)?),
            }
        }
        Ok(found)
    }

    fn links_of_row<'a>(
        &self,
        context: &Context,
        space: &ServedNamespace,
        row: &'a Association,
    ) -> Result<Vec<Link<'a>>, CimError> {
        let mut starts: Vec<&Name> = Vec::new();
        for end_class in row.classes_at(End::First) {
            for served in space.visible_below(context, end_class) {
                if !starts.contains(&&served.class) {
                    starts.push(&served.class);
                }
            }
        }
        let mut found = Vec::new();
        for class in starts {
            let Some(served) = space.provider_of(class) else {
                continue;
            };
            for path in served.provider.enumerate_paths(context, class, &[])? {
                found.extend(self.traverse(context, space, row, End::First, &path)?);
            }
        }
        Ok(found)
    }

    /// The object that a literal compared with a reference names. Text may be escaped once more
    /// than it should be, or not at all; whatever names an object is taken.
    fn object_of_literal(
        &self,
        context: &Context,
        space: &ServedNamespace,
        value: &Value,
    ) -> Result<Option<ObjectPath>, CimError> {
        let path = match value {
            Value::Reference(path) => path.as_ref().clone(),
            Value::String(text) => match ObjectPath::parse(text) {
                Ok(path) => path,
                Err(_) => return Ok(None),
            },
            _ => return Ok(None),
        };
        let Ok(home) = self.namespace_of(&space.name, &path) else {
            return Ok(None);
        };
        if home.name != space.name || path.is_class() {
            return Ok(None);
        }
        let found = self.resolve_optional(context, space, &path)?;
        Ok(found.and_then(|instance| instance.path))
    }

    pub(crate) fn association_instance(
        &self,
        space: &ServedNamespace,
        link: &Link<'_>,
    ) -> Result<Instance, CimError> {
        let class = space.class(&link.row.class)?;
        let broken = |error| errors::internal("an association row does not fit its class", error);
        let mut instance = Instance::of_class(class);
        if let Some(properties) = &link.row.properties {
            let host = |path: &ObjectPath| self.complete(space, path.clone());
            for property in properties(&host(&link.first), &host(&link.second)) {
                instance
                    .set(property.name.as_str(), property.value)
                    .map_err(broken)?;
            }
        }
        for (role, end) in [
            (&link.row.roles.0, &link.first),
            (&link.row.roles.1, &link.second),
        ] {
            instance
                .set(role.as_str(), Value::from(end.clone()))
                .map_err(broken)?;
        }
        instance.path = Some(match instance.path_from_keys(class) {
            Ok(path) => path,
            Err(_) => path_of_ends(link),
        });
        self.finish(space, class, instance)
    }

    pub(crate) fn association_path(
        &self,
        space: &ServedNamespace,
        link: &Link<'_>,
    ) -> Result<ObjectPath, CimError> {
        let class = space.class(&link.row.class)?;
        let only_ends = class
            .keys()
            .all(|key| link.row.end_of_role(&key.name).is_some());
        if only_ends && class.keys().count() == 2 {
            return Ok(self.complete(space, path_of_ends(link)));
        }
        let instance = self.association_instance(space, link)?;
        instance
            .path
            .ok_or_else(|| errors::internal("an association without a name", &link.row.class))
    }

    /// The association instance that `path` means: its reference keys are objects, in any spelling.
    pub(crate) fn resolve_association(
        &self,
        context: &Context,
        space: &ServedNamespace,
        path: &ObjectPath,
    ) -> Result<Instance, CimError> {
        // By path: two links between the same ends are one object by name.
        let mut found: HashMap<Option<ObjectPath>, Instance> = HashMap::new();
        let mut refused = None;
        for row in space.rows_below(&path.class) {
            match self.matching_links(context, space, row, path) {
                Ok(instances) => {
                    found.extend(instances.into_iter().map(|it| (it.path.clone(), it)));
                }
                Err(error) if is_a_miss(error.status) => refused = Some(error.message),
                Err(error) => return Err(error),
            }
        }
        let count = found.len();
        match (found.into_values().next(), refused) {
            (Some(instance), _) if count == 1 => Ok(instance),
            (Some(_), _) => Err(CimError::new(
                CimStatus::InvalidParameter,
                format!("{count} instances fit {}: name both ends.", path.relpath()),
            )),
            (None, Some(reason)) => Err(CimError::new(
                CimStatus::NotFound,
                format!("There is no instance {}: {reason}", path.relpath()),
            )),
            (None, None) => Err(errors::no_instance(path)),
        }
    }

    /// The association instances of `row` that `path` fits.
    fn matching_links(
        &self,
        context: &Context,
        space: &ServedNamespace,
        row: &Association,
        path: &ObjectPath,
    ) -> Result<Vec<Instance>, CimError> {
        let typed = path
            .typed_by(space.class(&row.class)?)
            .map_err(|error| CimError::new(CimStatus::NotFound, format!("{error}.")))?;
        let wanted = self.with_canonical_ends(context, space, typed)?;
        let anchor = [End::First, End::Second].into_iter().find_map(|end| {
            match wanted.key(row.role(end).as_str())? {
                KeyValue::Reference(object) => Some((end, object.as_ref().clone())),
                _ => None,
            }
        });
        let links = match anchor {
            Some((near, object)) => self.traverse(context, space, row, near, &object)?,
            None => self.links_of_row(context, space, row)?,
        };
        let mut found = Vec::new();
        for link in links {
            let instance = self.association_instance(space, &link)?;
            let path = instance.path.as_ref();
            if path.is_some_and(|path| wanted.keys_cover(path)) {
                found.push(instance);
            }
        }
        Ok(found)
    }

    /// `path` with each reference key as the path of the object it means.
    fn with_canonical_ends(
        &self,
        context: &Context,
        space: &ServedNamespace,
        mut path: ObjectPath,
    ) -> Result<ObjectPath, CimError> {
        if let Keys::Named(keys) = &mut path.keys {
            for (_, value) in keys {
                if let KeyValue::Reference(object) = value {
                    self.namespace_of(&space.name, object)?;
                    let canonical = self.canonical(context, space, object)?;
                    **object = localized(&space.name, canonical);
                }
            }
        }
        Ok(path)
    }
}

fn path_of_ends(link: &Link<'_>) -> ObjectPath {
    ObjectPath::of_instance(
        link.row.class.clone(),
        [
            (link.row.roles.0.clone(), link.first.clone()),
            (link.row.roles.1.clone(), link.second.clone()),
        ],
    )
}
