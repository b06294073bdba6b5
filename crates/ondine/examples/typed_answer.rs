//! Asks for an answer as JSON of a schema: `cargo run --release --example typed_answer -- MODEL`.
//!
//! MODEL is a GGUF file, a folder as transformers saves it, or a name from `ondine models list`.

use std::sync::Arc;

use ondine::{
    language::{Chat, Model, guide::Grammar, model::Settings, session::Options},
    model,
    runtime::Device,
};

const SCHEMA: &str = r#"{
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "legs": {"type": "integer", "minimum": 0, "maximum": 8},
        "eats": {"type": "array", "items": {"enum": ["grass", "meat", "fish", "seeds"]}, "minItems": 1, "maxItems": 3}
    },
    "required": ["name", "legs", "eats"],
    "additionalProperties": false
}"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| ondine::catalog::LANGUAGE.to_owned());
    let model = Model::open(&model::language(&name)?, Settings::default(), &Device::cpu(None)?, None)?;

    // What the schema says cannot be held is an error before anything is asked.
    let grammar = Some(Arc::new(Grammar::schema(SCHEMA)?));
    let options = Options { grammar, max_tokens: Some(200), ..Options::default() };
    let mut chat = Chat::new(&model, Some("You describe animals."))?;
    for animal in ["a cow", "a penguin"] {
        let answer = chat.ask(&format!("Describe {animal}."), &options, &mut |_| {})?;
        if !answer.complete {
            return Err(format!("cut after {} tokens", answer.usage.output_tokens).into());
        }
        println!("{animal}: {}", answer.text);
        println!("  [{} of {} tokens had no choice]", answer.usage.forced_tokens, answer.usage.output_tokens);
    }
    Ok(())
}
