//! Characters that SentencePiece writes as others: a table of texts, found by a double array of their bytes.

use ondine_graph::{Result, fail};

/// A table of texts and what is written for them.
#[derive(Clone, Debug)]
pub(super) struct Characters {
    units: Vec<u32>,
    /// What is written, each text with a zero behind it.
    written: Vec<u8>,
}

impl Characters {
    /// Reads a table; none, if there are no bytes.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let parts = bytes.split_first_chunk().and_then(|(len, rest)| {
            let len = usize::try_from(u32::from_le_bytes(*len)).ok().filter(|len| len % 4 == 0)?;
            rest.split_at_checked(len)
        });
        let Some((units, written)) = parts else { fail!(Format, "the table of characters is cut off") };
        let (units, _) = units.as_chunks();
        Ok(Some(Self {
            units: units.iter().map(|unit| u32::from_le_bytes(*unit)).collect(),
            written: written.to_vec(),
        }))
    }

    /// The text with others for what the table has, the longest first.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let found = self.longest(rest.as_bytes()).filter(|(len, _)| rest.is_char_boundary(*len));
            let (len, instead) = match found {
                Some((len, instead)) => (len, Some(instead)),
                None => (c.len_utf8(), None),
            };
            let (own, after) = rest.split_at(len);
            out.push_str(instead.unwrap_or(own));
            rest = after;
        }
        out
    }

    /// The longest text of the table that `bytes` begin with: its length, and what is written for it.
    fn longest(&self, bytes: &[u8]) -> Option<(usize, &str)> {
        // A unit holds the byte that leads to it, whether a text ends there, and where its followers are.
        let followers = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = followers(*self.units.first()?);
        let mut best = None;
        for (index, &byte) in bytes.iter().enumerate() {
            node ^= usize::from(byte);
            let Some(&unit) = self.units.get(node) else { break };
            if unit & (1 << 31 | 0xff) != u32::from(byte) {
                break;
            }
            node ^= followers(unit);
            if unit & (1 << 8) != 0 {
                let at = self.units.get(node).map(|unit| (unit & 0x7fff_ffff) as usize);
                let text = at.and_then(|at| self.written.get(at..)?.split(|byte| *byte == 0).next());
                best = text.and_then(|text| std::str::from_utf8(text).ok()).map(|text| (index + 1, text)).or(best);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_whole_table_is_refused_and_a_strange_one_changes_nothing() {
        assert!(Characters::read(&[]).unwrap().is_none());
        for bytes in [&[1][..], &[8, 0, 0, 0, 1], &[3, 0, 0, 0, 1, 2, 3]] {
            assert!(Characters::read(bytes).is_err(), "{bytes:?}");
        }
        let strange = Characters::read(&[4, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, b'x', 0]).unwrap().unwrap();
        assert_eq!(strange.apply("a猫"), "a猫");
    }
}
