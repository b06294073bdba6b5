//! Answers of a form, drawn at random: those that are whole have it.
//!
//! The vocabularies are those of `ondine-models`; real ones are read from the folder that `ONDINE_VOCABULARIES` names,
//! as its tests do.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ondine_graph::Bytes;
use ondine_language::guide::{Grammar, Guide, Guides};
use ondine_models::{Source, Vocabulary, gguf::Gguf};
use serde_json::{Value, json};

fn open(path: &Path) -> Arc<Vocabulary> {
    let [gguf, pieces] = ["vocabulary.gguf", "pieces.model"].map(|name| path.join(name));
    Arc::new(if path.is_file() || gguf.is_file() {
        let file = if path.is_file() { path } else { &gguf };
        Vocabulary::from_gguf(&Gguf::open(file).unwrap()).unwrap()
    } else if pieces.is_file() {
        Vocabulary::from_sentencepiece("pieces.model", &Bytes::map(&pieces).unwrap()).unwrap()
    } else {
        Vocabulary::open(&Source::folder(path).unwrap(), "").unwrap()
    })
}

fn small(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../ondine-models/tests/vocabularies").join(name)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) % count as u64) as usize
    }
}

/// The tokens that may come next.
fn allowed(guide: &mut Guide, count: usize) -> Vec<u32> {
    let mut logits = vec![0.0; count];
    guide.mask(&mut logits).unwrap();
    (0..).zip(logits).filter(|(_, logit)| *logit == 0.0).map(|(id, _)| id).collect()
}

/// A text of the form, any that it has; nothing, if it is not whole after `most` tokens.
fn drawn(vocabulary: &Vocabulary, guide: &mut Guide, most: usize, random: &mut Random) -> Option<String> {
    let mut bytes = Vec::new();
    for at in 0..most {
        let mut ids = allowed(guide, vocabulary.len());
        if let Some(only) = guide.only().unwrap() {
            assert_eq!(ids, [only]);
        }
        // What closes something comes more often than it would, so that texts end.
        let closes = |id: &u32| {
            let spelled = vocabulary.spelled(*id).unwrap();
            vocabulary.is_end(*id) || (spelled.len() == 1 && b"\"]}".contains(&spelled[0]))
        };
        let closing: Vec<u32> = ids.iter().copied().filter(closes).collect();
        if !closing.is_empty() && random.below(most) < at.max(most / 4) {
            ids = closing;
        }
        let id = ids[random.below(ids.len())];
        guide.push(id).unwrap();
        if vocabulary.is_end(id) {
            assert!(guide.is_whole());
            return Some(String::from_utf8(bytes).unwrap());
        }
        bytes.extend(vocabulary.spelled(id).unwrap());
        if guide.is_over() {
            return Some(String::from_utf8(bytes).unwrap());
        }
    }
    None
}

