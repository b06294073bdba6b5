//! Adapters of low rank for language models (LoRA, Hu et al. 2021), in the files that people have: folders of peft, and
//! GGUF files.

mod layers;
mod peft;

pub(crate) use peft::{CONFIG as PEFT_CONFIG, Config as PeftConfig, WEIGHTS as PEFT_WEIGHTS};

use std::path::Path;

use ondine_graph::{Asset, Bytes, Context, Result, Tensor, adapt::Factors, fail};

use layers::Layers;

use crate::{
    gguf::{self, Gguf},
    transformer::{Config, gguf_names},
};

/// An adapter: what it adds to which layers.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Where it comes from, for messages.
    pub name: String,
    layers: Layers,
    /// True if rows of queries and keys are in the order of GGUF files ([`Rows`]).
    neighbours: bool,
}

/// How the rows of queries and keys lie in a model: some GGUF files have those next to each other that are turned
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// True if such rows are neighbours, and are not in transformers.
    pub neighbours: bool,
    /// Query heads.
    pub heads: usize,
    /// Key heads.
    pub kv_heads: usize,
    /// True if the layer that makes logits has the weight of the table of tokens.
    pub tied: bool,
}

impl Rows {
    /// Those of a model of this config; `neighbours` as above.
    #[must_use]
    pub fn of(config: &Config, neighbours: bool) -> Self {
        Self { neighbours, heads: config.heads, kv_heads: config.kv_heads, tied: config.tied }
    }

    /// In how many heads the rows of a weight are turned.
    fn heads_of(&self, weight: &str) -> Option<usize> {
        let ends = |part: &str| weight.ends_with(part);
        let queries = ends(".self_attn.q_proj.weight").then_some(self.heads);
        queries.or_else(|| ends(".self_attn.k_proj.weight").then_some(self.kv_heads))
    }
}

/// What became of an adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The adapter.
    pub name: String,
    /// Layers that it changed.
    pub applied: usize,
    /// Layers that it holds factors for, and other tensors.
    pub total: usize,
    /// What the model has no place for.
    pub unapplied: Vec<String>,
}

impl Adapter {
    /// Opens a folder of peft (`adapter_config.json` beside `adapter_model.safetensors`), or a GGUF file.
    ///
    /// # Errors
    /// If it is neither, is broken, or changes more than layers by factors of low rank.
    pub fn open(path: &Path) -> Result<Self> {
        let place = path.display();
        if !path.exists() {
            fail!(Missing, "{place}: there is no such adapter");
        }
        if !path.is_dir() && gguf::is_one(path) {
            return Self::from_gguf(&Gguf::open(path)?);
        }
        let parent = path.parent().filter(|parent| parent.join(peft::CONFIG).is_file());
        let folder = if path.is_dir() { Some(path) } else { parent };
        let Some(folder) = folder else {
            fail!(Unsupported, "{place}: no adapter; give the folder that peft saves, or a GGUF file");
        };
        let layers = peft::read(folder).at(|| place.to_string())?;
        Ok(Self { name: place.to_string(), layers, neighbours: false })
    }

    fn from_gguf(gguf: &Gguf) -> Result<Self> {
        let kind = gguf.text("adapter.type")?.unwrap_or("");
        let (Some("adapter"), "lora") = (gguf.text("general.type")?, kind) else {
            fail!(Unsupported, "{}: a GGUF file that is no LoRA adapter", gguf.file);
        };
        if gguf.metadata.contains_key("adapter.alora.invocation_tokens") {
            fail!(Unsupported, "{}: adapters that begin in the middle of a text are not supported", gguf.file);
        }
        let names = gguf_names(gguf)?;
        let alpha = gguf.number("adapter.lora.alpha")?.filter(|&alpha| alpha != 0.0);
        let mut layers = Layers::default();
        for (path, tensor) in gguf.weights.iter() {
            let part = [".lora_a", ".lora_b"].iter().position(|part| path.ends_with(part));
            let Some(part) = part.filter(|_| tensor.shape.len() == 2) else {
                layers.others.push(path.to_string());
                continue;
            };
            layers.insert(names.of(&path[..path.len() - ".lora_a".len()]), part, tensor);
        }
        let layers = layers.finish(|_, rank| Ok(alpha.map_or(1.0, |alpha| alpha / rank as f32))).at(|| &gguf.file)?;
        Ok(Self { name: gguf.file.to_string(), layers, neighbours: names.neighbours })
    }

