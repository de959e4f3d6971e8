//! Packets of the smart enumerator.

use crate::arbitrary::{Wanted, sample};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use wmi_object::packet::{Packet, Sent};
use wmi_object::{ClassLayout, Limits, NoClasses, decode_block, encode_class};

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// Kind and payload of each object, with every length checked.
fn objects(packet: &[u8]) -> Vec<(u8, &[u8])> {
    assert_eq!(u32_at(packet, 0), 0);
    assert_eq!(&packet[4..12], b"WBEMDATA");
    assert_eq!(u32_at(packet, 12), 26);
    assert_eq!(u32_at(packet, 16), packet.len() - 26);
    assert_eq!(packet[24..26], [1, 1]);
    assert_eq!(u32_at(packet, 26), 8);
    assert_eq!(u32_at(packet, 30), packet.len() - 34);
    assert_eq!(u32_at(packet, 34), 12);
    assert_eq!(u32_at(packet, 38), packet.len() - 46);
    let mut rest = &packet[46..];
    let mut found = Vec::new();
    while !rest.is_empty() {
        assert_eq!(u32_at(rest, 0), 9);
        let size = u32_at(rest, 4);
        found.push((rest[8], &rest[9..9 + size]));
        rest = &rest[9 + size..];
    }
    assert_eq!(u32_at(packet, 42), found.len());
    found
}

#[test]
fn a_class_part_is_sent_once() {
    let mut runner = TestRunner::deterministic();
    let tree = sample(Wanted { plain: false }).new_tree(&mut runner);
    let sample = tree.expect("a sample").current();
    let layout = ClassLayout::new(&sample.lineage()).expect("encodes");
    let mut sent = Sent::default();
    let mut packet = Packet::new();
    for _ in 0..3 {
        packet
            .instance(&layout, &sample.instance, None, &sample, &mut sent)
            .expect("encodes");
    }
    packet.class(&encode_class(&sample.lineage(), None).expect("encodes"));
    assert_eq!(packet.count(), 4);
    let bytes = packet.finish();
    let objects = objects(&bytes);
    assert_eq!(
        objects.iter().map(|it| it.0).collect::<Vec<_>>(),
        [2, 3, 3, 1]
    );

    let full = objects[0].1;
    assert_eq!((u32_at(full, 0), u32_at(full, 4)), (24, full.len() - 24));
    assert_eq!(full[8..24], layout.id());
    let read = decode_block(&full[24..], Limits::REQUEST).expect("decodes");
    assert_eq!(read.into_instance(), Some(sample.instance.clone()));

    // Without its class part, the same object: put back, it reads the same.
    let classless = objects[1].1;
    assert_eq!(classless[..4], full[..4]);
    assert_eq!(classless[8..24], full[8..24]);
    let part = full.len() - classless.len();
    let mut whole = vec![classless[24]];
    whole.extend(&full[25..25 + part]);
    whole.extend(&classless[25..]);
    assert_eq!(whole, full[24..]);

    let class = objects[3].1;
    assert_eq!((u32_at(class, 0), u32_at(class, 4)), (8, class.len() - 8));
    assert!(decode_block(&class[8..], Limits::REQUEST).is_ok());
}

#[test]
fn a_packet_may_be_empty_and_a_failure_adds_nothing() {
    assert_eq!(objects(&Packet::new().finish()), []);
    let mut class = cim::Class::new("Demo");
    let ty = cim::Type::scalar(cim::CimType::Uint8);
    class
        .properties
        .push(cim::PropertyDecl::new("P", ty, "Demo"));
    let layout = ClassLayout::new(&wmi_object::Lineage::root(&class)).expect("encodes");
    let mut instance = cim::Instance::of_class(&class);
    instance.properties[0].value = cim::Value::from("text");
    let mut packet = Packet::new();
    let mut sent = Sent::default();
    let added = packet.instance(&layout, &instance, None, &NoClasses, &mut sent);
    added.expect_err("not a number");
    instance.properties[0].value = cim::Value::Uint8(1);
    packet
        .instance(&layout, &instance, None, &NoClasses, &mut sent)
        .expect("encodes");
    let bytes = packet.finish();
    assert_eq!(
        objects(&bytes).iter().map(|it| it.0).collect::<Vec<_>>(),
        [2]
    );
}
