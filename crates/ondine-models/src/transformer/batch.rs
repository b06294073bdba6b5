//! Several texts at once: a token of each in one call, so that weights are read once for all of them.
//!
//! The states have room for as many texts as are asked for, and a text comes out as it would alone, to the
//! bit. A prompt is read by `next` as any other, into states of its own; `seat` copies what it has left
//! there to the place of a text.

use ondine_graph::{DType, Dim, Graph, Op, Result, Scatter, fail};

use super::{attention::SEVERAL, cache::kept, config::Config, room::Room};
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
pub(super) fn seat(config: &Config, room: Room, texts: usize) -> Result<Graph> {
    check(config, texts)?;
    let mut graph = Graph::new();
    let root = &mut Module::root(&mut graph);
    let [text, count] =
        ["text", "count"].map(|name| (root.input(name, DType::I64, Vec::<Dim>::new()), Dim::symbol(name)));
    root.push(Op::Measure { size: text.1.clone(), most: (texts - 1).into() }, &[text.0])?;
    root.push(Op::Measure { size: count.1.clone(), most: room.context.into() }, &[count.0])?;
    for (index, rows) in room.all_rows(config) {
        // A ring is copied as it is: what a short text has not filled is not read.
        let copied: Dim = if rows.are_ring() { rows.count.into() } else { count.1.clone() };
        let start = &text.1 * &Dim::from(rows.count);
        let places = root.push(Op::Range { start, step: 1, count: copied.clone() }, &[])?;
        for kept in kept(config, room.kv) {
            let name = kept.of_layer(index);
            let own = root.state(&name, kept.dtype, [rows.count, kept.width]);
            let copied = root.slice(own, 0, 0, copied.clone())?;
            let name = format!("{SEVERAL}{name}");
            let held = root.state(&name, kept.dtype, [texts * rows.count, kept.width]);
            let held = root.push(Op::Scatter(Scatter::Replace), &[held, places, copied])?;
            root.update_state(&name, held)?;
        }
    }
    let held = root.push(Op::Range { start: count.1, step: 1, count: 1.into() }, &[])?;
    root.output("past", held);
    Ok(graph)
}
