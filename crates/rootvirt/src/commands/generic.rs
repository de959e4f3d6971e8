//! `query`, `get`, `call` and `class`: any class of the namespace.

use crate::cli::Format;
use crate::commands::text;
use crate::failure::Failure;
use crate::output;
use crate::service::Service;
use cim::{CimType, Instance, MethodDecl, ObjectPath, ParameterDecl, Value};
use serde_json::{Map, json};

/// `query`.
pub async fn query(service: &Service, wql: &str, format: Format) -> Result<(), Failure> {
    print(&service.query(wql).await?, format)
}

/// `get`.
pub async fn get(service: &Service, path: &str, format: Format) -> Result<(), Failure> {
    print(&[service.get(&parse(path)?).await?], format)
}

fn parse(path: &str) -> Result<ObjectPath, Failure> {
    ObjectPath::parse(path).map_err(|error| Failure::usage(format!("{path}: {error}")))
}

fn print(instances: &[Instance], format: Format) -> Result<(), Failure> {
    match format {
        Format::Mof => output::mof(instances),
        Format::Json => output::json(&serde_json::Value::Array(
            instances
                .iter()
                .map(|one| serde_json::Value::Object(text::json_object(one)))
                .collect(),
        )),
        Format::Table => {
            let mut out = String::new();
            for instance in instances {
                out.push_str(&format!("{}\n", instance.class));
                for property in &instance.properties {
                    if property.value != Value::Null {
                        let value = text::json_value(&property.value);
                        let value = output::cell(Some(&value));
                        out.push_str(&format!("  {} = {value}\n", property.name));
                    }
                }
            }
            output::write_out(&out)
        }
    }
}

/// `class`.
pub async fn class(service: &Service, name: &str, format: Format) -> Result<(), Failure> {
    let class = service.class(name).await?;
    let parameter = |p: &ParameterDecl| {
        json!({
            "name": p.name.as_str(),
            "type": type_word(p.ty, p.class_ref.as_ref()),
            "in": p.is_in(),
            "out": p.is_out(),
        })
    };
    let method = |m: &MethodDecl| {
        json!({
            "name": m.name.as_str(),
            "returns": type_word(m.return_type, None),
            "parameters": m.parameters.iter().map(parameter).collect::<Vec<_>>(),
        })
    };
    match format {
        Format::Mof => output::write_out(&cim::mof::print_class(&class, cim::mof::Members::All)),
        Format::Json => output::json(&json!([{
            "name": class.name.as_str(),
            "superclass": class.superclass.as_ref().map(|s| s.as_str()),
            "properties": class.properties.iter().map(|p| json!({
                "name": p.name.as_str(),
                "type": type_word(p.ty, p.class_ref.as_ref()),
                "origin": p.origin.as_str(),
                "key": p.qualifiers.iter().any(|q| q.name.is("Key")),
            })).collect::<Vec<_>>(),
            "methods": class.methods.iter().map(method).collect::<Vec<_>>(),
        }])),
        Format::Table => {
            let mut out = class.name.to_string();
            if let Some(superclass) = &class.superclass {
                out.push_str(&format!(" : {superclass}"));
            }
            out.push('\n');
            for property in &class.properties {
                let ty = type_word(property.ty, property.class_ref.as_ref());
                out.push_str(&format!("  {} {ty}\n", property.name));
            }
            for method in &class.methods {
                let parameters: Vec<String> = method
                    .parameters
                    .iter()
                    .map(|p| {
                        let direction = if p.is_out() { "out " } else { "" };
                        format!(
                            "{direction}{} {}",
                            p.name,
                            type_word(p.ty, p.class_ref.as_ref())
                        )
                    })
                    .collect();
                out.push_str(&format!("  {}({})\n", method.name, parameters.join(", ")));
            }
            output::write_out(&out)
        }
    }
}

fn type_word(ty: cim::Type, class_ref: Option<&cim::Name>) -> String {
    let word = match (ty.kind, class_ref) {
        (CimType::Reference, Some(class)) => format!("{class} ref"),
        (kind, _) => kind.to_string(),
    };
    if ty.array { format!("{word}[]") } else { word }
}

/// `call`.
pub async fn call(
    service: &Service,
    path: &str,
    method: &str,
    parameters: &[String],
    format: Format,
) -> Result<(), Failure> {
    let path = parse(path)?;
    let class = service.class(path.class.as_str()).await?;
    let declaration = class
        .methods
        .iter()
        .find(|declared| declared.name.is(method))
        .ok_or_else(|| Failure::usage(format!("{} has no method {method}.", class.name)))?;
    let arguments = arguments(declaration, parameters)?;
    let arguments = arguments
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    let reply = service.invoke(&path, method, arguments).await?;
    let mut out = Map::new();
    out.insert("return_value".into(), json!(reply.code));
    for property in &reply.out {
        out.insert(
            text::snake_case(property.name.as_str()),
            text::json_value(&property.value),
        );
    }
    output::record(&out, format)?;
    if matches!(reply.code, 0 | 4096) {
        Ok(())
    } else {
        Err(reply.failure())
    }
}

/// `PARAM=VALUE` texts by the method's declaration; a repeated parameter makes an array.
fn arguments(
    declaration: &MethodDecl,
    parameters: &[String],
) -> Result<Vec<(String, Value)>, Failure> {
    let mut arguments: Vec<(String, Value)> = Vec::new();
    for parameter in parameters {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| Failure::usage(format!("{parameter}: give PARAM=VALUE.")))?;
        let declared = declaration
            .parameters
            .iter()
            .find(|declared| declared.name.is(name) && declared.is_in())
            .ok_or_else(|| {
                Failure::usage(format!(
                    "{} has no input parameter {name}.",
                    declaration.name
                ))
            })?;
        let value = scalar(declared, value)?;
        let earlier = arguments
            .iter_mut()
            .find(|(earlier, _)| declared.name.is(earlier));
        match (earlier, declared.ty.array) {
            (None, true) => arguments.push((declared.name.to_string(), Value::Array(vec![value]))),
            (None, false) => arguments.push((declared.name.to_string(), value)),
            (Some((_, Value::Array(items))), true) => items.push(value),
            (Some(_), _) => {
                return Err(Failure::usage(format!(
                    "{name} is given twice and is no array."
                )));
            }
        }
    }
    Ok(arguments)
}

fn scalar(declared: &ParameterDecl, text: &str) -> Result<Value, Failure> {
    let wrong = |error: String| Failure::usage(format!("{}: {error}", declared.name));
    match declared.ty.kind {
        CimType::Reference => ObjectPath::parse(text)
            .map(|path| Value::Reference(Box::new(path)))
            .map_err(|error| wrong(error.to_string())),
        CimType::String => match text.strip_prefix('@') {
            Some(file) => std::fs::read_to_string(file)
                .map(Value::String)
                .map_err(|error| wrong(format!("{file}: {error}"))),
            None => Ok(Value::String(text.to_owned())),
        },
        kind => Value::parse_as(text, kind).map_err(|error| wrong(error.to_string())),
    }
}
