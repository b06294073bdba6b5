//! Holds a short conversation: `cargo run --release --example conversation -- MODEL`.
//!
//! MODEL is a GGUF file, a folder as transformers saves it, or a name from `ondine models list`.

use std::io::Write;

use ondine::{
    language::{Chat, Event, Model, model::Settings, sample::Sampling, session::Options},
    model,
    runtime::Device,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| ondine::catalog::LANGUAGE.to_owned());
    let model = Model::open(&model::language(&name)?, Settings::default(), &Device::cpu(None)?, None)?;

    let mut chat = Chat::new(&model, Some("You answer in one sentence."))?;
    let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: 7, ..Sampling::default() };
    let options = Options { sampling, max_tokens: Some(60), ..Options::default() };
    for question in ["What is the capital of France?", "And what is it known for?"] {
        println!("> {question}");
        let answer = chat.ask(question, &options, &mut |event| {
            if let Event::Text(text) = event {
                print!("{text}");
                let _ = std::io::stdout().flush();
            }
        })?;
        let usage = answer.usage;
        println!("\n  [{} of {} tokens remembered, {:?}]", usage.cached_tokens, usage.prompt_tokens, answer.reason);
    }
    Ok(())
}
