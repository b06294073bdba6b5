//! How byte-level vocabularies cut text into words before pairs are merged.
//!
//! A file of ggml names a way (`tokenizer.ggml.pre`) and does not say what it is. Each row holds the expressions of the
//! `tokenizer.json` that such files are made of. They are applied one after the other: what matches is cut out, and so
//! is what lies between.

use ondine_graph::{Result, fail};

/// A way to cut text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// What files call it.
    pub(super) names: &'static [&'static str],
    /// Regular expressions, applied in this order.
    pub(super) cuts: &'static [&'static str],
    /// True if a word that is a token is that token, whatever merges make of it.
    pub(super) whole_words: bool,
    /// True if texts begin with the token that says so, unless the file says otherwise.
    pub(super) begins: bool,
    /// True if texts end with the token that parts them, unless the file says otherwise.
    pub(super) separated: bool,
    /// How characters are written in the vocabulary.
    pub(super) letters: Letters,
}

/// How characters are written in a vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letters {
    /// One printable character for each byte, as GPT-2 has it.
    Bytes,
    /// As they are, with `▁` for a blank, and bytes `<0xAB>` for what no token holds.
    Spaces,
    /// As they are; blanks are lost.
    Plain,
}

const PLAIN: Words =
    Words { names: &[], cuts: &[], whole_words: false, begins: false, separated: false, letters: Letters::Bytes };

/// GPT-2's own.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const DIGIT: &str = r"\p{N}";
const THREE_DIGITS: &str = r"\p{N}{1,3}";
/// Digits in groups of three, counted from the end of the number.
const GROUPED_DIGITS: &str = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words end where small letters are followed by capitals; apostrophes stay with their word.
const CASED: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CASED_DIGIT: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const MARKED: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;
const CJK: &str = r"[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+";
const CJK_KOREAN: &str = r"[\x{4E00}-\x{9FA5}\x{0800}-\x{4E00}\x{AC00}-\x{D7FF}]+";
const ENDS_OF_LINES: &str = r"[\r\n]";
const BLOOM: &str = r" ?[^(\s|[.,!?…。，、।۔،])]+";
const LINES: &str = r"[^\n]+|\n+";

