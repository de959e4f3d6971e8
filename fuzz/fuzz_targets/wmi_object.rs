//! WMI objects: no bytes make the decoder panic or grow beyond its limits, and a class or instance
//! that was read and can be encoded reads back the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wmi_object::{
    ClassLayout, Limits, Lineage, NoClasses, Object, decode, decode_block, encode_class,
    encode_instance,
};

fuzz_target!(|bytes: &[u8]| {
    let unit = decode(bytes, Limits::REQUEST);
    let Ok(read) = unit.or_else(|_| decode_block(bytes, Limits::REQUEST)) else {
        return;
    };
    match read.object {
        Object::Class { mut class, .. } => {
            // Read as a class of its own: nobody sent its ancestors.
            class.superclass = None;
            class.properties.iter_mut().for_each(|it| it.propagated = false);
            let Ok(block) = encode_class(&Lineage::root(&class), None) else {
                return;
            };
            let again = decode_block(&block, Limits { budget: usize::MAX, ..Limits::REQUEST });
            match again.expect("our own bytes").object {
                Object::Class { class: again, .. } => {
                    assert_eq!(again.name, class.name);
                    assert_eq!(again.properties.len(), class.properties.len());
                }
                Object::Instance(_) => panic!("a class became an instance"),
            }
        }
        Object::Instance(decoded) => {
            let instance = decoded.instance;
            let mut class = cim::Class::new(instance.class.clone());
            class.properties = instance
                .properties
                .iter()
                .map(|it| cim::PropertyDecl::new(it.name.clone(), it.ty, instance.class.clone()))
                .collect();
            let Ok(layout) = ClassLayout::new(&Lineage::root(&class)) else {
                return;
            };
            let Ok(block) = encode_instance(&layout, &instance, None, &NoClasses) else {
                return;
            };
            let again = decode_block(&block, Limits { budget: usize::MAX, ..Limits::REQUEST });
            let again = again.expect("our own bytes").into_instance().expect("an instance");
            assert_eq!(again.properties.len(), instance.properties.len());
        }
    }
});
