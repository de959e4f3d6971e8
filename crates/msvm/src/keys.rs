//! Keys: the codes that clients give (Windows' virtual-key codes, characters, scan codes of set 1)
//! as the keys of a machine's keyboard.

use machines::console::KeyEvent;

/// Set on keys whose scan code has the prefix E0.
const EXTENDED: u8 = 0x80;
/// Set in a scan code when the key goes up.
const UP: u8 = 0x80;
const SHIFT: u8 = 0x2A;
const CONTROL: u8 = 0x1D;
const ALT: u8 = 0x38;
const DELETE: u8 = 0x53 | EXTENDED;

/// Scan codes of the letters A to Z.
const LETTERS: [u8; 26] = [
    0x1E, 0x30, 0x2E, 0x20, 0x12, 0x21, 0x22, 0x23, 0x17, 0x24, 0x25, 0x26, 0x32, 0x31, 0x18, 0x19,
    0x10, 0x13, 0x1F, 0x14, 0x16, 0x2F, 0x11, 0x2D, 0x15, 0x2C,
];
/// Of the digits 0 to 9.
const DIGITS: [u8; 10] = [0x0B, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A];
/// Of 0 to 9 on the number pad.
const PAD: [u8; 10] = [0x52, 0x4F, 0x50, 0x51, 0x4B, 0x4C, 0x4D, 0x47, 0x48, 0x49];
/// Of F1 to F12.
const FUNCTIONS: [u8; 12] = [
    0x3B, 0x3C, 0x3D, 0x3E, 0x3F, 0x40, 0x41, 0x42, 0x43, 0x44, 0x57, 0x58,
];

/// The other virtual-key codes, each with its key.
const VIRTUAL_KEYS: &[(u32, u8)] = &[
    (0x08, 0x0E),               // Backspace
    (0x09, 0x0F),               // Tab
    (0x0C, 0x4C),               // Clear
    (0x0D, 0x1C),               // Enter
    (0x10, SHIFT),              // Shift
    (0x11, CONTROL),            // Control
    (0x12, ALT),                // Alt
    (0x13, 0x46 | EXTENDED),    // Pause
    (0x14, 0x3A),               // Caps Lock
    (0x1B, 0x01),               // Escape
    (0x20, 0x39),               // Space
    (0x21, 0x49 | EXTENDED),    // Page Up
    (0x22, 0x51 | EXTENDED),    // Page Down
    (0x23, 0x4F | EXTENDED),    // End
    (0x24, 0x47 | EXTENDED),    // Home
    (0x25, 0x4B | EXTENDED),    // Left
    (0x26, 0x48 | EXTENDED),    // Up
    (0x27, 0x4D | EXTENDED),    // Right
    (0x28, 0x50 | EXTENDED),    // Down
    (0x2C, 0x37 | EXTENDED),    // Print Screen
    (0x2D, 0x52 | EXTENDED),    // Insert
    (0x2E, DELETE),             // Delete
    (0x5B, 0x5B | EXTENDED),    // left Windows
    (0x5C, 0x5C | EXTENDED),    // right Windows
    (0x5D, 0x5D | EXTENDED),    // Menu
    (0x5F, 0x5F | EXTENDED),    // Sleep
    (0x6A, 0x37),               // Multiply on the number pad
    (0x6B, 0x4E),               // Add
    (0x6D, 0x4A),               // Subtract
    (0x6E, 0x53),               // Decimal point
    (0x6F, 0x35 | EXTENDED),    // Divide
    (0x90, 0x45),               // Num Lock
    (0x91, 0x46),               // Scroll Lock
    (0xA0, SHIFT),              // left Shift
    (0xA1, 0x36),               // right Shift
    (0xA2, CONTROL),            // left Control
    (0xA3, CONTROL | EXTENDED), // right Control
    (0xA4, ALT),                // left Alt
    (0xA5, ALT | EXTENDED),     // right Alt
    (0xBA, 0x27),               // ; :
    (0xBB, 0x0D),               // = +
    (0xBC, 0x33),               // , <
    (0xBD, 0x0C),               // - _
    (0xBE, 0x34),               // . >
    (0xBF, 0x35),               // / ?
    (0xC0, 0x29),               // ` ~
    (0xDB, 0x1A),               // [ {
    (0xDC, 0x2B),               // \ |
    (0xDD, 0x1B),               // ] }
    (0xDE, 0x28),               // ' "
    (0xE2, 0x56),               // the key beside the left Shift
];

fn at(table: &[u8], code: u32, first: u32) -> Option<u8> {
    let index = usize::try_from(code.checked_sub(first)?).ok()?;
    table.get(index).copied()
}

/// The key of a virtual-key code; `None` if the keyboard has none.
pub(crate) fn of_virtual_key(code: u32) -> Option<u8> {
    at(&DIGITS, code, 0x30)
        .or_else(|| at(&LETTERS, code, 0x41))
        .or_else(|| at(&PAD, code, 0x60))
        .or_else(|| at(&FUNCTIONS, code, 0x70))
        .or_else(|| {
            let row = VIRTUAL_KEYS.iter().find(|(known, _)| *known == code);
            row.map(|(_, key)| *key)
        })
}

