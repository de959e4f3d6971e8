//! Prints classes, qualifier declarations and instances as MOF that reads back.

use super::declare::QualifierTable;
use crate::{
    CimType, Class, Instance, MethodDecl, Name, PropertyDecl, Qualifier, QualifierDecl, Type, Value,
};
use std::fmt::{self, Write};
use std::sync::LazyLock;

/// Texts are broken at a blank before they get longer than this.
const WIDTH: usize = 72;

/// Which members of a class to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Members {
    /// Those that the class declares or overrides: what its own MOF says.
    Own,
    /// The inherited ones too: what one sees of an instance.
    All,
}

/// Flavors that need not be written because the declaration says them.
static STANDARD: LazyLock<QualifierTable> =
    LazyLock::new(|| QualifierTable::standard().unwrap_or_default());

/// `class` as MOF.
pub fn print_class(class: &Class, members: Members) -> String {
    let mut out = String::new();
    // Writing to a String does not fail.
    let _ = write_class(&mut out, class, members);
    out
}

/// `decl` as MOF.
pub fn print_qualifier(decl: &QualifierDecl) -> String {
    let mut out = String::new();
    let _ = write_qualifier_declaration(&mut out, decl);
    out
}

/// `instance` as MOF. NULL properties are printed as such. Its path and the types of its properties
/// are not part of the text. An embedded class is printed as text of its own.
pub fn print_instance(instance: &Instance) -> String {
    let mut out = String::new();
    let _ = write_instance(&mut out, instance, 0);
    out.push_str(";\n");
    out
}

fn write_class(out: &mut String, class: &Class, members: Members) -> fmt::Result {
    write_qualifiers(out, &class.qualifiers, "", true)?;
    write!(out, "class {}", class.name)?;
    if let Some(superclass) = &class.superclass {
        write!(out, " : {superclass}")?;
    }
    out.push_str("\n{\n");
    let wanted = |propagated: bool| members == Members::All || !propagated;
    for property in class.properties.iter().filter(|it| wanted(it.propagated)) {
        write_property(out, property)?;
    }
    for method in class.methods.iter().filter(|it| wanted(it.propagated)) {
        write_method(out, method)?;
    }
    out.push_str("};\n");
    Ok(())
}

fn write_property(out: &mut String, property: &PropertyDecl) -> fmt::Result {
    write_qualifiers(out, &property.qualifiers, "    ", true)?;
    out.push_str("    ");
    write_element(
        out,
        property.ty,
        property.class_ref.as_ref(),
        &property.name,
        property.array_size,
    )?;
    if !property.default.is_null() {
        out.push_str(" = ");
        write_value(out, &property.default, 1)?;
    }
    out.push_str(";\n");
    Ok(())
}

fn write_method(out: &mut String, method: &MethodDecl) -> fmt::Result {
    write_qualifiers(out, &method.qualifiers, "    ", true)?;
    write!(out, "    {} {}(", method.return_type.kind, method.name)?;
    for (position, parameter) in method.parameters.iter().enumerate() {
        out.push_str(if position == 0 { "\n" } else { ",\n" });
        write_qualifiers(out, &parameter.qualifiers, "        ", false)?;
        if parameter.qualifiers.is_empty() {
            out.push_str("        ");
        }
        write_element(
            out,
            parameter.ty,
            parameter.class_ref.as_ref(),
            &parameter.name,
            parameter.array_size,
        )?;
    }
    out.push_str(");\n");
    Ok(())
}

fn write_element(
    out: &mut String,
    ty: Type,
    class_ref: Option<&Name>,
    name: &Name,
    array_size: Option<u32>,
) -> fmt::Result {
    match (ty.kind, class_ref) {
        (CimType::Reference, Some(class)) => write!(out, "{class} REF {name}")?,
        (CimType::Reference, None) => write!(out, "object REF {name}")?,
        (CimType::Object, Some(class)) => write!(out, "{class} {name}")?,
        (kind, _) => write!(out, "{kind} {name}")?,
    }
    match (ty.array, array_size) {
        (false, _) => Ok(()),
        (true, None) => out.write_str("[]"),
        (true, Some(size)) => write!(out, "[{size}]"),
    }
}

/// `[...]`, ended by a line break or a blank; nothing for none.
fn write_qualifiers(
    out: &mut String,
    qualifiers: &[Qualifier],
    indent: &str,
    own_line: bool,
) -> fmt::Result {
    for (position, qualifier) in qualifiers.iter().enumerate() {
        if position == 0 {
            write!(out, "{indent}[{}", qualifier.name)?;
        } else if own_line {
            write!(out, ",\n{indent} {}", qualifier.name)?;
        } else {
            write!(out, ", {}", qualifier.name)?;
        }
        match &qualifier.value {
            Value::Boolean(true) => {}
            // Without a value, a qualifier that is no boolean is NULL.
            Value::Null if qualifier.ty != Type::scalar(CimType::Boolean) => {}
            Value::Array(_) => write_value(out, &qualifier.value, 1)?,
            value => {
                out.push('(');
                write_value(out, value, 1)?;
                out.push(')');
            }
        }
        write_flavors(out, qualifier);
    }
    if !qualifiers.is_empty() {
        out.push_str(if own_line { "]\n" } else { "] " });
    }
    Ok(())
}

