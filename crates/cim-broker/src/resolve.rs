//! From any spelling of a path to the one instance it means: host and namespace in every form,
//! superclasses, partial keys, values without names.

use crate::access::Context;
use crate::broker::Broker;
use crate::errors;
use crate::namespaces::{Served, ServedNamespace};
use crate::provider::{Equality, key_equalities};
use cim::{CimError, CimStatus, Class, Instance, KeyValue, Keys, Name, Namespace, ObjectPath};

/// How many classes a failed look-up is explained for; beyond that the answer is general.
const EXPLAINED_CLASSES: usize = 8;

impl Broker {
    /// The namespace that `path` lies in: its own when it names one, else `namespace`. A host is not
    /// held against a path, and one that is really the first segment of the namespace (some
    /// clients split `root/a` so) is put back.
    pub(crate) fn namespace_of(
        &self,
        namespace: &Namespace,
        path: &ObjectPath,
    ) -> Result<&ServedNamespace, CimError> {
        let Some(own) = &path.namespace else {
            return self.namespace(namespace);
        };
        if let Some(found) = self.find_namespace(own) {
            return Ok(found);
        }
        if let Some(host) = &path.host {
            let joined = Namespace::new(format!("{host}\\{own}"));
            if let Some(found) = self.find_namespace(&joined) {
                return Ok(found);
            }
        }
        self.namespace(own)
    }

    /// The instance that `path` means, complete. Not found, wrong keys and paths that fit several
    /// instances are errors that say so.
    pub(crate) fn resolve(
        &self,
        context: &Context,
        space: &ServedNamespace,
        path: &ObjectPath,
    ) -> Result<Instance, CimError> {
        let class = space.class(&path.class)?;
        if path.is_class() {
            return Err(errors::class_path_for_instance(class));
        }
        if class.is_association() {
            return self.resolve_association(context, space, path);
        }
        let candidates = typed_candidates(context, space, class, path)?;
        let mut found = Vec::new();
        for (served, typed) in &candidates {
            found.extend(self.matching(context, space, served, typed)?);
        }
        match found.len() {
            0 => Err(explain_miss(context, path, &candidates)),
            1 => found.pop().ok_or_else(|| errors::no_instance(path)),
            count => Err(ambiguous(space, path, count)),
        }
    }

    /// [`Self::resolve`] for callers to whom "it names no single object" is an answer.
    pub(crate) fn resolve_optional(
        &self,
        context: &Context,
        space: &ServedNamespace,
        path: &ObjectPath,
    ) -> Result<Option<Instance>, CimError> {
        match self.resolve(context, space, path) {
            Ok(instance) => Ok(Some(instance)),
            Err(error) if is_a_miss(error.status) => Ok(None),
            Err(error) if error.status == CimStatus::InvalidParameter => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn matching(
        &self,
        context: &Context,
        space: &ServedNamespace,
        served: &Served,
        typed: &ObjectPath,
    ) -> Result<Vec<Instance>, CimError> {
        let class = space.class(&served.class)?;
        if given_keys(typed) == class.keys().count() && given_keys(typed) > 0 {
            let found = served.provider.get(context, typed)?;
            return found
                .map(|instance| self.finish(space, class, instance))
                .into_iter()
                .collect();
        }
        let filter: Vec<Equality> = key_equalities(&typed.keys)
            .into_iter()
            // The filter's equality knows nothing of slashes turned the other way.
            .filter(|equality| !has_slash(&equality.value))
            .collect();
        let mut found = Vec::new();
        for path in served
            .provider
            .enumerate_paths(context, &served.class, &filter)?
        {
            if selects(typed, &path)
                && let Some(instance) = served.provider.get(context, &path)?
            {
                found.push(self.finish(space, class, instance)?);
            }
        }
        Ok(found)
    }
}

/// Statuses that mean: what the path names is not here.
pub(crate) fn is_a_miss(status: CimStatus) -> bool {
    matches!(
        status,
        CimStatus::NotFound | CimStatus::InvalidClass | CimStatus::InvalidNamespace
    )
}

/// The classes that may hold what `path` names, each with the path in that class's terms. A key
/// that none of them has, or whose value fits none, is "not found" with the reason.
fn typed_candidates<'a>(
    context: &Context,
    space: &'a ServedNamespace,
    class: &Class,
    path: &ObjectPath,
) -> Result<Vec<(&'a Served, ObjectPath)>, CimError> {
    let mut candidates = Vec::new();
    let mut refused = None;
    for served in space.visible_below(context, &class.name) {
        match path.typed_by(space.class(&served.class)?) {
            Ok(typed) => {
                let typed = ObjectPath {
                    host: None,
                    namespace: Some(space.name.clone()),
                    class: served.class.clone(),
                    keys: typed.keys,
                };
                candidates.push((served, typed));
            }
            Err(error) => refused = Some(error),
        }
    }
    match refused {
        Some(error) if candidates.is_empty() => Err(CimError::new(
            CimStatus::NotFound,
            format!(
                "There is no instance {}: {error}. {}",
                path.relpath(),
                keys_of(class)
            ),
        )),
        _ => Ok(candidates),
    }
}

fn keys_of(class: &Class) -> String {
    let keys: Vec<&str> = class.keys().map(|key| key.name.as_str()).collect();
    if keys.is_empty() {
        format!("{} declares no keys; its subclasses do.", class.name)
    } else {
        format!("The keys of {} are: {}.", class.name, keys.join(", "))
    }
}

fn given_keys(path: &ObjectPath) -> usize {
    match &path.keys {
        Keys::Named(keys) => keys.len(),
        Keys::Unnamed(_) => 1,
        Keys::Class | Keys::Singleton => 0,
    }
}

fn selects(typed: &ObjectPath, path: &ObjectPath) -> bool {
    // `Class=@` means "the only one", whatever that one's keys are.
    typed.keys == Keys::Singleton || typed.keys_cover(path)
}

fn has_slash(value: &cim::Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.contains(['/', '\\']))
}

