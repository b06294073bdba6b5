//! Changing inputs so that most of each stays whole: one value of the JSON inside is replaced, or one byte.

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

/// The same bytes with one changed, put in or taken out, or without an end.
#[must_use]
pub fn bytes(data: &[u8], seed: usize) -> Option<Vec<u8>> {
    let (what, seed) = (seed % 8, seed / 8);
    let at = seed.checked_rem(data.len())?;
    let byte = (seed / data.len()) as u8;
    let mut data = data.to_vec();
    match what {
        0 => drop(data.remove(at)),
        1 => data.insert(at, byte),
        2 => data.truncate(at),
        3 => data[at] = data[at].wrapping_add(1),
        4 => data[at] ^= 1 << (byte % 8),
        _ => data[at] = byte,
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_changes() {
        let text = b"0123456789";
        for seed in 0..5000 {
            let changed = bytes(text, seed).unwrap();
            assert!(changed.len() <= text.len() + 1);
            assert!(changed.iter().filter(|byte| !text.contains(byte)).count() <= 1);
        }
        assert_eq!(bytes(b"", 3), None);
    }

    #[test]
    fn only_the_graphs_of_assets_change() {
        let files: [&[u8]; 4] = [b"{\"name\": 1}", b"{\"size\": 3}", b"", b"w"];
        let changed = asset(&bundle::join(&files), 7).unwrap();
        let [manifest, graph, constants, weights] = bundle::split(&changed);
        assert_eq!([manifest, constants, weights], [files[0], files[2], files[3]]);
        assert_ne!(graph, files[1]);
    }
}
