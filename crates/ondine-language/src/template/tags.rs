//! Tags of transformers that the language of templates does not have.

/// The template with plain tags for those of transformers: `generation` marks what a model said, for training, and is a
/// block of its own. Lines end as jinja2 has them end.
pub(super) fn plain(source: &str) -> String {
    let source = &source.replace("\r\n", "\n").replace('\r', "\n");
    let mut plain = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at);
        plain.push_str(before);
        let Some(end) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(end);
        let inner = tag.get(2..).unwrap_or_default();
        let name = inner.trim_start_matches(['-', '+']).trim_end_matches('-').trim();
        match name {
            "generation" => plain.push_str(&tag.replacen(name, "with", 1)),
            "endgeneration" => plain.push_str(&tag.replacen(name, "endwith", 1)),
            _ => plain.push_str(tag),
        }
        rest = after;
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn what_marks_answers_is_a_block() {
        assert_eq!(
            plain("a{%- generation -%}b{% endgeneration %}{{ generation }}"),
            "a{%- with -%}b{% endwith %}{{ generation }}"
        );
        assert_eq!(plain("{% if x %}{% "), "{% if x %}{% ");
        assert_eq!(plain("a\r\nb\rc\n"), "a\nb\nc\n");
    }
}
