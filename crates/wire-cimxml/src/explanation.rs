//! The header in which a method's error code is put into words. DSP0200 has no room for it in the
//! message, and clients that do not know the header do not see it.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// UTF-8, percent-encoded where it is not printable ASCII.
pub(crate) const HEADER: &str = "rootvirt-explanation";

/// Longest explanation that is sent or taken in, in bytes before encoding.
const LONGEST: usize = 2000;

const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The header's value for `text`.
pub(crate) fn encode(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST);
    utf8_percent_encode(&text[..end], ESCAPED).to_string()
}

/// The text of a header's value; none if it is not one of ours.
pub(crate) fn decode(value: &str) -> Option<String> {
    if value.len() > 3 * LONGEST {
        return None;
    }
    let text = percent_decode_str(value).decode_utf8().ok()?;
    Some(
        text.chars()
            .filter(|character| !character.is_control())
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn any_text_survives_within_its_bounds() {
        for text in ["", "plain", "100% größer\nnext"] {
            let one_line = text.replace('\n', "");
            assert_eq!(decode(&encode(text)).as_deref(), Some(one_line.as_str()));
            assert!(
                encode(text)
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() || byte == b' ')
            );
        }
        let long = "ä".repeat(5000);
        assert!(decode(&encode(&long)).is_some_and(|text| text.len() <= 2000));
        assert_eq!(decode(&"a".repeat(6001)), None);
    }
}
