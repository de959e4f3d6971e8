//! Deriving our package sources from the system's, in both formats that apt knows.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Failure;

/// One entry of the system's sources.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    uris: Vec<String>,
    suites: Vec<String>,
    components: Vec<String>,
    /// As it stands there, continuation lines included: a key's file name or the key itself.
    signed_by: Option<String>,
}

/// The release's code name, and sources for that release and its backports.
pub fn derive() -> Result<(String, String), Failure> {
    let codename = debian_codename(&fs::read_to_string("/etc/os-release").unwrap_or_default())?;
    let mut entries = Vec::new();
    for file in source_files()? {
        let text = fs::read_to_string(&file)?;
        if file
            .extension()
            .is_some_and(|extension| extension == "sources")
        {
            entries.extend(parse_stanzas(&text));
        } else {
            entries.extend(text.lines().filter_map(parse_line));
        }
    }
    let text = render(&entries, &codename);
    if !text.contains("-backports") {
        return Err(format!(
            "the system's package sources name no mirror of Debian {codename} itself, so there is \
             nothing to derive ours from; install by hand what is missing"
        )
        .into());
    }
    Ok((codename, text))
}

fn debian_codename(os_release: &str) -> Result<String, Failure> {
    let field = |name: &str| {
        os_release.lines().find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .strip_prefix('=')?
                    .trim_matches('"')
                    .to_owned(),
            )
        })
    };
    match (field("ID").as_deref(), field("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => Ok(codename),
        (id, _) => Err(format!(
            "this system is not Debian ({}), so nothing is installed automatically",
            id.unwrap_or("unknown")
        )
        .into()),
    }
}

fn source_files() -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    let main = Path::new("/etc/apt/sources.list");
    if main.exists() {
        files.push(main.to_path_buf());
    }
    if let Ok(folder) = fs::read_dir("/etc/apt/sources.list.d") {
        for entry in folder {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "list" || extension == "sources")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// The deb822 format: paragraphs of `Field: value`, continued by indented lines.
fn parse_stanzas(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in text.lines().chain([""]) {
        if line.starts_with('#') {
            continue;
        }
        if line.trim().is_empty() {
            entries.extend(entry_of_fields(&fields));
            fields.clear();
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    entries
}

fn entry_of_fields(fields: &[(String, String)]) -> Option<Entry> {
    let field = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    };
    let words = |name: &str| -> Vec<String> {
        field(name)
            .unwrap_or_default()
            .split_whitespace()
            .map(str::to_owned)
            .collect()
    };
    let enabled = field("enabled").is_none_or(|value| !value.eq_ignore_ascii_case("no"));
    (enabled && words("types").iter().any(|kind| kind == "deb")).then(|| Entry {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
    })
}

/// The one-line format: `deb [options] uri suite component...`.
fn parse_line(line: &str) -> Option<Entry> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Entry {
        uris: vec![words.next()?],
        suites: vec![words.next()?],
        components: words.collect(),
        signed_by: options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="))
            .map(str::to_owned),
    })
}

/// Our sources: of every entry, the suites of this release; with the release itself, its backports.
fn render(entries: &[Entry], codename: &str) -> String {
    let own = ["", "-updates", "-security"].map(|suffix| format!("{codename}{suffix}"));
    let mut text = String::new();
    for entry in entries {
        let mut suites: Vec<String> = entry
            .suites
            .iter()
            .filter(|suite| own.contains(suite))
            .cloned()
            .collect();
        if suites.is_empty() || !entry.components.iter().any(|component| component == "main") {
            continue;
        }
        if suites.iter().any(|suite| suite == codename) {
            suites.push(format!("{codename}-backports"));
        }
        text.push_str("Types: deb\n");
        text.push_str(&format!("URIs: {}\n", entry.uris.join(" ")));
        text.push_str(&format!("Suites: {}\nComponents: main\n", suites.join(" ")));
        if let Some(signed_by) = &entry.signed_by {
            text.push_str(&format!("Signed-By: {signed_by}\n"));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_the_release_and_its_backports_with_the_systems_mirror_and_key() {
        let stanzas = "Types: deb\n# a comment\nURIs: http://mirror.example/debian\n\
                       Suites: bookworm bookworm-updates\nComponents: main contrib\n\
                       Signed-By: /keys/debian.gpg\n\n\
                       Types: deb\nURIs: http://other.example/tool\nSuites: nodistro\n\
                       Components: main\n";
        let line = "deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.example/debian \
                    bookworm main";
        let expected = |suites: &str| {
            format!(
                "Types: deb\nURIs: http://mirror.example/debian\nSuites: {suites}\n\
                 Components: main\nSigned-By: /keys/debian.gpg\n\n"
            )
        };
        assert_eq!(
            render(&parse_stanzas(stanzas), "bookworm"),
            expected("bookworm bookworm-updates bookworm-backports")
        );
        let entries: Vec<Entry> = parse_line(line).into_iter().collect();
        assert_eq!(
            render(&entries, "bookworm"),
            expected("bookworm bookworm-backports")
        );
    }

    #[test]
    fn disabled_source_and_foreign_entries_are_left_out() {
        let stanzas = "Types: deb\nEnabled: no\nURIs: http://a.example\nSuites: bookworm\n\
                       Components: main\n\nTypes: deb-src\nURIs: http://b.example\n\
                       Suites: bookworm\nComponents: main\n";
        assert_eq!(render(&parse_stanzas(stanzas), "bookworm"), "");
        assert_eq!(parse_line("# deb http://c.example bookworm main"), None);
        assert_eq!(parse_line("deb-src http://c.example bookworm main"), None);
    }

    #[test]
    fn a_key_inside_the_stanza_is_kept_whole() {
        let stanzas = "Types: deb\nURIs: http://a.example\nSuites: bookworm\nComponents: main\n\
                       Signed-By:\n -----BEGIN KEY-----\n .\n abc\n";
        let text = render(&parse_stanzas(stanzas), "bookworm");
        assert!(
            text.contains("Signed-By: \n -----BEGIN KEY-----\n .\n abc\n"),
            "{text}"
        );
    }

    #[test]
    fn only_debian_is_served() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        assert_eq!(debian_codename(debian).expect("a code name"), "bookworm");
        let other = debian_codename("ID=fedora\n")
            .expect_err("refused")
            .to_string();
        assert!(other.contains("fedora"), "{other}");
    }
}
