//! JSON as Python's `json.dumps` writes it, which models have seen in training to the blank.

use minijinja::{
    Error, ErrorKind, Value,
    value::{Kwargs, ValueKind},
};

/// How it is written.
#[derive(Default)]
struct Style {
    ascii: bool,
    sorted: bool,
    indent: Option<String>,
    /// Between values, and after keys.
    separators: Option<[String; 2]>,
}

/// The filter `tojson`, with the options that transformers gives it.
#[expect(clippy::needless_pass_by_value, reason = "filters are handed their arguments so")]
pub(super) fn tojson(
    value: &Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    options: Kwargs,
) -> Result<String, Error> {
    let given = options.get::<Option<Value>>("indent")?.or(indent).filter(|indent| !indent.is_none());
    let indent = match given {
        None => None,
        Some(text) if text.kind() == ValueKind::String => Some(text.to_string()),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count <= 64 => Some(" ".repeat(count)),
            _ => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: `indent` is a number up to 64")),
        },
    };
    let separators = match options.get::<Option<Vec<String>>>("separators")? {
        None => None,
        Some(pair) => match <[String; 2]>::try_from(pair) {
            Ok(pair) => Some(pair),
            Err(_) => return Err(Error::new(ErrorKind::InvalidOperation, "tojson: `separators` are two texts")),
        },
    };
    let style = Style {
        ascii: options.get::<Option<bool>>("ensure_ascii")?.or(ascii).unwrap_or_default(),
        sorted: options.get::<Option<bool>>("sort_keys")?.unwrap_or_default(),
        indent,
        separators,
    };
    options.assert_all_used()?;
    let mut out = String::new();
    style.write(value, 0, &mut out)?;
    Ok(out)
}

impl Style {
    fn between(&self) -> &str {
        match &self.separators {
            Some([between, _]) => between,
            None if self.indent.is_some() => ",",
            None => ", ",
        }
    }

    fn after_key(&self) -> &str {
        self.separators.as_ref().map_or(": ", |[_, after_key]| after_key)
    }

    fn line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            (0..depth).for_each(|_| out.push_str(indent));
        }
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number if value.is_integer() => out.push_str(&value.to_string()),
            ValueKind::Number => out.push_str(&float(f64::try_from(value.clone())?)),
            ValueKind::String => self.text(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.list(&items, ['[', ']'], depth, out, |item, out| self.write(item, depth + 1, out))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.list(&keys, ['{', '}'], depth, out, |key, out| {
                    self.key(key, out)?;
                    out.push_str(self.after_key());
                    self.write(&value.get_item(key)?, depth + 1, out)
                })?;
            }
            kind => {
                let message = format!("tojson: {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::InvalidOperation, message));
            }
        }
        Ok(())
    }

    fn list(
        &self,
        items: &[Value],
        [open, close]: [char; 2],
        depth: usize,
        out: &mut String,
        mut write: impl FnMut(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(self.between());
            }
            self.line(depth + 1, out);
            write(item, out)?;
        }
        if !items.is_empty() {
            self.line(depth, out);
        }
        out.push(close);
        Ok(())
    }

    /// Keys are texts, or become some.
    fn key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        match key.as_str() {
            Some(text) => {
                self.text(text, out);
                Ok(())
            }
            None => {
                let mut text = String::new();
                self.write(key, 0, &mut text)?;
                self.text(&text, out);
                Ok(())
            }
        }
    }

    fn text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '\0'..='\u{1f}' => units(c, out),
                '\u{7f}'.. if self.ascii => units(c, out),
                _ => out.push(c),
            }
        }
        out.push('"');
    }
}

/// A character in units of UTF-16. DEL is written as it is.
fn units(c: char, out: &mut String) {
    if c == '\u{7f}' {
        out.push(c);
        return;
    }
    for unit in c.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// The text of a number that is no integer, as Python writes it.
pub(super) fn float_text(value: &Value) -> Option<String> {
    if value.kind() != ValueKind::Number || value.is_integer() {
        return None;
    }
    let number = f64::try_from(value.clone()).ok()?;
    if number.is_finite() { Some(float(number)) } else { None }
}

/// A number as Python's `repr` writes it: the shortest digits that mean it, with an exponent if it is far from 1.
fn float(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() {
            "NaN"
        } else if number > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        }
        .to_owned();
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let power: i32 = exponent.parse().unwrap_or_default();
    if (-4..16).contains(&power) {
        let plain = number.to_string();
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    format!("{digits}e{}{:02}", if power < 0 { '-' } else { '+' }, power.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: serde_json::Value, style: &Style) -> String {
        let mut out = String::new();
        style.write(&Value::from(minijinja::value::Serde(value)), 0, &mut out).unwrap();
        out
    }

    #[test]
    fn it_is_the_json_of_python() {
        let value = serde_json::json!({"b": [1, 2.0, null, true], "a": {"é\u{7f}": "\"\n\u{1}🦊"}, "c": [], "d": {}});
        assert_eq!(
            written(value.clone(), &Style::default()),
            "{\"b\": [1, 2.0, null, true], \"a\": {\"é\u{7f}\": \"\\\"\\n\\u0001🦊\"}, \"c\": [], \"d\": {}}"
        );
        let style = Style { ascii: true, sorted: true, indent: Some("  ".into()), separators: None };
        assert_eq!(
            written(value, &style),
            "{\n  \"a\": {\n    \"\\u00e9\u{7f}\": \"\\\"\\n\\u0001\\ud83e\\udd8a\"\n  },\n  \"b\": [\n    1,\n    2.0,\n    \
             null,\n    true\n  ],\n  \"c\": [],\n  \"d\": {}\n}"
        );
    }

    #[test]
    fn numbers_are_those_of_python() {
        let numbers = [1e-5, 1e16, 123_456_789.0, 0.1, -2.5e-10, 1e15, 0.0001, f64::INFINITY];
        let texts = ["1e-05", "1e+16", "123456789.0", "0.1", "-2.5e-10", "1000000000000000.0", "0.0001", "Infinity"];
        assert_eq!(numbers.map(float), texts);
    }
}
