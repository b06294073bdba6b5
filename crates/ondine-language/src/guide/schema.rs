//! JSON schemas as they are compiled: what asks for nothing is left out, numbers have bounds, and a schema whose
//! answers would have no end is found before one begins.

use ondine_graph::{Result, fail};
use serde_json::{Map, Value};

/// The largest number that every reader of JSON holds exactly, 2^53 - 1 (RFC 8259, 6).
const LARGEST: f64 = ((1_u64 << 53) - 1) as f64;

/// The largest integer that the parser compares with exactly: of 64 bits with a sign, and of 53 digits.
const LARGEST_BOUND: f64 = ((1_u64 << 63) - (1 << 10)) as f64;

/// What fractions are multiples of where nobody says: as many digits as the parser counts with.
const FRACTION: f64 = 1e-8;

/// The least span of numbers of which some are such multiples, however it lies.
const LEAST_SPAN: f64 = 1e-5;

/// Steps of a search for an end, beyond which there is thought to be one.
const MOST_STEPS: usize = 10_000;

/// Keywords under which names stand that schemas are given to.
const NAMED: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Keywords under which data stand, and no schema.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// The most characters of names of hosts (RFC 1123, 2.1: 253 without the dot at the end) and of addresses of mail
/// (RFC 5321, 4.5.3.1.3: 256 with the brackets around them).
const LENGTHS: [(&str, u64); 2] = [("hostname", 253), ("email", 254)];

/// Leaves out of a schema what asks for nothing, and bounds its numbers and names: digits without end are no answer,
/// and no reader takes them.
///
/// # Errors
/// If it asks for integers that are too large to be told exactly.
pub(super) fn tighten(schema: &mut Value) -> Result<()> {
    let divided = mentions(schema, "multipleOf");
    let mut result = Ok(());
    walk(schema, &mut |map| {
        map.retain(|keyword, value| !asks_for_nothing(keyword, value));
        bound_numbers(map, divided);
        bound_names(map);
        if result.is_ok() {
            result = narrow_bounds(map).and_then(|()| check_told(map));
        }
    });
    result
}

/// Calls `each` for a schema and for those in it.
fn walk(schema: &mut Value, each: &mut dyn FnMut(&mut Map<String, Value>)) {
    match schema {
        Value::Object(map) => {
            each(map);
            for (keyword, part) in map.iter_mut().filter(|(keyword, _)| !DATA.contains(&keyword.as_str())) {
                match part {
                    Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                        named.values_mut().for_each(|schema| walk(schema, each));
                    }
                    _ => walk(part, each),
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| walk(schema, each)),
        _ => {}
    }
}

/// True if a keyword stands anywhere in a schema.
fn mentions(schema: &Value, keyword: &str) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(keyword) || map.values().any(|part| mentions(part, keyword)),
        Value::Array(parts) => parts.iter().any(|part| mentions(part, keyword)),
        _ => false,
    }
}

