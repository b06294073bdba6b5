//! The `parameters` text against A1111's own regular expression, and against itself.
//!
//! `data/infotext.json` comes from `python/golden/schedulers.py`.

use std::path::Path;

use ondine_image::infotext::{Infotext, pairs};
use serde_json::Value;

#[test]
fn texts_read_as_a1111_reads_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/infotext.json");
    let text = std::fs::read_to_string(path).expect("the repository's own golden data");
    let golden: Value = serde_json::from_str(&text).expect("golden data is JSON");
    for case in golden.as_array().expect("cases") {
        let text = case["text"].as_str().expect("a text");
        let infotext = Infotext::parse(text);
        assert_eq!(infotext.prompt, case["prompt"].as_str().unwrap_or_default(), "{text:?}");
        assert_eq!(infotext.negative_prompt, case["negative"].as_str().unwrap_or_default());
        let expected: Vec<(String, String)> = serde_json::from_value(case["pairs"].clone()).expect("pairs");
        let last = text.trim().lines().last().unwrap_or_default();
        let found = pairs(last);
        if found.len() >= 3 {
            assert_eq!(found, expected, "{text:?}");
        } else {
            assert!(expected.is_empty(), "{text:?}");
        }
    }
}

#[test]
fn the_usual_text() {
    let text = "a cat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Schedule type: Automatic, \
                CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 6ce0161689, \
                Model: v1-5-pruned-emaonly, Version: v1.10.1";
    let infotext = Infotext::parse(text);
    assert_eq!(infotext.size, Some((512, 512)));
    assert_eq!(infotext.cfg_scale, Some(7.0));
    assert_eq!(infotext.to_string(), text);
}

/// A small generator of numbers, so that failures repeat.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % limit
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        let count = self.below(most + 1);
        (0..count).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

/// Pieces that the format gives a meaning to, and some that it does not.
const PIECES: [&str; 16] =
    ["a", "cat ", "\n", ", ", ":", "Steps: 1", "\"", "\\", "(x:1.2)", "猫", "🐱", "é", "/", "-", "1x2", " "];

/// What reading keeps of a prompt: lines without outer blanks, no empty lines in front.
fn kept(text: &str) -> String {
    let lines: Vec<&str> = text.trim().split('\n').map(str::trim).collect();
    lines.join("\n")
}

#[test]
fn what_is_written_reads_back() {
    let mut dice = Dice(1);
    for round in 0..3000 {
        let option = |dice: &mut Dice| (dice.below(3) > 0).then(|| dice.text(&PIECES, 4));
        let infotext = Infotext {
            prompt: kept(&dice.text(&PIECES, 12)),
            negative_prompt: kept(&dice.text(&PIECES, 6)),
            steps: Some(dice.below(1000) as u32),
            sampler: Some("DPM++ 2M".to_owned()),
            schedule: option(&mut dice),
            cfg_scale: Some(dice.below(100) as f64 / 8.0),
            seed: Some(dice.below(1 << 30) as u64),
            size: Some((dice.below(4096) as u32, 64)),
            model_hash: None,
            model: option(&mut dice),
            extra: vec![("Lora hashes".to_owned(), dice.text(&PIECES, 6))],
            version: option(&mut dice),
        };
        let text = infotext.to_string();
        assert_eq!(Infotext::parse(&text), infotext, "round {round}: {text}");
    }
}

#[test]
fn any_text_reads_in_linear_time() {
    let mut dice = Dice(2);
    for _ in 0..3000 {
        let text = dice.text(&PIECES, 30);
        let _ = Infotext::parse(&text).to_string();
    }
    for piece in ["a", "-", "- ", "a:", "ab:", "\"", "\\\"", "ab: \"\\", " ", ",", "Negative prompt:\n"] {
        let _ = Infotext::parse(&piece.repeat(200_000));
    }
}
