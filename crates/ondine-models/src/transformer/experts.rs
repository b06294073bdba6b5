//! The feed-forward of many experts, of which a router chooses a few for each token (Shazeer et al. 2017).
//!
//! No token is dropped, whatever its expert (Gale et al. 2022): the rows of a call are brought in the order of the
//! experts that they go to, and each expert is multiplied with its own. What a token yields therefore does not depend
//! on those that it is called with.

use ondine_graph::{Activation, Binary, DType, Dim, NDArray, Op, Reduce, Result, Unary, Value};

use super::{
    config::Config,
    properties::{Clamp, Experts},
};
use crate::blocks::{Module, linear};

/// The gated feed-forward (Shazeer 2020).
pub(super) fn mlp(m: &mut Module<'_>, x: Value, config: &Config, width: usize) -> Result<Value> {
    let bias = config.bias.mlp;
    let (gate, up) = if config.fused {
        let both = linear(&mut m.at("gate_up_proj"), x, 2 * width, bias)?;
        (m.slice(both, 1, 0, width)?, m.slice(both, 1, width, 2 * width)?)
    } else {
        (linear(&mut m.at("gate_proj"), x, width, bias)?, linear(&mut m.at("up_proj"), x, width, bias)?)
    };
    let gate = m.activation(config.activation, gate)?;
    let x = m.mul(gate, up)?;
    linear(&mut m.at("down_proj"), x, config.hidden_size, bias)
}

/// Which experts the tokens of a call use.
struct Routes {
    tokens: Dim,
    /// The experts of each token, the best first: I64 `[tokens, chosen]`.
    best: Value,
    /// What each of them counts: `[tokens, chosen]`.
    shares: Value,
}

/// `x` `[tokens, hidden_size]`; `m` is the module that holds router and experts.
pub(super) fn sparse_mlp(m: &mut Module<'_>, x: Value, config: &Config, experts: &Experts) -> Result<Value> {
    let routes = route(m, x, config, experts)?;
    let mixed = dispatch(&mut m.at("experts"), x, config, experts, &routes)?;
    let Some(width) = experts.shared else { return Ok(mixed) };
    let shared = mlp(&mut m.at("shared_expert"), x, config, width)?;
    let gate = linear(&mut m.at("shared_expert_gate"), x, 1, false)?;
    let gate = m.activation(Activation::Sigmoid, gate)?;
    let shared = m.mul(shared, gate)?;
    m.add(mixed, shared)
}

fn route(m: &mut Module<'_>, x: Value, config: &Config, experts: &Experts) -> Result<Routes> {
    let tokens = m.dim(x, 0);
    let logits = linear(&mut m.at("gate"), x, experts.count, config.bias.mlp)?;
    let best = m.push(Op::ArgSort { descending: true, keep: experts.chosen.into() }, &[logits])?;
    let shares = if experts.normalized {
        // Of probabilities that are made to add up to 1, nothing remains but the logits of those chosen.
        let chosen = chosen_of(m, logits, best, &tokens, experts)?;
        m.softmax(chosen)?
    } else {
        let probabilities = m.softmax(logits)?;
        chosen_of(m, probabilities, best, &tokens, experts)?
    };
    Ok(Routes { tokens, best, shares })
}

/// `values` `[tokens, count]` at the experts `best`: `[tokens, chosen]`.
fn chosen_of(m: &mut Module<'_>, values: Value, best: Value, tokens: &Dim, experts: &Experts) -> Result<Value> {
    let rows = m.push(Op::Range { start: 0.into(), step: experts.count as i64, count: tokens.clone() }, &[])?;
    let rows = m.reshape(rows, vec![tokens.clone(), 1.into()])?;
    let places = m.add(rows, best)?;
    let flat = m.reshape(values, vec![tokens * experts.count])?;
    m.push(Op::Take { axis: 0 }, &[flat, places])
}