/// True for keywords that no answer can break, as programs that write schemas put them in.
fn asks_for_nothing(keyword: &str, value: &Value) -> bool {
    let anything = *value == Value::Bool(true) || value.as_object().is_some_and(Map::is_empty);
    match keyword {
        "uniqueItems" => *value == Value::Bool(false),
        "unevaluatedProperties" | "unevaluatedItems" => anything,
        // Names are texts.
        "propertyNames" => anything || *value == serde_json::json!({"type": "string"}),
        "dependentRequired" | "dependentSchemas" => value.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// True if a schema names a type, alone or among others.
fn is_of_type(map: &Map<String, Value>, name: &str) -> bool {
    let among = |kind: &Value| kind.as_array().is_some_and(|all| all.iter().any(|kind| kind == name));
    map.get("type").is_some_and(|kind| kind == name || among(kind))
}

/// Bounds the numbers that a schema describes. Where they are told one by one they have as many digits as that.
/// `divided` tells that the schema has multiples of its own, which more would have to be made one with.
fn bound_numbers(map: &mut Map<String, Value>, divided: bool) {
    let (fractions, whole) = (is_of_type(map, "number"), is_of_type(map, "integer"));
    if !(fractions || whole) || map.contains_key("const") || map.contains_key("enum") {
        return;
    }
    let told = |map: &Map<String, Value>, names: [&str; 2], closer: fn(f64, f64) -> f64| {
        names.iter().filter_map(|name| map.get(*name)?.as_f64()).reduce(closer)
    };
    let least = told(map, ["minimum", "exclusiveMinimum"], f64::max);
    let most = told(map, ["maximum", "exclusiveMaximum"], f64::min);
    // As far as one digit more, if there is no other room.
    let beyond = |bound: f64| if bound.abs() < LARGEST / 10.0 { LARGEST } else { (bound.abs() * 10.0).min(f64::MAX) };
    let (low, high) = match (least, most) {
        (None, None) => (-LARGEST, LARGEST),
        (Some(low), None) => (low, if low < 0.0 { LARGEST } else { beyond(low) }),
        (None, Some(high)) => (if high > 0.0 { -LARGEST } else { -beyond(high) }, high),
        (Some(low), Some(high)) => (low, high),
    };
    for (bound, value, known) in [("minimum", low, least), ("maximum", high, most)] {
        if known.is_none() && !map.contains_key(bound) {
            map.insert(bound.into(), number(value));
        }
    }
    if fractions && !divided && high - low >= LEAST_SPAN && low.abs().max(high.abs()) <= LARGEST {
        map.insert("multipleOf".into(), FRACTION.into());
    }
}

/// Moves bounds that the parser does not hold exactly inside of what they allow, to the next that it does.
fn narrow_bounds(map: &mut Map<String, Value>) -> Result<()> {
    let whole = is_of_type(map, "integer");
    let (mut low, mut high, mut moved) = (f64::NEG_INFINITY, f64::INFINITY, false);
    for (name, upper) in
        [("minimum", false), ("exclusiveMinimum", false), ("maximum", true), ("exclusiveMaximum", true)]
    {
        let Some(Value::Number(told)) = map.get(name) else { continue };
        let Some(mut bound) = told.as_f64() else { continue };
        let integer = told.as_i128();
        if integer.is_some_and(|integer| upper && bound as i128 > integer) {
            bound = bound.next_down();
        } else if integer.is_some_and(|integer| !upper && (bound as i128) < integer) {
            bound = bound.next_up();
        }
        if whole && (if upper { bound < -LARGEST_BOUND } else { bound > LARGEST_BOUND }) {
            fail!(Unsupported, "`{name}` is {told}: integers that far from 0 are not supported; ask for a string");
        }
        if whole {
            bound = bound.clamp(-LARGEST_BOUND, LARGEST_BOUND);
        }
        if upper {
            high = high.min(bound);
        } else {
            low = low.max(bound);
        }
        if integer.is_some_and(|integer| integer != bound as i128) || whole && told.as_f64() != Some(bound) {
            moved = true;
            map.insert(name.into(), if whole { (bound as i64).into() } else { bound.into() });
        }
    }
    if moved && low > high {
        fail!(Unsupported, "no number between {low} and {high} is held exactly; ask for a string");
    }
    Ok(())
}

/// Refuses integers that stand for themselves and would be told as others.
fn check_told(map: &Map<String, Value>) -> Result<()> {
    fn inexact(value: &Value) -> Option<i128> {
        match value {
            Value::Number(number) => {
                let (integer, near) = (number.as_i128()?, number.as_f64()?);
                (near as i128 != integer || near.abs() > LARGEST_BOUND).then_some(integer)
            }
            Value::Array(values) => values.iter().find_map(inexact),
            Value::Object(map) => map.values().find_map(inexact),
            _ => None,
        }
    }
    match ["const", "enum"].iter().find_map(|name| inexact(map.get(*name)?)) {
        Some(integer) => fail!(Unsupported, "{integer} has more digits than are told exactly; ask for a string"),
        None => Ok(()),
    }
}

/// Bounds the texts of a schema whose format has a longest one.
fn bound_names(map: &mut Map<String, Value>) {
    let longest = LENGTHS.iter().find(|(format, _)| map.get("format").is_some_and(|own| own == format));
    if let Some(&(_, longest)) = longest.filter(|_| map.get("type").is_some_and(|kind| kind == "string"))
        && !["maxLength", "pattern", "const", "enum"].iter().any(|keyword| map.contains_key(*keyword))
    {
        map.insert("maxLength".into(), longest.into());
    }
}

/// A number, without a fraction where it has none.
fn number(value: f64) -> Value {
    if value.abs() <= LARGEST { (value as i64).into() } else { value.into() }
}

/// True if some answer of a schema ends. What it must have may be what must have the like again, as in a list whose
/// `next` is required and is another list.
pub(super) fn has_end(schema: &Value) -> bool {
    Search { root: schema, followed: Vec::new(), steps: 0 }.ends(schema)
}

/// A search for an answer that ends.
struct Search<'a> {
    root: &'a Value,
    /// The references that have been followed to where it is.
    followed: Vec<&'a str>,
    steps: usize,
}

impl<'a> Search<'a> {
    fn ends(&mut self, schema: &'a Value) -> bool {
        self.steps += 1;
        let Value::Object(map) = schema else { return true };
        if self.steps > MOST_STEPS {
            return true;
        }
        let alternatives = ["anyOf", "oneOf"].into_iter().filter_map(|name| map.get(name)?.as_array());
        map.get("$ref").and_then(Value::as_str).is_none_or(|target| self.follow(target))
            && map.get("allOf").and_then(Value::as_array).is_none_or(|all| all.iter().all(|part| self.ends(part)))
            && alternatives.into_iter().all(|any| any.iter().any(|part| self.ends(part)))
            && match map.get("type").and_then(only) {
                Some("object") => self.properties_end(map),
                Some("array") => self.items_end(map),
                _ => true,
            }
    }

    fn follow(&mut self, target: &'a str) -> bool {
        if self.followed.contains(&target) {
            return false;
        }
        // What is elsewhere, or called otherwise, is not looked at.
        let Some(schema) = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) else { return true };
        self.followed.push(target);
        let ends = self.ends(schema);
        self.followed.pop();
        ends
    }

    fn properties_end(&mut self, map: &'a Map<String, Value>) -> bool {
        let (required, properties) = (map.get("required").and_then(Value::as_array), map.get("properties"));
        let names = required.into_iter().flatten().filter_map(Value::as_str);
        names.filter_map(|name| properties?.get(name)).all(|property| self.ends(property))
    }

    fn items_end(&mut self, map: &'a Map<String, Value>) -> bool {
        let count = map.get("minItems").and_then(Value::as_u64).unwrap_or_default() as usize;
        let first = map.get("prefixItems").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let rest = map.get("items").filter(|_| count > first.len());
        first.iter().take(count).chain(rest).all(|item| self.ends(item))
    }
}

