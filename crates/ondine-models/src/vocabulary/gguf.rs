//! The vocabulary that the metadata of a GGUF file hold.

use ondine_graph::{Context, Result, fail};
use tokenizers::{
    PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer as Steps,
    models::{bpe::BPE, unigram::Unigram, wordpiece::WordPiece},
    normalizers::{bert::BertNormalizer, replace::Replace},
    pre_tokenizers::{
        bert::BertPreTokenizer,
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use super::{
    Cutter, DEFAULT_TEMPLATE, Stepped, Vocabulary,
    characters::Characters,
    merges::check_merge,
    pieces::{self, Normal, Scores},
    spelling::{BLANK, Kind, Writing},
    table::{Table, kind_of},
    words::{self, Letters, Words},
};
use crate::{
    config::invalid,
    gguf::{Gguf, Value},
};

/// A special token as the metadata have it.
#[derive(Clone, Copy, Default)]
struct Marks {
    begin: Option<u32>,
    end: Option<u32>,
    unknown: Option<u32>,
    /// Of pairs of texts.
    separator: Option<u32>,
}

/// What every file of a kind of vocabulary means if it does not say otherwise.
struct Habits {
    begins: bool,
    ends: bool,
    leading_blank: bool,
    single_blanks: bool,
    marks: Marks,
}

impl Vocabulary {
    /// The vocabulary of a GGUF file, with its template of chats.
    ///
    /// # Errors
    /// If it has none, it is broken, or text is cut in a way that is not known here.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self> {
        read(gguf).at(|| &gguf.file)
    }
}

fn read(gguf: &Gguf) -> Result<Vocabulary> {
    let Some(model) = gguf.text("tokenizer.ggml.model")? else {
        fail!(Missing, "there is no vocabulary in it; use a file that was converted with one")
    };
    let table = Table::read(gguf)?;
    let (mut vocabulary, habits) = match model {
        "gpt2" => byte_pairs(gguf, &table, gguf.text("tokenizer.ggml.pre")?.unwrap_or_default())?,
        "gemma4" => byte_pairs(gguf, &table, "gemma4")?,
        "llama" => scored(gguf, &table)?,
        "t5" => likeliest(gguf, &table)?,
        "bert" => word_pieces(&table)?,
        other => fail!(
            Unsupported,
            "`tokenizer.ggml.model` = {other:?} is not known here; known are gpt2, llama, t5, bert and gemma4"
        ),
    };
    let id = |name: &str, default: Option<u32>| table.id(gguf, name, default);
    vocabulary.begin = id("bos_token_id", habits.marks.begin)?;
    vocabulary.end = id("eos_token_id", habits.marks.end)?;
    let separator = id("seperator_token_id", habits.marks.separator)?;
    let begin = if model == "bert" { id("cls_token_id", habits.marks.begin)? } else { vocabulary.begin };
    let wanted = |name: &str, default| -> Result<bool> { Ok(gguf.flag(name)?.unwrap_or(default)) };
    if wanted("tokenizer.ggml.add_bos_token", habits.begins)? {
        let Some(begin) = begin else { fail!(Format, "texts begin with a token that the file does not name") };
        vocabulary.around[0].push(begin);
    }
    if wanted("tokenizer.ggml.add_eos_token", habits.ends)? {
        let Some(end) = vocabulary.end else { fail!(Format, "texts end with a token that the file does not name") };
        vocabulary.around[1].push(end);
    }
    if wanted("tokenizer.ggml.add_sep_token", habits.marks.separator.is_some())? && vocabulary.around[1].is_empty() {
        vocabulary.around[1].extend(separator);
    }
    for name in ["eos_token_id", "eot_token_id", "eom_token_id"] {
        vocabulary.ends.extend(id(name, None)?);
    }
    read_templates(gguf, &mut vocabulary)?;
    Ok(vocabulary)
}

fn read_templates(gguf: &Gguf, vocabulary: &mut Vocabulary) -> Result<()> {
    const PREFIX: &str = "tokenizer.chat_template";
    for key in gguf.metadata.keys() {
        let Some(rest) = key.strip_prefix(PREFIX) else { continue };
        let name = match rest.strip_prefix('.') {
            Some(name) => name,
            None if rest.is_empty() => DEFAULT_TEMPLATE,
            None => continue,
        };
        if let Some(template) = gguf.text(key)? {
            vocabulary.templates.insert(name.to_owned(), template.into());
        }
    }
    Ok(())
}

impl Table {
    fn read(gguf: &Gguf) -> Result<Self> {
        let Some(listed) = gguf.list("tokenizer.ggml.tokens")? else {
            fail!(Missing, "there is no `tokenizer.ggml.tokens`")
        };
        let mut tokens = Vec::with_capacity(listed.len());
        for (id, token) in listed.iter().enumerate() {
            match token {
                Value::Text(text) if text.is_empty() => tokens.push(format!("[EMPTY_{id}]")),
                Value::Text(text) => tokens.push(text.to_string()),
                _ => fail!(Format, "`tokenizer.ggml.tokens`: token {id} is no text"),
            }
        }
        let kinds = match gguf.list("tokenizer.ggml.token_type")? {
            None => vec![1; tokens.len()],
            Some(kinds) => kinds.iter().map(|kind| if let Value::Integer(kind) = kind { *kind } else { 0 }).collect(),
        };
        if kinds.len() < tokens.len() {
            fail!(Format, "`tokenizer.ggml.token_type` has {} entries for {} tokens", kinds.len(), tokens.len());
        }
        Ok(Self { tokens, kinds })
    }

    fn scores(&self, gguf: &Gguf) -> Result<Vec<f32>> {
        let listed = gguf.list("tokenizer.ggml.scores")?.unwrap_or_default();
        if listed.len() < self.tokens.len() {
            fail!(Format, "`tokenizer.ggml.scores` has {} entries for {} tokens", listed.len(), self.tokens.len());
        }
        let mut scores = Vec::with_capacity(listed.len());
        for score in listed {
            match score {
                Value::Float(score) if score.is_finite() => scores.push(*score as f32),
                Value::Integer(score) => scores.push(*score as f32),
                _ => fail!(Format, "`tokenizer.ggml.scores`: {score:?} is no score"),
            }
        }
        Ok(scores)
    }

    /// The token that the metadata name, or that files mean which do not name one, as far as there is one.
    fn id(&self, gguf: &Gguf, name: &str, default: Option<u32>) -> Result<Option<u32>> {
        let key = format!("tokenizer.ggml.{name}");
        let known = |id: &u32| (*id as usize) < self.tokens.len();
        match gguf.integer(&key)? {
            None => Ok(default.filter(known)),
            // Some writers mean none by it.
            Some(-1 | 0xffff_ffff) => Ok(None),
            Some(id) => match u32::try_from(id).ok().filter(known) {
                Some(id) => Ok(Some(id)),
                None => fail!(Format, "`{key}` = {id} is no token; there are {}", self.tokens.len()),
            },
        }
    }
}

fn byte_pairs(gguf: &Gguf, table: &Table, name: &str) -> Result<(Vocabulary, Habits)> {
    let words = words::find(name)?;
    let vocab = table.by_token(|text, _| text.to_owned())?;
    let Some(listed) = gguf.list("tokenizer.ggml.merges")? else {
        fail!(Missing, "there is no `tokenizer.ggml.merges`")
    };
    let longest = vocab.keys().map(String::len).max().unwrap_or_default();
    let mut merges = Vec::with_capacity(listed.len());
    for (index, merge) in listed.iter().enumerate() {
        // A token may be a blank itself: the one that parts them is not the first character.
        let Value::Text(merge) = merge else { fail!(Format, "`tokenizer.ggml.merges`: {merge:?} is no merge") };
        let parts = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| merge.split_at(at));
        let Some((left, right)) = parts else { fail!(Format, "`tokenizer.ggml.merges`: {merge:?} is no merge") };
        let right = right.trim_start_matches(' ');
        check_merge(index, [left, right], "", longest)?;
        merges.push((left.to_owned(), right.to_owned()));
    }
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(words.whole_words)
        .byte_fallback(words.letters == Letters::Spaces)
        .build()
        .map_err(invalid)?;
    let mut steps = Steps::new(model);
    cut_words(&mut steps, words)?;
    table.add_marks(&mut steps)?;
    let writing = match words.letters {
        Letters::Bytes => Writing::Bytes,
        Letters::Spaces => Writing::Spaces,
        Letters::Plain => Writing::Plain,
    };
    let spellings = table.spellings(writing, |text, _| text.to_owned());
    let separator = if words.separated { table.id(gguf, "eos_token_id", None)? } else { None };
    let marks = Marks { separator, ..Marks::default() };
    let habits = Habits { begins: words.begins, ends: false, leading_blank: false, single_blanks: false, marks };
    Ok((Vocabulary::new(Cutter::Steps(Box::new(Stepped::new(steps))), spellings), habits))
}

