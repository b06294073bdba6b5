//! What keys and values are kept in from call to call.

use std::str::FromStr;

use ondine_graph::{Binary, DType, Dim, Elementary, Error, Op, Reduce, Result, Scatter, Unary, Value, fail};

use super::config::Config;
use crate::blocks::Module;

/// The type in which the keys and values of a text are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KvCache {
    /// That in which they are computed, unless the model was trained for another.
    #[default]
    AsComputed,
    /// bf16.
    Bf16,
    /// 8 bits: integers from -127 to 127, with a scale in f32 for each head of a token.
    Int8,
}

impl FromStr for KvCache {
    type Err = Error;

    /// Reads the name of a type: `bf16` or `int8`.
    fn from_str(name: &str) -> Result<Self> {
        match name {
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => fail!(Argument, "keys and values are kept in bf16 or int8, and not in {name:?}"),
        }
    }
}

/// The largest code, both signs alike.
const LARGEST: f32 = 127.0;

/// What is no smaller in a head of a token, so that the inverse of a scale is a number.
const LEAST: f32 = 1e-30;

/// A state that keeps something of a layer.
pub(super) struct Kept {
    /// Its name without the number of the layer, and what follows that.
    name: [&'static str; 2],
    pub(super) dtype: DType,
    pub(super) width: usize,
}

impl Kept {
    /// Its name in a layer.
    pub(super) fn of_layer(&self, index: usize) -> String {
        let [what, part] = self.name;
        format!("{what}.{index}{part}")
    }
}

/// What is kept of a layer with keys of its own.
pub(super) fn kept(config: &Config, kv: KvCache) -> Vec<Kept> {
    let width = config.kv_heads * config.head_dim;
    let dtype = match kv {
        _ if config.coded_keys => DType::I8,
        KvCache::AsComputed => DType::F32,
        KvCache::Bf16 => DType::BF16,
        KvCache::Int8 => DType::I8,
    };
    let scaled = dtype == DType::I8 && !config.coded_keys;
    let of = |what: &'static str| {
        let rows = Kept { name: [what, ""], dtype, width };
        let scales = scaled.then_some(Kept { name: [what, ".scale"], dtype: DType::F32, width: config.kv_heads });
        std::iter::once(rows).chain(scales)
    };
    of("keys").chain(of("values")).collect()
}

/// The states of a layer in a call.
#[derive(Clone)]
pub(super) struct States {
    /// What their names begin with.
    pub(super) prefix: &'static str,
    /// Rows of each.
    pub(super) rows: usize,
    /// I64 `[tokens]`: the row that a token is written into.
    pub(super) places: Value,
    /// The rows that attention reads.
    pub(super) read: Read,
    /// Of these, rows of one text.
    pub(super) keys: Dim,
    /// True if later tokens have taken the rows of earlier ones, and attention has to know how many there were.
    pub(super) ring: bool,
    /// What they hold.
    pub(super) kv: KvCache,
}

/// Rows of a state.
#[derive(Clone)]
pub(super) enum Read {
    /// So many, from this one on.
    Slice { start: Dim, count: Dim },
    /// Those of these numbers, I64 `[count]`, in their order.
    Rows { rows: Value, count: Dim },
}

impl Read {
    pub(super) fn count(&self) -> &Dim {
        match self {
            Self::Slice { count, .. } | Self::Rows { count, .. } => count,
        }
    }
}

impl States {
    /// Writes rows into a state, and yields what is read of it.
    fn keep(&self, m: &mut Module<'_>, name: &str, rows: Value) -> Result<Value> {
        let width = m.width(rows)?;
        let (name, dtype) = (format!("{}{name}", self.prefix), m.node(rows).signature.dtype);
        let state = m.state(&name, dtype, [Dim::from(self.rows), width.into()]);
        let state = m.push(Op::Scatter(Scatter::Replace), &[state, self.places, rows])?;
        m.update_state(&name, state)?;
        match &self.read {
            Read::Slice { start, count } => m.slice(state, 0, start.clone(), start + count),
            Read::Rows { rows, .. } => m.gather(state, *rows),
        }
    }
}