/// The type, if it is one alone.
fn only(kind: &Value) -> Option<&str> {
    match kind {
        Value::Array(kinds) => kinds.first().filter(|_| kinds.len() == 1)?.as_str(),
        kind => kind.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tightened(mut schema: Value) -> Value {
        tighten(&mut schema).unwrap();
        schema
    }

    #[test]
    fn bounds_beyond_what_is_held_exactly_move_inside() {
        let (least, most) = (i64::MIN, i64::MAX);
        let edge = (1_u64 << 63) - 1024;
        assert_eq!(
            tightened(json!({"type": "integer", "minimum": least, "maximum": most})),
            json!({"type": "integer", "minimum": -(edge as i64), "maximum": edge}),
        );
        let odd = (1_i64 << 53) + 1;
        assert_eq!(
            tightened(json!({"type": "integer", "minimum": odd, "exclusiveMaximum": 1e17})),
            json!({"type": "integer", "minimum": odd + 1, "exclusiveMaximum": 1e17}),
        );
        assert_eq!(tightened(json!({"enum": [odd - 1, "x"]})), json!({"enum": [odd - 1, "x"]}));
        for refused in [
            json!({"type": "integer", "maximum": i64::MIN}),
            json!({"items": {"type": ["integer", "null"], "minimum": 1e19}}),
            json!({"type": "integer", "minimum": odd, "maximum": odd}),
            json!({"enum": [1_311_729_138_837_721_139_i64]}),
            json!({"properties": {"id": {"const": {"a": [u64::MAX]}}}}),
        ] {
            let error = tighten(&mut refused.clone()).unwrap_err().to_string();
            assert!(error.contains("ask for a string"), "{refused}: {error}");
        }
    }

    #[test]
    fn numbers_and_names_have_bounds_within_what_was_asked_for() {
        let largest = 9_007_199_254_740_991_i64;
        for (schema, wanted) in [
            (json!({"type": "integer"}), json!({"type": "integer", "minimum": -largest, "maximum": largest})),
            (
                json!({"type": "number", "minimum": 0, "exclusiveMaximum": 0.5}),
                json!({"type": "number", "minimum": 0, "exclusiveMaximum": 0.5, "multipleOf": 1e-8}),
            ),
            // There is room beyond bounds that lie beyond the largest number.
            (
                json!({"type": "number", "minimum": 1e300}),
                json!({"type": "number", "minimum": 1e300, "maximum": 1e301}),
            ),
            (
                json!({"type": "integer", "maximum": -1e17}),
                json!({"type": "integer", "maximum": -1e17, "minimum": -1e18}),
            ),
            // Between such bounds there is no multiple of what fractions are else.
            (
                json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-12}),
                json!({"type": "number", "exclusiveMinimum": 0, "maximum": 1e-12}),
            ),
            (json!({"type": "number", "const": 1e300}), json!({"type": "number", "const": 1e300})),
            (
                json!({"items": {"type": "number", "minimum": 0, "maximum": 1}, "contains": {"multipleOf": 3}}),
                json!({"items": {"type": "number", "minimum": 0, "maximum": 1}, "contains": {"multipleOf": 3}}),
            ),
        ] {
            assert_eq!(tightened(schema.clone()), wanted, "{schema}");
        }
        for told in [json!({"type": "string", "format": "email", "maxLength": 9}), json!({"format": "email"})] {
            assert_eq!(tightened(told.clone()), told);
        }
        let name = json!({"type": "string", "format": "hostname"});
        assert_eq!(tightened(name), json!({"type": "string", "format": "hostname", "maxLength": 253}));
        // A property may be called as a keyword is.
        let named = json!({"properties": {"default": {"type": "integer"}, "uniqueItems": false}});
        let wanted = json!({"properties": {
            "default": {"type": "integer", "minimum": -largest, "maximum": largest}, "uniqueItems": false,
        }});
        assert_eq!(tightened(named), wanted);
    }

    #[test]
    fn what_asks_for_nothing_is_left_out() {
        let idle = json!({"type": "object", "propertyNames": {"type": "string"}, "unevaluatedProperties": true,
            "additionalProperties": {"type": "array", "items": {"type": "null"}, "uniqueItems": false}});
        let wanted = json!({"type": "object", "additionalProperties": {"type": "array", "items": {"type": "null"}}});
        assert_eq!(tightened(idle), wanted);
        for asking in [json!({"uniqueItems": true}), json!({"propertyNames": {"maxLength": 3}}), json!({"not": {}})] {
            assert_eq!(tightened(asking.clone()), asking);
        }
    }

    #[test]
    fn schemas_whose_answers_have_no_end_are_found() {
        let list = |next: Value| {
            json!({"$defs": {"list": {"type": "object", "properties": {"next": next}, "required": ["next"]}},
                "$ref": "#/$defs/list"})
        };
        let again = json!({"$ref": "#/$defs/list"});
        let endless = [
            list(again.clone()),
            list(json!({"anyOf": [again, {"type": "array", "items": again, "minItems": 1}]})),
            list(json!({"type": ["array"], "prefixItems": [{"type": "null"}, again], "minItems": 2})),
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}),
            json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}),
        ];
        endless.iter().for_each(|schema| assert!(!has_end(schema), "{schema}"));
        let ending = [
            list(json!({"anyOf": [again, {"type": "null"}]})),
            list(json!({"type": "array", "items": again})),
            list(json!({"type": ["object", "null"], "properties": {"next": again}, "required": ["next"]})),
            list(json!({"type": "array", "prefixItems": [{"type": "null"}, again], "minItems": 1})),
            json!({"type": "object", "properties": {"a": {"$ref": "#"}}}),
            json!({"$ref": "https://example.com/elsewhere"}),
            json!(true),
        ];
        ending.iter().for_each(|schema| assert!(has_end(schema), "{schema}"));
    }
}
