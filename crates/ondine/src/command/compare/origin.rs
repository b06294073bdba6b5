//! Where a value comes from, in words and as JSON.

use ondine_runtime::{Frame, Origin, Value};
use serde_json::{Value as Json, json};

pub(super) fn line_of(origin: Option<&Origin>) -> Option<&Frame> {
    origin.and_then(Origin::line)
}

pub(super) fn short_line(line: &Frame) -> String {
    format!("{}: {}", line.place(), line.text)
}

fn describe_line(line: &Frame) -> String {
    format!("{}:{}: {}", line.file, line.line, line.text)
}

/// A node with its module and Python line.
pub(super) fn describe_place(origin: Option<&Origin>, scope: &str, op: &str, value: Value) -> String {
    let name = origin.map_or_else(|| format!("%{}", value.index()), Origin::names);
    let module = if scope.is_empty() { String::new() } else { format!(" of {scope}") };
    let line = line_of(origin).map_or_else(String::new, |line| format!(" at {}", describe_line(line)));
    format!("`{name}` ({op}){module}{line}")
}

pub(super) fn place_json(origin: Option<&Origin>, scope: &str, value: Value, facts: &mut Json) {
    facts["module"] = scope.into();
    facts["index"] = value.index().into();
    facts["origin"] = json!(origin.map(Origin::names));
    facts["line"] = json!(line_of(origin).map(|line| {
        json!({"file": &*line.file, "line": line.line, "function": &*line.function, "text": &*line.text})
    }));
}
