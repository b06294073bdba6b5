//! Adapters by which a U-Net attends to a picture beside the text (IP-Adapter, Ye et al. 2023).
//!
//! A file holds `image_proj`, which makes tokens of what CLIP says of the picture ([`image_projection`]), and
//! `ip_adapter`, keys and values of each cross-attention for these tokens, numbered in the order in which diffusers
//! lists the attentions of a U-Net: way down, way up, middle; self-attentions count.

use std::{collections::BTreeMap, path::Path};

use ondine_graph::{Context, Result, Weight, Weights, fail};

use crate::{
    architecture::GraphSizes, checkpoint, image_projection, lora::Applied, network::Network, unet::IMAGE_PROMPTS,
};

/// A file of an IP-Adapter.
#[derive(Clone, Debug)]
pub struct IpAdapter {
    /// Its file, without folder and extension.
    pub name: String,
    /// What makes tokens of a picture.
    pub projection: Network,
    /// `{number}.to_k_ip.weight`, `{number}.to_v_ip.weight`.
    attentions: Weights,
    /// The numbers, in order.
    numbers: Vec<usize>,
}

/// What the names of the tensors of the two parts begin with.
const PARTS: [&str; 2] = ["image_proj.", "ip_adapter."];

/// What a cross-attention is given.
const GIVEN: [&str; 2] = ["to_k_ip", "to_v_ip"];

impl IpAdapter {
    /// Reads a file, of safetensors or of PyTorch.
    ///
    /// # Errors
    /// If the file is damaged, or holds none, or one of a kind that is not supported.
    pub fn open(path: &Path) -> Result<Self> {
        let (weights, _) = checkpoint::tensors_of(path)?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Self::of(name, &weights).at(|| path.display().to_string())
    }

    fn of(name: String, weights: &Weights) -> Result<Self> {
        let part = |prefix: &str| -> Result<Weights> {
            let mut part = weights.clone();
            part.retain(|path| path.starts_with(prefix));
            part.rename(|path| path.strip_prefix(prefix).map(str::to_owned))?;
            Ok(part)
        };
        let [projection, attentions] = [part(PARTS[0])?, part(PARTS[1])?];
        if projection.paths().next().is_none() || attentions.paths().next().is_none() {
            let some: Vec<_> = weights.paths().take(3).map(|path| format!("`{path}`")).collect();
            fail!(
                Unsupported,
                "no IP-Adapter: its tensors begin with `{}` and `{}`, and this file holds {}",
                PARTS[0],
                PARTS[1],
                some.join(", ")
            );
        }
        let mut numbers = BTreeMap::<usize, [bool; 2]>::new();
        for path in attentions.paths() {
            let found = path.split_once('.').and_then(|(number, rest)| {
                let given = GIVEN.iter().position(|given| rest.strip_suffix(".weight") == Some(given))?;
                Some((number.parse::<usize>().ok()?, given))
            });
            let Some((number, given)) = found else {
                fail!(
                    Unsupported,
                    "`{}{path}` is neither keys nor values for a picture; adapters for faces, which change the model by a \
                     LoRA too, are not supported",
                    PARTS[1]
                );
            };
            numbers.entry(number).or_default()[given] = true;
        }
        if let Some((number, _)) = numbers.iter().find(|(_, given)| given.contains(&false)) {
            fail!(Missing, "attention {number} has keys or values for a picture, but not both");
        }
        let (class, config) = image_projection::config_of(&projection)?;
        let projection = Network::of(&format!("{name}: image_proj"), class, config, projection)?;
        Ok(Self { name, projection, attentions, numbers: numbers.into_keys().collect() })
    }

    /// Gives the cross-attentions of a U-Net keys and values for tokens of a picture, of which it has `before` already.
    ///
    /// # Errors
    /// If the adapter was made for another model, or the network takes no more pictures.
    pub fn apply(&self, unet: &mut Network, before: usize) -> Result<Applied> {
        let most = IMAGE_PROMPTS.len();
        if before >= most {
            fail!(Argument, "{}: no more than {most} IP-Adapters go together", self.name);
        }
        let attentions = cross_attentions(unet, before)?;
        let total = self.numbers.len();
        if attentions.is_empty() {
            let class = unet.architecture.class;
            fail!(Unsupported, "{}: IP-Adapters are for U-Nets with a text, and the model is a {class}", self.name);
        }
        if attentions.len() != total {
            fail!(
                Unsupported,
                "{}: it was made for another model: it is for {total} cross-attentions, and the model has {}",
                self.name,
                attentions.len()
            );
        }
        let width = self.projection.tokens()?.width;
        let mut names = Vec::new();
        for (number, (path, shapes)) in self.numbers.iter().zip(&attentions) {
            for (given, wanted) in GIVEN.iter().zip(shapes) {
                let name = format!("{number}.{given}.weight");
                let shape = self.attentions.get(&name).map(|tensor| tensor.shape.clone()).unwrap_or_default();
                if shape != *wanted || wanted.get(1) != Some(&width) {
                    fail!(
                        Unsupported,
                        "{}: it was made for another model: `{}{name}` has shape {shape:?} for tokens of width {width}, `{path}` \
                         takes {wanted:?}",
                        self.name,
                        PARTS[1]
                    );
                }
                names.push((name, format!("{path}.processor.{given}.{before}.weight")));
            }
        }
        unet.take(&self.attentions, names)?;
        Ok(Applied { name: self.name.clone(), applied: total, total, left: Vec::new() })
    }
}

