//! DER, as much as SPNEGO needs of it: tags of one byte, definite lengths, no recursion.

/// Reads elements one after another.
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// The next element's tag.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// Takes an element with this tag; gives its content.
    pub(crate) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        Some(self.take_whole(tag)?.1)
    }

    /// Takes an element with this tag; gives it as a whole, and its content.
    pub(crate) fn take_whole(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        let (&found, rest) = self.0.split_first()?;
        let (length, rest) = length(rest)?;
        if found != tag {
            return None;
        }
        let (content, after) = rest.split_at_checked(length)?;
        let whole = self.0.get(..self.0.len() - after.len())?;
        self.0 = after;
        Some((whole, content))
    }

    /// Takes an element with this tag if there is one. `None` is a broken element.
    pub(crate) fn take_optional(&mut self, tag: u8) -> Option<Option<&'a [u8]>> {
        match self.peek() {
            Some(found) if found == tag => self.take(tag).map(Some),
            _ => Some(None),
        }
    }

    /// Takes whatever comes.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let tag = self.peek()?;
        self.take(tag).map(drop)
    }
}

/// A length of at most three bytes, and what follows it.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let more = match first {
        ..=0x7f => return Some((usize::from(first), rest)),
        0x81..=0x83 => usize::from(first & 0x7f),
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(more)?;
    let length = digits
        .iter()
        .fold(0, |length, digit| length << 8 | usize::from(*digit));
    Some((length, rest))
}

/// One element.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    let length = content.len().to_be_bytes();
    match length {
        [.., last] if content.len() < 0x80 => bytes.push(last),
        [.., c, b, a] => {
            let digits = [c, b, a];
            let leading = digits.iter().take_while(|digit| **digit == 0).count();
            let digits = digits.iter().skip(leading);
            bytes.push(if leading == 0 {
                0x83
            } else if leading == 1 {
                0x82
            } else {
                0x81
            });
            bytes.extend(digits);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{Reader, element};

    #[test]
    fn lengths_of_every_size_come_back() {
        for length in [0, 1, 127, 128, 255, 256, 65535, 65536, 70000] {
            let content = vec![7; length];
            let bytes = element(0x30, &content);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.take(0x30), Some(&content[..]));
            assert!(reader.rest().is_empty());
            let cut = bytes.len() - 1;
            assert_eq!(Reader::new(&bytes[..cut]).take(0x30), None);
        }
    }
}
