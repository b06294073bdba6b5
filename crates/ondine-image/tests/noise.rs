//! Noise against the bits of torch and numpy.
//!
//! `data/noise.json` comes from `python/golden/schedulers.py`.

use std::path::Path;

use ondine_image::noise::{Generator, NoiseSource};
use serde_json::Value;

fn golden() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/noise.json");
    let text = std::fs::read_to_string(path).expect("the repository's own golden data");
    serde_json::from_str(&text).expect("golden data is JSON")
}

fn draw(source: &mut dyn NoiseSource, count: usize) -> Vec<u32> {
    let mut values = vec![0.0f32; count];
    source.normal(&mut values);
    values.into_iter().map(f32::to_bits).collect()
}

fn check(generator: Generator, streams: &Value) {
    for stream in streams.as_array().expect("streams") {
        let seed = stream["seed"].as_u64().expect("a seed");
        let mut source = generator.seeded(seed);
        for (number, expected) in stream["draws"].as_array().expect("draws").iter().enumerate() {
            let expected: Vec<u32> = serde_json::from_value(expected.clone()).expect("bits of float32");
            let found = draw(source.as_mut(), expected.len());
            assert_eq!(found, expected, "{generator}, seed {seed}, draw {number}");
        }
    }
}

#[test]
fn torch_streams_have_the_same_bits() {
    check(Generator::TorchCpu, &golden()["torch"]);
}

#[test]
fn philox_streams_have_the_same_bits() {
    check(Generator::Philox, &golden()["philox"]);
}

#[test]
fn numpy_streams_have_the_same_bits() {
    check(Generator::NumPy, &golden()["numpy"]);
}

#[test]
fn long_torch_draws_have_the_same_bits() {
    let mut source = Generator::TorchCpu.seeded(7);
    for expected in golden()["torch_long"].as_array().expect("draws") {
        let count = expected["count"].as_u64().expect("a count") as usize;
        let found = draw(source.as_mut(), count);
        let sum = (1u64..)
            .zip(found)
            .fold(0u64, |sum, (position, bits)| sum.wrapping_add(position.wrapping_mul(bits.into())));
        assert_eq!(Some(sum), expected["checksum"].as_u64(), "{count} values");
    }
}

#[test]
fn seeds_are_cut_to_32_bits_but_for_philox() {
    let first = |generator: Generator, seed: u64| draw(generator.seeded(seed).as_mut(), 16);
    for generator in [Generator::TorchCpu, Generator::NumPy] {
        assert_eq!(first(generator, 5), first(generator, (1 << 32) + 5));
    }
    assert_ne!(first(Generator::Philox, 5), first(Generator::Philox, (1 << 32) + 5));
}

#[test]
fn generators_have_names() {
    for (name, expected) in [("CPU", "torch"), ("NV", "philox"), ("gpu", "philox"), ("numpy", "numpy")] {
        let generator: Generator = name.parse().expect("a known name");
        assert_eq!(generator.to_string(), expected);
    }
    let error = "dice".parse::<Generator>().expect_err("an unknown name");
    assert!(error.to_string().contains("dice"));
}
