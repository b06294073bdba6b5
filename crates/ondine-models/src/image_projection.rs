//! What makes tokens for cross-attentions of a picture that CLIP has read (IP-Adapter, Ye et al. 2023), in the names of
//! its files: one linear layer (`ImageProjection` of diffusers), or a resampler (`IPAdapterPlusImageProjection`, that
//! of Flamingo, Alayrac et al. 2022).

use ondine_graph::{Activation, Attention, DType, Dim, Graph, Mask, Op, Result, Value, Weights, fail};
use serde::Deserialize;
use serde_json::json;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, TokenFacts},
    blocks::{Module, layer_norm, linear},
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded},
};

/// The options of the linear layer, in the names of diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Config {
    /// Width of the picture's vector.
    pub image_embed_dim: usize,
    /// Width of the tokens.
    pub cross_attention_dim: usize,
    /// Number of tokens.
    pub num_image_text_embeds: usize,
}

/// The options of the resampler, in the names of diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct PlusConfig {
    /// Width of the picture's states.
    pub embed_dims: usize,
    /// Width of the tokens.
    pub output_dims: usize,
    /// Width inside.
    pub hidden_dims: usize,
    /// Number of layers.
    pub depth: usize,
    /// Width of an attention head.
    pub dim_head: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Number of tokens.
    pub num_queries: usize,
    /// Width inside the feed-forward layers.
    pub ffn_dims: usize,
}

/// Tokens that the linear layer makes; its shape does not tell them from their width.
const TOKENS: usize = 4;

/// Width of the resampler's heads, which its shapes do not tell.
const HEAD: usize = 64;

/// The most tokens that stand for a picture.
const MAX_TOKENS: usize = 1 << 12;

const EPS: f32 = 1e-5;

impl Config {
    fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, &[])?;
        all_bounded([
            ("image_embed_dim", config.image_embed_dim, MAX_WIDTH),
            ("cross_attention_dim", config.cross_attention_dim, MAX_WIDTH),
            ("num_image_text_embeds", config.num_image_text_embeds, MAX_TOKENS),
        ])?;
        Ok(config)
    }
}

impl PlusConfig {
    fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, &[])?;
        all_bounded([
            ("embed_dims", config.embed_dims, MAX_WIDTH),
            ("output_dims", config.output_dims, MAX_WIDTH),
            ("hidden_dims", config.hidden_dims, MAX_WIDTH),
            ("depth", config.depth, MAX_DEPTH),
            ("dim_head", config.dim_head, MAX_WIDTH),
            ("heads", config.heads, MAX_WIDTH),
            ("num_queries", config.num_queries, MAX_TOKENS),
            ("ffn_dims", config.ffn_dims, MAX_WIDTH),
        ])?;
        Ok(config)
    }
}

/// The class and the config of a network that has these tensors.
///
/// # Errors
/// If they are those of another kind of IP-Adapter, or of none.
pub(crate) fn config_of(weights: &Weights) -> Result<(&'static str, String)> {
    let shape = |name: &str| weights.get(name).map(|tensor| tensor.shape.as_slice());
    if let Some(&[outputs, inputs]) = shape("proj.weight") {
        let json = json!({
            "image_embed_dim": inputs, "cross_attention_dim": outputs / TOKENS, "num_image_text_embeds": TOKENS,
        });
        return Ok((ARCHITECTURE.class, json.to_string()));
    }
    let of = [shape("latents"), shape("proj_in.weight"), shape("proj_out.weight"), shape("layers.0.0.to_q.weight")];
    let (inner, depth) = (shape("layers.0.1.1.weight"), layers(weights));
    if let ([Some(&[1, queries, hidden]), Some(&[_, embed]), Some(&[output, _]), Some(&[heads, _])], Some(&[inner, _])) =
        (of, inner)
        && heads % HEAD == 0
    {
        let json = json!({
            "embed_dims": embed, "output_dims": output, "hidden_dims": hidden, "depth": depth, "dim_head": HEAD,
            "heads": heads / HEAD, "num_queries": queries, "ffn_dims": inner,
        });
        return Ok((PLUS.class, json.to_string()));
    }
    let some: Vec<_> = weights.paths().take(3).map(|path| format!("`image_proj.{path}`")).collect();
    let found = if some.is_empty() { "nothing".to_owned() } else { some.join(", ") };
    fail!(
        Unsupported,
        "its `image_proj` is neither a linear layer (IP-Adapter) nor a resampler (IP-Adapter Plus): it holds {found}; \
         those for faces (FaceID, full face) are not supported"
    )
}

/// Layers of a resampler.
fn layers(weights: &Weights) -> usize {
    let number = |path: &str| path.strip_prefix("layers.")?.split('.').next()?.parse::<usize>().ok();
    weights.paths().filter_map(|path| number(path)).max().map_or(0, |last| last + 1)
}

