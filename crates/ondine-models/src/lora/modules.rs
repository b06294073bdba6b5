//! The modules of a network by all names that adapters have for them.

use std::collections::{BTreeMap, BTreeSet};

use ondine_graph::{Graph, Result};

use super::keys::{Key, Target};
use crate::{
    checkpoint::transformer::{FLUX_LAYERS, SD3_LAYERS, SINGLE_LAYERS},
    network::Network,
};

/// The modules of one network.
pub(super) struct Modules {
    target: Target,
    /// Modules by flat name; several that are one for the programs that trained the network.
    by_name: BTreeMap<String, Vec<Place>>,
    /// Modules in the order in which the trainer of Ryu (2022) meets them.
    in_order: Vec<String>,
}

/// A module, and which rows of a change are its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: String,
    /// The first of them, and the rows of the whole change; none if all are.
    pub(super) rows: Option<(usize, usize)>,
}

impl Place {
    fn whole(path: &str) -> Vec<Self> {
        vec![Self { path: path.to_owned(), rows: None }]
    }
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
        if let Some(short) = path.strip_prefix("text_model.") {
            add(short);
        }
        for (own, ldm) in &other {
            if let Some(rest) = path.strip_prefix(own.as_str()) {
                add(&format!("{ldm}{}", ldm_layer(rest)));
            }
        }
    }
    if target == Target::Unet {
        for (name, places) in original_names(&paths, network) {
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

/// The projections that are one layer, by the name of that: in the blocks of Stable Diffusion 3, of `FLUX`, and in its
/// blocks with the same weights for text and picture.
const FUSED: [&[(&str, &[&str])]; 3] = [
    &[
        ("x_block.attn.qkv", &["attn.to_q", "attn.to_k", "attn.to_v"]),
        ("x_block.attn2.qkv", &["attn2.to_q", "attn2.to_k", "attn2.to_v"]),
        ("context_block.attn.qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    ],
    &[
        ("img_attn.qkv", &["attn.to_q", "attn.to_k", "attn.to_v"]),
        ("txt_attn.qkv", &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"]),
    ],
    &[("linear1", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"])],
];

/// A layer by its first name, and by that of diffusers.
type Renamed = (&'static str, &'static str);

/// The layers of transformers under their first names, those of several modules among them.
fn original_names(paths: &BTreeSet<String>, network: &Network) -> Vec<(String, Vec<Place>)> {
    let mut names = Vec::new();
    let kinds: [(&str, &str, &[Renamed]); 3] = [
        ("transformer_blocks", "joint_blocks", &SD3_LAYERS),
        ("transformer_blocks", "double_blocks", &FLUX_LAYERS),
        ("single_transformer_blocks", "single_blocks", &SINGLE_LAYERS),
    ];
    for ((own, first, layers), fused) in kinds.into_iter().zip(FUSED) {
        let has = |i: usize| paths.contains(&format!("{own}.{i}.attn.to_q"));
        for i in (0..).take_while(|i| has(*i)) {
            for (layer, new) in layers {
                let path = format!("{own}.{i}.{}", new.trim_end_matches('.'));
                if paths.contains(&path) {
                    names.push((format!("{first}.{i}.{}", layer.trim_end_matches('.')), Place::whole(&path)));
                }
            }
            for (layer, parts) in fused {
                let paths: Vec<String> = parts.iter().map(|part| format!("{own}.{i}.{part}")).collect();
                if let Some(places) = stacked(network, paths) {
                    names.push((format!("{first}.{i}.{layer}"), places));
                }
            }
        }
    }
    names
}

/// Modules whose rows are one after the other in one layer, if all are there.
fn stacked(network: &Network, paths: Vec<String>) -> Option<Vec<Place>> {
    let rows: Option<Vec<usize>> =
        paths.iter().map(|path| network.shape_of(&format!("{path}.weight"))?.first().copied()).collect();
    let rows = rows?;
    let (all, mut start) = (rows.iter().sum(), 0);
    let place = |(path, rows)| {
        let place = Place { path, rows: Some((start, all)) };
        start += rows;
        place
    };
    Some(paths.into_iter().zip(rows).map(place).collect())
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
