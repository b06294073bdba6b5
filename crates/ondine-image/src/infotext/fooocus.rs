//! The JSON that Fooocus writes as `parameters`, unless it is told to write as A1111 does.

use serde_json::{Map, Value};

/// Its keys that have a key of A1111, each with that.
const KEYS: [(&str, &str); 9] = [
    ("steps", "Steps"),
    ("sampler", "Sampler"),
    ("scheduler", "Schedule type"),
    ("guidance_scale", "CFG scale"),
    ("seed", "Seed"),
    ("base_model", "Model"),
    ("version", "Version"),
    ("clip_skip", "Clip skip"),
    ("refiner_model", "Refiner"),
];

/// What such JSON tells.
pub(super) struct Told {
    pub(super) prompt: String,
    pub(super) negative_prompt: String,
    /// The rest, by the keys of A1111.
    pub(super) pairs: Vec<(String, String)>,
}

/// Reads a text that is such JSON.
pub(super) fn read(text: &str) -> Option<Told> {
    let options =
        text.trim().strip_prefix('{').and_then(|_| serde_json::from_str::<Map<String, Value>>(text.trim()).ok())?;
    let of = |key: &str| options.get(key).map(written).filter(|value| !value.is_empty() && value != "None");
    let prompt = options.get("prompt")?.as_str()?.to_owned();
    let mut pairs = Vec::new();
    let mut tell = |key: &str, value: String| pairs.push((key.to_owned(), value));
    for (key, own) in KEYS {
        if let Some(value) = of(key) {
            tell(own, value);
        }
    }
    // `(1024, 768)`
    if let Some(size) = of("resolution") {
        tell("Size", size.trim_matches(['(', ')', '[', ']']).replace(", ", "x").replace(',', "x"));
    }
    if let Some(styles) = of("styles").filter(|styles| styles != "[]") {
        tell("Styles", styles);
    }
    let is_lora = |key: &&String| key.starts_with("lora_combined") || key.as_str() == "loras";
    if let Some(loras) = options.keys().find(is_lora).and_then(|key| of(key)).filter(|loras| loras != "[]") {
        tell("Lora", loras);
    }
    // It draws its noise on the processor, whatever it computes on.
    tell("RNG", "CPU".to_owned());
    Some(Told { prompt, negative_prompt: of("negative_prompt").unwrap_or_default(), pairs })
}

/// A value as a text; one of a text is that.
fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use crate::infotext::Infotext;

    #[test]
    fn json_of_fooocus_is_read() {
        let text = r#"{"prompt": "a cat", "negative_prompt": "bad", "steps": 30, "seed": "18446744073709551615",
            "sampler": "dpmpp_2m_sde_gpu", "scheduler": "karras", "resolution": "(1152, 896)", "guidance_scale": 4.5,
            "base_model": "juggernaut", "refiner_model": "None", "styles": "['Fooocus V2']", "version": "Fooocus v2.5.5"}"#;
        let infotext = Infotext::parse(text);
        assert_eq!((infotext.prompt.as_str(), infotext.negative_prompt.as_str()), ("a cat", "bad"));
        assert_eq!((infotext.steps, infotext.seed), (Some(30), Some(u64::MAX)));
        assert_eq!(
            (infotext.sampler.as_deref(), infotext.schedule.as_deref()),
            (Some("dpmpp_2m_sde_gpu"), Some("karras"))
        );
        assert_eq!((infotext.size, infotext.cfg_scale), (Some((1152, 896)), Some(4.5)));
        let extra: Vec<&str> = infotext.extra.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(extra, ["Styles", "RNG"]);
        assert_eq!(Infotext::parse(r#"{"a": 1} cat"#).prompt, r#"{"a": 1} cat"#, "no JSON");
        assert_eq!(Infotext::parse(r#"{"steps": 1}"#).prompt, r#"{"steps": 1}"#, "no prompt");
    }
}
