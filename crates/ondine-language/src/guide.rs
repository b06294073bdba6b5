//! Answers of a form: a grammar says which tokens may come next, so that an answer that is whole has the form.
//!
//! [`Guides`] knows the tokens of a vocabulary by their bytes, once for all answers; a [`Guide`] follows one of them.
//! The grammars are those of llguidance: JSON schemas, its dialect of Lark, regular expressions. A schema that asks for
//! what cannot be held is refused before an answer begins, and nothing of it is loosened.

mod schema;

use std::{fmt, sync::Arc};

use llguidance::{
    JsonCompileOptions, Matcher, ParserFactory, TokenParser,
    api::{StopReason, TopLevelGrammar},
};
use ondine_graph::{Error, ErrorKind, Result, fail};
use ondine_models::{Vocabulary, vocabulary::Controls};
use serde_json::{Value, json};
use toktrie::{INVALID_TOKEN, InferenceCapabilities, SimpleVob, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// JSON that a schema describes (draft 2020-12 if it names no other), on one line, with a blank after commas and
    /// colons, as models write it most. Numbers without bounds are those that every reader holds: up to
    /// 2^53 - 1; their fractions have at most 8 digits, unless the schema says what they are multiples of.
    Schema(Value),
    /// A text of a grammar in llguidance's dialect of Lark, whose rule `start` is the answer.
    Lark(String),
    /// A text that a regular expression matches from its beginning to its end.
    Regex(String),
}

impl Grammar {
    /// Reads a JSON schema.
    ///
    /// # Errors
    /// If it is no JSON, or none that is a schema.
    pub fn schema(json: &str) -> Result<Self> {
        // Editors put a mark of the order of bytes in front.
        let schema: Value = serde_json::from_str(json.trim_start_matches('\u{feff}'))
            .map_err(|error| Error::new(ErrorKind::Format, format!("the schema is no JSON: {error}")))?;
        match schema {
            Value::Object(_) => Ok(Self::Schema(schema)),
            Value::Bool(true) => Ok(Self::Schema(json!({}))),
            Value::Bool(false) => fail!(Argument, "the schema is `false`, which no answer can have"),
            _ => fail!(Format, "the schema is no JSON object"),
        }
    }

    /// Reads a grammar in the words of Lark.
    ///
    /// # Errors
    /// If it is one of GBNF.
    pub fn lark(grammar: &str) -> Result<Self> {
        let grammar = grammar.trim_start_matches('\u{feff}');
        if grammar.lines().any(|line| line.split_once("::=").is_some_and(|(name, _)| is_rule_name(name.trim()))) {
            fail!(
                Unsupported,
                "a grammar of GBNF (`root ::= ...`), which is not read; write it in the words of Lark (`start: ...`)"
            );
        }
        Ok(Self::Lark(grammar.to_owned()))
    }

    fn compile(&self) -> Result<TopLevelGrammar> {
        Ok(match self {
            Self::Schema(schema) => {
                let mut schema = schema.clone();
                // Settings in the schema would be obeyed, and one of them loosens what it cannot hold. Whitespace
                // without bounds is what models run away in.
                let options = JsonCompileOptions {
                    item_separator: ", ".into(),
                    key_separator: ": ".into(),
                    whitespace_flexible: false,
                    ..JsonCompileOptions::default()
                };
                schema::tighten(&mut schema)?;
                options.apply_to(&mut schema);
                TopLevelGrammar::from_json_schema(schema)
            }
            Self::Lark(grammar) => TopLevelGrammar::from_lark(grammar.clone()),
            Self::Regex(expression) => TopLevelGrammar::from_regex(expression),
        })
    }
}

/// True for what GBNF calls a rule.
fn is_rule_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// What grammars need to know of a vocabulary.
pub struct Guides {
    parsers: ParserFactory,
    tokens: usize,
}

impl fmt::Debug for Guides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guides").field("tokens", &self.tokens).finish_non_exhaustive()
    }
}

impl Guides {
    /// Looks at all tokens of a vocabulary.
    ///
    /// # Errors
    /// If there are none.
    pub fn new(vocabulary: &Arc<Vocabulary>) -> Result<Self> {
        if vocabulary.is_empty() {
            fail!(Argument, "the vocabulary has no tokens");
        }
        let tokens: TokEnv = Arc::new(Tokens::new(vocabulary.clone())?);
        let slices = llguidance::earley::SlicedBiasComputer::json_slices();
        let mut parsers = ParserFactory::new(&tokens, InferenceCapabilities::default(), &slices)
            .map_err(|error| Error::new(ErrorKind::Internal, line(&format!("{error:#}"))))?;
        parsers.quiet().limits_mut().verbose_errors = false;
        Ok(Self { parsers, tokens: vocabulary.len() })
    }

