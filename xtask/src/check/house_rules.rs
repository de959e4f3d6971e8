//! Rules of this project that no other tool knows: short files that say what they are for, nothing
//! left undone, nothing of the machine they were written on.

use std::fs;

use crate::{Outcome, process, workspace};

const LONGEST_FILE: usize = 800;
const SOURCE: &[&str] = &[".rs", ".py", ".sh"];
const TEXT: &[&str] = &[
    ".rs", ".py", ".sh", ".md", ".toml", ".yml", ".yaml", ".mof", ".json", "/run",
];

/// What must not stand in a file, in pieces, so that it does not stand in this one.
const FORBIDDEN: &[(&[&str], &str)] = &[
    (&["/wo", "rk/"], "a path of one machine"),
    (&["/ho", "me/"], "a path of one machine"),
    (&["/Us", "ers/"], "a path of one machine"),
    (&["to", "do!("], "unfinished work"),
    (&["unimple", "mented!("], "unfinished work"),
    (&["FIX", "ME"], "unfinished work"),
    (&["TO", "DO:"], "unfinished work"),
];

pub fn check() -> Outcome {
    let mut list = std::process::Command::new("git");
    list.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let files = process::quiet(list.current_dir(workspace::root()))?;
    let mut problems = Vec::new();
    for name in files.split('\0') {
        if !ends_with_any(name, TEXT) {
            continue;
        }
        // A file that was deleted but not committed yet is still listed.
        if let Ok(text) = fs::read_to_string(workspace::root().join(name)) {
            problems.extend(problems_of(name, &text));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(format!("{} problems\n  {}", problems.len(), problems.join("\n  ")).into())
}

fn problems_of(name: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let lines = text.lines().count();
    if ends_with_any(name, SOURCE) && lines > LONGEST_FILE {
        problems.push(format!(
            "{name}: {lines} lines; split it below {LONGEST_FILE}"
        ));
    }
    if name.ends_with(".rs") && !text.starts_with("//!") {
        problems.push(format!(
            "{name}:1: does not begin with what the file is for (//!)"
        ));
    }
    for (number, line) in text.lines().enumerate() {
        for (pieces, meaning) in FORBIDDEN {
            let forbidden = pieces.concat();
            if line.contains(&forbidden) {
                problems.push(format!("{name}:{}: {forbidden} is {meaning}", number + 1));
            }
        }
    }
    problems
}

fn ends_with_any(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_FILE, problems_of};

    #[test]
    fn each_rule_is_noticed_and_a_good_file_passes() {
        assert_eq!(
            problems_of("a.rs", "//! A file.\n\nfn main() {}\n"),
            [""; 0]
        );
        assert_eq!(problems_of("a.rs", "fn main() {}\n").len(), 1);
        let long = format!("//! Long.\n{}", "\n".repeat(LONGEST_FILE));
        assert_eq!(problems_of("a.rs", &long).len(), 1);
        let machine = format!("see {}ork/x and {}odo!()\n", "/w", "t");
        assert_eq!(problems_of("notes.md", &machine).len(), 2);
    }
}
