//! The modules of a network by all names that adapters have for them.

use std::collections::{BTreeMap, BTreeSet};

use ondine_graph::{Graph, Result};

use super::{
    keys::{Key, Target},
    original::first_names,
    place::Place,
};
use crate::network::Network;

/// The modules of one network.
pub(super) struct Modules {
    target: Target,
    /// Modules by flat name; several that are one for the programs that trained the network.
    by_name: BTreeMap<String, Vec<Place>>,
    /// Modules in the order in which the trainer of Ryu (2022) meets them.
    in_order: Vec<String>,
}

/// The modules of a network that diffusers calls `name`.
pub(super) fn of(name: &str, network: &Network) -> Result<Modules> {
    let target = match name {
        "text_encoder" => Target::Text(0),
        "text_encoder_2" => Target::Text(1),
        _ => Target::Unet,
    };
    let mut paths = BTreeSet::new();
    for (_, graph) in network.functions()? {
        paths.extend(modules(&graph));
    }
    let other: Vec<(String, String)> = if target == Target::Unet { ldm_names(&paths) } else { Vec::new() };
    let mut by_name = BTreeMap::new();
    for path in &paths {
        let mut add = |name: &str| {
            by_name.entry(name.replace('.', "_")).or_insert_with(|| Place::whole(path));
        };
        add(path);
        // Names that old programs cut short.
        if let Some(short) = path.strip_suffix(".to_out.0") {
            add(&format!("{short}.to_out"));
        }
        for cut in ["text_model.", "tran"] {
            if let Some(short) = path.strip_prefix(cut) {
                add(short);
            }
        }
        for (own, ldm) in &other {
            if let Some(rest) = path.strip_prefix(own.as_str()) {
                add(&format!("{ldm}{}", ldm_layer(rest)));
            }
        }
    }
    if target == Target::Unet {
        for (name, places) in first_names(&paths, network) {
            by_name.entry(name.replace('.', "_")).or_insert(places);
        }
    }
    let in_order = if target == Target::Unet { unet_order(&paths) } else { text_order(&paths) };
    Ok(Modules { target, by_name, in_order })
}

impl Modules {
    /// The modules that a key means, if they are of these.
    pub(super) fn find(&self, key: &Key) -> Option<Vec<Place>> {
        match key {
            Key::Named(target, name) if *target == self.target => self.by_name.get(name).cloned(),
            Key::Numbered(target, number) if *target == self.target => {
                self.in_order.get(*number).map(|path| Place::whole(path))
            }
            _ => None,
        }
    }
}

/// The modules of a graph that have a weight.
fn modules(graph: &Graph) -> Vec<String> {
    graph.weights().iter().filter_map(|weight| weight.path.strip_suffix(".weight").map(str::to_owned)).collect()
}

/// Beginnings of names in diffusers, and in the programs that trained Stable Diffusion, whose blocks are numbered in
/// the order in which they run.
fn ldm_names(paths: &BTreeSet<String>) -> Vec<(String, String)> {
    let mut names: Vec<(String, String)> = [
        ("conv_in", "input_blocks.0.0"),
        ("time_embedding.linear_1", "time_embed.0"),
        ("time_embedding.linear_2", "time_embed.2"),
        ("add_embedding.linear_1", "label_emb.0.0"),
        ("add_embedding.linear_2", "label_emb.0.2"),
        ("conv_norm_out", "out.0"),
        ("conv_out", "out.2"),
        ("mid_block.resnets.0.", "middle_block.0."),
        ("mid_block.attentions.0.", "middle_block.1."),
        ("mid_block.resnets.1.", "middle_block.2."),
    ]
    .map(|(own, ldm)| (own.to_owned(), ldm.to_owned()))
    .to_vec();
    let has = |start: &str| paths.range(start.to_owned()..).next().is_some_and(|path| path.starts_with(start));
    let mut add = |own: String, ldm: String| names.push((own, ldm));
    let mut number = 1;
    for i in (0..).take_while(|i| has(&format!("down_blocks.{i}."))) {
        for j in (0..).take_while(|j| has(&format!("down_blocks.{i}.resnets.{j}."))) {
            add(format!("down_blocks.{i}.resnets.{j}."), format!("input_blocks.{number}.0."));
            add(format!("down_blocks.{i}.attentions.{j}."), format!("input_blocks.{number}.1."));
            number += 1;
        }
        add(format!("down_blocks.{i}.downsamplers.0.conv"), format!("input_blocks.{number}.0.op"));
        number += 1;
    }
    number = 0;
    for i in (0..).take_while(|i| has(&format!("up_blocks.{i}."))) {
        let attends = has(&format!("up_blocks.{i}.attentions.0."));
        for j in (0..).take_while(|j| has(&format!("up_blocks.{i}.resnets.{j}."))) {
            add(format!("up_blocks.{i}.resnets.{j}."), format!("output_blocks.{number}.0."));
            add(format!("up_blocks.{i}.attentions.{j}."), format!("output_blocks.{number}.1."));
            number += 1;
        }
        let place = if attends { 2 } else { 1 };
        add(format!("up_blocks.{i}.upsamplers.0.conv"), format!("output_blocks.{}.{place}.conv", number - 1));
    }
    names
}

/// The layers of a residual block as these programs call them; others have the same names.
fn ldm_layer(rest: &str) -> &str {
    match rest {
        "norm1" => "in_layers.0",
        "conv1" => "in_layers.2",
        "time_emb_proj" => "emb_layers.1",
        "norm2" => "out_layers.0",
        "conv2" => "out_layers.3",
        "conv_shortcut" => "skip_connection",
        rest => rest,
    }
}

/// The linear layers of attentions and gates, on the way down, on the way up, then in the middle: the order of the
/// modules of diffusers in 2022, where the gate stood between the attentions.
fn unet_order(paths: &BTreeSet<String>) -> Vec<String> {
    const LAYERS: [&str; 9] = [
        "attn1.to_q",
        "attn1.to_k",
        "attn1.to_v",
        "attn1.to_out.0",
        "ff.net.0.proj",
        "attn2.to_q",
        "attn2.to_k",
        "attn2.to_v",
        "attn2.to_out.0",
    ];
    let ends = |path: &&String| path.ends_with(".attn1.to_q");
    let blocks: BTreeSet<(u8, Vec<usize>, &str)> = paths
        .iter()
        .filter(ends)
        .filter_map(|path| {
            let block = path.strip_suffix("attn1.to_q")?;
            let way = ["down_blocks", "up_blocks", "mid_block"].iter().position(|way| block.starts_with(way))?;
            let numbers = block.split('.').filter_map(|part| part.parse().ok()).collect();
            Some((u8::try_from(way).ok()?, numbers, block))
        })
        .collect();
    blocks.iter().flat_map(|(.., block)| LAYERS.map(|layer| format!("{block}{layer}"))).collect()
}

/// The projections of attentions, layer by layer, in the order of transformers' modules.
fn text_order(paths: &BTreeSet<String>) -> Vec<String> {
    let layer = |i: usize| format!("text_model.encoder.layers.{i}.self_attn.");
    let layers = (0..).take_while(|&i| paths.contains(&format!("{}q_proj", layer(i))));
    layers.flat_map(|i| ["k_proj", "v_proj", "q_proj", "out_proj"].map(|part| format!("{}{part}", layer(i)))).collect()
}
