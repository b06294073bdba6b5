//! Several texts at once: a token of each in one call, so that weights are read once for all of them.
//!
//! The states have room for as many texts as are asked for, `context` rows each, and a text comes out as it would
//! alone, to the bit. A prompt is read by `next` as any other, into states of its own; `seat` copies what it has left
//! there to the place of a text.

use ondine_graph::{DType, Dim, Graph, Op, Result, Scatter, fail};

use super::{
    attention::SEVERAL,
    cache::{KvCache, kept},
    config::Config,
};
use crate::blocks::Module;

/// The most texts.
const MOST: usize = 1024;

/// Makes sure that so many texts can be gone on with at once.
pub(super) fn check(config: &Config, texts: usize) -> Result<()> {
    if !config.batches() {
        fail!(Unsupported, "texts of a model whose scores are changed are read one by one");
    }
    if texts == 0 || texts > MOST {
        fail!(Argument, "{texts} texts at once; 1 to {MOST} are possible");
    }
    Ok(())
}

/// Copies the keys and values of `count` (I64, one number) tokens to the place of the text `text` (I64, one number).
/// Yields `past`, I64 `[1]`: how many tokens that has then.
pub(super) fn seat(config: &Config, context: usize, texts: usize, kv: KvCache) -> Result<Graph> {
    check(config, texts)?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let [text, count] =
        ["text", "count"].map(|name| (root.input(name, DType::I64, Vec::<Dim>::new()), Dim::symbol(name)));
    root.push(Op::Measure { size: text.1.clone(), most: (texts - 1).into() }, &[text.0])?;
    root.push(Op::Measure { size: count.1.clone(), most: context.into() }, &[count.0])?;
    let start = &text.1 * &Dim::from(context);
    let places = root.push(Op::Range { start, step: 1, count: count.1.clone() }, &[])?;
    for index in config.layers.iter().enumerate().filter_map(|(index, layer)| layer.keys_of.is_none().then_some(index))
    {
        for kept in kept(config, kv) {
            let name = kept.of_layer(index);
            let own = root.state(&name, kept.dtype, [context, kept.width]);
            let rows = root.slice(own, 0, 0, count.1.clone())?;
            let name = format!("{SEVERAL}{name}");
            let held = root.state(&name, kept.dtype, [texts * context, kept.width]);
            let held = root.push(Op::Scatter(Scatter::Replace), &[held, places, rows])?;
            root.update_state(&name, held)?;
        }
    }
    let held = root.push(Op::Range { start: count.1, step: 1, count: 1.into() }, &[])?;
    root.output("past", held);
    Ok(graph)
}
