//! A bookshop: a provider small enough to know by heart, with a value of every type that clients
//! must be able to read, for the example server and the tests.

use async_trait::async_trait;
use cim::mof::Repository;
use cim::{CimError, CimStatus, Class, Instance, KeyValue, Name, Namespace, ObjectPath, Value};
use cim_broker::{
    Arguments, Association, Broker, Context, Equality, MethodOutcome, Provider, Role,
};
use std::sync::Arc;

pub const NAMESPACE: &str = r"root\shop";
/// Books besides the three with a story; enough that answers come in portions.
pub const STOCK: usize = 25;

pub fn broker() -> Broker {
    let namespace = Namespace::new(NAMESPACE);
    let classes = Repository::compile(&[("bookshop.mof", include_str!("bookshop.mof"))])
        .expect("the shop's classes are right");
    let shop = Shop {
        classes: classes.classes().cloned().collect(),
    };
    let mut broker = Broker::new("shop.example");
    broker.add_namespace(namespace.clone(), classes);
    broker.add_provider(&namespace, Arc::new(shop));
    broker.add_associations(&namespace, vec![on_shelf()]);
    broker
}

struct Shop {
    classes: Vec<Arc<Class>>,
}

fn book(class: &str, id: &str) -> ObjectPath {
    ObjectPath::of_instance(class, [("Id", KeyValue::String(id.to_owned()))])
}

fn located(path: ObjectPath) -> ObjectPath {
    path.located("shop.example", Namespace::new(NAMESPACE))
}

fn books() -> Vec<ObjectPath> {
    let stock = (0..STOCK).map(|n| book("Shop_Book", &format!("stock {n:03}")));
    [book("Shop_Book", "b1"), book("Shop_Book", r#"b<2>&"\'é"#)]
        .into_iter()
        .chain(stock)
        .map(located)
        .collect()
}

fn comics() -> Vec<ObjectPath> {
    vec![located(book("Shop_Comic", "c1"))]
}

fn shelved() -> impl Iterator<Item = ObjectPath> {
    books().into_iter().take(2).chain(comics())
}

fn on_shelf() -> Association {
    let shelf = located(book("Shop_Shelf", "s1"));
    let named = |names: &[&str]| names.iter().map(Name::new).collect::<Vec<_>>();
    Association {
        class: Name::new("Shop_OnShelf"),
        roles: (Name::new("Shelf"), Name::new("Book")),
        end_classes: (named(&["Shop_Shelf"]), named(&["Shop_Book", "Shop_Comic"])),
        forward: Box::new(|_, _| Ok(shelved().collect())),
        backward: Box::new(move |_, book| {
            let there = shelved().any(|other| other.names_same_object(book));
            Ok(if there { vec![shelf.clone()] } else { vec![] })
        }),
        properties: None,
    }
}

impl Shop {
    fn class(&self, name: &str) -> Result<&Class, CimError> {
        let found = self.classes.iter().find(|class| class.name.is(name));
        found
            .map(|class| class.as_ref())
            .ok_or_else(|| CimError::new(CimStatus::InvalidClass, name))
    }

    fn review(&self, author: &str, stars: u8) -> Result<Instance, CimError> {
        Instance::builder(self.class("Shop_Review")?)
            .set("Author", author)
            .set("Stars", stars)
            .build()
            .map_err(failed)
    }

    fn instance(&self, path: &ObjectPath) -> Result<Instance, CimError> {
        let class = self.class(path.class.as_str())?;
        let id = path
            .key_str("Id")
            .or(path.key_str("Name"))
            .unwrap_or_default();
        let mut made = Instance::builder(class)
            .set_if_declared("Id", id)
            .set_if_declared("Name", id)
            .set_if_declared("Title", format!("The book of {id}"))
            .set_if_declared("Floor", -1_i8);
        if id == "b1" {
            let bought: cim::DateTime = "20120229134501.123456+060".parse().map_err(failed)?;
            let reviews = vec![
                self.review("A <b> & \"c\"", 5)?.into(),
                self.review("D", 1)?.into(),
            ];
            made = made
                .set("Pages", 321_u16)
                .set("InPrint", true)
                .set("Bought", bought)
                .set("Price", 12.5)
                .set("Keywords", vec!["x", "", "<y>"])
                .set("Sold", u64::MAX)
                .set("Shelfmark", Value::Char16(u16::from(b'Q')))
                .set("BestReview", self.review("Best", 4)?)
                .set("Reviews", Value::Array(reviews));
        }
        let mut made = made
            .set_if_declared("Artist", "Somebody")
            .build()
            .map_err(failed)?;
        made.path = Some(path.clone());
        Ok(made)
    }
}

fn failed(error: impl std::fmt::Display) -> CimError {
    CimError::new(CimStatus::Failed, error.to_string())
}

#[async_trait]
impl Provider for Shop {
    fn classes(&self) -> Vec<Name> {
        ["Shop_Book", "Shop_Comic", "Shop_Shelf", "Shop_Clerk"]
            .into_iter()
            .map(Name::new)
            .collect()
    }

    fn enumerate(
        &self,
        _: &Context,
        class: &Name,
        _: &[Equality],
    ) -> Result<Vec<Instance>, CimError> {
        let paths = match class.as_str() {
            "Shop_Book" => books(),
            "Shop_Comic" => comics(),
            "Shop_Shelf" => vec![located(book("Shop_Shelf", "s1"))],
            _ => vec![located(ObjectPath::of_instance(
                "Shop_Clerk",
                [("Name", KeyValue::String("Bob".to_owned()))],
            ))],
        };
        paths.iter().map(|path| self.instance(path)).collect()
    }

    fn required_role(&self, _: &Name, _: &Name) -> Role {
        Role::Operator
    }

    async fn invoke(
        &self,
        _: &Context,
        _: &ObjectPath,
        method: &Name,
        arguments: Arguments,
    ) -> Result<MethodOutcome, CimError> {
        match method.as_str() {
            "Motto" => Ok(MethodOutcome {
                explanation: None,
                return_value: "Read <more>".into(),
                out: vec![],
            }),
            "Order" => {
                let books = arguments.get("Books").as_array().unwrap_or_default();
                let ordered = books
                    .iter()
                    .filter_map(|book| book.as_instance()?.str("Id").map(str::to_owned))
                    .map(|id| Value::from(located(book("Shop_Book", &id))));
                let note = arguments
                    .get("Note")
                    .as_str()
                    .unwrap_or("none")
                    .to_uppercase();
                let copies = arguments.get("Copies").as_u64().unwrap_or(1);
                let count = copies * u64::try_from(books.len()).unwrap_or(0);
                Ok(MethodOutcome {
                    explanation: None,
                    return_value: Value::Uint32(4096),
                    out: vec![
                        (Name::new("Ordered"), Value::Array(ordered.collect())),
                        (Name::new("PlacedOn"), arguments.get("Shelf").clone()),
                        (Name::new("Review"), self.review("Order", 3)?.into()),
                        (Name::new("Count"), Value::Uint64(count)),
                        (Name::new("Note"), note.into()),
                    ],
                })
            }
            _ => Err(CimError::new(CimStatus::Failed, "The clerk <dropped> it.")),
        }
    }
}
