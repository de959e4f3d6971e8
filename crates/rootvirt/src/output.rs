//! Printing answers: a table for people, JSON for programs, MOF for instances and classes.

use crate::cli::Format;
use crate::failure::Failure;
use serde_json::{Map, Value};
use std::io::{self, Write};

/// Rows with named cells. The keys are the contract's snake_case names; a table shows the chosen
/// columns under their headings.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Vec<(&'static str, &'static str)>,
    rows: Vec<Map<String, Value>>,
}

impl Rows {
    /// Rows whose table shows `columns`: key and heading.
    pub fn new(columns: &[(&'static str, &'static str)]) -> Self {
        Rows {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Map<String, Value>) {
        self.rows.push(row);
    }

    /// Prints all rows; MOF is not for rows.
    pub fn print(&self, format: Format) -> Result<(), Failure> {
        match format {
            Format::Table => write_out(&self.table()),
            Format::Json => json(&Value::Array(
                self.rows.iter().cloned().map(Value::Object).collect(),
            )),
            Format::Mof => Err(Failure::usage(
                "--format mof is for get, query and class; use table or json here.",
            )),
        }
    }

    fn table(&self) -> String {
        if self.rows.is_empty() {
            return String::new();
        }
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        table.set_header(self.columns.iter().map(|(_, heading)| *heading));
        for row in &self.rows {
            table.add_row(self.columns.iter().map(|(key, _)| cell(row.get(*key))));
        }
        let mut text: String = table
            .lines()
            .flat_map(|line| [line.trim().to_owned(), "\n".to_owned()])
            .collect();
        if text.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// One value as a table shows it.
pub fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items
            .iter()
            .map(|item| cell(Some(item)))
            .collect::<Vec<_>>()
            .join(", "),
        Some(other) => other.to_string(),
    }
}

/// Prints one JSON value, indented.
pub fn json(value: &Value) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::new(format!("The answer cannot be printed as JSON: {error}")))?;
    text.push('\n');
    write_out(&text)
}

/// Writes to standard output; a closed pipe is a normal end.
pub fn write_out(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::new(format!("Standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints one object: `key  value` lines, or an array of one in JSON.
pub fn record(row: &Map<String, Value>, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return json(&Value::Array(vec![Value::Object(row.clone())]));
    }
    let width = row.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (key, value) in row {
        match value {
            Value::Array(items) if items.iter().any(Value::is_object) => {
                text.push_str(&format!("{key}:\n"));
                for item in items.iter().filter_map(Value::as_object) {
                    let cells: Vec<String> = item
                        .iter()
                        .filter(|(_, value)| !value.is_null())
                        .map(|(key, value)| format!("{key}={}", cell(Some(value))))
                        .collect();
                    text.push_str(&format!("  {}\n", cells.join("  ")));
                }
            }
            value => text.push_str(&format!("{key:width$}  {}\n", cell(Some(value)))),
        }
    }
    write_out(&text)
}

/// Prints instances as MOF.
pub fn mof(instances: &[cim::Instance]) -> Result<(), Failure> {
    let text: Vec<String> = instances.iter().map(cim::mof::print_instance).collect();
    write_out(&text.join("\n"))
}