/// What the chosen experts make of `x`, each times its share, added up; `m` is the module of all experts.
fn dispatch(m: &mut Module<'_>, x: Value, config: &Config, experts: &Experts, routes: &Routes) -> Result<Value> {
    let (tokens, chosen, slots) = (&routes.tokens, experts.chosen, &routes.tokens * experts.chosen);
    let expert = m.reshape(routes.best, vec![slots.clone()])?;
    let ascending = Op::ArgSort { descending: false, keep: slots.clone() };
    let order = m.push(ascending.clone(), &[expert])?;
    let count = m.constant(NDArray::scalar(chosen as i64));
    let token = m.binary(Binary::FloorDiv, order, count)?;
    let rows = m.push(Op::Take { axis: 0 }, &[x, token])?;
    let sorted = m.push(Op::Take { axis: 0 }, &[expert, order])?;
    let groups = Groups { ends: ends(m, expert, &slots, experts.count)?, sorted, count: experts.count };

    let gate = groups.linear(&mut m.at("gate_proj"), rows, experts.width, config.bias.mlp)?;
    let up = groups.linear(&mut m.at("up_proj"), rows, experts.width, config.bias.mlp)?;
    let gated = gated(m, gate, up, config.activation, experts.clamp)?;
    let rows = groups.linear(&mut m.at("down_proj"), gated, config.hidden_size, config.bias.mlp)?;

    let back = m.push(ascending, &[order])?;
    let rows = m.push(Op::Take { axis: 0 }, &[rows, back])?;
    let rows = m.reshape(rows, vec![tokens.clone(), chosen.into(), config.hidden_size.into()])?;
    let shares = m.reshape(routes.shares, vec![tokens.clone(), chosen.into(), 1.into()])?;
    let rows = m.mul(rows, shares)?;
    m.reduce(Reduce::Sum, rows, &[1], false)
}

/// Rows in the order of their experts.
struct Groups {
    /// Where the rows of each expert end: I64 `[count]`.
    ends: Value,
    /// The expert of each row.
    sorted: Value,
    count: usize,
}

impl Groups {
    /// Each row times the matrix of its expert: `[rows, in]` to `[rows, out]`.
    fn linear(&self, m: &mut Module<'_>, rows: Value, out: usize, bias: bool) -> Result<Value> {
        let weight = m.tensor("weight", &[self.count, out, m.width(rows)?])?;
        let product = m.push(Op::GroupedMatMul { transposed: true }, &[rows, weight, self.ends])?;
        if !bias {
            return Ok(product);
        }
        let bias = m.tensor("bias", &[self.count, out])?;
        let bias = m.push(Op::Take { axis: 0 }, &[bias, self.sorted])?;
        m.add(product, bias)
    }
}

/// How many of `expert` `[slots]` are of each expert or one before it.
fn ends(m: &mut Module<'_>, expert: Value, slots: &Dim, count: usize) -> Result<Value> {
    let next = m.push(Op::Range { start: 1.into(), step: 1, count: count.into() }, &[])?;
    let next = m.reshape(next, vec![1.into(), count.into()])?;
    let expert = m.reshape(expert, vec![slots.clone(), 1.into()])?;
    let before = m.binary(Binary::Less, expert, next)?;
    let before = m.cast(before, DType::I64)?;
    m.reduce(Reduce::Sum, before, &[0], false)
}

fn gated(m: &mut Module<'_>, gate: Value, up: Value, activation: Activation, clamp: Option<Clamp>) -> Result<Value> {
    let Some(Clamp { limit, slope }) = clamp else {
        let gate = m.activation(activation, gate)?;
        return m.mul(gate, up);
    };
    let (most, least) = (m.scalar(limit), m.scalar(-limit));
    let gate = m.binary(Binary::Min, gate, most)?;
    let up = m.binary(Binary::Min, up, most)?;
    let up = m.binary(Binary::Max, up, least)?;
    let steep = m.affine(gate, slope, 0.0)?;
    let open = m.unary(Unary::Activation(Activation::Sigmoid), steep)?;
    let gate = m.mul(gate, open)?;
    let up = m.affine(up, 1.0, 1.0)?;
    m.mul(gate, up)
}
