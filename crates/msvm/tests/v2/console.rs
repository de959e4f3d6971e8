//! The screen and the keyboard of a machine that runs its firmware, and network connections.

use crate::fixture::{embedded, path, reference, text};
use crate::site::Site;
use cim::{Instance, Value};
use cim_broker::Role;

async fn thumbnail(site: &Site, system: &Instance) -> (u32, Vec<u8>) {
    let arguments = [
        ("TargetSystem", reference(&site.settings(system))),
        ("WidthPixels", Value::Uint16(160)),
        ("HeightPixels", Value::Uint16(120)),
    ];
    let answer = site
        .call("GetVirtualSystemThumbnailImage", &arguments)
        .await;
    let image = answer.out("ImageData").as_array().unwrap_or_default();
    let bytes = image.iter().filter_map(|byte| match byte {
        Value::Uint8(byte) => Some(*byte),
        _ => None,
    });
    (answer.code, bytes.collect())
}

#[tokio::test]
async fn the_screen_is_seen_and_keys_are_pressed() {
    let site = Site::new().await;
    let system = site.define_system("console").await;
    // Off: nothing to see.
    assert_eq!(thumbnail(&site, &system).await.0, 32775);
    let memory = site.resources(&site.settings(&system), "Msvm_MemorySettingData");
    let less = embedded(
        "Msvm_MemorySettingData",
        &[
            ("InstanceID", "string", text(&memory[0], "InstanceID")),
            ("VirtualQuantity", "uint64", "64"),
        ],
    );
    let arguments = [("ResourceSettings", Value::Array(vec![less]))];
    assert_eq!(
        site.call("ModifyResourceSettings", &arguments).await.code,
        0
    );
    let answer = site.request_state(&system, 2).await;
    site.done(&answer.path("Job")).await;
    // The firmware writes on the screen sooner or later.
    let mut tries = 0;
    loop {
        let (code, image) = thumbnail(&site, &system).await;
        assert_eq!((code, image.len()), (0, 160 * 120 * 2));
        if image.iter().any(|byte| *byte != 0) {
            break;
        }
        tries += 1;
        assert!(tries < 600, "the screen stays black");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let keyboards = site.associators(&system, "Msvm_SystemDevice", "Msvm_Keyboard");
    assert_eq!(keyboards.len(), 1);
    for (method, arguments, code) in [
        ("TypeKey", vec![("keyCode", Value::Uint32(0x41))], 0),
        ("PressKey", vec![("keyCode", Value::Uint32(0x10))], 0),
        ("ReleaseKey", vec![("keyCode", Value::Uint32(0x10))], 0),
        ("TypeKey", vec![("keyCode", Value::Uint32(0x3A))], 32773),
        ("TypeText", vec![("asciiText", "Hello?".into())], 0),
        ("TypeText", vec![("asciiText", "\u{e4}".into())], 32773),
        (
            "TypeScancodes",
            vec![("Scancodes", Value::from([0x1Eu8, 0x9E]))],
            0,
        ),
        (
            "TypeScancodes",
            vec![("Scancodes", Value::from([0xE0u8]))],
            32773,
        ),
        ("TypeCtrlAltDel", vec![], 0),
        (
            "IsKeyPressed",
            vec![("keyCode", Value::Uint32(0x41))],
            32770,
        ),
    ] {
        let answer = site
            .call_as(Role::Operator, path(&keyboards[0]), method, &arguments)
            .await;
        assert_eq!(answer.code, code, "{method}");
    }
}

#[tokio::test]
async fn a_port_is_connected_and_cut_off() {
    const PORT: &str = "Msvm_SyntheticEthernetPortSettingData";
    const CONNECTION: &str = "Msvm_EthernetPortAllocationSettingData";
    let mut site = Site::new().await;
    let system = site.define_system("network").await;
    let add = async |site: &Site, settings: Value| {
        let arguments = [
            ("AffectedConfiguration", reference(&site.settings(&system))),
            ("ResourceSettings", Value::Array(vec![settings])),
        ];
        let answer = site.call("AddResourceSettings", &arguments).await;
        let added = answer.out("ResultingResourceSettings").as_array();
        (answer.code, added.and_then(<[Value]>::first).cloned())
    };
    let port = embedded(
        PORT,
        &[(
            "ResourceSubType",
            "string",
            "Microsoft:Hyper-V:Synthetic Ethernet Port",
        )],
    );
    let (code, port) = add(&site, port).await;
    assert_eq!(code, 0);
    let port = port
        .expect("a port")
        .as_reference()
        .expect("a path")
        .to_string();
    let connection = |parent: &str| {
        let text = format!(
            "<INSTANCE CLASSNAME=\"{CONNECTION}\"><PROPERTY NAME=\"Parent\" TYPE=\"string\">\
             <VALUE>{parent}</VALUE></PROPERTY><PROPERTY.ARRAY NAME=\"HostResource\" \
             TYPE=\"string\"><VALUE.ARRAY><VALUE>a switch</VALUE></VALUE.ARRAY>\
             </PROPERTY.ARRAY></INSTANCE>"
        );
        Value::String(text)
    };
    assert_eq!(add(&site, connection("")).await.0, 4);
    let (code, made) = add(&site, connection(&port)).await;
    assert_eq!(code, 0);
    let made = made
        .expect("a connection")
        .as_reference()
        .expect("a path")
        .clone();
    let seen = site.get(&made);
    assert_eq!(text(&seen, "Parent"), port);
    assert_eq!(seen.get("HostResource"), Some(&Value::from(["a switch"])));
    // V1 has it at the port.
    let query = format!("SELECT * FROM {PORT} WHERE Connection IS NOT NULL");
    let old = site.in_v1(|v1| v1.one(&query));
    assert_eq!(old.get("Connection"), Some(&Value::from(["a switch"])));
    let arguments = [("ResourceSettings", Value::Array(vec![made.into()]))];
    assert_eq!(
        site.call("RemoveResourceSettings", &arguments).await.code,
        0
    );
    assert!(
        site.resources(&site.settings(&system), CONNECTION)
            .is_empty()
    );
    assert_eq!(site.resources(&site.settings(&system), PORT).len(), 1);
    assert!(site.enumerate("Msvm_VirtualEthernetSwitch").is_empty());
}