/// Builds the linear layer.
///
/// Input: `image_embeds` `[batch, image_embed_dim]`. Output: `tokens` `[batch, num_image_text_embeds,
/// cross_attention_dim]`.
fn build(config: Config) -> Result<Graph> {
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let Config { image_embed_dim, cross_attention_dim: width, num_image_text_embeds: tokens } = config;
    let batch = Dim::symbol("batch");
    let x = m.input("image_embeds", DType::F32, [batch.clone(), image_embed_dim.into()]);
    let x = linear(&mut m.at("proj"), x, tokens * width, true)?;
    let x = m.reshape(x, [batch, tokens.into(), width.into()])?;
    let x = layer_norm(&mut m.at("norm"), x, EPS)?;
    m.output("tokens", x);
    Ok(graph)
}

/// Builds the resampler.
///
/// Input: `penultimate` `[batch, states, embed_dims]`. Output: `tokens` `[batch, num_queries, output_dims]`.
fn build_plus(config: &PlusConfig) -> Result<Graph> {
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let batch = Dim::symbol("batch");
    let (queries, hidden) = (config.num_queries, config.hidden_dims);
    let x = m.input("penultimate", DType::F32, [batch.clone(), Dim::symbol("states"), config.embed_dims.into()]);
    let x = linear(&mut m.at("proj_in"), x, hidden, true)?;
    let latents = m.tensor("latents", &[1, queries, hidden])?;
    let mut latents = m.push(Op::Expand(vec![batch, queries.into(), hidden.into()].into()), &[latents])?;
    for i in 0..config.depth {
        let m = &mut m.at(format_args!("layers.{i}"));
        let mixed = perceive(&mut m.at("0"), x, latents, config)?;
        latents = m.add(mixed, latents)?;
        let h = layer_norm(&mut m.at("1.0"), latents, EPS)?;
        let h = linear(&mut m.at("1.1"), h, config.ffn_dims, false)?;
        let h = m.activation(Activation::Gelu, h)?;
        let h = linear(&mut m.at("1.3"), h, hidden, false)?;
        latents = m.add(h, latents)?;
    }
    let x = linear(&mut m.at("proj_out"), latents, config.output_dims, true)?;
    let x = layer_norm(&mut m.at("norm_out"), x, EPS)?;
    m.output("tokens", x);
    Ok(graph)
}

/// Attention of the latents to the picture's states and to themselves.
fn perceive(m: &mut Module<'_>, x: Value, latents: Value, config: &PlusConfig) -> Result<Value> {
    let inner = config.heads * config.dim_head;
    let x = layer_norm(&mut m.at("norm1"), x, EPS)?;
    let latents = layer_norm(&mut m.at("norm2"), latents, EPS)?;
    let q = linear(&mut m.at("to_q"), latents, inner, false)?;
    let both = m.concat(&[x, latents], 1)?;
    let both = linear(&mut m.at("to_kv"), both, 2 * inner, false)?;
    let [k, v] = [m.slice(both, 2, 0, inner)?, m.slice(both, 2, inner, 2 * inner)?];
    let attention = Attention {
        heads: config.heads,
        kv_heads: config.heads,
        scale: 1.0 / (config.dim_head as f32).sqrt(),
        causal: false,
        window: None,
        mask: Mask::None,
    };
    let mixed = m.attention(attention, [q, k, v], None)?;
    linear(&mut m.at("to_out"), mixed, config.hidden_dims, false)
}

fn facts(json: &str) -> Result<TokenFacts> {
    let config = Config::from_json(json)?;
    let Config { image_embed_dim, cross_attention_dim, num_image_text_embeds } = config;
    Ok(TokenFacts { reads: image_embed_dim, states: false, tokens: num_image_text_embeds, width: cross_attention_dim })
}

fn plus_facts(json: &str) -> Result<TokenFacts> {
    let config = PlusConfig::from_json(json)?;
    Ok(TokenFacts { reads: config.embed_dims, states: true, tokens: config.num_queries, width: config.output_dims })
}

fn functions(json: &str, _: GraphSizes) -> Result<Functions> {
    Ok(vec![("main", build(Config::from_json(json)?)?)])
}

fn plus_functions(json: &str, _: GraphSizes) -> Result<Functions> {
    Ok(vec![("main", build_plus(&PlusConfig::from_json(json)?)?)])
}

/// `ImageProjection`.
pub const ARCHITECTURE: Architecture =
    Architecture { class: "ImageProjection", role: Role::PictureTokens(facts), functions, renames: &[], ignored: &[] };

/// `IPAdapterPlusImageProjection`.
pub const PLUS: Architecture = Architecture {
    class: "IPAdapterPlusImageProjection",
    role: Role::PictureTokens(plus_facts),
    functions: plus_functions,
    ..ARCHITECTURE
};
