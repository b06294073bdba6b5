//! Adapters against logits that peft computed: `tests/data/adapters`, made by `python/golden/adapters.py` for the model
//! `tests/data/language/llama`.

use std::path::{Path, PathBuf};

use ondine_graph::{Asset, ErrorKind, NDArray, Result, Weights};
use ondine_models::{
    Adapter, Network, Source,
    adapter::{Applied, Rows},
    gguf::Gguf,
    transformer,
};
use ondine_runtime::{Device, Options, Precision, Specialize, State};

/// The largest error allowed, relative to the largest number of the golden tensor.
const TOLERANCE: f64 = 1e-5;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn folder() -> Result<(Asset, Rows)> {
    let network = Network::open(&Source::folder(&data("language/llama"))?, "", None)?;
    let config = transformer::Config::from_json(&network.config)?;
    Ok((network.asset(Default::default())?, Rows::of(&config, false)))
}

fn file() -> Result<(Asset, Rows)> {
    let gguf = Gguf::open(&data("adapters/model.gguf"))?;
    let (config, _) = transformer::Config::from_gguf(&gguf)?;
    Ok((transformer::asset(&gguf)?, Rows::of(&config, true)))
}

/// The error of the model with adapters, relative to the largest number.
fn error(asset: &Asset, wanted: &str, precision: Precision) -> Result<f64> {
    let golden = Weights::open(&data("adapters/logits.safetensors"))?;
    let model =
        asset.only("logits")?.specialize(&Options { precision, ..Options::default() }, &Device::cpu(None)?, None)?;
    let (ids, past) = (golden.array("input_ids")?, NDArray::scalar(0_i64));
    let function = model.load()?.function("logits")?;
    let logits = function.run(&[("input_ids", &ids), ("past", &past)], &mut State::default())?.take("logits")?.to_f32();
    let wanted = golden.to_f32(wanted)?;
    assert_eq!(logits.len(), wanted.len());
    let largest = wanted.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let worst = logits.iter().zip(&*wanted).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    Ok(f64::from(worst / largest))
}

fn adapted(base: &(Asset, Rows), adapters: &[(&str, f32)]) -> Result<(Asset, Vec<Applied>)> {
    let mut applied = Vec::new();
    let asset = adapters.iter().try_fold(base.0.clone(), |asset, (name, weight)| {
        let (asset, what) = Adapter::open(&data("adapters").join(name))?.apply(&asset, *weight, base.1)?;
        applied.push(what);
        Ok::<_, ondine_graph::Error>(asset)
    })?;
    Ok((asset, applied))
}

#[test]
fn adapters_change_models_as_peft_does() -> Result<()> {
    for base in [folder()?, file()?] {
        assert!(error(&base.0, "plain", Precision::F32)? < TOLERANCE);
        let cases: [(&[(&str, f32)], &str); 4] = [
            (&[("patterns", 1.0)], "patterns"),
            (&[("rooted", 1.0)], "rooted"),
            (&[("rooted.gguf", 1.0)], "rooted"),
            (&[("patterns", 1.0), ("rooted", 0.5)], "both"),
        ];
        for (adapters, wanted) in cases {
            let (asset, applied) = adapted(&base, adapters)?;
            for what in applied {
                assert!(what.applied == what.total && what.applied > 0 && what.unapplied.is_empty(), "{what:?}");
            }
            let wrong = error(&asset, wanted, Precision::F32)?;
            assert!(wrong < TOLERANCE, "{adapters:?}: {wrong:.1e} off");
        }
        let (asset, _) = adapted(&base, &[("patterns", 0.0)])?;
        assert!(error(&asset, "plain", Precision::F32)? < TOLERANCE);
    }
    Ok(())
}

#[test]
fn a_base_in_fewer_bits_keeps_its_format() -> Result<()> {
    for base in [folder()?, file()?] {
        // The other adapter turns everything round, and so what rounding makes of it.
        let (asset, _) = adapted(&base, &[("patterns", 1.0)])?;
        let wrong = error(&asset, "patterns", Precision::BF16)?;
        assert!(wrong < 0.15, "{wrong:.1e} off");
        assert!(error(&asset, "plain", Precision::BF16)? > 3.0 * wrong, "the adapter changes something");
    }
    Ok(())
}

#[test]
fn adapters_of_other_models_are_refused() -> Result<()> {
    let other = Network::open(&Source::folder(&data("language/granite"))?, "", None)?;
    let rows = Rows::of(&transformer::Config::from_json(&other.config)?, false);
    let asset = other.asset(Default::default())?;
    let adapter = Adapter::open(&data("adapters/rooted"))?;
    let refused = adapter.apply(&asset, 1.0, rows).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Shape, "{refused}");
    assert!(refused.to_string().contains("_proj.weight"), "{refused}");
    let missing = Adapter::open(&data("language/llama")).unwrap_err();
    assert!(missing.to_string().contains("adapter_config.json"), "{missing}");
    Ok(())
}