    /// The asset with what the adapter adds, times `weight`.
    ///
    /// # Errors
    /// If factors do not fit the weights of the asset, or it has none of the layers.
    pub fn apply(&self, asset: &Asset, weight: f32, rows: Rows) -> Result<(Asset, Applied)> {
        let factors = self.layers.by_weight.iter().filter_map(|(path, layer)| {
            let (a, b) = (layer.a.as_ref()?, layer.b.as_ref()?);
            Some((path, a, b, layer.scale * weight))
        });
        let factors = factors.map(|(path, a, b, scale)| {
            let renamed = if rows.tied && path == "lm_head.weight" { "model.embed_tokens.weight" } else { path };
            let heads = rows.heads_of(path).filter(|_| rows.neighbours != self.neighbours);
            let b = match heads {
                Some(heads) => reordered(b, heads, rows.neighbours).at(|| path)?,
                None => b.clone(),
            };
            Ok(Factors { weight: renamed.into(), a: a.clone(), b, scale })
        });
        let factors = factors.collect::<Result<Vec<_>>>()?;
        let (asset, unused) = asset.with_low_rank(&factors)?;
        let unapplied: Vec<String> = unused.iter().map(ToString::to_string).chain(self.layers.others.clone()).collect();
        let (applied, total) = (factors.len() - unused.len(), factors.len() + self.layers.others.len());
        if applied == 0 {
            let first = unapplied.first().map_or("", |first| first);
            fail!(
                Missing,
                "{}: the model has none of its {total} layers (the first is `{first}`); the adapter was made for another one",
                self.name
            );
        }
        Ok((asset, Applied { name: self.name.clone(), applied, total, unapplied }))
    }
}

/// The rows of `b` `[heads * head_dim, rank]` in the other order: as GGUF files have them if `neighbours`, else as
/// transformers does.
fn reordered(b: &Tensor, heads: usize, neighbours: bool) -> Result<Tensor> {
    let rows = b.shape.first().copied().unwrap_or(0);
    let head_dim = rows / heads.max(1);
    if rows == 0 || !head_dim.is_multiple_of(2) || head_dim * heads != rows {
        fail!(Shape, "{rows} rows are no {heads} heads; the adapter was made for another model");
    }
    let (half, width) = (head_dim / 2, b.bytes.len() / rows);
    let mut bytes = Vec::with_capacity(b.bytes.len());
    for row in 0..rows {
        let (head, at) = (row / head_dim, row % head_dim);
        let from = if neighbours { at % 2 * half + at / 2 } else { at % half * 2 + at / half };
        bytes.extend_from_slice(&b.bytes[(head * head_dim + from) * width..][..width]);
    }
    Ok(Tensor { bytes: Bytes::from(&bytes[..]), ..b.clone() })
}

#[cfg(test)]
mod tests {
    use ondine_graph::DType;

    use super::*;

    #[test]
    fn rows_go_there_and_back() {
        let numbers: Vec<f32> = (0..24).map(|i| i as f32).collect();
        let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let b = Tensor { dtype: DType::F32, shape: vec![12, 2], bytes: bytes[..].into(), file: "test".into() };
        let there = reordered(&b, 2, true).unwrap();
        let rows: Vec<f32> = there.bytes.as_chunks::<4>().0.iter().map(|&x| f32::from_le_bytes(x) / 2.0).collect();
        let rows: Vec<f32> = rows.into_iter().step_by(2).collect();
        assert_eq!(rows, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0, 6.0, 9.0, 7.0, 10.0, 8.0, 11.0]);
        assert_eq!(&*reordered(&there, 2, false).unwrap().bytes, &*b.bytes);
        assert!(reordered(&b, 5, true).is_err());
    }
}
