//! One method for each operation: parameters in, the one kind of answer it has out.

use super::{Client, ClientError, text};
use cim::{
    CimType, Class, Instance, Keys, Name, Namespace, ObjectPath, Property, QualifierDecl, Type,
    Value,
};
use cim_xml::request::{Argument, IntrinsicCall, MethodCall, ParameterValue};
use cim_xml::response::Returned;

/// What a query found.
#[derive(Clone, Debug, PartialEq)]
pub enum QueryAnswer {
    /// Instances, with paths where the server gives them.
    Instances(Vec<Instance>),
    /// Classes, for a query that asks for them.
    Classes(Vec<Class>),
}

/// What a method call came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The return value; `Null` when the method has none.
    pub return_value: Value,
    /// The output parameters that the server sent.
    pub out: Vec<Property>,
    /// What an error code in `return_value` means in this case, where the server says it.
    pub explanation: Option<String>,
}

impl Answer {
    /// The output parameter called `name`; `Null` when it is not there.
    pub fn get(&self, name: &str) -> &Value {
        self.out
            .iter()
            .find(|parameter| parameter.name.is(name))
            .map_or(&Value::Null, |parameter| &parameter.value)
    }
}

/// The parameters of a call, as they are put together.
struct Call(IntrinsicCall);

impl Call {
    fn new(operation: &str, namespace: &Namespace) -> Self {
        Call(IntrinsicCall {
            operation: operation.to_owned(),
            namespace: namespace.clone(),
            parameters: Vec::new(),
        })
    }

    fn with(mut self, name: &str, value: ParameterValue) -> Self {
        self.0.parameters.push((Name::from(name), value));
        self
    }

    fn class(self, name: &str, class: &Name) -> Self {
        self.with(
            name,
            ParameterValue::Path(ObjectPath::new(class.clone(), Keys::Class)),
        )
    }

    fn optional_class(self, name: &str, class: Option<&Name>) -> Self {
        match class {
            Some(class) => self.class(name, class),
            None => self,
        }
    }

    fn optional_text(self, name: &str, value: Option<&Name>) -> Self {
        match value {
            Some(value) => self.with(name, text(value)),
            None => self,
        }
    }

    fn object(self, name: &str, path: &ObjectPath) -> Self {
        self.with(name, ParameterValue::Path(path.relative()))
    }

    fn properties(self, names: Option<&[Name]>) -> Self {
        match names {
            Some(names) => {
                let names = names.iter().map(|name| name.to_string()).collect();
                self.with("PropertyList", ParameterValue::Texts(names))
            }
            None => self,
        }
    }
}

/// Where an object is: its path's own namespace, or the one of the call.
fn place<'a>(namespace: &'a Namespace, path: &'a ObjectPath) -> &'a Namespace {
    path.namespace.as_ref().unwrap_or(namespace)
}

impl Client {
    async fn returned(&self, call: Call) -> Result<(Returned, String), ClientError> {
        let operation = call.0.operation.clone();
        let result = self.intrinsic(call.0).await?;
        Ok((result.returned.unwrap_or(Returned::Nothing), operation))
    }

