//! What templates may ask of values since they are Python's where transformers renders them, and minijinja's own
//! compatibility leaves out.

use minijinja::{
    Error, ErrorKind, State, Value,
    value::{ValueKind, from_args},
};
use minijinja_contrib::pycompat::unknown_method_callback;

/// The longest text that padding makes.
const WIDEST: usize = 1 << 20;

/// Calls a method of Python's.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let found = match (value.as_str(), value.kind()) {
        (Some(text), _) => of_text(text, name, args)?,
        (None, ValueKind::Map | ValueKind::Seq) if name == "copy" => {
            from_args::<()>(args)?;
            Some(value.clone())
        }
        (None, ValueKind::Seq) if name == "index" => {
            let (wanted,): (&Value,) = from_args(args)?;
            let place = value.try_iter()?.position(|item| item == *wanted);
            Some(place.map(Value::from).ok_or_else(|| absent("the list"))?)
        }
        _ => None,
    };
    found.map_or_else(|| unknown_method_callback(state, value, name, args), Ok)
}

fn of_text(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    Ok(Some(match name {
        "removeprefix" => text.strip_prefix(one(args)?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one(args)?).unwrap_or(text).into(),
        "index" => {
            let at = text.find(one(args)?).ok_or_else(|| absent("the text"))?;
            text.get(..at).unwrap_or_default().chars().count().into()
        }
        "partition" => match text.split_once(separator(args)?) {
            Some((before, after)) => texts(&[before, one(args)?, after]),
            None => texts(&[text, "", ""]),
        },
        "rpartition" => match text.rsplit_once(separator(args)?) {
            Some((before, after)) => texts(&[before, one(args)?, after]),
            None => texts(&["", "", text]),
        },
        "rsplit" => rsplit(text, args)?,
        "swapcase" => text.chars().map(swapped).collect::<String>().into(),
        "zfill" => {
            let (width,): (usize,) = from_args(args)?;
            let digits = text.trim_start_matches(['+', '-']);
            let (sign, digits) = if text.len() - digits.len() == 1 { text.split_at(1) } else { ("", text) };
            format!("{sign}{}{digits}", padding(width, text, '0')?).into()
        }
        "ljust" | "rjust" | "center" => {
            let (width, fill): (usize, Option<char>) = from_args(args)?;
            let pad = padding(width, text, fill.unwrap_or(' '))?;
            let count = pad.chars().count();
            // Python gives the odd one to the left where the width is odd.
            let left = match name {
                "ljust" => 0,
                "rjust" => count,
                _ => count / 2 + (count & width & 1),
            };
            let at = pad.char_indices().nth(left).map_or(pad.len(), |(at, _)| at);
            let (left, right) = pad.split_at(at);
            format!("{left}{text}{right}").into()
        }
        _ => return Ok(None),
    }))
}

/// The last parts of a text, at most one more than are asked for, and what is before them.
fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
    let most = most.and_then(|most| usize::try_from(most).ok()).map_or(usize::MAX, |most| most.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(Error::new(ErrorKind::InvalidOperation, "the separator is empty")),
        Some(separator) => text.rsplitn(most, separator).collect(),
        None => {
            let (mut rest, mut parts) = (text.trim_end(), Vec::new());
            while parts.len() + 1 < most
                && let Some((before, part)) = rest.rsplit_once(char::is_whitespace)
            {
                parts.push(part);
                rest = before.trim_end();
            }
            if !rest.is_empty() {
                parts.push(rest);
            }
            parts.retain(|part| !part.is_empty());
            parts
        }
    };
    parts.reverse();
    Ok(texts(&parts))
}

fn texts(texts: &[&str]) -> Value {
    texts.iter().copied().map(Value::from).collect()
}

fn one(args: &[Value]) -> Result<&str, Error> {
    let (text,): (&str,) = from_args(args)?;
    Ok(text)
}

fn separator(args: &[Value]) -> Result<&str, Error> {
    let text = one(args)?;
    if text.is_empty() { Err(Error::new(ErrorKind::InvalidOperation, "the separator is empty")) } else { Ok(text) }
}

fn absent(whole: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("{whole} does not hold what `index` looks for"))
}

fn padding(width: usize, text: &str, fill: char) -> Result<String, Error> {
    if width > WIDEST {
        return Err(Error::new(ErrorKind::InvalidOperation, format!("a text of {width} characters is too wide")));
    }
    Ok(fill.to_string().repeat(width.saturating_sub(text.chars().count())))
}

fn swapped(c: char) -> String {
    if c.is_lowercase() { c.to_uppercase().collect() } else { c.to_lowercase().collect() }
}

/// The test `sequence`: texts are some.
pub(super) fn is_sequence(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::String | ValueKind::Map)
}

/// The filter `int`: a number that no text tells is the default.
pub(super) fn int(value: &Value, default: Option<i64>) -> Value {
    let default = default.unwrap_or(0);
    match (value.as_str(), value.kind()) {
        (Some(text), _) => {
            let text = text.trim().replace('_', "");
            let whole = text.parse::<i64>().ok().or_else(|| text.parse::<f64>().ok().map(|number| number as i64));
            Value::from(whole.unwrap_or(default))
        }
        (None, ValueKind::Number) if value.is_integer() => value.clone(),
        (None, ValueKind::Number) => f64::try_from(value.clone()).map_or(default, |number| number as i64).into(),
        (None, ValueKind::Bool) => Value::from(i64::from(value.is_true())),
        _ => Value::from(default),
    }
}
