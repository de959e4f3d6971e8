//! Licences and duplicates among the crates that are built for the product's platform.

mod licence;

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{Outcome, process};

/// Licences that may be in the product: permissive ones.
const ALLOWED_LICENCES: &[&str] = &[
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that may be there in several versions, and why.
const ALLOWED_DUPLICATES: &[(&str, &str)] = &[
    (
        "getrandom",
        "ring still uses 0.2, argon2, uuid and tempfile use the present one",
    ),
    (
        "syn",
        "build time only: derive crates are moving from 2 to 3",
    ),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
}

pub fn check() -> Outcome {
    let metadata: Metadata = serde_json::from_str(&process::quiet(
        process::cargo()
            .args(["metadata", "--format-version", "1", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"]),
    )?)?;
    let built: BTreeSet<&str> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| &*node.id)
        .collect();
    let mut problems = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| built.contains(&*package.id))
    {
        versions
            .entry(&package.name)
            .or_default()
            .insert(&package.version);
        problems.extend(licence_problem(package));
    }
    problems.extend(duplicate_problems(&versions));
    if problems.is_empty() {
        return Ok(());
    }
    Err(problems.join("\n  ").into())
}

fn licence_problem(package: &Package) -> Option<String> {
    let Package {
        name,
        version,
        license,
        ..
    } = package;
    let Some(expression) = license else {
        return Some(format!("{name} {version} names no licence"));
    };
    match licence::is_satisfied(expression, ALLOWED_LICENCES) {
        Some(true) => None,
        Some(false) => Some(format!(
            "{name} {version} has a licence not allowed: {expression}"
        )),
        None => Some(format!(
            "{name} {version} has a licence not understood: {expression}"
        )),
    }
}

fn duplicate_problems(versions: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<String> {
    let is_allowed = |name: &str| {
        ALLOWED_DUPLICATES
            .iter()
            .any(|(allowed, _)| *allowed == name)
    };
    let mut problems = Vec::new();
    for (name, found) in versions.iter().filter(|(_, found)| found.len() > 1) {
        if !is_allowed(name) {
            let found = found.iter().copied().collect::<Vec<_>>().join(", ");
            problems.push(format!("{name} is there in several versions: {found}"));
        }
    }
    for (name, _) in ALLOWED_DUPLICATES {
        if versions.get(name).is_none_or(|found| found.len() < 2) {
            problems.push(format!(
                "{name} is no duplicate any more: take it off the list"
            ));
        }
    }
    problems
}
