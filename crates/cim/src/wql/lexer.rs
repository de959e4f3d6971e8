//! Splits a query into tokens.

use super::{MAX_LENGTH, QueryError, Text};
use crate::convert::excerpt;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind<'a> {
    /// A name or a keyword.
    Word(&'a str),
    /// A number, not yet read.
    Number(&'a str),
    /// A string constant.
    Text(Text),
    /// What stands between braces.
    Braced(&'a str),
    /// An operator or a separator.
    Symbol(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token<'a> {
    pub kind: Kind<'a>,
    /// Byte position of its first character.
    pub at: usize,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: [&str; 14] = [
    "<>", "!=", "<=", ">=", "=", "<", ">", "*", ",", ".", "(", ")", "[", "]",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token<'_>>, QueryError> {
    if text.len() > MAX_LENGTH {
        return Err(QueryError::TooLong(text.len()));
    }
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if first.is_whitespace() || first == '\0' {
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = token(text, at, first)?;
        tokens.push(Token { kind, at });
        at += length;
    }
    Ok(tokens)
}

fn token(text: &str, at: usize, first: char) -> Result<(Kind<'_>, usize), QueryError> {
    let rest = &text[at..];
    let signed_number =
        matches!(first, '+' | '-') && rest[1..].starts_with(|c: char| c.is_ascii_digit());
    if first.is_ascii_digit() || signed_number {
        let length = number_length(rest);
        return Ok((Kind::Number(&rest[..length]), length));
    }
    if is_name_character(first) {
        let length = rest
            .find(|c: char| !is_name_character(c))
            .unwrap_or(rest.len());
        return Ok((Kind::Word(&rest[..length]), length));
    }
    match first {
        '\'' | '"' => {
            let (value, length) = string(text, at, first)?;
            Ok((Kind::Text(value), length))
        }
        '{' => {
            let length = braced_length(text, at)?;
            Ok((Kind::Braced(&rest[1..length - 1]), length))
        }
        _ => match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => Ok((Kind::Symbol(symbol), symbol.len())),
            None => Err(QueryError::Expected {
                expected: "a name, a constant or an operator",
                at: character(text, at),
                found: format!("{:?}", excerpt(rest)),
            }),
        },
    }
}

fn is_name_character(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || (!c.is_ascii() && c.is_alphanumeric())
}

/// Digits, letters and dots, and a sign after an exponent's `e` (but not after a hexadecimal one).
fn number_length(rest: &str) -> usize {
    let hex = rest.trim_start_matches(['+', '-']);
    let hex = hex.starts_with("0x") || hex.starts_with("0X");
    let mut previous = '+';
    for (at, c) in rest.char_indices() {
        let sign = matches!(c, '+' | '-') && (at == 0 || (!hex && matches!(previous, 'e' | 'E')));
        if !(sign || c == '.' || c.is_ascii_alphanumeric()) {
            return at;
        }
        previous = c;
    }
    rest.len()
}

/// A constant in quotes: the quote is doubled or escaped inside. Gives the length with quotes.
fn string(text: &str, at: usize, quote: char) -> Result<(Text, usize), QueryError> {
    let mut raw = String::new();
    let mut unescaped = String::new();
    let mut characters = text[at..].char_indices().skip(1).peekable();
    while let Some((offset, c)) = characters.next() {
        if c == quote {
            if characters.next_if(|(_, next)| *next == quote).is_none() {
                return Ok((Text::new(raw, unescaped), offset + 1));
            }
            raw.push(quote);
            unescaped.push(quote);
        } else if c == '\\' {
            raw.push('\\');
            match characters.next_if(|(_, next)| matches!(next, '\\' | '\'' | '"')) {
                Some((_, escaped)) => {
                    raw.push(escaped);
                    unescaped.push(escaped);
                }
                None => unescaped.push('\\'),
            }
        } else {
            raw.push(c);
            unescaped.push(c);
        }
    }
    Err(QueryError::Unterminated {
        at: character(text, at),
        closing: quote,
    })
}

/// The length of `{...}`; braces inside quotes do not count.
fn braced_length(text: &str, at: usize) -> Result<usize, QueryError> {
    let mut quote = None;
    let mut characters = text[at..].char_indices().skip(1);
    while let Some((offset, c)) = characters.next() {
        match (quote, c) {
            (None, '}') => return Ok(offset + 1),
            (None, '\'' | '"') => quote = Some(c),
            (Some(_), '\\') => {
                characters.next();
            }
            (Some(open), c) if c == open => quote = None,
            _ => {}
        }
    }
    Err(QueryError::Unterminated {
        at: character(text, at),
        closing: '}',
    })
}

/// The position of byte `at` in characters, counted from one.
pub(super) fn character(text: &str, at: usize) -> usize {
    text.get(..at).map_or(0, |head| head.chars().count()) + 1
}