fn schemas() -> Vec<Value> {
    let object = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false});
    vec![
        json!({"enum": ["red", "green", 3, null, {"a": [1, 2]}]}),
        json!({"const": "a \"quoted\" text\nof é"}),
        json!({"type": "boolean"}),
        json!({"type": "integer", "minimum": -12, "maximum": 1005}),
        json!({"type": "number", "exclusiveMinimum": 0.5, "maximum": 7.25}),
        json!({"type": "array", "items": {"type": ["integer", "number", "null"]}, "minItems": 8, "maxItems": 8}),
        json!({"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100}),
        json!({"type": "string", "minLength": 2, "maxLength": 5}),
        json!({"type": "string", "pattern": "^[A-Z][a-z]{1,6}-[0-9]{3}$"}),
        json!({"type": "string", "format": "date"}),
        json!({"type": "string", "format": "uuid"}),
        json!({"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 9}, "minItems": 2, "maxItems": 4}),
        json!({"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["x"]}], "items": false, "minItems": 2}),
        object(
            json!({"name": {"type": "string", "maxLength": 8}, "age": {"type": "integer", "maximum": 150}}),
            json!(["name"]),
        ),
        object(
            json!({"id": {"type": "integer"}, "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "maxItems": 3},
                "inner": object(json!({"deep": {"type": ["string", "null"], "maxLength": 4}}), json!(["deep"]))}),
            json!(["id", "inner", "tags"]),
        ),
        json!({"anyOf": [{"type": "null"}, object(json!({"x": {"type": "number"}}), json!(["x"]))]}),
        json!({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 8}]}),
        json!({"$ref": "#/$defs/node", "$defs": {"node": object(
            json!({"value": {"enum": [1, 2]}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}),
            json!(["value", "next"]),
        )}}),
        json!({"type": "object", "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 9},
            "propertyNames": {"maxLength": 3}, "maxProperties": 3}),
        json!({"type": "object", "additionalProperties": {"type": "boolean"}, "propertyNames": {"type": "string"},
            "unevaluatedProperties": true, "maxProperties": 2}),
        json!({"type": "object", "properties": {"a/b": {"type": "string", "maxLength": 2}}, "required": ["a/b"],
            "patternProperties": {"^n_": {"type": "boolean"}}, "additionalProperties": false}),
    ]
}

/// Draws answers of all schemas, and yields how many were whole.
fn check(vocabulary: &Arc<Vocabulary>, name: &str, seeds: u64) -> [usize; 2] {
    let guides = Guides::new(vocabulary).unwrap();
    let mut whole = 0;
    let mut all = 0;
    for schema in schemas() {
        let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
        // What cannot be held is refused before an answer begins.
        let grammar = Grammar::Schema(schema.clone());
        let mut guide = match guides.start(&grammar) {
            Ok(guide) => guide,
            Err(error) => {
                assert!(schema.get("propertyNames").is_some(), "{name}: {schema}: {error}");
                assert!(error.to_string().contains("propertyNames"), "{error}");
                continue;
            }
        };
        drop(allowed(&mut guide, vocabulary.len()));
        for seed in 0..seeds {
            all += 1;
            let mut guide = guides.start(&grammar).unwrap();
            let Some(text) = drawn(vocabulary, &mut guide, 300, &mut Random(seed)) else {
                assert!(!guide.is_over());
                continue;
            };
            whole += 1;
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {text:?}: {error}"));
            assert!(validator.is_valid(&value), "{name}: {text} is none of {schema}");
            assert!(!text.contains(['\n', '\t']), "{text:?}");
        }
    }
    [whole, all]
}

#[test]
fn answers_that_are_whole_have_their_form() {
    for name in ["bytes-gguf", "bytes-json", "bpe-gguf", "bpe-model"] {
        let [whole, all] = check(&open(&small(name)), name, 6);
        assert!(whole * 10 >= all * 8, "{name}: {whole} of {all}");
    }
}

#[test]
fn every_real_vocabulary_can_be_guided() {
    let Some(folder) = std::env::var_os("ONDINE_VOCABULARIES") else {
        eprintln!("skipped: ONDINE_VOCABULARIES names no folder");
        return;
    };
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    for path in &paths {
        let name = path.file_stem().unwrap().to_string_lossy();
        let begun = std::time::Instant::now();
        let vocabulary = open(path);
        let opened = begun.elapsed();
        Guides::new(&vocabulary).unwrap();
        let made = begun.elapsed() - opened;
        // Word pieces write no capitals and put blanks between: they write no JSON.
        let counts = if name.contains("bert") { [0, 0] } else { check(&vocabulary, &name, 1) };
        assert!(counts[0] * 10 >= counts[1] * 7, "{name}: {counts:?}");
        eprintln!("{name}: {} tokens, trie in {made:.2?}, {} of {} whole", vocabulary.len(), counts[0], counts[1]);
    }
}

#[test]
fn grammars_and_expressions_are_forms_too() {
    let vocabulary = open(&small("bytes-gguf"));
    let guides = Guides::new(&vocabulary).unwrap();
    for seed in 0..20 {
        let mut guide = guides.start(&Grammar::Regex("(yes|no), [0-9]{2,3}!".into())).unwrap();
        let text = drawn(&vocabulary, &mut guide, 60, &mut Random(seed)).unwrap();
        let (word, rest) = text.split_once(", ").unwrap();
        assert!(["yes", "no"].contains(&word) && rest.ends_with('!') && (3..=4).contains(&rest.len()), "{text}");
        let sum = "start: NUMBER (\"+\" NUMBER)+\nNUMBER: /[0-9]/";
        let mut guide = guides.start(&Grammar::Lark(sum.into())).unwrap();
        let text = drawn(&vocabulary, &mut guide, 400, &mut Random(seed)).unwrap();
        assert!(text.split('+').count() > 1 && text.split('+').all(|part| part.len() == 1), "{text}");
    }
}

#[test]
fn what_cannot_be_held_is_refused_with_its_place() {
    let guides = Guides::new(&open(&small("bytes-gguf"))).unwrap();
    let refused = |grammar: Grammar| {
        let told = guides.start(&grammar).unwrap_err().to_string();
        assert!(!told.contains('\n'), "{told:?}");
        told
    };
    let not = json!({"properties": {"a": {"type": "string"}, "b/c": {"items": {"not": {"type": "null"}}}}});
    let told = refused(Grammar::Schema(not));
    assert_eq!(told, "the schema at /properties/b~1c/items: Unimplemented keys: [\"not\"]");
    let told = refused(Grammar::Schema(json!({"anyOf": [{"type": "string", "format": "color"}]})));
    assert_eq!(told, "the schema at /anyOf/0: Unknown format: color");
    // What would loosen a schema is not obeyed in it.
    let loose = json!({"x-guidance": {"lenient": true}, "not": {}});
    assert!(refused(Grammar::Schema(loose)).contains("Unimplemented keys"));
    assert!(refused(Grammar::Schema(json!({"type": "integer", "minimum": 3, "maximum": 2}))).contains("nsatisfiable"));
    assert!(refused(Grammar::Schema(json!({"$ref": "#/$defs/none"}))).starts_with("the schema"));
    assert!(refused(Grammar::Schema(json!({"$ref": "https://example.com/x.json"}))).starts_with("the schema"));
    let told = refused(Grammar::Schema(json!({"type": "string", "pattern": "^(?=a)b$"})));
    assert!(told.starts_with("the schema: regex parse error: ^(?=a)b$; error: look-around"), "{told}");
    let several = json!({"oneOf": [{"type": "integer", "minimum": 1}, {"type": "integer", "maximum": 9}]});
    assert!(refused(Grammar::Schema(several)).ends_with("not supported; say anyOf if an answer may fit several"));
    let endless = json!({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]});
    assert!(refused(Grammar::Schema(endless)).contains("no answer of it ends"));
    assert!(refused(Grammar::Lark("start: other".into())).starts_with("the grammar: "));
    let gbnf = Grammar::lark("# a list\nroot ::= \"a\" | item").unwrap_err().to_string();
    assert!(gbnf.contains("Lark"), "{gbnf}");
    assert!(Grammar::lark("\u{feff}start: \"a ::= b\"").is_ok());
    assert!(refused(Grammar::Regex("(".into())).starts_with("the regular expression: "));
    assert!(Grammar::schema("[1]").is_err() && Grammar::schema("{").is_err() && Grammar::schema("false").is_err());
    assert_eq!(Grammar::schema("\u{feff}true").unwrap(), Grammar::Schema(json!({})));
}

#[test]
fn numbers_end() {
    let vocabulary = open(&small("bytes-gguf"));
    let guides = Guides::new(&vocabulary).unwrap();
    for schema in [
        json!({"type": "number"}),
        json!({"type": "number", "minimum": 0, "maximum": 1}),
        json!({"type": "number", "exclusiveMinimum": -1.5, "exclusiveMaximum": -1.25}),
        json!({"type": ["number", "null"], "minimum": 1e6}),
        json!({"type": "integer", "minimum": 9_007_199_254_740_993_i64}),
        json!({"allOf": [{"type": "number", "minimum": 0, "maximum": 50}, {"multipleOf": 5}]}),
    ] {
        let validator = jsonschema::validator_for(&schema).unwrap();
        for seed in 0..20 {
            let mut guide = guides.start(&Grammar::Schema(schema.clone())).unwrap();
            let text = drawn(&vocabulary, &mut guide, 40, &mut Random(seed)).unwrap();
            assert!(validator.is_valid(&serde_json::from_str(&text).unwrap()), "{text} is none of {schema}");
        }
    }
}

#[test]
fn names_of_hosts_and_addresses_end() {
    let vocabulary = open(&small("bytes-gguf"));
    let guides = Guides::new(&vocabulary).unwrap();
    for format in ["hostname", "email"] {
        let grammar = Grammar::Schema(json!({"type": "string", "format": format}));
        for seed in 0..3 {
            let text = drawn(&vocabulary, &mut guides.start(&grammar).unwrap(), 260, &mut Random(seed)).unwrap();
            assert!(text.len() <= 256, "{text}");
        }
    }
}

#[test]
fn tokens_can_be_taken_back() {
    let vocabulary = open(&small("bytes-json"));
    let guides = Guides::new(&vocabulary).unwrap();
    let mut guide = guides.start(&Grammar::Regex("[ab]{3}".into())).unwrap();
    let first = allowed(&mut guide, vocabulary.len());
    guide.push(first[0]).unwrap();
    guide.rewind(1).unwrap();
    assert_eq!(allowed(&mut guide, vocabulary.len()), first);
    let other = (0..).find(|id| !first.contains(id)).unwrap();
    assert!(guide.push(other).is_err());
}
