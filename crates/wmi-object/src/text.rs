//! Encoded-String (MS-WMIO 2.2.78) and the words that need none (2.2.80).

use cim::Name;

/// Reference to nothing.
pub(crate) const NOWHERE: u32 = 0xffff_ffff;
/// Set on references into the dictionary instead of the heap.
const DICTIONARY: u32 = 0x8000_0000;

/// Fixed words by number. The second has no use on the wire.
const WORDS: [&str; 11] = [
    "\"", "key", "", "read", "write", "volatile", "provider", "dynamic", "cimwin32", "DWORD",
    "CIMTYPE",
];

/// The reference to a word of the dictionary, whatever its case.
pub(crate) fn dictionary_reference(word: &Name) -> Option<u32> {
    let at = WORDS
        .iter()
        .position(|known| !known.is_empty() && word.is(known))?;
    u32::try_from(at).ok().map(|at| at | DICTIONARY)
}

/// The word that a reference stands for: `None` when it is a reference into the heap, `Some(None)`
/// when the dictionary has no such entry.
pub(crate) fn dictionary_word(reference: u32) -> Option<Option<&'static str>> {
    let index = reference
        .checked_sub(DICTIONARY)
        .filter(|_| reference != NOWHERE)?;
    let word = usize::try_from(index).ok().and_then(|at| WORDS.get(at));
    Some(word.copied())
}

/// Appends `text`: one byte a character where that is enough, for some clients cannot find the end
/// of the other form. `None` when the text holds U+0000, which ends strings.
pub(crate) fn push(out: &mut Vec<u8>, text: &str) -> Option<()> {
    if text.contains('\0') {
        return None;
    }
    if text.is_ascii() {
        out.push(0);
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    } else if text.chars().all(|c| u8::try_from(c).is_ok()) {
        out.push(0);
        out.extend(text.chars().filter_map(|c| u8::try_from(c).ok()));
        out.push(0);
    } else {
        out.push(1);
        out.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        out.extend_from_slice(&[0, 0]);
    }
    Some(())
}

/// The text at the start of `bytes`, and how many bytes it takes. `None` when it does not end or is
/// not text.
pub(crate) fn read(bytes: &[u8]) -> Option<(String, usize)> {
    let (flag, rest) = bytes.split_first()?;
    match flag {
        0 => {
            let end = rest.iter().position(|byte| *byte == 0)?;
            let text = rest.get(..end)?.iter().map(|byte| char::from(*byte));
            Some((text.collect(), end + 2))
        }
        1 => {
            let units = rest.as_chunks::<2>().0;
            let end = units.iter().position(|unit| *unit == [0, 0])?;
            let units = units
                .get(..end)?
                .iter()
                .map(|unit| u16::from_le_bytes(*unit));
            let text: String = char::decode_utf16(units).collect::<Result<_, _>>().ok()?;
            Some((text, end * 2 + 3))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_read_back_in_the_shortest_form() {
        for (text, length) in [("", 2), ("abc", 5), ("Größe", 7), ("€", 5), ("𝄞", 7)] {
            let mut bytes = Vec::new();
            push(&mut bytes, text).expect("no U+0000");
            assert_eq!(bytes.len(), length, "{text}");
            bytes.push(7);
            assert_eq!(read(&bytes), Some((text.to_owned(), length)));
        }
        assert_eq!(push(&mut Vec::new(), "a\0b"), None);
    }

    #[test]
    fn what_is_not_text_is_refused() {
        for bytes in [
            &[][..],
            &[0],
            b"\0abc",
            b"\x01a\0",
            b"\x01\x00\xd8\0\0",
            b"\x02a\0",
        ] {
            assert_eq!(read(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn words_of_the_dictionary_have_fixed_numbers() {
        assert_eq!(dictionary_reference(&Name::new("Key")), Some(0x8000_0001));
        assert_eq!(
            dictionary_reference(&Name::new("CIMTYPE")),
            Some(0x8000_000a)
        );
        assert_eq!(dictionary_reference(&Name::new("Required")), None);
        assert_eq!(dictionary_reference(&Name::new("")), None);
        assert_eq!(dictionary_word(0x8000_0003), Some(Some("read")));
        assert_eq!(dictionary_word(0x8000_00ff), Some(None));
        assert_eq!(dictionary_word(3), None);
        assert_eq!(dictionary_word(NOWHERE), None);
    }
}
