//! Prompts as A1111 parses them, held to recorded parses where they are at hand.

use std::path::{Path, PathBuf};

use ondine_image::prompt::attention::{Span, spans};
use serde_json::Value;

/// Rounding in the order of the products.
const NEAR: f64 = 1e-12;

#[test]
fn weights_are_those_of_a1111() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::var_os("ONDINE_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let Ok(text) = std::fs::read_to_string(folder.join("golden/prompt_attention_golden.json")) else {
        eprintln!("skipped: no prompt_attention_golden.json");
        return;
    };
    let cases: Vec<(String, Vec<(String, f64)>)> = serde_json::from_str(&text).expect("a list of prompts and parses");
    assert!(cases.len() >= 20, "{} cases", cases.len());
    for (prompt, expected) in cases {
        let found: Vec<(String, f64)> = spans(&prompt)
            .into_iter()
            .map(|span| match span {
                Span::Text(text, weight) => (text, weight),
                Span::Break => ("BREAK".to_owned(), -1.0),
            })
            .collect();
        let near = found.len() == expected.len()
            && found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < NEAR);
        assert!(near, "{prompt:?}: {found:?}, expected {expected:?}; {}", Value::from(prompt.clone()));
    }
}
