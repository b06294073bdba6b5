//! A language model that reads a text for its states, as denoisers take them.

use ondine_graph::{DType, Dim, Graph, Result, Value, fail};

use super::{
    attention::{KeysAndValues, Sequence, keys_and_values, norm},
    config::Config,
    layer::{decoder_layer, normed, scaled},
};
use crate::{
    architecture::HiddenStates,
    blocks::{Module, embedding},
};

/// Builds the function that reads a whole text, up to the last layer whose states are asked for.
///
/// Inputs: `input_ids` I64 `[1, tokens]`, and `attention_mask` I64 `[1, tokens]`, 0 for tokens that nobody sees, of
/// which the first is none. Output: `last_hidden_state` `[1, tokens, states * hidden_size]`, the states side by side.
///
/// # Errors
/// If the config is absurd or has no such layers.
pub fn build(config: &Config, states: HiddenStates) -> Result<Graph> {
    config.check()?;
    let wanted = states.indices(config.layers.len())?;
    let last = wanted.iter().copied().max().unwrap_or(0);
    let mut graph = Graph::new();
    graph.limit("tokens", 1, config.max_positions);
    let root = &mut Module::root(&mut graph);
    let tokens = Dim::symbol("tokens");
    let ids = root.input("input_ids", DType::I64, [1.into(), tokens.clone()]);
    let seen = root.input("attention_mask", DType::I64, [1.into(), tokens.clone()]);
    let ids = root.reshape(ids, [tokens.clone()])?;
    let seen = root.cast(seen, DType::Bool)?;
    let sequence = Sequence::whole(root, config, tokens.clone(), seen)?;

    let m = &mut root.at("model");
    let x = embedding(&mut m.at("embed_tokens"), ids, [config.vocab_size, config.hidden_size])?;
    let mut entering: Vec<Value> = vec![scaled(m, x, config.scales.embedding)?];
    let mut kept: Vec<KeysAndValues> = Vec::with_capacity(last);
    for (index, layer) in config.layers.iter().enumerate().take(last) {
        let m = &mut m.at(format_args!("layers.{index}"));
        let x = entering[index];
        let h = normed(m, x, config, config.norms.names().before_attention)?;
        kept.push(match layer.keys_of {
            Some(other) => kept[other].clone(),
            None => keys_and_values(&mut m.at("self_attn"), h, config, layer, index, &sequence)?,
        });
        entering.push(decoder_layer(m, [x, h], &kept[index], config, layer, &sequence)?);
    }
    if last == config.layers.len()
        && let Some(x) = entering.last_mut()
    {
        *x = norm(&mut m.at("norm"), *x, config)?;
    }
    let taken: Vec<Value> = wanted.iter().map(|&index| entering[index]).collect();
    let all = match taken.as_slice() {
        [] => fail!(Internal, "no states are asked for"),
        [one] => *one,
        several => root.concat(several, 1)?,
    };
    let all = root.reshape(all, vec![1.into(), tokens, (wanted.len() * config.hidden_size).into()])?;
    root.output("last_hidden_state", all);
    Ok(graph)
}
