//! Networks that enlarge pictures: ESRGAN's residual-in-residual dense blocks (Wang et al. 2018) and the compact stack
//! of convolutions of Real-ESRGAN (Wang et al. 2021), in the names of BasicSR and of the first ESRGAN.
//!
//! Their files hold no config: all of it follows from names and shapes.

use ondine_graph::{Binary, Conv2d, DType, Dim, Graph, Result, Value, Weights, fail};
use serde::Deserialize;
use serde_json::json;

use crate::{
    architecture::{Architecture, Functions, GraphSizes, Role, UpscalerFacts},
    blocks::{Module, conv_same, conv2d},
    config::{self, MAX_DEPTH, MAX_WIDTH, all_bounded},
};

/// What enlarges a picture.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Channels of pictures.
    pub num_in_ch: usize,
    /// Channels inside.
    pub num_feat: usize,
    /// Blocks: dense ones, or convolutions between the first and the last.
    pub num_block: usize,
    /// Channels that each layer of a dense block adds.
    pub num_grow_ch: usize,
    /// How many times as wide and high the result is.
    pub scale: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { num_in_ch: 3, num_feat: 64, num_block: 23, num_grow_ch: 32, scale: 4 }
    }
}

/// The largest enlargement.
const MAX_SCALE: usize = 16;

impl Config {
    fn from_json(json: &str) -> Result<Self> {
        let config: Self = config::options(json, &["architectures"])?;
        all_bounded([
            ("num_in_ch", config.num_in_ch, 16),
            ("num_feat", config.num_feat, MAX_WIDTH),
            ("num_block", config.num_block, MAX_DEPTH),
            ("num_grow_ch", config.num_grow_ch, MAX_WIDTH),
            ("scale", config.scale, MAX_SCALE),
        ])?;
        Ok(config)
    }

    /// By how much pixels are first gathered into channels, in networks whose body works on a quarter of the width of
    /// what comes out.
    fn gathered(&self) -> usize {
        match self.scale {
            1 => 4,
            2 => 2,
            _ => 1,
        }
    }
}

/// The picture `[batch, channels, height, width]` in 0..1, channels-last; its sides are multiples of `by`.
fn picture(m: &mut Module<'_>, config: &Config, by: usize) -> Result<Value> {
    let side = |name: &str| &Dim::symbol(name) * by;
    let shape = vec![Dim::symbol("batch"), config.num_in_ch.into(), side("height"), side("width")];
    let x = m.input("sample", DType::F32, shape);
    m.channels_last(x)
}

/// `LeakyReLU(0.2)`
fn leaky(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let slope = m.scalar(0.2);
    m.binary(Binary::Prelu, x, slope)
}

/// Squares of `by` pixels as channels, `[b, h, w, c]` to `[b, h / by, w / by, c by by]`, in PyTorch's order.
fn pixel_unshuffle(m: &mut Module<'_>, x: Value, by: usize) -> Result<Value> {
    if by == 1 {
        return Ok(x);
    }
    let channels = m.width(x)?;
    let [batch, height, width] = [m.dim(x, 0), Dim::symbol("height"), Dim::symbol("width")];
    let x = m.reshape(x, vec![batch.clone(), height.clone(), by.into(), width.clone(), by.into(), channels.into()])?;
    let x = m.permute(x, &[0, 1, 3, 5, 2, 4])?;
    m.reshape(x, vec![batch, height, width, (channels * by * by).into()])
}

/// `ResidualDenseBlock`: each layer sees what all before it made.
fn dense_block(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let mut parts = vec![x];
    for i in 1..=4 {
        let all = m.concat(&parts, 3)?;
        let h = conv_same(&mut m.at(format_args!("conv{i}")), all, config.num_grow_ch, 3)?;
        parts.push(leaky(m, h)?);
    }
    let all = m.concat(&parts, 3)?;
    let h = conv_same(&mut m.at("conv5"), all, config.num_feat, 3)?;
    let h = m.affine(h, 0.2, 0.0)?;
    m.add(h, x)
}

fn doubled(m: &mut Module<'_>, x: Value, config: &Config) -> Result<Value> {
    let conv = Conv2d { upsample: true, ..Conv2d::same(3) };
    conv2d(m, x, [config.num_feat, 3], conv, true)
}

