//! `multipart/encrypted` (MS-WSMV 2.2.9.1): a sealed message over plain HTTP.
//!
//! Two parts without blank lines: what is inside, then four bytes with the length of the signature,
//! the signature, and the sealed bytes, which begin directly after their header's line.

/// The one way of sealing that is spoken: SPNEGO's, or bare NTLM's under its name.
const PROTOCOL: &str = "application/HTTP-SPNEGO-session-encrypted";
/// What clients and servers of this form put between parts.
const BOUNDARY: &str = "Encrypted Boundary";
/// The longest line of a part's header.
const LONGEST_LINE: usize = 1024;
/// The longest signature.
const LONGEST_SIGNATURE: usize = 256;

/// A sealed message, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed<'a> {
    /// The content type of what is inside.
    pub original_type: &'a str,
    /// Bytes of what is inside.
    pub length: usize,
    /// The signature.
    pub signature: &'a [u8],
    /// The sealed bytes.
    pub data: &'a [u8],
}

/// Why a body is no sealed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body is not multipart/encrypted: {0}")]
pub struct Malformed(&'static str);

/// Whether a content type announces a sealed message.
pub fn is_sealed(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default();
    media.trim().eq_ignore_ascii_case("multipart/encrypted")
}

/// The content type of a sealed answer. Clients match it as text.
pub fn content_type() -> String {
    format!("multipart/encrypted;protocol=\"{PROTOCOL}\";boundary=\"{BOUNDARY}\"")
}

/// Takes a body apart.
pub fn parse<'a>(content_type: &str, body: &'a [u8]) -> Result<Sealed<'a>, Malformed> {
    let protocol = parameter(content_type, "protocol").unwrap_or(PROTOCOL);
    if !protocol.eq_ignore_ascii_case(PROTOCOL) {
        return Err(Malformed("only HTTP-SPNEGO-session-encrypted is spoken"));
    }
    let boundary = parameter(content_type, "boundary").unwrap_or(BOUNDARY);
    let mut lines = Lines { rest: body };
    expect_boundary(lines.next()?, boundary)?;
    let mut original = None;
    loop {
        let line = lines.next()?;
        if let Some(value) = field(line, "OriginalContent") {
            original = Some(value);
        } else if field(line, "Content-Type").is_none() {
            expect_boundary(line, boundary)?;
            break;
        }
    }
    let original = original.ok_or(Malformed("OriginalContent is missing"))?;
    let (original_type, length) = original_content(original)?;
    let header = field(lines.next()?, "Content-Type");
    if header.is_none_or(|it| !it.eq_ignore_ascii_case("application/octet-stream")) {
        return Err(Malformed("the second part is not application/octet-stream"));
    }
    let data = lines.rest;
    let (prefix, data) = data
        .split_first_chunk::<4>()
        .ok_or(Malformed("the signature is missing"))?;
    let signature_length = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if signature_length > LONGEST_SIGNATURE {
        return Err(Malformed("the signature is too long"));
    }
    let short = Malformed("the message is cut off");
    let (signature, data) = data.split_at_checked(signature_length).ok_or(short)?;
    let (data, trailer) = data.split_at_checked(length).ok_or(short)?;
    let trailer = std::str::from_utf8(trailer).ok();
    let trailer = trailer.and_then(|it| it.trim().strip_suffix("--"));
    expect_boundary(trailer.unwrap_or_default(), boundary)?;
    Ok(Sealed {
        original_type,
        length,
        signature,
        data,
    })
}

/// The body of a sealed message.
pub fn compose(original_type: &str, signature: &[u8], data: &[u8]) -> Vec<u8> {
    let head = format!(
        "--{BOUNDARY}\r\n\tContent-Type: {PROTOCOL}\r\n\tOriginalContent: \
         type={original_type};Length={}\r\n--{BOUNDARY}\r\n\tContent-Type: \
         application/octet-stream\r\n",
        data.len()
    );
    let mut body = head.into_bytes();
    let length = u32::try_from(signature.len()).unwrap_or(u32::MAX);
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(signature);
    body.extend_from_slice(data);
    body.extend_from_slice(format!("--{BOUNDARY}--\r\n").as_bytes());
    body
}

/// The lines of the parts' headers.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<&'a str, Malformed> {
        let window = self.rest.get(..LONGEST_LINE).unwrap_or(self.rest);
        let end = window.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or(Malformed("a header's line does not end"))?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| Malformed("a header is not text"))?;
        Ok(line.trim())
    }
}

/// `--BOUNDARY`; some clients put a blank between.
fn expect_boundary(line: &str, boundary: &str) -> Result<(), Malformed> {
    let found = line.strip_prefix("--").map(str::trim);
    match found {
        Some(found) if found == boundary => Ok(()),
        _ => Err(Malformed("a boundary is missing")),
    }
}

/// The value of a header's line with this name.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = line.split_once(':')?;
    found
        .trim()
        .eq_ignore_ascii_case(name)
        .then(|| value.trim())
}

/// `type=TYPE;charset=UTF-8;Length=N`.
fn original_content(text: &str) -> Result<(&str, usize), Malformed> {
    let wrong = Malformed("OriginalContent is not type=...;Length=...");
    let (content_type, length) = text.rsplit_once(';').ok_or(wrong)?;
    let (name, length) = length.split_once('=').ok_or(wrong)?;
    if !name.trim().eq_ignore_ascii_case("length") {
        return Err(wrong);
    }
    let length = length.trim().parse::<u32>().map_err(|_| wrong)?;
    let content_type = content_type.trim().strip_prefix("type=").ok_or(wrong)?;
    Ok((content_type, usize::try_from(length).map_err(|_| wrong)?))
}

/// A parameter of a content type.
fn parameter<'a>(content_type: &'a str, name: &str) -> Option<&'a str> {
    content_type.split(';').skip(1).find_map(|part| {
        let (found, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        found.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}
