//! Language models in GGUF files against logits that transformers computed of the numbers in their blocks:
//! `tests/data/gguf`, made by `python/golden/language_gguf.py`.

use std::path::{Path, PathBuf};

use ondine_graph::{NDArray, Result, Weights};
use ondine_models::{gguf::Gguf, transformer};
use ondine_runtime::{Device, Function, Options, Precision, Specialize, State};

/// The largest error allowed, relative to the largest number of the golden tensor.
const TOLERANCE: f64 = 1e-5;

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/gguf");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    files.sort();
    files
}

fn call(function: &Function, ids: &[i64], past: usize, state: &mut State) -> Result<Vec<f32>> {
    let (ids, past) = (NDArray::new(&[ids.len()], ids)?, NDArray::scalar(past as i64));
    let logits = function.run(&[("input_ids", &ids), ("past", &past)], state)?.take("logits")?;
    Ok(logits.to_f32())
}

fn error(values: &[f32], golden: &[f32]) -> f64 {
    assert_eq!(values.len(), golden.len());
    let largest = golden.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let worst = values.iter().zip(golden).map(|(a, b)| (a - b).abs()).fold(0.0_f32, f32::max);
    assert!(values.iter().all(|x| x.is_finite()));
    f64::from(worst / largest)
}

#[test]
fn experts_in_blocks_compute_what_transformers_computes() -> Result<()> {
    let mut count = 0;
    for file in files() {
        let golden = Weights::open(&file.with_extension("safetensors"))?;
        let ids = golden.array("input_ids")?.view::<i64>()?.to_vec();
        let wanted = golden.to_f32("logits")?;
        let asset = transformer::asset(&Gguf::open(&file)?)?;
        let name = file.display();
        for (precision, tolerance) in [(Precision::F32, TOLERANCE), (Precision::BF16, 0.06), (Precision::Int8, 0.1)] {
            let options = Options { precision, ..Options::default() };
            let model = asset.specialize(&options, &Device::cpu(None)?, None)?.load()?;
            let (next, logits) = (model.function("next")?, model.function("logits")?);
            let all = call(&logits, &ids, 0, &mut State::default())?;
            let width = wanted.len() / ids.len();
            let tokens = all.chunks(width).zip(wanted.chunks(width));
            let mut wrong: Vec<_> = tokens.map(|(found, wanted)| error(found, wanted)).collect();
            wrong.sort_by(f64::total_cmp);
            // In fewer bits a token may go to another expert.
            let worst = wrong[if precision == Precision::F32 { wrong.len() - 1 } else { wrong.len() / 2 }];
            assert!(worst < tolerance, "{name}: {precision:?} is {worst:.1e} off");
            let (mut state, mut past) = (State::default(), 0);
            for piece in [5, 1, 1, ids.len() - 7].into_iter().filter(|_| precision == Precision::F32) {
                let found = call(&next, &ids[past..past + piece], past, &mut state)?;
                past += piece;
                let wrong = error(&found, &wanted[(past - 1) * width..past * width]);
                assert!(wrong < 2.0 * tolerance, "{name}: after {past} tokens {wrong:.1e} off");
            }
        }
        count += 1;
    }
    assert!(count >= 6);
    Ok(())
}
