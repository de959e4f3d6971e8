//! Splits MOF text into tokens.

use super::{Fault, MAX_LENGTH, MofErrorKind};
use crate::convert::{excerpt, parse_integer, parse_real};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A name or a keyword.
    Word(&'a str),
    /// `$Name`
    Alias(&'a str),
    Integer(i128),
    Real(f64),
    Text(String),
    Character(u16),
    Symbol(char),
}

#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind<'a>,
    /// Byte offset of its first character.
    pub at: usize,
}

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, Fault> {
    if text.len() > MAX_LENGTH {
        return Err(Fault::new(0, MofErrorKind::TooLong(MAX_LENGTH)));
    }
    let mut tokens = Vec::new();
    // A byte order mark is no part of the text.
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while let Some(rest) = text.get(at..)
        && let Some(first) = rest.chars().next()
    {
        let length = match first {
            c if c.is_whitespace() || c == '\0' => first.len_utf8(),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => match rest.find("*/") {
                Some(end) => end + 2,
                None => return Err(Fault::new(at, MofErrorKind::Unterminated("a comment"))),
            },
            _ => {
                let (kind, length) = token(rest, first, at)?;
                tokens.push(Token { kind, at });
                length
            }
        };
        at += length;
    }
    Ok(tokens)
}

fn token(rest: &str, first: char, at: usize) -> Result<(Kind<'_>, usize), Fault> {
    if is_name_character(first) && !first.is_ascii_digit() {
        let length = name_length(rest);
        return Ok((Kind::Word(&rest[..length]), length));
    }
    let after_sign = rest.strip_prefix(['+', '-']).unwrap_or(rest);
    if after_sign.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return number(rest, at);
    }
    match first {
        '$' => {
            let length = name_length(&rest[1..]);
            if length == 0 {
                return Err(Fault::new(at, unexpected("a name after $", rest)));
            }
            Ok((Kind::Alias(&rest[1..=length]), length + 1))
        }
        '"' => {
            let (units, length) = quoted(rest, '"')
                .ok_or_else(|| Fault::new(at, MofErrorKind::Unterminated("text in quotes")))?;
            Ok((Kind::Text(units), length))
        }
        '\'' => {
            if let Some(found) = numbered_character(rest) {
                return Ok(found);
            }
            let (text, length) = quoted(rest, '\'')
                .ok_or_else(|| Fault::new(at, MofErrorKind::Unterminated("a character")))?;
            let mut units = text.encode_utf16();
            match (units.next(), units.next()) {
                (Some(unit), None) => Ok((Kind::Character(unit), length)),
                _ => Err(Fault::new(at, unexpected("one character in quotes", rest))),
            }
        }
        '{' | '}' | '(' | ')' | '[' | ']' | ';' | ',' | ':' | '=' | '#' => {
            Ok((Kind::Symbol(first), 1))
        }
        _ => Err(Fault::new(at, unexpected("a declaration", rest))),
    }
}

/// `'\\xD800'`: any UTF-16 unit, also half of a surrogate pair, which text cannot hold.
fn numbered_character(rest: &str) -> Option<(Kind<'_>, usize)> {
    let code = rest
        .strip_prefix("'\\x")
        .or_else(|| rest.strip_prefix("'\\X"))?;
    let digits = &code[..code.find('\'')?];
    if digits.is_empty() || digits.len() > 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let unit = u16::from_str_radix(digits, 16).ok()?;
    Some((Kind::Character(unit), digits.len() + 4))
}

fn unexpected(expected: &'static str, rest: &str) -> MofErrorKind {
    MofErrorKind::Expected {
        expected,
        found: format!("{:?}", excerpt(rest.lines().next().unwrap_or(""))),
    }
}

fn is_name_character(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
}

fn name_length(rest: &str) -> usize {
    rest.find(|c: char| !is_name_character(c))
        .unwrap_or(rest.len())
}

fn number(rest: &str, at: usize) -> Result<(Kind<'_>, usize), Fault> {
    let unsigned = rest.trim_start_matches(['+', '-']);
    let hex = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let mut length = rest.len();
    let mut previous = '+';
    for (offset, c) in rest.char_indices() {
        let sign =
            matches!(c, '+' | '-') && (offset == 0 || (!hex && matches!(previous, 'e' | 'E')));
        if !(sign || c == '.' || c.is_ascii_alphanumeric()) {
            length = offset;
            break;
        }
        previous = c;
    }
    let digits = &rest[..length];
    let kind = match parse_integer(digits) {
        Some(n) => Kind::Integer(n),
        None => match parse_real(digits).filter(|real| real.is_finite()) {
            Some(real) => Kind::Real(real),
            None => return Err(Fault::new(at, MofErrorKind::Number(excerpt(digits)))),
        },
    };
    Ok((kind, length))
}

/// The text between quotes, escapes resolved, and its length with quotes. An unknown escape stays as
/// it is: clients write file names without doubling their backslashes. `None` without an end.
fn quoted(rest: &str, quote: char) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut characters = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = characters.next() {
        if c == quote {
            return Some((out, at + 1));
        }
        if c != '\\' {
            out.push(c);
            continue;
        }
        let (_, escape) = *characters.peek()?;
        let known = match escape {
            'b' => Some('\u{8}'),
            't' => Some('\t'),
            'n' => Some('\n'),
            'f' => Some('\u{c}'),
            'r' => Some('\r'),
            '"' | '\'' | '\\' => Some(escape),
            'x' | 'X' => {
                let digits = rest.get(at + 2..).unwrap_or("");
                let count = digits
                    .bytes()
                    .take(4)
                    .take_while(u8::is_ascii_hexdigit)
                    .count();
                let code = u32::from_str_radix(&digits[..count], 16).ok();
                let character = code.and_then(char::from_u32);
                if character.is_some() {
                    for _ in 0..count {
                        characters.next();
                    }
                }
                character
            }
            _ => None,
        };
        match known {
            Some(character) => {
                // For \x the digits are gone already, and this takes the last of them.
                characters.next();
                out.push(character);
            }
            None => out.push('\\'),
        }
    }
    None
}
