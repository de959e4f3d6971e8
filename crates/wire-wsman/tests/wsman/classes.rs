//! Classes: one, and lists of them, as CIM cmdlets ask.

use crate::support::{WQL, ask, context, envelope, filter, pulls, selectors, shop, transfer};
use wire_wsman::soap::uri;
use wire_wsman::soap::xml::Element;

const CLASSES: &str = "http://schemas.dmtf.org/wbem/cim-xml/2/cim-schema/2/*";

/// As Get-CimClass sends it, with the class that is named and what else stands in the body.
fn enumerate(class: &str, content: &str) -> String {
    let option = |name: &str, ty: &str, value: &str| {
        format!("<wsman:Option Name=\"{name}\" Type=\"xs:{ty}\">{value}</wsman:Option>")
    };
    let options = [
        option("IncludeInheritanceHierarchy", "boolean", "true"),
        option("IncludeInheritedElements", "boolean", "true"),
        option("IncludeQualifiers", "boolean", "true"),
        option("__MI_CallbackRegistration", "int", "11"),
        option(
            "wmiarray:__MI_OPERATIONOPTIONS_CHANNELVALUE",
            "unsignedInt",
            "0",
        ),
        option(
            "wmiarray:__MI_OPERATIONOPTIONS_CHANNELVALUE",
            "unsignedInt",
            "1",
        ),
        option("msftwinrm:UsePreciseArrays", "boolean", "true"),
    ];
    let names = selectors(&[("__cimnamespace", "root/shop"), ("ClassName", class)]);
    let headers = format!(
        "{names}<wsman:OptionSet>{}</wsman:OptionSet>",
        options.concat()
    );
    let action = format!("{}/Enumerate", uri::ENUMERATION);
    let body = format!("<wsen:Enumerate>{content}</wsen:Enumerate>");
    envelope(&action, CLASSES, &headers, &body)
}

fn names(classes: &[Element]) -> Vec<&str> {
    let names = classes.iter().map(|class| {
        assert!(class.is("", "CLASS"), "{class:?}");
        class.attribute("NAME").expect("a name")
    });
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    names
}

const EVERY: [&str; 7] = [
    "Shop_Book",
    "Shop_Clerk",
    "Shop_Comic",
    "Shop_OnShelf",
    "Shop_Review",
    "Shop_Shelf",
    "Shop_Thing",
];

#[tokio::test]
async fn all_classes_come_at_once_with_what_was_asked_of_each() {
    let shop = shop().await;
    let optimized = "<wsman:OptimizeEnumeration/><wsman:MaxElements>32000</wsman:MaxElements>";
    let reply = ask(&shop, &enumerate("", optimized)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let content = reply.content();
    assert_eq!(context(&content), None);
    assert!(content.child(uri::WSMAN, "EndOfSequence").is_some());
    let classes = &content.child(uri::WSMAN, "Items").expect("items").children;
    assert_eq!(names(classes), EVERY);
    let named = |name: &str| {
        let mut all = classes.iter();
        all.find(|it| it.attribute("NAME") == Some(name))
            .expect("it")
    };
    let comic = named("Shop_Comic");
    assert_eq!(comic.attribute("SUPERCLASS"), Some("Shop_Book"));
    assert_eq!(comic.attribute("DERIVATION"), Some("Shop_Book,Shop_Thing"));
    // Parents come before what derives from them.
    let place = |name: &str| {
        classes
            .iter()
            .position(|it| it.attribute("NAME") == Some(name))
    };
    assert!(place("Shop_Thing") < place("Shop_Book") && place("Shop_Book") < place("Shop_Comic"));
    // One in the list is the one that is got alone.
    let alone = selectors(&[("__cimnamespace", "root/shop"), ("ClassName", "Shop_Comic")]);
    let options = "<wsman:OptionSet><wsman:Option Name=\"IncludeInheritanceHierarchy\">true\
        </wsman:Option></wsman:OptionSet>";
    let got = ask(&shop, &transfer("Get", CLASSES, &(alone + options), "")).await;
    assert_eq!(&got.content(), comic);
}

#[tokio::test]
async fn classes_are_pulled_like_instances() {
    let shop = shop().await;
    let one_by_one = pulls(&shop, &enumerate("", ""), "").await;
    assert_eq!(one_by_one.len(), EVERY.len());
    assert_eq!(names(&one_by_one.concat()), EVERY);
    let by_four = "<wsen:MaxElements>4</wsen:MaxElements>";
    let by_four = pulls(&shop, &enumerate("", ""), by_four).await;
    assert_eq!(by_four.iter().map(Vec::len).collect::<Vec<_>>(), [4, 3]);
    assert_eq!(names(&by_four.concat()), EVERY);
}

#[tokio::test]
async fn a_class_is_asked_for_what_derives_from_it() {
    let shop = shop().await;
    let direct = "<wsmb:PolymorphismMode>None</wsmb:PolymorphismMode>";
    let cases: [(&str, &str, &[&str]); 5] = [
        ("Shop_Thing", "", &["Shop_Book", "Shop_Comic", "Shop_Shelf"]),
        ("shop_thing", direct, &["Shop_Book", "Shop_Shelf"]),
        (
            "",
            direct,
            &["Shop_Clerk", "Shop_OnShelf", "Shop_Review", "Shop_Thing"],
        ),
        ("Shop_Book", "", &["Shop_Comic"]),
        ("Shop_Comic", "", &[]),
    ];
    for (class, content, expected) in cases {
        let found = pulls(&shop, &enumerate(class, content), "").await.concat();
        assert_eq!(names(&found), expected, "{class} {content}");
    }
}

#[tokio::test]
async fn what_classes_cannot_be_asked_is_refused() {
    let shop = shop().await;
    let references = "<wsman:EnumerationMode>EnumerateEPR</wsman:EnumerationMode>";
    let query = filter(WQL, "SELECT * FROM meta_class");
    for (class, content, subcode, detail) in [
        (
            "Shop_Nothing",
            "",
            "DestinationUnreachable",
            "InvalidResourceURI",
        ),
        ("", references, "UnsupportedFeature", "EnumerationMode"),
        ("", &query, "UnsupportedFeature", "FilteredEnumeration"),
    ] {
        let (found, cause, _) = ask(&shop, &enumerate(class, content)).await.fault();
        assert_eq!((found.as_str(), cause.as_str()), (subcode, detail));
    }
}