    async fn instances(&self, call: Call) -> Result<Vec<Instance>, ClientError> {
        let namespace = call.0.namespace.clone();
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(Vec::new()),
            (Returned::Instances { mut instances, .. }, _) => {
                for path in instances.iter_mut().filter_map(|i| i.path.as_mut()) {
                    path.namespace.get_or_insert_with(|| namespace.clone());
                }
                Ok(instances)
            }
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    async fn paths(&self, call: Call) -> Result<Vec<ObjectPath>, ClientError> {
        let namespace = call.0.namespace.clone();
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(Vec::new()),
            (Returned::Paths { mut paths, .. }, _) => {
                for path in &mut paths {
                    path.namespace.get_or_insert_with(|| namespace.clone());
                }
                Ok(paths)
            }
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    /// GetInstance.
    pub async fn get_instance(
        &self,
        namespace: &Namespace,
        path: &ObjectPath,
        properties: Option<&[Name]>,
    ) -> Result<Instance, ClientError> {
        let namespace = place(namespace, path);
        let call = Call::new("GetInstance", namespace)
            .object("InstanceName", path)
            .properties(properties);
        let mut instances = self.instances(call).await?;
        let (Some(mut instance), true) = (instances.pop(), instances.is_empty()) else {
            return Err(ClientError::unexpected("GetInstance"));
        };
        let path = instance.path.get_or_insert_with(|| path.clone());
        path.namespace.get_or_insert_with(|| namespace.clone());
        Ok(instance)
    }

    /// EnumerateInstances, of subclasses too and with all their properties.
    pub async fn enumerate_instances(
        &self,
        namespace: &Namespace,
        class: &Name,
        properties: Option<&[Name]>,
    ) -> Result<Vec<Instance>, ClientError> {
        let call = Call::new("EnumerateInstances", namespace)
            .class("ClassName", class)
            .with("DeepInheritance", text("TRUE"))
            .properties(properties);
        self.instances(call).await
    }

    /// EnumerateInstanceNames.
    pub async fn enumerate_instance_names(
        &self,
        namespace: &Namespace,
        class: &Name,
    ) -> Result<Vec<ObjectPath>, ClientError> {
        let call = Call::new("EnumerateInstanceNames", namespace).class("ClassName", class);
        self.paths(call).await
    }

    /// Associators of an instance.
    pub async fn associators(
        &self,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &cim_broker::AssociatorFilter,
        properties: Option<&[Name]>,
    ) -> Result<Vec<Instance>, ClientError> {
        let call = association("Associators", namespace, source, filter).properties(properties);
        self.instances(call).await
    }

    /// AssociatorNames of an instance.
    pub async fn associator_names(
        &self,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &cim_broker::AssociatorFilter,
    ) -> Result<Vec<ObjectPath>, ClientError> {
        self.paths(association("AssociatorNames", namespace, source, filter))
            .await
    }

    /// References of an instance.
    pub async fn references(
        &self,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &cim_broker::ReferenceFilter,
        properties: Option<&[Name]>,
    ) -> Result<Vec<Instance>, ClientError> {
        let call = reference("References", namespace, source, filter).properties(properties);
        self.instances(call).await
    }

    /// ReferenceNames of an instance.
    pub async fn reference_names(
        &self,
        namespace: &Namespace,
        source: &ObjectPath,
        filter: &cim_broker::ReferenceFilter,
    ) -> Result<Vec<ObjectPath>, ClientError> {
        self.paths(reference("ReferenceNames", namespace, source, filter))
            .await
    }

    /// ExecQuery in WQL.
    pub async fn exec_query(
        &self,
        namespace: &Namespace,
        query: &str,
    ) -> Result<QueryAnswer, ClientError> {
        let call = Call::new("ExecQuery", namespace)
            .with("QueryLanguage", text("WQL"))
            .with("Query", text(query));
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(QueryAnswer::Instances(Vec::new())),
            (Returned::Instances { instances, .. }, _) => Ok(QueryAnswer::Instances(instances)),
            (Returned::ClassesWithPath { classes, .. }, _) => Ok(QueryAnswer::Classes(
                classes.into_iter().map(|(_, class)| class).collect(),
            )),
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    /// GetClass, with inherited members, qualifiers and origins.
    pub async fn get_class(
        &self,
        namespace: &Namespace,
        class: &Name,
    ) -> Result<Class, ClientError> {
        let call = Call::new("GetClass", namespace)
            .class("ClassName", class)
            .with("LocalOnly", text("FALSE"))
            .with("IncludeQualifiers", text("TRUE"))
            .with("IncludeClassOrigin", text("TRUE"));
        let mut classes = self.classes(call).await?;
        match (classes.pop(), classes.is_empty()) {
            (Some(class), true) => Ok(class),
            _ => Err(ClientError::unexpected("GetClass")),
        }
    }

    /// EnumerateClasses: those below `class`, or all; `deep` for more than the next level.
    pub async fn enumerate_classes(
        &self,
        namespace: &Namespace,
        class: Option<&Name>,
        deep: bool,
    ) -> Result<Vec<Class>, ClientError> {
        let call = Call::new("EnumerateClasses", namespace)
            .optional_class("ClassName", class)
            .with("DeepInheritance", text(if deep { "TRUE" } else { "FALSE" }))
            .with("LocalOnly", text("FALSE"))
            .with("IncludeQualifiers", text("TRUE"))
            .with("IncludeClassOrigin", text("TRUE"));
        self.classes(call).await
    }

    /// EnumerateClassNames: as [`Client::enumerate_classes`].
    pub async fn enumerate_class_names(
        &self,
        namespace: &Namespace,
        class: Option<&Name>,
        deep: bool,
    ) -> Result<Vec<Name>, ClientError> {
        let call = Call::new("EnumerateClassNames", namespace)
            .optional_class("ClassName", class)
            .with("DeepInheritance", text(if deep { "TRUE" } else { "FALSE" }));
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(Vec::new()),
            (Returned::ClassNames(names), _) => Ok(names),
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    async fn classes(&self, call: Call) -> Result<Vec<Class>, ClientError> {
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(Vec::new()),
            (Returned::Classes { classes, .. }, _) => Ok(classes),
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    /// GetQualifier.
    pub async fn get_qualifier(
        &self,
        namespace: &Namespace,
        name: &Name,
    ) -> Result<QualifierDecl, ClientError> {
        let call = Call::new("GetQualifier", namespace).with("QualifierName", text(name));
        let mut declarations = self.qualifiers(call).await?;
        match (declarations.pop(), declarations.is_empty()) {
            (Some(declaration), true) => Ok(declaration),
            _ => Err(ClientError::unexpected("GetQualifier")),
        }
    }

    /// EnumerateQualifiers.
    pub async fn enumerate_qualifiers(
        &self,
        namespace: &Namespace,
    ) -> Result<Vec<QualifierDecl>, ClientError> {
        self.qualifiers(Call::new("EnumerateQualifiers", namespace))
            .await
    }

    async fn qualifiers(&self, call: Call) -> Result<Vec<QualifierDecl>, ClientError> {
        match self.returned(call).await? {
            (Returned::Nothing, _) => Ok(Vec::new()),
            (Returned::Qualifiers(declarations), _) => Ok(declarations),
            (_, operation) => Err(ClientError::unexpected(&operation)),
        }
    }

    /// Calls a method of an instance, or of a class where `target` names one.
    pub async fn invoke_method(
        &self,
        namespace: &Namespace,
        target: &ObjectPath,
        method: &Name,
        arguments: Vec<(Name, Value)>,
    ) -> Result<Answer, ClientError> {
        let mut target = target.clone();
        target.host = None;
        target.namespace.get_or_insert_with(|| namespace.clone());
        let arguments = arguments
            .into_iter()
            .map(|(name, value)| Argument {
                name,
                // A type that the value does not show (NULL, an empty array) is the server's to
                // know.
                ty: value.type_of().unwrap_or(Type::scalar(CimType::String)),
                value,
            })
            .collect();
        let call = MethodCall {
            method: method.clone(),
            target,
            arguments,
        };
        let (result, explanation) = self.extrinsic(call).await?;
        Ok(Answer {
            return_value: result.return_value.map_or(Value::Null, |(_, value)| value),
            out: result.parameters,
            explanation,
        })
    }
}

fn association(
    operation: &str,
    namespace: &Namespace,
    source: &ObjectPath,
    filter: &cim_broker::AssociatorFilter,
) -> Call {
    Call::new(operation, place(namespace, source))
        .object("ObjectName", source)
        .optional_class("AssocClass", filter.assoc_class.as_ref())
        .optional_class("ResultClass", filter.result_class.as_ref())
        .optional_text("Role", filter.role.as_ref())
        .optional_text("ResultRole", filter.result_role.as_ref())
}

fn reference(
    operation: &str,
    namespace: &Namespace,
    source: &ObjectPath,
    filter: &cim_broker::ReferenceFilter,
) -> Call {
    Call::new(operation, place(namespace, source))
        .object("ObjectName", source)
        .optional_class("ResultClass", filter.result_class.as_ref())
        .optional_text("Role", filter.role.as_ref())
}
