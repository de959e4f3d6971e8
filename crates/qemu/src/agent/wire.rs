//! What the agent's bytes mean: lines of JSON, and the byte that says where to start reading again.
//!
//! A guest may send anything, at any length and at any speed: nothing here grows beyond
//! [`MAX_LINE`], and nothing that a guest says is longer than [`MAX_TEXT`] when it leaves.

use serde_json::Value;

/// The longest line that is accepted.
pub const MAX_LINE: usize = 256 << 10;
/// The longest text that is taken over from a guest, in bytes.
pub const MAX_TEXT: usize = 512;
/// Comes before the answer to `guest-sync-delimited`, and never within JSON: all before it is old.
pub const DELIMITER: u8 = 0xff;

/// An answer: what was asked for, or class and description of an error.
pub type Reply = Result<Value, (String, String)>;

/// The line is longer than [`MAX_LINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

/// Cuts what comes from the guest into lines.
#[derive(Debug, Default)]
pub struct Lines {
    pending: Vec<u8>,
    /// Everything up to the next delimiter is dropped.
    skipping: bool,
}

impl Lines {
    /// Starts in the middle of something: the first line is the one after a delimiter.
    pub fn resynchronising() -> Lines {
        Lines {
            pending: Vec::new(),
            skipping: true,
        }
    }

    /// Takes bytes from the front of `input` until a line is whole, which is answered, or there are
    /// no more.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, LineTooLong> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            match *byte {
                DELIMITER => {
                    self.pending.clear();
                    self.skipping = false;
                }
                _ if self.skipping => {}
                b'\n' => {
                    let line = std::mem::take(&mut self.pending);
                    if line.iter().any(|b| !b.is_ascii_whitespace()) {
                        return Ok(Some(line));
                    }
                }
                _ if self.pending.len() >= MAX_LINE => return Err(LineTooLong),
                byte => self.pending.push(byte),
            }
        }
        Ok(None)
    }

    /// What was read so far is not the line that was hoped for: on to the next delimiter.
    pub fn skip(&mut self) {
        self.pending.clear();
        self.skipping = true;
    }
}

/// Reads one line. `None`: it is no answer. (Nesting is limited by the JSON reader.)
pub fn parse(line: &[u8]) -> Option<Reply> {
    let Value::Object(mut fields) = serde_json::from_slice(line).ok()? else {
        return None;
    };
    if let Some(result) = fields.remove("return") {
        return Some(Ok(result));
    }
    let error = fields.get("error")?.as_object()?;
    let text = |key| error.get(key).and_then(Value::as_str).unwrap_or_default();
    Some(Err((printable(text("class")), printable(text("desc")))))
}

/// A guest's text as it can be shown and passed on: without control characters, and not long.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if shown.len().saturating_add(c.len_utf8()) > MAX_TEXT {
            break;
        }
        shown.push(c);
    }
    shown.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8], mut lines: Lines) -> Vec<String> {
        let mut rest = input;
        let mut all = Vec::new();
        while let Ok(Some(line)) = lines.take(&mut rest) {
            all.push(String::from_utf8_lossy(&line).into_owned());
        }
        all
    }

    #[test]
    fn what_comes_before_the_delimiter_is_dropped() {
        let input = b"{\"return\": 1}\n{\"retu\xff{\"return\": 2}\n\n\r\n{\"return\": 3}\n{\"";
        let synced = lines(input, Lines::resynchronising());
        assert_eq!(synced, ["{\"return\": 2}", "{\"return\": 3}"]);
        let all = lines(input, Lines::default());
        assert_eq!(all.first().map(String::as_str), Some("{\"return\": 1}"));
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_line_has_an_end() {
        let mut lines = Lines::default();
        let long = vec![b' '; MAX_LINE + 1];
        assert_eq!(lines.take(&mut long.as_slice()), Err(LineTooLong));
        let mut skipping = Lines::resynchronising();
        assert_eq!(skipping.take(&mut long.as_slice()), Ok(None));
        assert!(skipping.pending.is_empty());
    }

    #[test]
    fn an_answer_is_a_result_or_an_error() {
        assert_eq!(parse(b"{\"return\": {}}"), Some(Ok(serde_json::json!({}))));
        let error = parse(b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"a\\u0007b\"}}");
        assert_eq!(error, Some(Err(("GenericError".into(), "a b".into()))));
        for nothing in ["", "1", "[]", "{}", "{\"error\": 1}", "{\"event\": \"x\"}"] {
            assert_eq!(parse(nothing.as_bytes()), None, "{nothing}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse(format!("{{\"return\": {deep}").as_bytes()), None);
        assert_eq!(printable(&"ä".repeat(MAX_TEXT)).len(), MAX_TEXT);
    }

    #[test]
    fn the_fuzzing_seeds_are_read_without_harm() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/guest_agent");
        let mut answers = 0;
        for seed in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let bytes = std::fs::read(seed.path()).unwrap_or_default();
            let mut rest = bytes.get(1..).unwrap_or_default();
            let mut lines = Lines::default();
            while let Ok(Some(line)) = lines.take(&mut rest) {
                answers += usize::from(parse(&line).is_some());
            }
        }
        assert!(answers >= 8, "{answers}");
    }
}
