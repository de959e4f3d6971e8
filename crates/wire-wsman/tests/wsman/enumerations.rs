//! Enumerate, Pull, Release: modes, filters, limits.

use crate::model::STOCK;
use crate::support::{
    SHOP, WQL, ask, ask_as, context, enumerate, envelope, filter, pull, pulls, shop, value,
};
use wire_wsman::soap::uri;

const ALL_AT_ONCE: &str = "<wsen:MaxElements>1000</wsen:MaxElements>";

#[tokio::test]
async fn a_pull_without_a_number_gives_one_item_and_every_property() {
    let shop = shop().await;
    let books = pulls(&shop, &enumerate(&format!("{SHOP}Shop_Book"), ""), "").await;
    assert_eq!(books.len(), STOCK + 3);
    assert!(books.iter().all(|items| items.len() == 1));
    let first = &books[0][0];
    let own = format!("{SHOP}Shop_Book");
    assert!(first.is(&own, "Shop_Book"), "{first:?}");
    assert!(first.children.iter().all(|it| *it.namespace == *own));
    assert_eq!(value(first, "Id"), "b1");
    assert_eq!(value(first, "Sold"), u64::MAX.to_string());
    assert_eq!(value(first, "InPrint"), "true");
    let bought = &first.child_local("Bought").unwrap().children[0];
    assert!(bought.is(uri::CIM_COMMON, "Datetime"));
    assert_eq!(bought.text, "2012-02-29T13:45:01.123456+01:00");
    let keywords: Vec<&str> = first
        .children
        .iter()
        .filter(|it| it.local == "Keywords")
        .map(|it| it.text.as_str())
        .collect();
    assert_eq!(keywords, ["x", "", "<y>"]);
    assert!(value(first, "BestReview").contains("<INSTANCE CLASSNAME=\"Shop_Review\">"));
    let second = &books[1][0];
    assert_eq!(value(second, "Id"), r#"b<2>&"\'é"#);
    assert!(second.child_local("Pages").unwrap().is_nil());
    // Leaves of other classes come after the exact ones, under their own names.
    let last = &books.last().unwrap()[0];
    assert!(last.is(&format!("{SHOP}Shop_Comic"), "Shop_Comic"));
    // Nothing there is an empty list.
    let none = enumerate(
        &format!("{SHOP}*"),
        &filter(WQL, "SELECT * FROM Shop_Book WHERE Id = 'no' "),
    );
    assert_eq!(pulls(&shop, &none, "").await, vec![Vec::new()]);
}

#[tokio::test]
async fn references_come_alone_or_with_their_objects() {
    let shop = shop().await;
    let mode = |mode: &str| {
        let mode = format!("<wsman:EnumerationMode>{mode}</wsman:EnumerationMode>");
        enumerate(&format!("{SHOP}Shop_Shelf"), &mode)
    };
    let items = pulls(&shop, &mode("EnumerateEPR"), "").await.remove(0);
    assert!(items[0].is(uri::ADDRESSING, "EndpointReference"));
    let parameters = items[0]
        .child(uri::ADDRESSING, "ReferenceParameters")
        .unwrap();
    assert_eq!(
        value(parameters, "ResourceURI"),
        format!("{SHOP}Shop_Shelf")
    );
    let items = pulls(&shop, &mode("EnumerateObjectAndEPR"), "")
        .await
        .remove(0);
    assert!(items[0].is(uri::WSMAN, "Item"));
    let names: Vec<&str> = items[0]
        .children
        .iter()
        .map(|it| it.local.as_str())
        .collect();
    assert_eq!(names, ["Shop_Shelf", "EndpointReference"]);
    let reply = ask(&shop, &mode("EnumerateNothing")).await;
    assert_eq!(
        reply.fault(),
        (
            "UnsupportedFeature".to_owned(),
            "EnumerationMode".to_owned(),
            2_150_858_886
        )
    );
}

#[tokio::test]
async fn optimized_enumerations_answer_at_once() {
    let shop = shop().await;
    let optimized = |most: &str| {
        let content = format!("<wsman:OptimizeEnumeration/>{most}");
        enumerate(&format!("{SHOP}Shop_Book"), &content)
    };
    let all = ask(
        &shop,
        &optimized("<wsman:MaxElements>1000</wsman:MaxElements>"),
    )
    .await
    .content();
    assert_eq!(
        all.child(uri::WSMAN, "Items").unwrap().children.len(),
        STOCK + 3
    );
    assert!(all.child(uri::WSMAN, "EndOfSequence").is_some());
    assert_eq!(context(&all), None);
    let one = ask(&shop, &optimized("")).await.content();
    assert_eq!(one.child(uri::WSMAN, "Items").unwrap().children.len(), 1);
    let rest = context(&one).unwrap();
    let rest = ask(
        &shop,
        &pull(&format!("{SHOP}Shop_Book"), &rest, ALL_AT_ONCE),
    )
    .await
    .content();
    assert_eq!(
        rest.child(uri::ENUMERATION, "Items")
            .unwrap()
            .children
            .len(),
        STOCK + 2
    );
}

#[tokio::test]
async fn filters_select() {
    let shop = shop().await;
    let count = async |resource: &str, content: &str| {
        let found = pulls(
            &shop,
            &enumerate(&format!("{SHOP}{resource}"), content),
            ALL_AT_ONCE,
        )
        .await;
        found.concat().len()
    };
    let query = |text: &str| filter(WQL, text);
    assert_eq!(
        count("*", &query("SELECT * FROM Shop_Book")).await,
        STOCK + 3
    );
    assert_eq!(
        count(
            "*",
            &query("select Id from Shop_Book where Id like 'stock%' ")
        )
        .await,
        STOCK
    );
    assert_eq!(count("*", &query("ASSOCIATORS OF {Shop_Shelf.Id='s1'} WHERE AssocClass = Shop_OnShelf ResultClass = Shop_Comic")).await, 1);
    assert_eq!(
        count("*", &query("REFERENCES OF {Shop_Shelf.Id='s1'}")).await,
        3
    );
    let cql = filter(
        "http://schemas.dmtf.org/wbem/cql/1/dsp0202.pdf",
        "select * from Shop_Shelf",
    );
    assert_eq!(count("*", &cql).await, 1);
    let selector = filter(
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/SelectorFilter",
        "<wsman:SelectorSet><wsman:Selector Name=\"Id\">b1</wsman:Selector></wsman:SelectorSet>",
    );
    assert_eq!(count("Shop_Book", &selector).await, 1);
    let association = |kind: &str, more: &str| {
        let content = format!(
            "<wsmb:{kind}><wsmb:Object><wsa:Address>x</wsa:Address><wsa:ReferenceParameters>\
             <wsman:ResourceURI>{SHOP}Shop_Shelf</wsman:ResourceURI><wsman:SelectorSet>\
             <wsman:Selector Name=\"Id\">s1</wsman:Selector></wsman:SelectorSet>\
             </wsa:ReferenceParameters></wsmb:Object>{more}</wsmb:{kind}>"
        );
        filter(
            "http://schemas.dmtf.org/wbem/wsman/1/cimbinding/associationFilter",
            &content,
        )
    };
    assert_eq!(count("*", &association("AssociatedInstances", "")).await, 3);
    let comics = "<wsmb:ResultClassName>Shop_Comic</wsmb:ResultClassName>";
    assert_eq!(
        count("*", &association("AssociatedInstances", comics)).await,
        1
    );
    assert_eq!(
        count("*", &association("AssociationInstances", "")).await,
        3
    );
    let base = "<wsmb:PolymorphismMode>None</wsmb:PolymorphismMode>";
    assert_eq!(count("Shop_Book", base).await, STOCK + 2);
}

#[tokio::test]
async fn base_classes_can_be_shown_alone() {
    let shop = shop().await;
    let mode = "<wsmb:PolymorphismMode>ExcludeSubClassProperties</wsmb:PolymorphismMode>";
    let found = pulls(
        &shop,
        &enumerate(&format!("{SHOP}Shop_Thing"), mode),
        ALL_AT_ONCE,
    )
    .await
    .concat();
    assert_eq!(found.len(), STOCK + 4);
    for item in &found {
        assert_eq!(item.local, "Shop_Thing");
        let names: Vec<&str> = item.children.iter().map(|it| it.local.as_str()).collect();
        assert_eq!(names, ["Id", "Title"]);
    }
    let reply = ask(
        &shop,
        &enumerate(
            &format!("{SHOP}Shop_Thing"),
            &mode.replace("Exclude", "Some"),
        ),
    )
    .await;
    assert_eq!(reply.fault().2, 2_150_859_063);
}

#[tokio::test]
async fn answers_stay_within_what_the_client_can_take() {
    let shop = shop().await;
    let limited = |size: usize, action: &str, body: &str| {
        let header = format!(
            "<wsman:MaxEnvelopeSize s:mustUnderstand=\"true\">{size}</wsman:MaxEnvelopeSize>"
        );
        envelope(
            &format!("{}/{action}", uri::ENUMERATION),
            &format!("{SHOP}Shop_Book"),
            &header,
            body,
        )
    };
    let reply = ask(&shop, &limited(8191, "Enumerate", "<wsen:Enumerate/>")).await;
    assert_eq!(
        reply.fault(),
        (
            "EncodingLimit".to_owned(),
            "MinimumEnvelopeLimit".to_owned(),
            2_150_858_878
        )
    );
    let begun = ask(&shop, &limited(8192, "Enumerate", "<wsen:Enumerate/>")).await;
    let mut next = context(&begun.content());
    let mut items = 0;
    let mut most = 0;
    while let Some(name) = next {
        let body = format!(
            "<wsen:Pull><wsen:EnumerationContext>{name}</wsen:EnumerationContext>{ALL_AT_ONCE}</wsen:Pull>"
        );
        let reply = ask(&shop, &limited(8192, "Pull", &body)).await;
        assert!(reply.body.len() <= 8192, "{} bytes", reply.body.len());
        let content = reply.content();
        let count = content
            .child(uri::ENUMERATION, "Items")
            .unwrap()
            .children
            .len();
        items += count;
        most = most.max(count);
        next = context(&content);
    }
    assert_eq!(items, STOCK + 3);
    assert!(most > 1 && most < STOCK);
}

#[tokio::test]
async fn enumerations_belong_to_one_account_and_end() {
    let shop = shop().await;
    let begin = enumerate(
        &format!("{SHOP}Shop_Book"),
        "<wsen:Expires>PT10M</wsen:Expires>",
    );
    let begun = ask(&shop, &begin).await.content();
    assert_eq!(value(&begun, "Expires"), "PT600S");
    let name = context(&begun).unwrap();
    let gone = (
        "InvalidEnumerationContext".to_owned(),
        String::new(),
        2_150_858_779,
    );
    let request = pull(&format!("{SHOP}Shop_Book"), &name, "");
    assert_eq!(ask_as(&shop, "other", &request).await.fault(), gone);
    assert_eq!(ask(&shop, &request).await.status, 200);
    let release = request
        .replace("/Pull<", "/Release<")
        .replace("wsen:Pull>", "wsen:Release>");
    let reply = ask(&shop, &release).await;
    assert_eq!(
        (
            reply.status,
            reply
                .envelope()
                .child(uri::SOAP, "Body")
                .unwrap()
                .children
                .len()
        ),
        (200, 0)
    );
    assert_eq!(ask(&shop, &request).await.fault(), gone);
    assert_eq!(ask(&shop, &release).await.fault(), gone);
    for number in 0..65 {
        let reply = ask(&shop, &begin).await;
        match number {
            64 => assert_eq!(reply.fault().0, "QuotaLimit"),
            _ => assert_eq!(reply.status, 200),
        }
    }
    assert_eq!(ask_as(&shop, "other", &begin).await.status, 200);
    let wrong = begin.replace("PT10M", "PT0S");
    assert_eq!(
        ask_as(&shop, "other", &wrong).await.fault().0,
        "InvalidExpirationTime"
    );
}