    /// Begins an answer of a form.
    ///
    /// # Errors
    /// If the grammar is broken, too large, or asks for what cannot be held; of a schema, the message names the place.
    pub fn start(&self, grammar: &Grammar) -> Result<Guide> {
        if let Grammar::Schema(schema) = grammar
            && !schema::has_end(schema)
        {
            fail!(
                Argument,
                "the schema: no answer of it ends, for what it requires requires the like again; let something be left \
                 out or be null"
            );
        }
        match self.parser(grammar) {
            Ok(parser) => {
                let mut guide = Guide { matcher: Matcher::new(Ok(parser)), next: None };
                // What means nothing to the lexer is found when it is first asked.
                guide.look().map_err(|error| error.at(name(grammar)))?;
                Ok(guide)
            }
            Err(message) => {
                let place = match grammar {
                    Grammar::Schema(schema) => self.place(schema, &message),
                    Grammar::Lark(_) | Grammar::Regex(_) => String::new(),
                };
                let place = if place.is_empty() { String::new() } else { format!(" at {place}") };
                fail!(Argument, "{}{place}: {message}", name(grammar))
            }
        }
    }

    fn parser(&self, grammar: &Grammar) -> Result<TokenParser, String> {
        let compiled = grammar.compile().map_err(|error| error.to_string())?;
        self.parsers.create_parser(compiled).map_err(|error| line(&format!("{error:#}")))
    }

    /// Where in a schema that is refused the reason is, as a JSON pointer: the innermost part that is refused for it
    /// alone.
    fn place(&self, schema: &Value, message: &str) -> String {
        let mut place = String::new();
        let mut part = schema;
        // Schemas are as deep as somebody wrote them; each step tries all parts of one level.
        let mut tries = 0;
        'deeper: loop {
            let parts: Vec<(String, &Value)> = match part {
                Value::Object(map) => map.iter().map(|(key, part)| (escaped(key), part)).collect(),
                Value::Array(list) => list.iter().enumerate().map(|(at, part)| (at.to_string(), part)).collect(),
                _ => Vec::new(),
            };
            for (key, inner) in parts {
                tries += 1;
                if tries > 1000 {
                    return place;
                }
                if self.refuses(inner, message) {
                    place = format!("{place}/{key}");
                    part = inner;
                    continue 'deeper;
                }
            }
            return place;
        }
    }

    /// True if a part of a schema, or a part of that, is refused for this reason.
    fn refuses(&self, part: &Value, message: &str) -> bool {
        match part {
            Value::Object(map) => {
                let refused = self.parser(&Grammar::Schema(part.clone())).err();
                refused.is_some_and(|reason| reason == message)
                    || map.values().any(|inner| self.refuses(inner, message))
            }
            Value::Array(list) => list.iter().any(|inner| self.refuses(inner, message)),
            _ => false,
        }
    }
}

fn name(grammar: &Grammar) -> &'static str {
    match grammar {
        Grammar::Schema(_) => "the schema",
        Grammar::Lark(_) => "the grammar",
        Grammar::Regex(_) => "the regular expression",
    }
}

/// A key as JSON pointers write it (RFC 6901).
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// A message of several lines as one, without what is meant for who wrote the parser or points at a line above.
fn line(message: &str) -> String {
    let mut told = String::new();
    for line in message.lines().map(str::trim) {
        if line.starts_with('<') || line.chars().all(|char| char == '^') {
            continue;
        }
        match told.chars().last() {
            None => {}
            Some(':') => told.push(' '),
            Some(_) => told.push_str("; "),
        }
        told.push_str(line);
    }
    told.replace(SETTING, "; say anyOf if an answer may fit several")
}

/// What the parser's messages name that cannot be set here.
const SETTING: &str = ". Enable 'coerce_one_of' option to approximate oneOf with anyOf";

/// Follows an answer of a form.
pub struct Guide {
    matcher: Matcher,
    /// What may come next, once it was asked for.
    next: Option<SimpleVob>,
}

impl fmt::Debug for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guide").field("over", &self.is_over()).finish_non_exhaustive()
    }
}

