//! Answers that are found while they are taken: a scan holds names, and fetches each object when it
//! is asked for. What it shows of an object is the object's state of that moment; objects that have
//! gone since the scan began are passed over.
//!
//! What an index can answer is answered at once instead, since it is short; links between objects
//! too, because a link is not found by its path without a search.

use crate::access::Context;
use crate::broker::{Broker, QueryResult};
use crate::enumeration::{size_of_instance, size_of_path};
use crate::query::{self, ProjectionNames};
use crate::resolve::is_a_miss;
use cim::wql::{Query, Select};
use cim::{CimError, CimStatus, Instance, Name, Namespace, ObjectPath};

/// Answers with more objects than this are kept as names, where they can be fetched again.
const HELD_AS_THEY_ARE: usize = 256;

/// What is left of an answer.
#[derive(Debug)]
pub struct Scan {
    namespace: Namespace,
    rest: Rest,
    /// Which of the objects are wanted, and what of them.
    select: Option<Box<Select>>,
}

#[derive(Debug)]
enum Rest {
    Instances(std::vec::IntoIter<Instance>),
    Paths(std::vec::IntoIter<ObjectPath>),
}

impl Scan {
    fn new(namespace: &Namespace, rest: Rest) -> Self {
        Scan {
            namespace: namespace.clone(),
            rest,
            select: None,
        }
    }

    /// Objects as they are. With `fetched_again`, each can be had by its path alone.
    pub fn of_instances(
        namespace: &Namespace,
        instances: Vec<Instance>,
        fetched_again: bool,
    ) -> Self {
        let named = fetched_again && instances.len() > HELD_AS_THEY_ARE;
        if named && instances.iter().all(|it| it.path.is_some()) {
            let paths = instances.into_iter().filter_map(|it| it.path);
            return Scan::of_paths(namespace, paths.collect());
        }
        Scan::new(namespace, Rest::Instances(instances.into_iter()))
    }

    /// Objects by their names.
    pub fn of_paths(namespace: &Namespace, paths: Vec<ObjectPath>) -> Self {
        Scan::new(namespace, Rest::Paths(paths.into_iter()))
    }

    /// The namespace of the objects.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// How many objects are left, at most.
    pub fn len(&self) -> usize {
        match &self.rest {
            Rest::Instances(rest) => rest.len(),
            Rest::Paths(rest) => rest.len(),
        }
    }

    /// Whether there are certainly no more.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it holds, as far as they can be estimated.
    pub fn bytes(&self) -> usize {
        match &self.rest {
            Rest::Instances(rest) => rest.as_slice().iter().map(size_of_instance).sum(),
            Rest::Paths(rest) => rest.as_slice().iter().map(size_of_path).sum(),
        }
    }
}

impl Broker {
    /// [`Broker::enumerate_instances`], deep, piece by piece; objects of the class itself first.
    pub fn scan_class(
        &self,
        context: &Context,
        namespace: &Namespace,
        class: &Name,
    ) -> Result<Scan, CimError> {
        let declared = self.namespace(namespace)?.class(class)?;
        if declared.is_association() {
            let all = self.enumerate_instances(context, namespace, class, true, None)?;
            return Ok(Scan::of_instances(namespace, all, false));
        }
        let mut paths = self.enumerate_instance_names(context, namespace, class)?;
        paths.sort_by_key(|path| path.class != *class);
        Ok(Scan::of_paths(namespace, paths))
    }

    /// [`Broker::query`], piece by piece; objects of the class that the query names first.
    pub fn scan_query(
        &self,
        context: &Context,
        namespace: &Namespace,
        language: &str,
        text: &str,
    ) -> Result<Scan, CimError> {
        let space = self.namespace(namespace)?;
        let parsed = Query::parse_in(language, text).map_err(query::refused)?;
        let Query::Select(select) = parsed else {
            let found = self.query(context, namespace, language, text)?;
            return Ok(Scan::of_instances(namespace, instances(found)?, true));
        };
        let class = space.find_class(&select.class);
        let searched = class.is_some_and(|it| !it.is_association());
        if !(searched && select.equalities().is_empty()) {
            let found = self.query(context, namespace, language, text)?;
            let mut found = instances(found)?;
            found.sort_by_key(|instance| instance.class != select.class);
            let whole = select.projection_names().is_none();
            return Ok(Scan::of_instances(namespace, found, whole));
        }
        if let Some(class) = class {
            select.check(class).map_err(query::refused)?;
        }
        let mut scan = self.scan_class(context, namespace, &select.class)?;
        scan.select = Some(Box::new(select));
        Ok(scan)
    }

    /// The next object.
    pub fn next_object(
        &self,
        context: &Context,
        scan: &mut Scan,
    ) -> Result<Option<Instance>, CimError> {
        let paths = match &mut scan.rest {
            Rest::Instances(rest) => return Ok(rest.next()),
            Rest::Paths(rest) => rest,
        };
        for path in paths {
            let mut instance = match self.get_instance(context, &scan.namespace, &path, None) {
                Ok(instance) => instance,
                Err(error) if is_a_miss(error.status) => continue,
                Err(error) => return Err(error),
            };
            if let Some(select) = &scan.select {
                let space = self.namespace(&scan.namespace)?;
                if !select.matches(&self.row(space, &instance)) {
                    continue;
                }
                if let Some(names) = select.projection_names() {
                    self.project(space, &mut instance, &names);
                }
            }
            return Ok(Some(instance));
        }
        Ok(None)
    }

    /// The path of the next object, without the object where that is not needed to know it.
    pub fn next_path(
        &self,
        context: &Context,
        scan: &mut Scan,
    ) -> Result<Option<ObjectPath>, CimError> {
        if let (Rest::Paths(rest), None) = (&mut scan.rest, &scan.select) {
            return Ok(rest.next());
        }
        let next = self.next_object(context, scan)?;
        let path = next.map(|instance| {
            instance.path.ok_or_else(|| {
                CimError::new(
                    CimStatus::NotSupported,
                    "What is enumerated are results without paths; there are no references to them.",
                )
            })
        });
        path.transpose()
    }
}

fn instances(found: QueryResult) -> Result<Vec<Instance>, CimError> {
    match found {
        QueryResult::Instances(instances) => Ok(instances),
        QueryResult::Classes(_) => Err(CimError::new(
            CimStatus::InvalidQuery,
            "The query selects classes; what is enumerated are instances.",
        )),
    }
}