/// The cross-attentions of a U-Net in the order of the adapter's numbers, with the shapes of their keys and values for
/// tokens of picture `number`.
fn cross_attentions(unet: &Network, number: usize) -> Result<Vec<(String, [Vec<usize>; 2])>> {
    let sizes = GraphSizes { image_prompts: number + 1, ..GraphSizes::default() };
    let functions = (unet.architecture.functions)(&unet.config, sizes)?;
    let Some((_, graph)) = functions.first() else { return Ok(Vec::new()) };
    let [keys, values] = GIVEN.map(|given| {
        let end = format!(".processor.{given}.{number}.weight");
        let of = |weight: &Weight| Some((weight.path.strip_suffix(&end)?.to_owned(), weight.shape.clone()));
        graph.weights().iter().filter_map(of).collect::<Vec<_>>()
    });
    let mut values: BTreeMap<_, _> = values.into_iter().collect();
    let both = keys.into_iter().filter_map(|(path, keys)| values.remove(&path).map(|values| (path, [keys, values])));
    let mut found: Vec<_> = both.collect();
    let place = |path: &str| ["down_blocks", "up_blocks", "mid_block"].iter().position(|way| path.starts_with(way));
    found.sort_by_key(|(path, _)| place(path));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use ondine_graph::{Bytes, DType, Tensor};

    use super::*;
    use crate::weights::Source;

    fn tensors(shapes: &[(String, Vec<usize>)]) -> Weights {
        let mut weights = Weights::default();
        for (path, shape) in shapes {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            let tensor =
                Tensor { dtype: DType::F32, shape: shape.clone(), bytes: Bytes::from(&bytes[..]), file: "a".into() };
            weights.insert(path, tensor);
        }
        weights
    }

    /// The tensors of an adapter with keys and values of these shapes, for tokens of this width.
    fn adapter(width: usize, shapes: &[Vec<usize>]) -> Vec<(String, Vec<usize>)> {
        let mut all = vec![
            ("image_proj.proj.weight".to_owned(), vec![4 * width, 6]),
            ("image_proj.proj.bias".to_owned(), vec![4 * width]),
            ("image_proj.norm.weight".to_owned(), vec![width]),
            ("image_proj.norm.bias".to_owned(), vec![width]),
        ];
        for (i, shape) in shapes.iter().enumerate() {
            all.extend(GIVEN.map(|given| (format!("ip_adapter.{}.{given}.weight", 2 * i + 1), shape.clone())));
        }
        all
    }

    fn unet(name: &str) -> Network {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name);
        Network::open(&Source::folder(&folder).unwrap(), "", None).unwrap()
    }

    #[test]
    fn attentions_are_in_the_order_of_diffusers() {
        let found = cross_attentions(&unet("unet_sd15"), 0).unwrap();
        let first = |index: usize| found[index].0.split('.').take(4).collect::<Vec<_>>().join(".");
        assert_eq!(found.len(), 16);
        assert_eq!([first(0), first(5)], ["down_blocks.0.attentions.0", "down_blocks.2.attentions.1"]);
        assert_eq!([first(6), first(14)], ["up_blocks.1.attentions.0", "up_blocks.3.attentions.2"]);
        assert_eq!(first(15), "mid_block.attentions.0.transformer_blocks");
    }

    #[test]
    fn adapters_of_other_models_are_refused() {
        let mut network = unet("unet_sd15");
        let wanted: Vec<_> = cross_attentions(&network, 0).unwrap().into_iter().map(|(_, [keys, _])| keys).collect();
        let width = wanted[0][1];
        let open = |shapes: &[(String, Vec<usize>)]| IpAdapter::of("a".to_owned(), &tensors(shapes));
        let applied = open(&adapter(width, &wanted)).unwrap().apply(&mut network, 0).unwrap();
        assert_eq!(applied.to_string(), "a: applied 16 of 16");
        let mut others = wanted.clone();
        others[3][0] += 1;
        for (shapes, message) in [
            (adapter(width, &wanted[1..]), "it is for 15 cross-attentions, and the model has 16"),
            (adapter(width, &others), "it was made for another model"),
            (adapter(width + 1, &wanted), "for tokens of width"),
        ] {
            let error = open(&shapes).unwrap().apply(&mut network, 1).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
        let whole = adapter(width, &wanted);
        let lora = [&whole[..], &[("ip_adapter.0.to_q_lora.down.weight".to_owned(), vec![4, 4])]].concat();
        for (shapes, message) in [
            (whole[..4].to_vec(), "no IP-Adapter"),
            (whole[4..].to_vec(), "no IP-Adapter"),
            (whole[..whole.len() - 1].to_vec(), "keys or values"),
            (whole[1..].to_vec(), "neither a linear layer"),
            (lora, "for faces"),
        ] {
            let error = open(&shapes).unwrap_err().to_string();
            assert!(error.contains(message), "{message}: {error}");
        }
        let text = unet("clip_gelu");
        let error = open(&whole).unwrap().apply(&mut { text }, 0).unwrap_err().to_string();
        assert!(error.contains("for U-Nets"), "{error}");
    }
}