/// Writes `rows`, keys or values of layer `index` as `what` says, into their states and yields what attention reads of
/// these: `[keys, width]`, of several sequences one after the other. What is not kept is rounded as if it were, if the
/// model was trained so.
pub(super) fn cached(
    m: &mut Module<'_>,
    what: &str,
    index: usize,
    rows: Value,
    config: &Config,
    states: Option<&States>,
) -> Result<Value> {
    let name = format!("{what}.{index}");
    if config.coded_keys {
        return trained(m, &name, if what == "keys" { "k_scale" } else { "v_scale" }, rows, states);
    }
    let Some(states) = states else { return Ok(rows) };
    match states.kv {
        KvCache::AsComputed => states.keep(m, &name, rows),
        KvCache::Bf16 => {
            let rows = m.cast(rows, DType::BF16)?;
            let rows = states.keep(m, &name, rows)?;
            m.cast(rows, DType::F32)
        }
        KvCache::Int8 => coded(m, &name, rows, config, states),
    }
}

/// By way of 8 bits: the integers next to the numbers over one scale for all of them, which was trained.
fn trained(m: &mut Module<'_>, name: &str, scale: &str, rows: Value, states: Option<&States>) -> Result<Value> {
    let scale = m.tensor(scale, &[1])?;
    let steps = m.binary(Binary::Div, rows, scale)?;
    let mut codes = codes(m, steps, -LARGEST - 1.0)?;
    if let Some(states) = states {
        codes = states.keep(m, name, codes)?;
    }
    let numbers = m.cast(codes, DType::F32)?;
    m.mul(numbers, scale)
}

/// By way of 8 bits: the largest number of a head of a token becomes the largest code.
fn coded(m: &mut Module<'_>, name: &str, rows: Value, config: &Config, states: &States) -> Result<Value> {
    let &Config { kv_heads, head_dim, .. } = config;
    let heads = |rows: &Dim, width: usize| vec![rows.clone(), kv_heads.into(), width.into()];
    let flat = |rows: &Dim, width: usize| vec![rows.clone(), width.into()];
    let tokens = &m.shape(rows).0[0].clone();
    let x = m.reshape(rows, heads(tokens, head_dim))?;
    let sizes = m.unary(Unary::Abs, x)?;
    let largest = m.reduce(Reduce::Max, sizes, &[2], true)?;
    let (least, most) = (m.scalar(LEAST), m.scalar(LARGEST));
    let largest = m.binary(Binary::Max, largest, least)?;
    let inverse = m.binary(Binary::Div, most, largest)?;
    let steps = m.mul(x, inverse)?;
    let codes = codes(m, steps, -LARGEST)?;
    let codes = m.reshape(codes, flat(tokens, kv_heads * head_dim))?;
    let scales = m.affine(largest, 1.0 / LARGEST, 0.0)?;
    let scales = m.reshape(scales, flat(tokens, kv_heads))?;
    let codes = states.keep(m, name, codes)?;
    let scales = states.keep(m, &format!("{name}.scale"), scales)?;
    let read = states.read.count();
    let numbers = m.cast(codes, DType::F32)?;
    let numbers = m.reshape(numbers, heads(read, head_dim))?;
    let scales = m.reshape(scales, heads(read, 1))?;
    let numbers = m.mul(numbers, scales)?;
    m.reshape(numbers, flat(read, kv_heads * head_dim))
}

/// The integers next to `steps`, from `least` on.
fn codes(m: &mut Module<'_>, steps: Value, least: f32) -> Result<Value> {
    let (least, most) = (m.scalar(least), m.scalar(LARGEST));
    let steps = m.unary(Unary::Function(Elementary::Round), steps)?;
    let steps = m.binary(Binary::Max, steps, least)?;
    let steps = m.binary(Binary::Min, steps, most)?;
    m.cast(steps, DType::I8)
}
