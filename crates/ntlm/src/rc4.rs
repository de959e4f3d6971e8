//! The stream cipher RC4, which NTLM is bound to. Ours, because a session needs copies of its state.

/// A key stream at some position.
#[derive(Clone)]
pub(crate) struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    pub(crate) fn new(key: &[u8; 16]) -> Self {
        let mut state = [0; 256];
        for (value, slot) in (0..=u8::MAX).zip(state.iter_mut()) {
            *slot = value;
        }
        let mut j = 0_u8;
        for (i, key) in (0..=u8::MAX).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[usize::from(i)]).wrapping_add(*key);
            state.swap(usize::from(i), usize::from(j));
        }
        Rc4 { state, i: 0, j: 0 }
    }

    /// Encrypts or decrypts, and moves on by as many bytes.
    pub(crate) fn apply(&mut self, data: &mut [u8]) {
        for byte in data {
            self.i = self.i.wrapping_add(1);
            let a = self.state[usize::from(self.i)];
            self.j = self.j.wrapping_add(a);
            let b = self.state[usize::from(self.j)];
            self.state[usize::from(self.i)] = b;
            self.state[usize::from(self.j)] = a;
            *byte ^= self.state[usize::from(a.wrapping_add(b))];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Rc4;

    /// RFC 6229, the 128-bit key 0102..10: the first bytes and those at offset 4096.
    #[test]
    fn the_key_stream_is_the_published_one() {
        let mut key = [0; 16];
        for (value, byte) in (1..).zip(key.iter_mut()) {
            *byte = value;
        }
        let mut stream = vec![0; 4112];
        Rc4::new(&key).apply(&mut stream);
        assert_eq!(
            stream[..16],
            [
                0x9a, 0xc7, 0xcc, 0x9a, 0x60, 0x9d, 0x1e, 0xf7, 0xb2, 0x93, 0x28, 0x99, 0xcd, 0xe4,
                0x1b, 0x97
            ]
        );
        assert_eq!(
            stream[4096..],
            [
                0xa3, 0x6a, 0x4c, 0x30, 0x1a, 0xe8, 0xac, 0x13, 0x61, 0x0c, 0xcb, 0xc1, 0x22, 0x56,
                0xca, 0xcc
            ]
        );
    }
}