/// `RRDBNet`: `sample` to `sample`, each side `scale` times as long.
fn build_dense(config: &Config) -> Result<Graph> {
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let by = config.gathered();
    let x = picture(m, config, by)?;
    let x = pixel_unshuffle(m, x, by)?;
    let first = conv_same(&mut m.at("conv_first"), x, config.num_feat, 3)?;
    let mut x = first;
    for i in 0..config.num_block {
        let m = &mut m.at(format_args!("body.{i}"));
        let mut h = x;
        for j in 1..=3 {
            h = dense_block(&mut m.at(format_args!("rdb{j}")), h, config)?;
        }
        let h = m.affine(h, 0.2, 0.0)?;
        x = m.add(h, x)?;
    }
    let x = conv_same(&mut m.at("conv_body"), x, config.num_feat, 3)?;
    let mut x = m.add(x, first)?;
    // Each doubles the sides; those that gathered pixels first undo that.
    for i in 1..=(config.scale * by).ilog2() {
        x = doubled(&mut m.at(format_args!("conv_up{i}")), x, config)?;
        x = leaky(m, x)?;
    }
    let x = conv_same(&mut m.at("conv_hr"), x, config.num_feat, 3)?;
    let x = leaky(m, x)?;
    let x = conv_same(&mut m.at("conv_last"), x, config.num_in_ch, 3)?;
    let x = m.channels_first(x)?;
    m.output("sample", x);
    Ok(graph)
}

/// `SRVGGNetCompact`: convolutions with `PReLU` between them, on the picture as it is; what comes out is added to the
/// picture repeated.
fn build_compact(config: &Config) -> Result<Graph> {
    let mut graph = Graph::new();
    let m = &mut Module::root(&mut graph);
    let given = picture(m, config, 1)?;
    let mut x = given;
    for i in 0..=config.num_block {
        x = conv_same(&mut m.at(format_args!("body.{}", 2 * i)), x, config.num_feat, 3)?;
        x = prelu(&mut m.at(format_args!("body.{}", 2 * i + 1)), x)?;
    }
    let (channels, by) = (config.num_in_ch, config.scale);
    let x = conv_same(&mut m.at(format_args!("body.{}", 2 * config.num_block + 2)), x, channels * by * by, 3)?;
    let x = larger(m, x, given, channels, by)?;
    m.output("sample", x);
    Ok(graph)
}

/// The squares of `by` pixels that lie in the channels of `x` (`PixelShuffle`), each added to its pixel of `given`:
/// `[b, h, w, c by by]` to `[b, c, h by, w by]`.
fn larger(m: &mut Module<'_>, x: Value, given: Value, channels: usize, by: usize) -> Result<Value> {
    let [batch, height, width] = [0, 1, 2].map(|axis| m.dim(x, axis));
    let squares = |size: usize| vec![batch.clone(), height.clone(), width.clone(), channels.into(), size.into()];
    let x = m.reshape(x, squares(by * by))?;
    let given = m.reshape(given, squares(1))?;
    let x = m.add(x, given)?;
    let x = m.reshape(x, vec![batch.clone(), height.clone(), width.clone(), channels.into(), by.into(), by.into()])?;
    let x = m.permute(x, &[0, 3, 1, 4, 2, 5])?;
    m.reshape(x, vec![batch, channels.into(), &height * by, &width * by])
}

/// `PReLU`, a slope for each channel.
fn prelu(m: &mut Module<'_>, x: Value) -> Result<Value> {
    let width = m.width(x)?;
    let slope = m.tensor("weight", &[width])?;
    m.binary(Binary::Prelu, x, slope)
}

fn facts(json: &str) -> Result<UpscalerFacts> {
    let config = Config::from_json(json)?;
    Ok(UpscalerFacts { scale: config.scale, channels: config.num_in_ch })
}

/// The facts of one whose picture has sides of any length; of the other they are multiples.
fn dense(json: &str, _: GraphSizes) -> Result<Functions> {
    Ok(vec![("main", build_dense(&Config::from_json(json)?)?)])
}

fn compact(json: &str, _: GraphSizes) -> Result<Functions> {
    Ok(vec![("main", build_compact(&Config::from_json(json)?)?)])
}

/// `RRDBNet`.
pub const DENSE: Architecture =
    Architecture { class: "RRDBNet", role: Role::Upscaler(facts), functions: dense, renames: &[], ignored: &[] };