/// A key that goes down and up.
pub(crate) fn stroke(key: u8) -> Vec<KeyEvent> {
    vec![KeyEvent { key, down: true }, KeyEvent { key, down: false }]
}

/// The keys all down, and all up in reverse.
pub(crate) fn chord(keys: &[u8]) -> Vec<KeyEvent> {
    let down = keys.iter().map(|key| KeyEvent {
        key: *key,
        down: true,
    });
    let up = keys.iter().rev().map(|key| KeyEvent {
        key: *key,
        down: false,
    });
    down.chain(up).collect()
}

pub(crate) fn control_alt_delete() -> Vec<KeyEvent> {
    chord(&[CONTROL, ALT, DELETE])
}

/// What types a character on a keyboard with the layout of the United States; `None` if nothing
/// does.
pub(crate) fn of_character(c: char) -> Option<Vec<KeyEvent>> {
    /// What Shift makes of a key.
    const SHIFTED: [(char, char); 21] = [
        ('!', '1'),
        ('@', '2'),
        ('#', '3'),
        ('$', '4'),
        ('%', '5'),
        ('^', '6'),
        ('&', '7'),
        ('*', '8'),
        ('(', '9'),
        (')', '0'),
        ('_', '-'),
        ('+', '='),
        ('{', '['),
        ('}', ']'),
        ('|', '\\'),
        (':', ';'),
        ('"', '\''),
        ('~', '`'),
        ('<', ','),
        ('>', '.'),
        ('?', '/'),
    ];
    let shifted = SHIFTED.iter().find(|(shifted, _)| *shifted == c);
    let (plain, shift) = match shifted {
        Some((_, plain)) => (*plain, true),
        None => (c, c.is_ascii_uppercase()),
    };
    let code = match plain.to_ascii_uppercase() {
        c @ ('A'..='Z' | '0'..='9' | ' ') => u32::from(c),
        '\n' | '\r' => 0x0D,
        '\t' => 0x09,
        '\u{8}' => 0x08,
        ';' => 0xBA,
        '=' => 0xBB,
        ',' => 0xBC,
        '-' => 0xBD,
        '.' => 0xBE,
        '/' => 0xBF,
        '`' => 0xC0,
        '[' => 0xDB,
        '\\' => 0xDC,
        ']' => 0xDD,
        '\'' => 0xDE,
        _ => return None,
    };
    let key = of_virtual_key(code)?;
    Some(if shift {
        chord(&[SHIFT, key])
    } else {
        stroke(key)
    })
}

/// Scan codes of set 1, with the prefix E0 where a key has it; `None` if they end within one, or
/// have the prefix E1.
pub(crate) fn of_scan_codes(codes: &[u8]) -> Option<Vec<KeyEvent>> {
    let mut events = Vec::new();
    let mut codes = codes.iter();
    while let Some(code) = codes.next() {
        let (code, extended) = match code {
            0xE0 => (codes.next()?, EXTENDED),
            0xE1 => return None,
            code => (code, 0),
        };
        events.push(KeyEvent {
            key: code & !UP | extended,
            down: code & UP == 0,
        });
    }
    Some(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(events: &[KeyEvent]) -> String {
        let one =
            |event: &KeyEvent| format!("{:02x}{}", event.key, if event.down { 'v' } else { '^' });
        events.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn clients_codes_become_keys() {
        assert_eq!(of_virtual_key(0x41), Some(0x1E));
        assert_eq!(of_virtual_key(0x5A), Some(0x2C));
        assert_eq!(of_virtual_key(0x30), Some(0x0B));
        assert_eq!(of_virtual_key(0x7B), Some(0x58));
        assert_eq!(of_virtual_key(0x26), Some(0xC8));
        assert_eq!(of_virtual_key(0x3A), None);
        assert_eq!(of_virtual_key(u32::MAX), None);
        assert_eq!(shown(&control_alt_delete()), "1dv 38v d3v d3^ 38^ 1d^");
    }

    #[test]
    fn text_is_typed_with_shift_where_it_needs_it() {
        let typed = |c| of_character(c).map(|events| shown(&events));
        assert_eq!(typed('a').as_deref(), Some("1ev 1e^"));
        assert_eq!(typed('A').as_deref(), Some("2av 1ev 1e^ 2a^"));
        assert_eq!(typed('?').as_deref(), Some("2av 35v 35^ 2a^"));
        assert_eq!(typed('\n').as_deref(), Some("1cv 1c^"));
        assert_eq!(typed('ä'), None);
        for c in ' '..='~' {
            assert!(typed(c).is_some(), "{c}");
        }
    }

    #[test]
    fn scan_codes_say_what_goes_down_and_up() {
        let read = |codes: &[u8]| of_scan_codes(codes).map(|events| shown(&events));
        assert_eq!(read(&[0x1E, 0x9E]).as_deref(), Some("1ev 1e^"));
        assert_eq!(read(&[0xE0, 0x48, 0xE0, 0xC8]).as_deref(), Some("c8v c8^"));
        assert_eq!(read(&[0xE0]), None);
        assert_eq!(read(&[0xE1, 0x1D]), None);
    }
}
