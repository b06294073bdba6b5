//! Texts that end an answer: nothing of them is handed out, also where they come in pieces.

/// Hands out text as it comes, up to the first of some texts.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    texts: Vec<String>,
    held: String,
    reached: bool,
}

impl Stop {
    /// Ends at any of `texts`; empty ones are none.
    #[must_use]
    pub fn at(texts: &[String]) -> Self {
        Self { texts: texts.iter().filter(|text| !text.is_empty()).cloned().collect(), ..Self::default() }
    }

    /// What can be handed out now that `text` has come: all that can no longer be the beginning of a text to end at.
    pub fn push(&mut self, text: &str) -> String {
        if self.reached {
            return String::new();
        }
        self.held.push_str(text);
        if let Some(at) = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min() {
            self.reached = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let begins = |rest: &str| self.texts.iter().any(|text| text.starts_with(rest));
        let at = self.held.char_indices().map(|(at, _)| at).find(|&at| self.held.get(at..).is_some_and(begins));
        let rest = self.held.split_off(at.unwrap_or(self.held.len()));
        std::mem::replace(&mut self.held, rest)
    }

    /// What was held back and is none of the texts, now that no more comes.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// True once a text to end at has come.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_way_to_split_a_text_ends_at_the_same_place() {
        let text = "a<b<bc>d\n\nUser: x";
        let ends = ["<bc>".to_owned(), "\n\nUser".to_owned(), String::new()];
        for (stops, wanted) in [(&ends[..1], "a<b"), (&ends[1..], "a<b<bc>d"), (&ends[2..], text), (&ends[..], "a<b")] {
            for width in 1..=text.len() {
                let mut stop = Stop::at(stops);
                let parts = text.as_bytes().chunks(width).map(|part| std::str::from_utf8(part).unwrap());
                let mut found: String = parts.map(|part| stop.push(part)).collect();
                found.push_str(&stop.finish());
                assert_eq!(found, wanted, "{stops:?} in pieces of {width}");
                assert_eq!(stop.is_reached(), wanted != text);
            }
        }
    }
}
