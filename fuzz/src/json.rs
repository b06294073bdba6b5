//! Changing text of JSON: one value at a time, so that the rest still means something.

/// Values that break careless arithmetic, and some of other types.
const ABSURD: &str = "0 1 -1 2 3 7 8 31 64 255 256 257 4096 65536 65537 16777216 2147483648 -2147483648 4294967295 \
    4294967296 9007199254740993 4611686018427387904 9223372036854775807 -9223372036854775808 18446744073709551615 \
    18446744073709551616 0.5 -0.0 1e-45 1e38 1e39 -1e308 1e999 null true false \"\" [] [1,1] [1,[2,[3]]] {}";

/// The text with one of its numbers, words or names replaced; none if it has none.
///
/// A name becomes another name of the text, everything else one of those or something absurd.
#[must_use]
pub fn replace_value(text: &[u8], seed: usize) -> Option<Vec<u8>> {
    let (place, value) = replacement(text, seed, usize::MAX)?;
    Some([&text[..place.start], &value, &text[place.end..]].concat())
}

/// Like [`replace_value`], with spaces for what the new value is shorter: nothing moves, and false if nothing fits.
pub fn replace_value_in_place(text: &mut [u8], seed: usize) -> bool {
    let Some((place, value)) = replacement(text, seed, 0) else { return false };
    let is_name = place.start > 0 && text[place.start - 1] == b'"';
    if is_name && value.len() != place.len() {
        return false;
    }
    text[place.clone()].fill(b' ');
    text[place.start..place.start + value.len()].copy_from_slice(&value);
    true
}

/// A value of the text and what to put there: no longer than it, or than `room`.
fn replacement(text: &[u8], seed: usize, room: usize) -> Option<(std::ops::Range<usize>, Vec<u8>)> {
    let in_value = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-._".contains(byte);
    let starts: Vec<usize> =
        (1..text.len()).filter(|&i| in_value(&text[i]) && b" :[,\"".contains(&text[i - 1])).collect();
    let value_at = |start: usize| {
        let len = text[start..].iter().take_while(|byte| in_value(byte)).count();
        start..start + len
    };
    let place = value_at(*starts.get(seed % starts.len().max(1))?);
    let (seed, room) = (seed / starts.len(), room.max(place.len()));
    let is_name = text[place.start - 1] == b'"';
    if is_name || seed % 3 == 0 {
        let names = starts.iter().filter(|&&start| (text[start - 1] == b'"') == is_name);
        let others: Vec<_> = names.map(|&start| value_at(start)).filter(|other| other.len() <= room).collect();
        let other = others.get(seed % others.len().max(1))?.clone();
        return Some((place, text[other].to_vec()));
    }
    let values: Vec<&str> = ABSURD.split(' ').filter(|value| !value.is_empty() && value.len() <= room).collect();
    let value = values.get(seed % values.len().max(1))?;
    Some((place, value.as_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = br#"{"size": [3, 4096], "name": "abc"}"#;

    #[test]
    fn one_value_changes() {
        let changed: Vec<Vec<u8>> = (0..2000).filter_map(|seed| replace_value(TEXT, seed)).collect();
        assert_eq!(changed.len(), 2000);
        let is = |text: &[u8]| changed.iter().any(|changed| changed == text);
        assert!(is(br#"{"size": [18446744073709551616, 4096], "name": "abc"}"#));
        assert!(is(br#"{"size": [3, 4096], "name": "size"}"#));
        assert!(is(br#"{"size": [3, 3], "name": "abc"}"#));
        assert_eq!(replace_value(b"{}", 7), None);
    }

    #[test]
    fn nothing_moves_in_place() {
        let mut lengths = (0..2000).map(|seed| {
            let mut text = TEXT.to_vec();
            let _ = replace_value_in_place(&mut text, seed);
            (text[7], text[17], text.len())
        });
        assert!(lengths.all(|kept| kept == (b':', b']', TEXT.len())));
    }
}
