//! LIKE patterns: `%` any text, `_` one character, `[abc]`, `[a-z]` (WMI's documents also write
//! `[a=z]`), `[^abc]`. Case does not count.

use super::Text;

/// A compiled pattern. It matches when either reading of the pattern's backslashes does.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern {
    readings: Vec<Vec<Item>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Item {
    /// `%`
    Any,
    /// `_`
    One,
    /// A character, in lower case.
    Exactly(char),
    /// `[...]`: ranges of lower-case characters.
    Set {
        ranges: Vec<(char, char)>,
        negated: bool,
    },
}

impl Pattern {
    pub(super) fn new(text: &Text) -> Self {
        Pattern {
            readings: text.readings().map(compile).collect(),
        }
    }

    /// Whether all of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        let text: Vec<char> = text.chars().map(lower).collect();
        self.readings.iter().any(|items| matches(items, &text))
    }
}

/// One character for one: `_` must not see a letter whose lower case is two.
fn lower(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(single), None) => single,
        _ => c,
    }
}

fn compile(text: &str) -> Vec<Item> {
    let characters: Vec<char> = text.chars().map(lower).collect();
    let mut items = Vec::new();
    let mut at = 0;
    while let Some(&c) = characters.get(at) {
        at += 1;
        items.push(match c {
            // Several in a row are one; matching stays cheap.
            '%' if items.last() == Some(&Item::Any) => continue,
            '%' => Item::Any,
            '_' => Item::One,
            '[' => match set(characters.get(at..).unwrap_or(&[])) {
                Some((item, length)) => {
                    at += length;
                    item
                }
                None => Item::Exactly('['),
            },
            c => Item::Exactly(c),
        });
    }
    items
}

/// A set and its length, closing bracket included. Without one, the bracket is a character.
fn set(rest: &[char]) -> Option<(Item, usize)> {
    let negated = rest.first() == Some(&'^');
    let start = usize::from(negated);
    // A closing bracket right at the start is a member, so that `[]]` can be written.
    let body = rest.get(start..)?;
    let end = 1 + body.get(1..)?.iter().position(|c| *c == ']')?;
    let body = body.get(..end)?;
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(&first) = body.get(at) {
        match (body.get(at + 1), body.get(at + 2)) {
            (Some('-' | '='), Some(&last)) => {
                ranges.push((first, last));
                at += 3;
            }
            _ => {
                ranges.push((first, first));
                at += 1;
            }
        }
    }
    Some((Item::Set { ranges, negated }, start + end + 1))
}

impl Item {
    fn takes(&self, c: char) -> bool {
        match self {
            Item::Any => false,
            Item::One => true,
            Item::Exactly(expected) => *expected == c,
            Item::Set { ranges, negated } => {
                let inside = ranges
                    .iter()
                    .any(|(first, last)| (*first..=*last).contains(&c));
                inside != *negated
            }
        }
    }
}

/// Only the last `%` passed can usefully take more text, so one place to come back to is enough, and
/// the work is at most pattern times text.
fn matches(items: &[Item], text: &[char]) -> bool {
    let (mut item, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(&c) = text.get(at) {
        match items.get(item) {
            Some(Item::Any) => {
                item += 1;
                retry = Some((item, at));
            }
            Some(expected) if expected.takes(c) => {
                item += 1;
                at += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (item, at) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    items
        .get(item..)
        .unwrap_or(&[])
        .iter()
        .all(|rest| *rest == Item::Any)
}
