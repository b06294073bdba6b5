//! SentencePiece: a text is written with `▁` for its blanks, and cut into pieces by their scores.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, HashMap},
};

use ondine_graph::{Result, fail};
use tokenizers::{Model as _, models::unigram::Unigram};

use crate::config::invalid;

use super::{
    characters::Characters,
    spelling::{BLANK, named_byte},
};

/// What is done to a text before it is cut into pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Normal {
    /// Characters that are written as others.
    pub(super) characters: Option<Characters>,
    /// Several blanks are one, and none is at either end.
    pub(super) single_blanks: bool,
    /// A blank is put in front.
    pub(super) leading_blank: bool,
}

impl Normal {
    /// The text as pieces spell it.
    fn written(&self, text: &str) -> String {
        let mapped = self.characters.as_ref().map(|table| table.apply(text));
        let text = mapped.as_deref().unwrap_or(text);
        let mut written = String::with_capacity(text.len() + BLANK.len_utf8());
        if self.leading_blank && !text.is_empty() {
            written.push(BLANK);
        }
        let text = if self.single_blanks { text.trim_matches(' ') } else { text };
        for c in text.chars() {
            let c = if c == ' ' { BLANK } else { c };
            if !(self.single_blanks && c == BLANK && written.ends_with(BLANK)) {
                written.push(c);
            }
        }
        if self.single_blanks && text.is_empty() { String::new() } else { written }
    }
}

/// How a text becomes pieces.
#[derive(Clone, Debug)]
pub(super) enum Cutter {
    /// Neighbours become one, best score first.
    Scores(Scores),
    /// The most likely cut of all.
    Likeliest(Box<Unigram>),
}

/// A vocabulary of SentencePiece.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) normal: Normal,
    pub(super) cutter: Cutter,
    /// Tokens that are cut out of the text first, by their first byte, the longest first; true for those that say
    /// something about the text.
    marks: HashMap<u8, Vec<(String, u32, bool)>>,
    /// Blanks after a token that says something are part of it.
    takes_blanks: bool,
}

/// Control tokens that leave the blanks after them where others take them.
const LEAVE_BLANKS: &[&str] = &["<s>", "<unk>", "<|endoftext|>"];

impl Pieces {
    pub(super) fn new(
        normal: Normal,
        cutter: Cutter,
        marks: impl Iterator<Item = (String, u32, bool)>,
        takes_blanks: bool,
    ) -> Self {
        let mut pieces = Self { normal, cutter, marks: HashMap::new(), takes_blanks };
        marks.for_each(|(text, id, control)| pieces.add_mark(text, id, control));
        pieces
    }

    /// Cuts a token out of texts first; `control` if it says something about them.
    pub(super) fn add_mark(&mut self, text: String, id: u32, control: bool) {
        let Some(&first) = text.as_bytes().first() else { return };
        let marks = self.marks.entry(first).or_default();
        // Behind those that are as long: the first of two that are the same is found.
        let place = marks.partition_point(|(other, _, _)| other.len() >= text.len());
        marks.insert(place, (text, id, control));
    }

    /// The ids of a text; `controls` if tokens that say something about it are looked for in it.
    pub(super) fn encode(&self, text: &str, controls: bool) -> Result<Vec<u32>> {
        let (mut ids, mut plain, mut at) = (Vec::new(), 0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let Some((len, id)) = self.mark(rest, controls) else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            self.cut(text.get(plain..at).unwrap_or_default(), &mut ids)?;
            ids.push(id);
            at += len;
            plain = at;
        }
        self.cut(text.get(plain..).unwrap_or_default(), &mut ids)?;
        Ok(ids)
    }

    /// The token that `text` begins with, and how much of it that takes.
    fn mark(&self, text: &str, controls: bool) -> Option<(usize, u32)> {
        let marks = self.marks.get(text.as_bytes().first()?)?;
        let found = marks.iter().find(|(mark, _, control)| (controls || !control) && text.starts_with(mark.as_str()));
        let (mark, id, control) = found?;
        let rest = text.get(mark.len()..)?;
        let takes_blanks = self.takes_blanks && *control && !LEAVE_BLANKS.contains(&mark.as_str());
        let left = if takes_blanks { rest.trim_start() } else { rest };
        Some((text.len() - left.len(), *id))
    }

    fn cut(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let written = self.normal.written(text);
        match &self.cutter {
            Cutter::Scores(scores) => scores.cut(&written, ids),
            Cutter::Likeliest(unigram) => {
                let tokens = unigram.tokenize(&written).map_err(invalid)?;
                ids.extend(tokens.iter().map(|token| token.id));
                Ok(())
            }
        }
    }
}

/// Pieces with scores: of all neighbours that are a piece together, those of the best score become one, the first of
/// them if several are as good, until there are none.
#[derive(Clone, Debug)]
pub(super) struct Scores {
    pieces: HashMap<Box<str>, (u32, f32)>,
    bytes: HashMap<u8, u32>,
    unknown: Option<u32>,
}

