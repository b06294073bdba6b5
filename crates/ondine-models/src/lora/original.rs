//! The layers of transformers as the programs that trained them call them, some of which are several modules here.

use std::collections::BTreeSet;

use super::place::{Place, Rows};
use crate::{
    checkpoint::{
        sana,
        transformer::{
            FLUX_ENDS, FLUX_LAYERS, FLUX2_ENDS, FLUX2_LAYERS, FLUX2_SINGLE_LAYERS, LAST_NORM, SD3_ENDS, SD3_LAYERS,
            SINGLE_LAYERS,
        },
        z_image,
    },
    network::Network,
};

/// Beginnings of names: the first one, and that of diffusers.
type Renamed = (&'static str, &'static str);
/// A layer that is several modules one after the other.
type Fused = (&'static str, &'static [&'static str]);

/// Blocks of one kind; what a network does not have is not looked for.
struct Blocks {
    own: &'static str,
    first: &'static str,
    layers: &'static [Renamed],
    fused: &'static [Fused],
}

const OWN: &[&str] = &["attn.to_q", "attn.to_k", "attn.to_v"];
const SECOND: &[&str] = &["attn2.to_q", "attn2.to_k", "attn2.to_v"];
const ADDED: &[&str] = &["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"];
const JOINT: &str = "transformer_blocks";
const SINGLE: &str = "single_transformer_blocks";

const BLOCKS: [Blocks; 7] = [
    Blocks {
        own: JOINT,
        first: "joint_blocks",
        layers: &SD3_LAYERS,
        fused: &[("x_block.attn.qkv", OWN), ("x_block.attn2.qkv", SECOND), ("context_block.attn.qkv", ADDED)],
    },
    Blocks {
        own: JOINT,
        first: "double_blocks",
        layers: &FLUX_LAYERS,
        fused: &[("img_attn.qkv", OWN), ("txt_attn.qkv", ADDED)],
    },
    Blocks { own: JOINT, first: "double_blocks", layers: &FLUX2_LAYERS, fused: &[] },
    Blocks {
        own: SINGLE,
        first: "single_blocks",
        layers: &SINGLE_LAYERS,
        fused: &[("linear1", &["attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"])],
    },
    Blocks { own: SINGLE, first: "single_blocks", layers: &FLUX2_SINGLE_LAYERS, fused: &[] },
    // What XLabs calls the layers of FLUX.1 that its adapters change.
    Blocks {
        own: JOINT,
        first: "double_blocks",
        layers: &[("proj1", "attn.to_out.0"), ("proj2", "attn.to_add_out")],
        fused: &[("qkv1", OWN), ("qkv2", ADDED)],
    },
    Blocks { own: SINGLE, first: "single_blocks", layers: &[("proj", "proj_out")], fused: &[("qkv", OWN)] },
];

/// The norm of the text in the last block of Stable Diffusion 3, which yields shift before scale as [`LAST_NORM`].
const LAST_TEXT_NORM: Renamed = ("context_block.adaLN_modulation.1", "norm1_context.linear");

/// The layers of a network under their first names.
pub(super) fn first_names(paths: &BTreeSet<String>, network: &Network) -> Vec<(String, Vec<Place>)> {
    let mut names = Names { paths, network, found: Vec::new() };
    // A norm whose halves change places comes before the rest: the first of a name counts.
    names.swapped(LAST_NORM.0, LAST_NORM.1);
    let has = |start: &str| paths.range(start.to_owned()..).next().is_some_and(|path| path.starts_with(start));
    let count = |own: &str| (0..).take_while(|i| has(&format!("{own}.{i}."))).count();
    if let Some(last) = count(JOINT).checked_sub(1)
        && !paths.contains(&format!("{JOINT}.{last}.ff_context.net.2"))
    {
        names.swapped(
            &format!("joint_blocks.{last}.{}", LAST_TEXT_NORM.0),
            &format!("{JOINT}.{last}.{}", LAST_TEXT_NORM.1),
        );
    }
    for ends in [&SD3_ENDS[..], &FLUX_ENDS, &FLUX2_ENDS, &z_image::ENDS, &sana::ENDS] {
        names.renamed("", "", ends);
    }
    for Blocks { own, first, layers, fused } in BLOCKS {
        for i in 0..count(own) {
            names.renamed(&format!("{first}.{i}."), &format!("{own}.{i}."), layers);
            names.fused(&format!("{first}.{i}."), &format!("{own}.{i}."), fused);
        }
    }
    for i in 0..count(JOINT) {
        let (first, own) = (format!("blocks.{i}."), format!("{JOINT}.{i}."));
        names.renamed(&first, &own, &sana::LAYERS);
        names.fused(&first, &own, &sana::FUSED);
    }
    for place in z_image::BLOCKS {
        for i in 0..count(place) {
            let block = format!("{place}.{i}.");
            names.renamed(&block, &block, &z_image::LAYERS);
            names.fused(&block, &block, &[("attention.qkv", &["attention.to_q", "attention.to_k", "attention.to_v"])]);
        }
    }
    names.found
}

struct Names<'n> {
    paths: &'n BTreeSet<String>,
    network: &'n Network,
    found: Vec<(String, Vec<Place>)>,
}

impl Names<'_> {
    /// Modules whose names begin with one of `layers` behind `own`, under the first name of that behind `first`.
    fn renamed(&mut self, first: &str, own: &str, layers: &[Renamed]) {
        for (old, new) in layers {
            let start = format!("{own}{new}");
            let whole = start.trim_end_matches('.');
            if self.paths.contains(whole) {
                self.found.push((format!("{first}{}", old.trim_end_matches('.')), Place::whole(whole)));
            }
            let behind = self.paths.range(start.clone()..).take_while(|path| path.starts_with(&start));
            self.found.extend(behind.map(|path| (format!("{first}{old}{}", &path[start.len()..]), Place::whole(path))));
        }
    }

    /// Modules whose rows are one after the other in one layer, where all are there.
    fn fused(&mut self, first: &str, own: &str, layers: &[Fused]) {
        for (layer, parts) in layers {
            let paths: Vec<String> = parts.iter().map(|part| format!("{own}{part}")).collect();
            let rows: Option<Vec<usize>> = paths.iter().map(|path| self.rows(path)).collect();
            let Some(rows) = rows else { continue };
            let (all, mut start) = (rows.iter().sum(), 0);
            let place = |(path, rows): (String, usize)| {
                let own = start..start + rows;
                start += rows;
                Place { path, rows: Some(Rows { all, own: vec![own] }) }
            };
            self.found.push((format!("{first}{layer}"), paths.into_iter().zip(rows).map(place).collect()));
        }
    }

    /// A module whose two halves are the other way round in a layer.
    fn swapped(&mut self, first: &str, own: &str) {
        if let Some(all) = self.rows(own) {
            let halves = vec![all / 2..all, 0..all / 2];
            let place = Place { path: own.to_owned(), rows: Some(Rows { all, own: halves }) };
            self.found.push((first.to_owned(), vec![place]));
        }
    }

    fn rows(&self, path: &str) -> Option<usize> {
        self.network.shape_of(&format!("{path}.weight"))?.first().copied()
    }
}
