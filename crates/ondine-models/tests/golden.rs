//! Every architecture against tensors that PyTorch computed: `tests/data/*` hold small networks of random weights,
//! made by `python/golden/models.py`.

use std::{collections::BTreeMap, path::PathBuf};

use ondine_graph::{Asset, DType, Graph, NDArray, Result, Weights};
use ondine_models::{
    Functions, GraphSizes, HiddenStates, Network, REFERENCES, Source,
    autoencoder::{self, deep, kl, squares, tiny},
    clip_text, unet,
};
use ondine_runtime::{Device, Options, Specialize, State};

/// The largest error allowed, relative to the largest number of the golden tensor.
const TOLERANCE: f64 = 1e-5;

struct Golden {
    name: String,
    network: Network,
    tensors: Weights,
}

impl Golden {
    fn all() -> Vec<Self> {
        let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data");
        let mut folders: Vec<_> = std::fs::read_dir(data).unwrap().map(|entry| entry.unwrap().path()).collect();
        folders.retain(|folder| folder.join("golden.safetensors").is_file());
        folders.sort();
        let open = |folder: PathBuf| Self {
            name: folder.file_name().unwrap().to_string_lossy().into_owned(),
            network: Network::open(&Source::folder(&folder).unwrap(), "", None).unwrap(),
            tensors: Weights::open(&folder.join("golden.safetensors")).unwrap(),
        };
        folders.into_iter().map(open).collect()
    }

    fn class(&self) -> &str {
        self.network.architecture.class
    }

    /// Runs the functions and returns the largest relative error of each output that the golden file has.
    fn errors(&self, functions: Functions) -> Result<BTreeMap<String, f64>> {
        let asset = Asset::new(self.name.as_str(), functions, self.network.weights.clone())?;
        let model = asset.specialize(&Options::default(), &Device::cpu(None)?, None)?.load()?;
        let mut errors = BTreeMap::new();
        for (function, graph) in asset.functions() {
            let inputs = self.inputs(function, graph)?;
            let inputs: Vec<_> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
            let outputs = model.function(function)?.run(&inputs, &mut State::default())?;
            for (name, output) in outputs.iter() {
                let name = golden_name(function, name);
                if self.tensors.get(name).is_some() {
                    errors.insert(name.to_owned(), relative_error(output, &self.tensors.array(name)?));
                }
            }
        }
        Ok(errors)
    }

    fn inputs(&self, function: &str, graph: &Graph) -> Result<Vec<(String, NDArray)>> {
        let input = |(name, value): &(std::sync::Arc<str>, _)| {
            let array = self.tensors.array(golden_name(function, name))?;
            let array = if graph.node(*value).signature.dtype == DType::I64 { integers(&array)? } else { array };
            Ok((name.to_string(), array))
        };
        graph.inputs().iter().map(input).collect()
    }
}

/// What the golden file calls an input or output.
fn golden_name<'a>(function: &str, name: &'a str) -> &'a str {
    match (function, name) {
        ("main", "out_sample") => "output",
        ("encode", "sample") => "picture",
        ("decode", "latents") => "latent",
        ("decode", "sample") => "decoded",
        _ => name,
    }
}

fn integers(array: &NDArray) -> Result<NDArray> {
    match array.dtype() {
        DType::I64 => Ok(array.clone()),
        _ => NDArray::new(array.shape(), &array.to_f32().iter().map(|&x| x as i64).collect::<Vec<_>>()),
    }
}

fn relative_error(output: &NDArray, golden: &NDArray) -> f64 {
    assert_eq!(output.shape(), golden.shape());
    let (output, golden) = (output.to_f32(), golden.to_f32());
    let largest = golden.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let error = output.iter().zip(&golden).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    assert!(output.iter().all(|x| x.is_finite()));
    error / f64::from(largest)
}