/// `SRVGGNetCompact`.
pub const COMPACT: Architecture = Architecture { class: "SRVGGNetCompact", functions: compact, ..DENSE };

/// Gives tensors of any dialect the names of BasicSR, and tells class and config.
///
/// # Errors
/// If they are those of no such network.
pub(crate) fn open(weights: &mut Weights) -> Result<(&'static str, String)> {
    for start in ["params_ema.", "params.", "module."] {
        if weights.paths().any(|path| path.starts_with(start)) {
            weights.retain(|path| path.starts_with(start));
            weights.rename(|path| path.strip_prefix(start).map(str::to_owned))?;
        }
    }
    rename_first(weights)?;
    let shape = |path: &str| weights.get(path).map(|tensor| tensor.shape.clone());
    if let (Some(first), Some(last)) = (shape("conv_first.weight"), shape("conv_last.weight")) {
        let blocks = (0..).take_while(|i| shape(&format!("body.{i}.rdb1.conv1.weight")).is_some()).count();
        let grow = shape("body.0.rdb1.conv1.weight").map_or(32, |shape| shape[0]);
        let doublings = (1..).take_while(|i| shape(&format!("conv_up{i}.weight")).is_some()).count();
        let gathered = [1, 2, 4].into_iter().find(|by| first.get(1) == Some(&(last[0] * by * by)));
        let scale = gathered.and_then(|by| (1_usize << doublings.min(8)).checked_div(by));
        let Some(scale) = scale.filter(|scale| *scale > 0) else {
            fail!(Unsupported, "the network takes {first:?} and yields {last:?}: these do not fit each other");
        };
        let config = json!({"num_in_ch": last[0], "num_feat": first[0], "num_block": blocks, "num_grow_ch": grow, "scale": scale});
        return Ok((DENSE.class, config.to_string()));
    }
    let count = (0..).take_while(|i| shape(&format!("body.{}.weight", 2 * i)).is_some()).count();
    if let (Some(first), Some(last)) = (shape("body.0.weight"), shape(&format!("body.{}.weight", 2 * count.max(1) - 2)))
        && count > 2
        && first.len() == 4
        && shape("body.1.weight").is_some_and(|shape| shape.len() == 1)
    {
        let squares = last[0] / first[1].max(1);
        let scale = (1..=MAX_SCALE).find(|scale| scale * scale == squares);
        let Some(scale) = scale else {
            fail!(Unsupported, "the last layer has {} channels, which are no squares of pixels", last[0]);
        };
        let config = json!({"num_in_ch": first[1], "num_feat": first[0], "num_block": count - 2, "scale": scale});
        return Ok((COMPACT.class, config.to_string()));
    }
    fail!(
        Unsupported,
        "no network of the ESRGAN family (RRDBNet or SRVGGNetCompact), which are those that enlarge pictures here"
    )
}

/// The names of BasicSR for those of the first ESRGAN, whose layers are numbered.
fn rename_first(weights: &mut Weights) -> Result<()> {
    if weights.get("model.0.weight").is_none() {
        return Ok(());
    }
    let numbers = |start: &str| -> Vec<usize> {
        let mut numbers: Vec<usize> =
            weights.paths().filter_map(|path| path.strip_prefix(start)?.split('.').next()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    };
    let blocks = numbers("model.1.sub.").len().saturating_sub(1);
    // Behind the blocks there are the doublings, and two layers more.
    let behind: Vec<usize> = numbers("model.").into_iter().filter(|number| *number > 1).collect();
    let place = |number: usize| behind.iter().position(|other| *other == number);
    weights.rename(|path| {
        let rest = path.strip_prefix("model.")?;
        let (number, end) = rest.split_once('.')?;
        let number: usize = number.parse().ok()?;
        if number == 0 {
            return Some(format!("conv_first.{end}"));
        }
        if number == 1 {
            let (block, end) = end.strip_prefix("sub.")?.split_once('.')?;
            if block.parse() == Ok(blocks) {
                return Some(format!("conv_body.{end}"));
            }
            let end = end.replace("RDB", "rdb").replace(".0.", ".");
            return Some(format!("body.{block}.{end}"));
        }
        let at = place(number)?;
        Some(match behind.len() - at {
            1 => format!("conv_last.{end}"),
            2 => format!("conv_hr.{end}"),
            _ => format!("conv_up{}.{end}", at + 1),
        })
    })
}