/// Every way that is known.
const ALL: &[Words] = &[
    Words {
        names: &[
            "llama3",
            "llama-v3",
            "llama-bpe",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        cuts: &[LLAMA3],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Words { names: &["dbrx", "smaug-bpe", "chatglm-bpe"], cuts: &[LLAMA3], ..PLAIN },
    Words { names: &["glm4", "glm5"], cuts: &[LLAMA3], whole_words: true, ..PLAIN },
    Words {
        names: &["jais-2"],
        cuts: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s{512}(?!\S)|\s{256}(?!\S)|\s{128}(?!\S)|\s{64}(?!\S)|\s{32}(?!\S)|\s{16}(?!\S)|\s{8}(?!\S)|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}",
        ],
        ..PLAIN
    },
    Words {
        names: &["deepseek-llm"],
        cuts: &[ENDS_OF_LINES, DEEPSEEK_LETTERS, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", CJK_KOREAN, r"\p{N}+"],
        ..PLAIN
    },
    Words {
        names: &["deepseek-coder"],
        cuts: &[ENDS_OF_LINES, r"\s?\p{L}+", r"\s?\p{P}+", CJK_KOREAN, DIGIT],
        ..PLAIN
    },
    Words {
        names: &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        cuts: &[THREE_DIGITS, CJK, MARKED],
        ..PLAIN
    },
    Words {
        names: &["spark2_5"],
        cuts: &[
            THREE_DIGITS,
            CJK,
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]|\s+(?!\S)|\s+"##,
            DIGIT,
        ],
        ..PLAIN
    },
    Words {
        names: &["youtu"],
        cuts: &[
            r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[\x{4E00}-\x{9FA5}\x{3040}-\x{309F}\x{30A0}-\x{30FF}]+",
            CASED_DIGIT,
        ],
        whole_words: true,
        ..PLAIN
    },
    Words { names: &["falcon"], cuts: &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"], ..PLAIN },
    Words {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell", "exaone", "minerva-7b", "mellum2"],
        cuts: &[DIGIT, GPT2],
        ..PLAIN
    },
    Words {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
        ],
        cuts: &[GPT2],
        ..PLAIN
    },
    Words { names: &["jina-v1-en", "jina-v2-code", "roberta-bpe"], cuts: &[GPT2], separated: true, ..PLAIN },
    Words {
        names: &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        cuts: &[QWEN2],
        ..PLAIN
    },
    Words {
        names: &["qwen35"],
        cuts: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Words { names: &["poro-chat", "bloom", "gpt3-finnish"], cuts: &[BLOOM], ..PLAIN },
    Words { names: &["viking"], cuts: &[BLOOM, DIGIT], ..PLAIN },
    Words {
        names: &["tekken"],
        cuts: &[
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: true,
        begins: true,
        ..PLAIN
    },
    Words {
        names: &["chameleon"],
        cuts: &[
            r"<sentinel:[0-9]+>",
            r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
            r"([\t\n]|    |  )",
            DIGIT,
            r"[\p{P}!-/:-@\[-`{-~]",
            GPT2,
        ],
        begins: true,
        ..PLAIN
    },
    Words { names: &["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], cuts: &[CASED], ..PLAIN },
    Words { names: &["granite-embed-multi-97m"], cuts: &[CASED], whole_words: true, ..PLAIN },
    Words { names: &["tiny_aya", "cohere2moe"], cuts: &[r"\d{1,3}(?=(?:\d{3})*\b)", CASED], ..PLAIN },
    Words {
        names: &["kimi-k2"],
        cuts: &[
            r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Words { names: &["superbpe"], cuts: &[GROUPED_DIGITS], ..PLAIN },
    Words {
        names: &["bailingmoe", "bailingmoe2", "llada-moe"],
        cuts: &[
            r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Words {
        names: &["seed-coder"],
        cuts: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Words {
        names: &["ufakzeka"],
        cuts: &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        ..PLAIN
    },
    Words {
        names: &["afmoe"],
        cuts: &[GROUPED_DIGITS, r"[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+", MARKED],
        ..PLAIN
    },
    Words { names: &["laguna"], cuts: &[LINES, QWEN2], ..PLAIN },
    Words {
        names: &["exaone-moe"],
        cuts: &[
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
        ],
        ..PLAIN
    },
    Words {
        names: &["minicpm5"],
        cuts: &[
            THREE_DIGITS,
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ],
        whole_words: true,
        ..PLAIN
    },
    // A run of ends of lines is a token of its own where there is one; merges would not find it.
    Words { names: &["gemma4", "granite-embed-multi-311m"], cuts: &[LINES], letters: Letters::Spaces, ..PLAIN },
    Words { names: &["sarvam-moe"], cuts: &[LINES], letters: Letters::Spaces, ..PLAIN },
    Words { names: &["whitespace"], cuts: &[r"\S+"], letters: Letters::Plain, ..PLAIN },
    Words { names: &["default", ""], cuts: &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"], ..PLAIN },
];

/// Letters of alphabets that have capitals.
const DEEPSEEK_LETTERS: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";

/// The way of this name.
///
/// # Errors
/// If there is none.
pub(super) fn find(name: &str) -> Result<Words> {
    match ALL.iter().find(|words| words.names.contains(&name)) {
        Some(words) => Ok(*words),
        None => fail!(
            Unsupported,
            "`tokenizer.ggml.pre` = {name:?} is not known here: text cannot be cut into words as the model has learned \
             it; use a folder with its tokenizer.json"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::{
        SplitDelimiterBehavior,
        pre_tokenizers::split::{Split, SplitPattern},
    };

    use super::*;

    #[test]
    fn every_expression_can_be_read_and_no_name_stands_twice() {
        let mut seen = HashSet::new();
        for words in ALL {
            assert!(words.names.iter().all(|name| seen.insert(name)), "{:?}", words.names);
            for cut in words.cuts {
                let pattern = SplitPattern::Regex((*cut).to_owned());
                Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap_or_else(|e| panic!("{cut}: {e}"));
            }
        }
        assert!(find("gpt-2").unwrap().cuts == [GPT2]);
        assert!(find("gpt-9").unwrap_err().to_string().contains("\"gpt-9\""));
    }
}