fn write_flavors(out: &mut String, qualifier: &Qualifier) {
    let declared = STANDARD.get(&qualifier.name);
    let default = declared.map_or((true, true, false), |decl| {
        (decl.overridable, decl.to_subclass, decl.translatable)
    });
    let mut flavors = Vec::new();
    if qualifier.overridable != default.0 {
        flavors.push(if qualifier.overridable {
            "EnableOverride"
        } else {
            "DisableOverride"
        });
    }
    if qualifier.to_subclass != default.1 {
        flavors.push(if qualifier.to_subclass {
            "ToSubclass"
        } else {
            "Restricted"
        });
    }
    if qualifier.translatable && !default.2 {
        flavors.push("Translatable");
    }
    if !flavors.is_empty() {
        out.push_str(" : ");
        out.push_str(&flavors.join(" "));
    }
}

fn write_qualifier_declaration(out: &mut String, decl: &QualifierDecl) -> fmt::Result {
    write!(out, "Qualifier {} : {}", decl.name, decl.ty)?;
    if !decl.default.is_null() {
        out.push_str(" = ");
        write_value(out, &decl.default, 0)?;
    }
    let scopes: Vec<&str> = decl.scopes.iter().map(Name::as_str).collect();
    if !scopes.is_empty() {
        write!(out, ",\n    Scope({})", scopes.join(", "))?;
    }
    let mut flavors = vec![
        if decl.overridable {
            "EnableOverride"
        } else {
            "DisableOverride"
        },
        if decl.to_subclass {
            "ToSubclass"
        } else {
            "Restricted"
        },
    ];
    if decl.translatable {
        flavors.push("Translatable");
    }
    writeln!(out, ",\n    Flavor({});", flavors.join(", "))
}

fn write_instance(out: &mut String, instance: &Instance, level: usize) -> fmt::Result {
    let indent = "    ".repeat(level);
    writeln!(out, "instance of {}\n{indent}{{", instance.class)?;
    for property in &instance.properties {
        write!(out, "{indent}    {} = ", property.name)?;
        write_value(out, &property.value, level + 1)?;
        out.push_str(";\n");
    }
    write!(out, "{indent}}}")
}

fn write_value(out: &mut String, value: &Value, level: usize) -> fmt::Result {
    match value {
        Value::Null => out.write_str("NULL"),
        Value::String(text) => write_text(out, text, level),
        Value::Char16(unit) => write_character(out, *unit),
        Value::Real32(real) if real.is_finite() => write!(out, "{real:?}"),
        Value::Real64(real) if real.is_finite() => write!(out, "{real:?}"),
        Value::Instance(instance) => write_instance(out, instance, level),
        Value::Class(class) => write_text(out, &print_class(class, Members::All), level),
        Value::DateTime(_) | Value::Reference(_) | Value::Real32(_) | Value::Real64(_) => {
            write_text(out, &value.to_text().unwrap_or_default(), level)
        }
        Value::Array(items) => {
            out.push('{');
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    out.push_str(", ");
                }
                write_value(out, item, level)?;
            }
            out.write_char('}')
        }
        plain => out.write_str(&plain.to_text().unwrap_or_default()),
    }
}

fn write_character(out: &mut String, unit: u16) -> fmt::Result {
    match char::from_u32(u32::from(unit)) {
        Some(c) if c.is_ascii_graphic() && c != '\'' && c != '\\' => write!(out, "'{c}'"),
        _ => write!(out, "'\\x{unit:04X}'"),
    }
}

/// Text in quotes; long text in parts, one a line, which read as one.
fn write_text(out: &mut String, text: &str, level: usize) -> fmt::Result {
    let mut column = 0;
    out.push('"');
    for word in text.split_inclusive(' ') {
        let length = word.chars().count();
        if column > 0 && column + length > WIDTH {
            write!(out, "\"\n{}\"", "    ".repeat(level + 1))?;
            column = 0;
        }
        column += length;
        for c in word.chars() {
            write_escaped(out, c)?;
        }
    }
    out.write_char('"')
}

fn write_escaped(out: &mut String, c: char) -> fmt::Result {
    match c {
        '"' => out.write_str("\\\""),
        '\\' => out.write_str("\\\\"),
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        '\u{8}' => out.write_str("\\b"),
        '\u{c}' => out.write_str("\\f"),
        c if c.is_control() => write!(out, "\\x{:04X}", u32::from(c)),
        c => out.write_char(c),
    }
}
