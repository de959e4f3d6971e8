//! The verification trailer (MS-RPCE 2.2.2.13): what a client appends to a stub so that the parts of
//! a PDU which its security provider does not cover are covered, too.
//!
//! Nothing tells whether there is one; the server looks for its signature at the end of the stub.

use crate::pdu::PacketType;
use crate::syntax::SyntaxId;

const SIGNATURE: [u8; 8] = [0x8a, 0xe3, 0x13, 0x71, 0x02, 0xf4, 0x36, 0x71];
/// No trailer is longer: the signature, and each command once.
const LONGEST: usize = 8 + (4 + 4) + (4 + 40) + (4 + 16) + 64;
const COMMAND: u16 = 0x3fff;
const END: u16 = 0x4000;
const MUST_PROCESS: u16 = 0x8000;
const BITMASK: u16 = 1;
const PRESENTATION: u16 = 2;
const HEADER: u16 = 3;

/// The trailer contradicts the request that it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the verification trailer contradicts the request")]
pub struct Contradiction;

/// What the request says by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The presentation context's interface.
    pub interface: SyntaxId,
    /// The presentation context.
    pub context: u16,
    /// The call.
    pub call: u32,
    /// The operation.
    pub opnum: u16,
}

/// How long a stub is without its verification trailer, if it has one; that is checked, too.
pub fn strip(stub: &[u8], expected: &Expected) -> Result<usize, Contradiction> {
    let first = stub.len().saturating_sub(LONGEST).next_multiple_of(4);
    for start in (first..stub.len()).step_by(4) {
        let Some(rest) = stub
            .get(start..)
            .and_then(|rest| rest.strip_prefix(&SIGNATURE))
        else {
            continue;
        };
        if let Some(commands) = Commands::parse(rest) {
            commands.check(expected)?;
            return Ok(start);
        }
    }
    Ok(stub.len())
}

/// The commands whose content matters.
#[derive(Default)]
struct Commands<'a> {
    presentation: Option<&'a [u8]>,
    header: Option<&'a [u8]>,
    unknown_that_must_be_processed: bool,
}

impl<'a> Commands<'a> {
    /// All of them, if they end where the bytes end but for padding.
    fn parse(mut bytes: &'a [u8]) -> Option<Self> {
        let mut commands = Commands::default();
        loop {
            let (&[a, b, c, d], rest) = bytes.split_first_chunk()?;
            let command = u16::from_le_bytes([a, b]);
            let length = usize::from(u16::from_le_bytes([c, d]));
            let (content, rest) = rest.split_at_checked(length)?;
            match command & COMMAND {
                BITMASK => {}
                PRESENTATION => commands.presentation = Some(content),
                HEADER => commands.header = Some(content),
                _ => commands.unknown_that_must_be_processed |= command & MUST_PROCESS != 0,
            }
            if command & END != 0 {
                return (rest.len() < 16).then_some(commands);
            }
            bytes = rest;
        }
    }

    fn check(&self, expected: &Expected) -> Result<(), Contradiction> {
        let mut presentation = [0; 40];
        presentation[..20].copy_from_slice(&expected.interface.to_bytes());
        presentation[20..].copy_from_slice(&SyntaxId::NDR.to_bytes());
        let mut header = [0; 16];
        header[0] = PacketType::REQUEST.0;
        header[4] = 0x10;
        header[8..12].copy_from_slice(&expected.call.to_le_bytes());
        header[12..14].copy_from_slice(&expected.context.to_le_bytes());
        header[14..].copy_from_slice(&expected.opnum.to_le_bytes());
        let contradicts = self.presentation.is_some_and(|found| found != presentation)
            || self.header.is_some_and(|found| found != header)
            || self.unknown_that_must_be_processed;
        match contradicts {
            true => Err(Contradiction),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const EXPECTED: Expected = Expected {
        interface: SyntaxId::new(Uuid::from_u128(5), 1),
        context: 2,
        call: 3,
        opnum: 4,
    };

    fn trailer(commands: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = SIGNATURE.to_vec();
        for (command, content) in commands {
            bytes.extend(command.to_le_bytes());
            bytes.extend(u16::try_from(content.len()).unwrap().to_le_bytes());
            bytes.extend(content);
        }
        bytes
    }

    fn presentation(interface: SyntaxId) -> Vec<u8> {
        [interface.to_bytes(), SyntaxId::NDR.to_bytes()].concat()
    }

    fn strip_with(data: usize, commands: &[(u16, Vec<u8>)]) -> Result<usize, Contradiction> {
        let mut stub = vec![9; data];
        stub.extend(trailer(commands));
        strip(&stub, &EXPECTED)
    }

    #[test]
    fn a_trailer_that_agrees_is_taken_off() {
        let header = [0, 0, 0, 0, 0x10, 0, 0, 0, 3, 0, 0, 0, 2, 0, 4, 0].to_vec();
        let all = [
            (BITMASK, vec![1, 0, 0, 0]),
            (PRESENTATION, presentation(EXPECTED.interface)),
            (HEADER | END, header),
        ];
        assert_eq!(strip_with(0, &all), Ok(0));
        assert_eq!(strip_with(400, &all), Ok(400));
        assert_eq!(strip(&[9; 100], &EXPECTED), Ok(100));
        assert_eq!(strip(&[], &EXPECTED), Ok(0));
    }

    #[test]
    fn a_trailer_that_does_not_agree_is_refused() {
        let other = SyntaxId::new(Uuid::from_u128(6), 1);
        for command in [
            (PRESENTATION | END, presentation(other)),
            (HEADER | END, vec![0; 16]),
            (77 | MUST_PROCESS | END, vec![]),
        ] {
            assert_eq!(strip_with(8, &[command]), Err(Contradiction));
        }
    }

    #[test]
    fn data_that_looks_like_one_is_left() {
        let unfinished = [(BITMASK, vec![0; 4])];
        assert_eq!(strip_with(8, &unfinished), Ok(28 - 4));
        let mut stub = trailer(&[(BITMASK | END, vec![0; 4])]);
        stub.extend([1; 64]);
        assert_eq!(strip(&stub, &EXPECTED), Ok(stub.len()));
    }
}