/// Neighbours that are a piece together.
#[derive(PartialEq)]
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Length of both when they were found: what has grown since is another pair.
    len: usize,
}

impl Eq for Pair {}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A part of the text, between others; of no length once it has become part of the one before.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    len: usize,
    before: Option<usize>,
    after: Option<usize>,
}

impl Scores {
    /// Pieces by their id.
    pub(super) fn new(pieces: impl Iterator<Item = (String, f32)>, unknown: Option<u32>) -> Self {
        let mut scores = Self { pieces: HashMap::new(), bytes: HashMap::new(), unknown };
        for (id, (piece, score)) in (0..).zip(pieces) {
            if let Some(byte) = named_byte(&piece) {
                scores.bytes.insert(byte, id);
            }
            scores.pieces.insert(piece.into(), (id, score));
        }
        scores
    }

    fn cut(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        let count = text.chars().count();
        let mut parts: Vec<Part> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, c))| Part {
                start,
                len: c.len_utf8(),
                before: index.checked_sub(1),
                after: (index + 1 < count).then_some(index + 1),
            })
            .collect();
        let mut pairs: BinaryHeap<Pair> =
            (1..count).filter_map(|right| self.pair(text, &parts, Some(right - 1), Some(right))).collect();
        while let Some(Pair { left, right, len, .. }) = pairs.pop() {
            let (Some(&first), Some(&second)) = (parts.get(left), parts.get(right)) else { continue };
            if first.len == 0 || second.len == 0 || first.len + second.len != len {
                continue;
            }
            if let Some(part) = parts.get_mut(left) {
                *part = Part { len, after: second.after, ..first };
            }
            if let Some(part) = parts.get_mut(right) {
                part.len = 0;
            }
            if let Some(part) = second.after.and_then(|after| parts.get_mut(after)) {
                part.before = Some(left);
            }
            pairs.extend(self.pair(text, &parts, first.before, Some(left)));
            pairs.extend(self.pair(text, &parts, Some(left), second.after));
        }
        for part in parts.iter().filter(|part| part.len > 0) {
            self.name(text.get(part.start..part.start + part.len).unwrap_or_default(), ids)?;
        }
        Ok(())
    }

    fn pair(&self, text: &str, parts: &[Part], left: Option<usize>, right: Option<usize>) -> Option<Pair> {
        let (left, right) = left.zip(right)?;
        let (first, second) = (parts.get(left)?, parts.get(right)?);
        let len = first.len + second.len;
        let (_, score) = self.pieces.get(text.get(first.start..first.start + len)?)?;
        Some(Pair { score: *score, left, right, len })
    }

    /// The id of a piece; those of its bytes, if it is none.
    fn name(&self, piece: &str, ids: &mut Vec<u32>) -> Result<()> {
        if let Some((id, _)) = self.pieces.get(piece) {
            ids.push(*id);
            return Ok(());
        }
        let bytes: Option<Vec<u32>> = piece.bytes().map(|byte| self.bytes.get(&byte).copied()).collect();
        match (bytes, self.unknown) {
            (Some(bytes), _) => ids.extend(bytes),
            (None, Some(unknown)) => ids.push(unknown),
            (None, None) => fail!(Argument, "no token spells {piece:?}, and none stands for the unknown"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(scores: &[(&str, f32)], normal: Normal) -> Pieces {
        let cutter = Scores::new(scores.iter().map(|&(piece, score)| (piece.to_owned(), score)), Some(0));
        let marks = [("<s>", 1, true), ("<s", 2, false)].map(|(text, id, control)| (text.to_owned(), id, control));
        Pieces::new(normal, Cutter::Scores(cutter), marks.into_iter(), false)
    }

    #[test]
    fn the_best_neighbours_become_one_first() {
        let scores = [
            ("<unk>", 0.0),
            ("<s>", 0.0),
            ("<0x63>", 0.0),
            ("▁", -9.0),
            ("a", -9.0),
            ("b", -9.0),
            ("ab", -2.0),
            ("ba", -1.0),
            ("▁ab", -3.0),
        ];
        let cut = |text, controls| {
            pieces(&scores, Normal { leading_blank: true, ..Normal::default() }).encode(text, controls).unwrap()
        };
        assert_eq!(cut("ab", false), [8]);
        assert_eq!(cut("aba", false), [3, 4, 7]);
        assert_eq!(cut("abab", false), [3, 4, 7, 5]);
        assert_eq!(cut("cé", false), [3, 2, 0]);
        assert_eq!(cut("<s>ab", true), [1, 8]);
        assert_eq!(cut("<s>", false), [2, 3, 0]);
        assert_eq!(cut("", true), [0; 0]);
    }

    #[test]
    fn blanks_are_written_once_if_they_shall_be() {
        let normal = Normal { single_blanks: true, leading_blank: true, characters: None };
        assert_eq!(normal.written("  a   b "), "▁a▁b");
        assert_eq!(normal.written("  "), "");
        assert_eq!(Normal::default().written(" a  b"), "▁a▁▁b");
    }
}