fn cut_words(steps: &mut Steps, words: Words) -> Result<()> {
    let cut = |cut: &&str| {
        Split::new(SplitPattern::Regex((*cut).to_owned()), SplitDelimiterBehavior::Isolated, false)
            .map(PreTokenizerWrapper::from)
            .map_err(invalid)
    };
    let mut cuts = words.cuts.iter().map(cut).collect::<Result<Vec<_>>>()?;
    match words.letters {
        Letters::Bytes => cuts.push(ByteLevel::new(false, false, false).into()),
        Letters::Spaces => {
            steps.with_normalizer(Some(Replace::new(" ", BLANK.to_string()).map_err(invalid)?)).map_err(invalid)?;
        }
        Letters::Plain => {}
    }
    steps.with_pre_tokenizer(Some(Sequence::new(cuts)));
    Ok(())
}

/// The parts of models' names whose control tokens take blanks after them, which the metadata do not say.
const TAKE_BLANKS: &[&str] = &["phi-3", "phi3"];

fn scored(gguf: &Gguf, table: &Table) -> Result<(Vocabulary, Habits)> {
    let scores = table.scores(gguf)?;
    let marks = Marks { begin: Some(1), end: Some(2), unknown: Some(0), separator: None };
    let unknown = table.id(gguf, "unknown_token_id", marks.unknown)?;
    let habits = Habits { begins: true, ends: false, leading_blank: true, single_blanks: false, marks };
    let scores = Scores::new(table.tokens.iter().cloned().zip(scores), unknown);
    Ok((from_pieces(gguf, table, pieces::Cutter::Scores(scores), &habits)?, habits))
}