fn ambiguous(space: &ServedNamespace, path: &ObjectPath, count: usize) -> CimError {
    let advice = space.find_class(&path.class).map(|class| keys_of(class));
    CimError::new(
        CimStatus::InvalidParameter,
        format!(
            "{count} instances fit {}: the path must name one of them. Give more of the keys. {}",
            path.relpath(),
            advice.unwrap_or_default()
        ),
    )
}

/// "Not found", naming the key that is wrong where one is.
fn explain_miss(
    context: &Context,
    path: &ObjectPath,
    candidates: &[(&Served, ObjectPath)],
) -> CimError {
    let Some((
        _,
        ObjectPath {
            keys: Keys::Named(keys),
            ..
        },
    )) = candidates.first()
    else {
        return errors::no_instance(path);
    };
    if candidates.len() > EXPLAINED_CLASSES || keys.len() < 2 {
        return errors::no_instance(path);
    }
    let wrong = keys
        .iter()
        .find(|(name, value)| !some_instance_has(context, candidates, name, value));
    match wrong {
        Some((name, value)) => CimError::new(
            CimStatus::NotFound,
            format!(
                "There is no instance {}: no {} has the value {} for key {name}.",
                path.relpath(),
                path.class,
                shown(value),
            ),
        ),
        None => CimError::new(
            CimStatus::NotFound,
            format!(
                "There is no instance {}: each key value occurs, but no {} has them together.",
                path.relpath(),
                path.class
            ),
        ),
    }
}

fn shown(value: &KeyValue) -> String {
    match value {
        KeyValue::String(text) => format!("\"{text}\""),
        KeyValue::Boolean(value) => value.to_string(),
        KeyValue::Signed(number) => number.to_string(),
        KeyValue::Unsigned(number) => number.to_string(),
        KeyValue::Reference(path) => path.relpath(),
    }
}

fn some_instance_has(
    context: &Context,
    candidates: &[(&Served, ObjectPath)],
    name: &Name,
    value: &KeyValue,
) -> bool {
    candidates.iter().any(|(served, _)| {
        // By convention the value of CreationClassName is the class: no need to look.
        if name.is("CreationClassName") {
            return value.as_str().is_some_and(|text| served.class.is(text));
        }
        let alone = Keys::named([(name.clone(), value.clone())]);
        let filter: Vec<Equality> = key_equalities(&alone)
            .into_iter()
            .filter(|equality| !has_slash(&equality.value))
            .collect();
        let alone = ObjectPath::new(served.class.clone(), alone);
        let paths = served
            .provider
            .enumerate_paths(context, &served.class, &filter);
        // A provider that fails here has already answered the question itself.
        paths.is_ok_and(|paths| paths.iter().any(|path| alone.keys_cover(path)))
    })
}