/// All functions with symbolic sizes, as the registry builds them, but with the inputs that the golden file has.
fn symbolic(golden: &Golden) -> Result<Functions> {
    let hides = ["attention_mask", "encoder_attention_mask"].iter().any(|name| golden.tensors.get(name).is_some());
    if ["T5EncoderModel", "ZImageTransformer2DModel", "SanaTransformer2DModel"].contains(&golden.class()) && hides {
        return (golden.network.architecture.functions)(
            &golden.network.config,
            GraphSizes { mask: true, ..GraphSizes::default() },
        );
    }
    if let Some(layers) = golden.tensors.get("layers").map(|_| golden.tensors.array("layers")).transpose()? {
        let layers: Vec<i32> = layers.to_f32().iter().map(|&layer| layer as i32).collect();
        let sizes = GraphSizes { states: Some(HiddenStates::of(&layers)?), ..GraphSizes::default() };
        return (golden.network.architecture.functions)(&golden.network.config, sizes);
    }
    let references = REFERENCES.iter().filter(|name| golden.tensors.get(name).is_some()).count();
    if golden.class() != "UNet2DConditionModel" && references > 0 {
        let sizes = GraphSizes { references, ..GraphSizes::default() };
        return (golden.network.architecture.functions)(&golden.network.config, sizes);
    }
    if golden.class() != "UNet2DConditionModel" {
        return golden.network.functions();
    }
    let mask = golden.tensors.get("encoder_attention_mask").is_some();
    let config = unet::Config::from_json(&golden.network.config)?;
    Ok(vec![("main", unet::build(&config, &unet::Options { mask, ..unet::Options::default() })?)])
}

/// All functions with sizes known when they are built.
fn fixed(golden: &Golden) -> Result<Functions> {
    let json = &golden.network.config;
    let sizes = |name: &str| golden.tensors.get(name).map(|tensor| tensor.shape.clone()).unwrap();
    let picture = |name: &str| {
        let shape = sizes(name);
        autoencoder::Options { batch: shape[0].into(), height: shape[2].into(), width: shape[3].into() }
    };
    Ok(match golden.class() {
        "UNet2DConditionModel" => {
            let (sample, text) = (sizes("sample"), sizes("encoder_hidden_states"));
            let options = unet::Options {
                batch: sample[0].into(),
                height: sample[2].into(),
                width: sample[3].into(),
                tokens: text[1].into(),
                mask: golden.tensors.get("encoder_attention_mask").is_some(),
                ..unet::Options::default()
            };
            vec![("main", unet::build(&unet::Config::from_json(json)?, &options)?)]
        }
        "AutoencoderKL" => {
            let config = kl::Config::from_json(json)?;
            let encode = kl::build_encoder(&config, &picture("picture"))?;
            vec![("encode", encode), ("decode", kl::build_decoder(&config, &picture("latent"))?)]
        }
        "AutoencoderKLFlux2" => {
            let config = squares::Config::from_json(json)?;
            let encode = squares::build_encoder(&config, &picture("picture"))?;
            vec![("encode", encode), ("decode", squares::build_decoder(&config, &picture("latent"))?)]
        }
        "AutoencoderDC" => {
            let config = deep::Config::from_json(json)?;
            let encode = deep::build_encoder(&config, &picture("picture"))?;
            vec![("encode", encode), ("decode", deep::build_decoder(&config, &picture("latent"))?)]
        }
        "AutoencoderTiny" => {
            let config = tiny::Config::from_json(json)?;
            let encode = tiny::build_encoder(&config, &picture("picture"))?;
            vec![("encode", encode), ("decode", tiny::build_decoder(&config, &picture("latent"))?)]
        }
        _ => symbolic(golden)?,
    })
}

fn check(build: impl Fn(&Golden) -> Result<Functions>) {
    let mut failures = Vec::new();
    for golden in Golden::all() {
        match build(&golden).and_then(|functions| golden.errors(functions)) {
            Err(error) => failures.push(error.to_string()),
            Ok(errors) if errors.is_empty() => failures.push(format!("{}: no output to compare", golden.name)),
            Ok(errors) => {
                for (output, error) in errors {
                    println!("{:20} {output:20} {error:.1e}", golden.name);
                    if error.is_nan() || error > TOLERANCE {
                        failures.push(format!("{} {output}: {error:.1e}", golden.name));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn symbolic_sizes_equal_pytorch() {
    check(symbolic);
}

#[test]
fn fixed_sizes_equal_pytorch() {
    check(fixed);
}

#[test]
fn text_encoders_compute_only_what_is_asked() {
    let goldens = Golden::all();
    let golden = goldens.iter().find(|golden| golden.class() == "CLIPTextModel").unwrap();
    let config = clip_text::Config::from_json(&golden.network.config).unwrap();
    for output in [clip_text::Output::LastHiddenState, clip_text::Output::Penultimate] {
        let options = clip_text::Options { outputs: vec![output], ..clip_text::Options::default() };
        let graph = clip_text::build(&config, &options).unwrap();
        let errors = golden.errors(vec![("main", graph)]).unwrap();
        assert_eq!(errors.keys().collect::<Vec<_>>(), [output.name()]);
        assert!(errors[output.name()] < TOLERANCE);
    }
}