impl Guide {
    /// Makes tokens impossible that may not come next.
    ///
    /// # Errors
    /// If the answer is over, or the form has become too much to follow.
    pub fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        let allowed = self.look()?;
        for (id, logit) in (0..).zip(logits) {
            if !allowed.is_allowed(id) {
                *logit = f32::NEG_INFINITY;
            }
        }
        Ok(())
    }

    /// The one token that may come next, if there is one.
    ///
    /// # Errors
    /// As [`Guide::mask`].
    pub fn only(&mut self) -> Result<Option<u32>> {
        let allowed = self.look()?;
        Ok(if allowed.num_set() == 1 { allowed.first_bit_set().and_then(|id| u32::try_from(id).ok()) } else { None })
    }

    /// The tokens that may come next, in rising order, if they are at most half of all: then it pays to compute their
    /// logits alone.
    ///
    /// # Errors
    /// As [`Guide::mask`].
    pub fn few(&mut self) -> Result<Option<Vec<u32>>> {
        let allowed = self.look()?;
        let few = allowed.num_set() <= allowed.len() / 2;
        Ok(few.then(|| allowed.iter().collect()))
    }

    /// Takes a token of the answer.
    ///
    /// # Errors
    /// If it may not come here.
    pub fn push(&mut self, id: u32) -> Result<()> {
        if !self.look()?.is_allowed(id) {
            fail!(Internal, "token {id} does not go on with an answer of this form");
        }
        self.next = None;
        self.matcher.consume_token(id).map_err(|error| {
            Error::new(ErrorKind::Unsupported, format!("the form is too much to follow: {}", line(&error.to_string())))
        })
    }

    /// Takes back the last `count` tokens.
    ///
    /// # Errors
    /// If there are not as many.
    pub fn rewind(&mut self, count: usize) -> Result<()> {
        self.next = None;
        self.matcher.rollback(count).map_err(|error| Error::new(ErrorKind::Internal, line(&error.to_string())))
    }

    /// True if nothing may follow: the answer is whole.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.matcher.is_stopped() && self.matcher.stop_reason().is_ok()
    }

    /// True if the answer has the form as it is.
    #[must_use]
    pub fn is_whole(&mut self) -> bool {
        self.is_over() || self.matcher.is_accepting().unwrap_or(false)
    }

    fn look(&mut self) -> Result<&SimpleVob> {
        if self.next.is_none() {
            self.next = match self.matcher.compute_mask_or_eos() {
                Ok(allowed) => Some(allowed),
                // The parser names this reason in its message alone.
                Err(error) if error.to_string().starts_with(&StopReason::NoExtensionBias.to_string()) => {
                    fail!(Unsupported, "no token of the vocabulary goes on with an answer of this form")
                }
                Err(error) => fail!(Unsupported, "the form is too much to follow: {}", line(&error.to_string())),
            };
        }
        match &self.next {
            Some(allowed) => Ok(allowed),
            None => fail!(Internal, "no mask was kept"),
        }
    }
}

/// A vocabulary as grammars see it: tokens by their bytes.
struct Tokens {
    vocabulary: Arc<Vocabulary>,
    trie: TokTrie,
    /// True if a part of a text is cut as it is in the text, so that tokens of what must come can be known.
    canonical: bool,
}

impl Tokens {
    fn new(vocabulary: Arc<Vocabulary>) -> Result<Self> {
        let count = u32::try_from(vocabulary.len()).unwrap_or(INVALID_TOKEN);
        let words = (0..count).map(|id| word(&vocabulary, id)).collect::<Result<Vec<_>>>()?;
        let ends: Vec<u32> = vocabulary.ends().iter().copied().filter(|&id| id < count).collect();
        let first = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(count, first), &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) };
        let mut tokens = Self { vocabulary, trie, canonical: false };
        tokens.canonical = PROBES.iter().all(|text| tokens.exact(text).is_some());
        Ok(tokens)
    }

    /// The tokens of a text, if they spell it byte for byte.
    fn exact(&self, text: &str) -> Option<Vec<TokenId>> {
        let ids = self.vocabulary.encode(text, Controls::Text).ok()?;
        let mut spelled: Vec<u8> = Vec::with_capacity(text.len());
        for &id in &ids {
            spelled.extend(self.trie.token(id));
        }
        (spelled == text.as_bytes()).then_some(ids)
    }
}

/// Texts that vocabularies change which put blanks in front, or know only letters.
const PROBES: &[&str] = &["a", " a", "{\"Name\": ", "é\n"];

/// The bytes of a token in a trie: those that it spells, with a mark before what is no text; none, if it cannot be
/// used.
fn word(vocabulary: &Vocabulary, id: u32) -> Result<Vec<u8>> {
    let bytes = vocabulary.spelled(id)?;
    if vocabulary.is_control(id)? || vocabulary.is_end(id) {
        return Ok([&[TokTrie::SPECIAL_TOKEN_MARKER], bytes].concat());
    }
    // No text has a byte that is the mark.
    Ok(if bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) { Vec::new() } else { bytes.to_vec() })
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let exact = std::str::from_utf8(bytes).ok().and_then(|text| self.exact(text));
        exact.unwrap_or_else(|| self.trie.greedy_tokenize(bytes))
    }

    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}
