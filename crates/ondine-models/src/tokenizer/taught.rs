//! Words that were taught, in the place that they have in a text.

/// What stands before the names of embeddings in the prompts of some tools.
const MARK: &str = "embedding:";

/// The text with other letters in every place of a word, if it has one.
pub(super) fn with_word(text: &str, word: &str, instead: &str) -> Option<String> {
    let is_letter = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let stands_at = |at: usize| {
        let found = text.get(at..at + word.len())?;
        let touches = is_letter(text[..at].chars().next_back()) && is_letter(word.chars().next())
            || is_letter(text[at + word.len()..].chars().next()) && is_letter(word.chars().next_back());
        (found.eq_ignore_ascii_case(word) && !touches).then_some(())
    };
    let (mut written, mut done, mut at) = (String::new(), 0, 0);
    while at < text.len() {
        if stands_at(at).is_some() {
            let before = &text[done..at];
            let kept = before
                .len()
                .checked_sub(MARK.len())
                .filter(|&kept| before.get(kept..).is_some_and(|mark| mark.eq_ignore_ascii_case(MARK)));
            written.push_str(&before[..kept.unwrap_or(before.len())]);
            written.push(' ');
            written.push_str(instead);
            written.push(' ');
            at += word.len();
            done = at;
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    (done > 0).then(|| written + &text[done..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_where_they_stand_alone() {
        for (text, found) in [
            ("a cat, b", Some("a  X , b")),
            ("Cat", Some(" X ")),
            ("a (embedding:CAT:1.2)", Some("a ( X :1.2)")),
            ("category, concat", None),
            ("cats cat", Some("cats  X ")),
            ("é cat é", Some("é  X  é")),
            ("écat", None),
            ("", None),
        ] {
            assert_eq!(with_word(text, "cat", "X").as_deref(), found, "{text}");
        }
        assert_eq!(with_word("a<cat-toy>s", "<cat-toy>", "X").as_deref(), Some("a X s"));
    }
}
