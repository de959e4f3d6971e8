//! What a guest sends in place of its agent: lines cut out of anything, read as answers, and taken
//! for what each question could have been answered with.
#![no_main]

use qemu::agent::{facts, wire};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let (lines, input) = match input.split_first() {
        Some((0, rest)) => (wire::Lines::resynchronising(), rest),
        Some((_, rest)) => (wire::Lines::default(), rest),
        None => return,
    };
    let mut lines = lines;
    let mut rest = input;
    while let Ok(Some(line)) = lines.take(&mut rest) {
        assert!(line.len() <= wire::MAX_LINE);
        match wire::parse(&line) {
            Some(Ok(reply)) => {
                let info = facts::os_info(&reply);
                assert!(info.pretty_name.len() <= wire::MAX_TEXT);
                let found = facts::addresses(&reply);
                assert!(found.v4.len() <= 64 && found.v6.len() <= 64);
                facts::count(&reply);
                facts::is_frozen(&reply);
            }
            Some(Err((class, description))) => {
                assert!(class.len() <= wire::MAX_TEXT && description.len() <= wire::MAX_TEXT);
            }
            None => lines.skip(),
        }
    }
});
