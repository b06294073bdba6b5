//! Prompts that are made of several: `one AND other :0.5`, `{this|that}`, `<lora:name:0.8>`.

use ondine_graph::{Context, Result, fail};

use super::attention::split_word;

/// The prompts that a text composes, with their weights (Liu et al. 2022, as A1111 writes it).
#[must_use]
pub fn composed(text: &str) -> Vec<(String, f64)> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = split_word(rest, "AND") {
        parts.push(before);
        rest = after;
    }
    parts.push(rest);
    let alone = parts.len() == 1;
    let weighed = |part: &&str| {
        let weight = part.trim_end().rsplit_once(':').and_then(|(text, weight)| {
            let weight = weight.trim();
            let plain = weight.trim_start_matches(['-', '+']).chars().all(|c| c.is_ascii_digit() || c == '.');
            // What stands alone may end with a time or a ratio, `at 10:30`.
            let told = !alone || !text.ends_with(|c: char| c.is_ascii_digit());
            let weight: f64 = weight.parse().ok().filter(|_| plain && told)?;
            Some((text.trim().to_owned(), weight))
        });
        weight.unwrap_or_else(|| (part.trim().to_owned(), 1.0))
    };
    parts.iter().map(weighed).collect()
}

/// The text with one of the choices in each `{this|that}`, by a seed; they may stand in each other, and a backslash
/// makes braces letters.
#[must_use]
pub fn chosen(text: &str, seed: u64) -> String {
    let mut text = text.to_owned();
    let mut state = seed;
    // The innermost first: what is chosen may stand in a choice itself.
    while let Some((from, to)) = innermost(&text) {
        let inside = &text[from + 1..to];
        let choices: Vec<&str> = inside.split('|').collect();
        let choice = choices[(next(&mut state) % choices.len() as u64) as usize].to_owned();
        text.replace_range(from..=to, &choice);
    }
    text
}

/// The braces of the first choice that holds no other.
fn innermost(text: &str) -> Option<(usize, usize)> {
    let (mut open, mut bar, mut escaped) = (None, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if std::mem::take(&mut escaped) => {}
            '\\' => escaped = true,
            '{' => (open, bar) = (Some(at), false),
            '|' => bar = true,
            '}' => match open.take() {
                Some(from) if bar => return Some((from, at)),
                _ => {}
            },
            _ => {}
        }
    }
    None
}

/// The next number of a stream (`SplitMix64`, Steele et al. 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// An adapter that a prompt names.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its name.
    pub name: String,
    /// Strength in the U-Net.
    pub unet: f32,
    /// Strength in text encoders.
    pub text: f32,
}

/// The text without `<lora:name:0.8>` and its kin, and the adapters that they name. One number is for all networks, of
/// two the first is for text encoders.
///
/// # Errors
/// A mark of that kind that names nothing, has no end, or a strength that is no number.
pub fn adapters(text: &str) -> Result<(String, Vec<Named>)> {
    let (mut plain, mut named, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, tag)) = rest.split_once('<') {
        plain.push_str(before);
        let start =
            tag.split_once(':').filter(|(kind, _)| ["lora", "lyco"].iter().any(|it| it.eq_ignore_ascii_case(kind)));
        let Some((kind, mark)) = start else {
            plain.push('<');
            rest = tag;
            continue;
        };
        let Some((inside, after)) = mark.split_once('>') else {
            let shown: String = tag.chars().take(40).collect();
            fail!(Argument, "`<{shown}` has no end: write it as <{kind}:name:0.8>");
        };
        named.push(adapter(inside).at(|| format!("`<{kind}:{inside}>`"))?);
        rest = after;
    }
    plain.push_str(rest);
    Ok((plain, named))
}

/// The adapter that a mark names, whose kind is taken off.
fn adapter(inside: &str) -> Result<Named> {
    let mut parts = inside.split(':');
    let name = parts.next().unwrap_or_default().trim().to_owned();
    if name.is_empty() {
        fail!(Argument, "it names no adapter");
    }
    let (mut text, mut unet, mut place) = (None, None, 0);
    for part in parts {
        let number = |text: &str| match text.trim().parse::<f32>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => fail!(Argument, "`{text}` is no strength; give a number such as 0.8"),
        };
        match part.split_once('=') {
            Some(("te", value)) => text = Some(number(value)?),
            Some(("unet", value)) => unet = Some(number(value)?),
            Some(_) => {}
            None => {
                match place {
                    0 => text = Some(number(part)?),
                    1 => unet = Some(number(part)?),
                    _ => {}
                }
                place += 1;
            }
        }
    }
    let text = text.unwrap_or(1.0);
    Ok(Named { name, unet: unet.unwrap_or(text), text })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_composed() {
        assert_eq!(composed("a cat"), [("a cat".to_owned(), 1.0)]);
        assert_eq!(
            composed("a cat :1.2 AND a dog AND sand: -0.5"),
            [("a cat".to_owned(), 1.2), ("a dog".to_owned(), 1.0), ("sand".to_owned(), -0.5)]
        );
        assert_eq!(composed("LAND and SANDY").len(), 1);
        assert_eq!(composed("a cat :1.5"), [("a cat".to_owned(), 1.5)]);
        for text in ["a cat:", "a (cat:1.5)", "a cat :inf", "a cat :1e2", "a clock at 10:30", "a photo, 16:9"] {
            assert_eq!(composed(text), [(text.to_owned(), 1.0)]);
        }
    }

    #[test]
    fn choices_follow_the_seed() {
        let texts: std::collections::BTreeSet<_> =
            (0..64).map(|seed| chosen("a {red|{light|dark} blue} cat", seed)).collect();
        assert_eq!(texts.into_iter().collect::<Vec<_>>(), ["a dark blue cat", "a light blue cat", "a red cat"]);
        assert_eq!(chosen("a {cat} {", 1), "a {cat} {");
        assert_eq!(chosen(r"\{a|b\}", 1), r"\{a|b\}");
        assert_eq!(chosen("{a|b}", 7), chosen("{a|b}", 7));
    }

    #[test]
    fn adapters_are_taken_out() {
        let (text, named) = adapters("a cat <lora:Ink:0.8>, <lyco:x:0.5:0.7> <LORA:y> <b> <hypernet:z:1>").unwrap();
        assert_eq!(text, "a cat ,   <b> <hypernet:z:1>");
        let of = |name: &str, unet, text| Named { name: name.to_owned(), unet, text };
        assert_eq!(named, [of("Ink", 0.8, 0.8), of("x", 0.7, 0.5), of("y", 1.0, 1.0)]);
        assert_eq!(adapters("1 < 2 > 0").unwrap().0, "1 < 2 > 0");
        assert_eq!(adapters("<lora:a:unet=0.2:te=0.1>").unwrap().1, [of("a", 0.2, 0.1)]);
        for (text, told) in [
            ("<lora:a:abc>", "`abc` is no strength"),
            ("<lora:a:1,0>", "`<lora:a:1,0>`: `1,0` is no strength"),
            ("a <lora:a:1", "`<lora:a:1` has no end"),
            ("<lora: :1>", "names no adapter"),
            ("<lora:a:te=x>", "`x` is no strength"),
        ] {
            let error = adapters(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
