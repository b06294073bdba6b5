//! In which language a text is.

use whatlang::Lang;

/// Words that Swahili sentences are held together by: the detector does not know the language.
const SWAHILI: &[&str] = &[
    "na", "ya", "wa", "kwa", "ni", "katika", "za", "la", "cha", "vya", "hii", "hiyo", "huu", "kama", "kuwa", "au",
    "pia", "sana", "lakini", "ili", "yake", "wake", "kila", "watu", "mtu", "hakuna", "kutoka", "ambayo", "ambao",
];

/// True if a text is in the language of this code (ISO 639-1), or nothing tells in which it is.
pub(super) fn is(text: &str, code: &str) -> bool {
    if !text.chars().any(char::is_alphabetic) {
        return true;
    }
    let text = text.to_lowercase();
    match whatlang::detect_lang(&text) {
        _ if code == "sw" => is_swahili(&text),
        Some(found) => short(found) == Some(code) && !(code != "sw" && is_swahili(&text)),
        None => true,
    }
}

/// True if one word of four is one that Swahili needs in every sentence.
fn is_swahili(text: &str) -> bool {
    let words: Vec<&str> = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).collect();
    let known = words.iter().filter(|word| SWAHILI.contains(word)).count();
    known * 4 >= words.len()
}

/// The short code of a language.
fn short(language: Lang) -> Option<&'static str> {
    Some(match language {
        Lang::Ara => "ar",
        Lang::Ben => "bn",
        Lang::Bul => "bg",
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fin => "fi",
        Lang::Fra => "fr",
        Lang::Guj => "gu",
        Lang::Heb => "he",
        Lang::Hin => "hi",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kan => "kn",
        Lang::Kor => "ko",
        Lang::Mal => "ml",
        Lang::Mar => "mr",
        Lang::Nep => "ne",
        Lang::Pan => "pa",
        Lang::Pes => "fa",
        Lang::Pol => "pl",
        Lang::Por => "pt",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Tam => "ta",
        Lang::Tel => "te",
        Lang::Tha => "th",
        Lang::Ukr => "uk",
        Lang::Urd => "ur",
        Lang::Vie => "vi",
        _ => return None,
    })
}
