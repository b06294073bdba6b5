//! Changing inputs so that most of each stays whole: one value of the JSON inside is replaced.

use crate::{bundle, json};

/// An archive whose program has another value, of no more letters.
#[must_use]
pub fn archive(data: &[u8], seed: usize) -> Option<Vec<u8>> {
    let mut data = data.to_vec();
    let begins = b"{\"graph_module\"";
    let start = data.windows(begins.len()).position(|window| window == begins)?;
    let end = data[start..].iter().position(|&byte| byte == 0).map_or(data.len(), |end| start + end);
    json::replace_value_in_place(&mut data[start..end], seed).then_some(data)
}

/// The files of an asset with another value in its graphs.
#[must_use]
pub fn asset(data: &[u8], seed: usize) -> Option<Vec<u8>> {
    let [manifest, graph, constants, weights] = bundle::split(data);
    Some(bundle::join(&[manifest, &json::replace_value(graph, seed)?, constants, weights]))
}

/// The parts of a built file with another value in its header.
#[must_use]
pub fn built(data: &[u8], seed: usize) -> Option<Vec<u8>> {
    let [magic, header, constants, packed] = bundle::split(data);
    Some(bundle::join(&[magic, &json::replace_value(header, seed)?, constants, packed]))
}