fn likeliest(gguf: &Gguf, table: &Table) -> Result<(Vocabulary, Habits)> {
    let scores = table.scores(gguf)?;
    let marks = Marks { begin: None, end: Some(1), unknown: Some(2), separator: None };
    let habits = Habits { begins: false, ends: true, leading_blank: true, single_blanks: true, marks };
    let unknown = table.id(gguf, "unknown_token_id", marks.unknown)?;
    let vocab = table.tokens.iter().cloned().zip(scores.iter().map(|&score| f64::from(score))).collect();
    let bytes = table.tokens.iter().filter(|token| super::spelling::named_byte(token).is_some()).count() == 256;
    let unigram = Unigram::from(vocab, unknown.map(|id| id as usize), bytes).map_err(invalid)?;
    Ok((from_pieces(gguf, table, pieces::Cutter::Likeliest(Box::new(unigram)), &habits)?, habits))
}

fn from_pieces(gguf: &Gguf, table: &Table, cutter: pieces::Cutter, habits: &Habits) -> Result<Vocabulary> {
    let characters: Vec<u8> = match gguf.list("tokenizer.ggml.precompiled_charsmap")? {
        None => Vec::new(),
        // Bytes come signed or not.
        Some(list) => {
            let byte = |value: &Value| if let Value::Integer(byte) = value { Some(*byte as u8) } else { None };
            list.iter().filter_map(byte).collect()
        }
    };
    let normal = Normal {
        characters: Characters::read(&characters)?,
        single_blanks: gguf.flag("tokenizer.ggml.remove_extra_whitespaces")?.unwrap_or(habits.single_blanks),
        leading_blank: gguf.flag("tokenizer.ggml.add_space_prefix")?.unwrap_or(habits.leading_blank),
    };
    let name = gguf.text("general.name")?.unwrap_or_default().to_lowercase();
    let takes_blanks = TAKE_BLANKS.iter().any(|part| name.contains(part));
    Ok(table.pieces(normal, cutter, takes_blanks))
}

fn word_pieces(table: &Table) -> Result<(Vocabulary, Habits)> {
    // Files of ggml mark where words begin; BERT marks where they go on.
    let token = |text: &str, kind: Kind| match text.strip_prefix(BLANK) {
        Some(word) if kind == Kind::Text => word.to_owned(),
        None if kind == Kind::Text => format!("##{text}"),
        _ => text.to_owned(),
    };
    let vocab = table.by_token(|text, kind| token(text, kind_of(kind)))?;
    let marks = Marks { begin: Some(101), end: None, unknown: Some(100), separator: Some(102) };
    let unknown = table.tokens.get(100).filter(|_| table.kinds.get(100) != Some(&1));
    let unknown = unknown.map_or("[UNK]", String::as_str);
    let model = WordPiece::builder()
        .vocab(vocab)
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix("##".to_owned())
        .build()
        .map_err(invalid)?;
    let mut steps = Steps::new(model);
    steps.with_normalizer(Some(BertNormalizer::new(true, true, Some(true), true))).map_err(invalid)?;
    steps.with_pre_tokenizer(Some(BertPreTokenizer));
    table.add_marks(&mut steps)?;
    let spellings = table.spellings(Writing::Pieces, token).with_leading_blank(true);
    let habits = Habits { begins: true, ends: false, leading_blank: false, single_blanks: false, marks };
    Ok((Vocabulary::new(Cutter::Steps(Box::new(Stepped::new(steps))), spellings), habits))
}
