//! Runs an archive of `torch.export.save`: `cargo run --example pt2 -- model.pt2 in.safetensors out.safetensors`.

use std::path::Path;

use ondine_runtime::{Device, Function, NDArray, Options, Result, Specialize, State, Weights, write_safetensors};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, inputs, outputs, rest @ ..] = arguments.as_slice() else {
        eprintln!("usage: pt2 MODEL.pt2 IN.safetensors OUT.safetensors [PROFILED CALLS]");
        std::process::exit(2);
    };
    let asset = ondine_pt2::open(Path::new(model))?;
    let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?;
    let tensors = Weights::open(Path::new(inputs))?;
    let arrays: Vec<(&str, NDArray)> =
        tensors.paths().map(|name| Ok((&**name, tensors.array(name)?))).collect::<Result<_>>()?;
    let inputs: Vec<(&str, &NDArray)> = arrays.iter().map(|(name, array)| (*name, array)).collect();
    for name in asset.functions().keys() {
        let results = model.function(name)?.run(&inputs, &mut State::default())?;
        let results: Vec<_> = results.iter().map(|(name, array)| (name.to_string(), array.clone())).collect();
        write_safetensors(Path::new(outputs), &results)?;
        if let Some(calls) = rest.first().and_then(|calls| calls.parse().ok()) {
            profile(&model.function(name)?, &inputs, calls)?;
        }
    }
    Ok(())
}

/// Prints where the time of `calls` calls goes.
fn profile(function: &Function, inputs: &[(&str, &NDArray)], calls: u32) -> Result<()> {
    let mut state = State::profiled();
    for _ in 0..calls {
        function.run(inputs, &mut state)?;
    }
    let profile = state.take_profile().unwrap_or_default();
    for (op, share) in profile.by(|sample| sample.op.clone()) {
        let (time, flops) = (share.time / calls, share.flops as f64 / 1e9 / share.time.as_secs_f64());
        println!("{op:14} {:5} {time:10.2?} {flops:7.1} GFLOP/s", share.count / calls as usize);
    }
    Ok(())
}
