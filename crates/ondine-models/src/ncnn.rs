//! Networks as ncnn keeps them: a text of layers (`.param`) and their numbers (`.bin`), one after the other.
//!
//! Read are the weights of networks that enlarge pictures, which are many convolutions in a row: their tensors have no
//! names there, and get those that BasicSR gives them by their order. The text begins with the number 7767517, then
//! tells how many layers there are; each is a line `kind name inputs outputs ... key=value`. Numbers of a convolution
//! begin with a word that says their type, its bias and those of an activation do not.

use ondine_graph::{Bytes, DType, Result, Tensor, Weights, fail};

/// What a text of layers begins with.
const MAGIC: &[u8] = b"7767517";

/// Weights in half precision.
const HALF: u32 = 0x0130_6b47;

/// The most layers that are read.
const MOST_LAYERS: usize = 1 << 16;

/// True for a text of layers, whatever follows it.
#[must_use]
pub fn is_one(bytes: &[u8]) -> bool {
    let rest = bytes.strip_prefix(MAGIC).unwrap_or_default();
    rest.starts_with(b"\n") || rest.starts_with(b"\r\n")
}

/// True for numbers without the text that tells what they are.
#[must_use]
pub fn is_numbers(bytes: &[u8]) -> bool {
    bytes.starts_with(&HALF.to_le_bytes())
}

/// A layer that has numbers.
#[derive(Debug, PartialEq)]
enum Layer {
    Convolution { outputs: usize, kernel: usize, count: usize, bias: bool },
    Prelu { count: usize },
}

/// The layers with numbers, whether others put results side by side, and the bytes of the text.
struct Text {
    layers: Vec<Layer>,
    concatenates: bool,
    len: usize,
}

/// The weights of the network in a text and the numbers behind it, or in `numbers` if nothing is behind it.
///
/// # Errors
/// If the text is none, has layers of other kinds, or the numbers are fewer or more than it tells.
pub fn parse(file: &str, bytes: &Bytes, numbers: Option<&Bytes>) -> Result<Weights> {
    let text = layers(bytes)?;
    let behind = bytes.slice(text.len, bytes.len() - text.len).filter(|behind| !behind.is_empty());
    let Some(numbers) = behind.as_ref().or(numbers) else {
        fail!(Missing, "the numbers of the network are in a file with the ending .bin, which is not beside it");
    };
    let names = names(&text)?;
    let (mut weights, mut at) = (Weights::default(), 0);
    let mut insert = |path: String, dtype: DType, shape: Vec<usize>, at: &mut usize| {
        let len = shape.iter().try_fold(dtype.size(), |len, &size| len.checked_mul(size));
        let bytes = len.and_then(|len| numbers.slice(*at, len));
        let (Some(len), Some(bytes)) = (len, bytes) else {
            fail!(Format, "{path}: the numbers end before it; was the file cut?");
        };
        // Each tensor fills whole words.
        *at += len.next_multiple_of(size_of::<u32>());
        weights.insert(&path, Tensor { dtype, shape, bytes, file: file.into() });
        Ok(())
    };
    for (layer, name) in text.layers.iter().zip(names) {
        match *layer {
            Layer::Convolution { outputs, kernel, count, bias } => {
                let Some(inputs) = count.checked_div(outputs * kernel * kernel).filter(|&inputs| inputs > 0) else {
                    fail!(Format, "{name}: {count} weights of {outputs} outputs and {kernel}x{kernel} pixels");
                };
                let word = numbers.get(at..).and_then(|rest| rest.first_chunk().map(|word| u32::from_le_bytes(*word)));
                let dtype = match word {
                    Some(0) => DType::F32,
                    Some(HALF) => DType::F16,
                    Some(other) => {
                        fail!(Unsupported, "{name}: weights of the kind {other:#x}; those of f16 and f32 are read")
                    }
                    None => fail!(Format, "{name}: the numbers end before it; was the file cut?"),
                };
                at += size_of::<u32>();
                insert(format!("{name}.weight"), dtype, vec![outputs, inputs, kernel, kernel], &mut at)?;
                if bias {
                    insert(format!("{name}.bias"), DType::F32, vec![outputs], &mut at)?;
                }
            }
            Layer::Prelu { count } => insert(format!("{name}.weight"), DType::F32, vec![count], &mut at)?,
        }
    }
    if at != numbers.len() {
        fail!(Format, "{} bytes of numbers belong to no layer", numbers.len().abs_diff(at));
    }
    Ok(weights)
}

/// The names of the layers by their order.
fn names(text: &Text) -> Result<Vec<String>> {
    let count = text.layers.len();
    if !text.concatenates {
        return Ok((0..count).map(|layer| format!("body.{layer}")).collect());
    }
    // Five convolutions in each of the three dense parts of a block, one before all blocks and five behind them.
    let blocks = count.saturating_sub(6) / 15;
    if blocks == 0 || count != 15 * blocks + 6 {
        fail!(Unsupported, "{count} convolutions are no RRDBNet, which has six beside fifteen for each block");
    }
    let inner = (0..blocks).flat_map(|block| {
        (1..=3).flat_map(move |part| (1..=5).map(move |conv| format!("body.{block}.rdb{part}.conv{conv}")))
    });
    let behind = ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"].map(str::to_owned);
    Ok(std::iter::once("conv_first".to_owned()).chain(inner).chain(behind).collect())
}

fn layers(bytes: &[u8]) -> Result<Text> {
    let mut len = 0;
    let mut line = || {
        let rest = bytes.get(len..)?;
        let end = rest.iter().position(|&byte| byte == b'\n')?;
        len += end + 1;
        std::str::from_utf8(rest.get(..end)?).ok().map(str::trim)
    };
    let (_, counts) = (line(), line());
    let count = counts.and_then(|counts| counts.split_whitespace().next()?.parse::<usize>().ok());
    let Some(count) = count.filter(|&count| count <= MOST_LAYERS) else {
        fail!(Format, "the second line of a network of ncnn does not tell how many layers it has");
    };
    let (mut layers, mut concatenates) = (Vec::new(), false);
    for index in 0..count {
        let Some(text) = line() else { fail!(Format, "the network ends before layer {index} of {count}") };
        let mut words = text.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let value = |key: &str| {
            let mut values = text.split_whitespace().filter_map(|word| word.split_once('='));
            values.find(|(name, _)| *name == key)?.1.parse::<usize>().ok()
        };
        let known = |key: &str| match value(key).filter(|&value| value <= u32::MAX as usize) {
            Some(value) => Ok(value),
            None => fail!(Format, "layer {index}, `{text}`, does not tell its {key}"),
        };
        match kind {
            "Convolution" => {
                let (outputs, kernel, count) = (known("0")?, known("1")?, known("6")?);
                if value("11").is_some_and(|height| height != kernel) || kernel > 64 || outputs > 1 << 20 {
                    fail!(Unsupported, "layer {index}, `{text}`: kernels that are no squares, or too large");
                }
                layers.push(Layer::Convolution { outputs, kernel, count, bias: value("5") == Some(1) });
            }
            "PReLU" => layers.push(Layer::Prelu { count: known("0")? }),
            "Concat" => concatenates = true,
            "Interp" if shrinks(text) => {
                fail!(
                    Unsupported,
                    "layer {index} makes the picture smaller again; take the network that yields all of it"
                )
            }
            "Input" | "Split" | "Eltwise" | "BinaryOp" | "Interp" | "PixelShuffle" => {}
            other => fail!(Unsupported, "layer {index} is a {other}; networks of ncnn are read that enlarge pictures"),
        }
    }
    Ok(Text { layers, concatenates, len })
}

/// True for a layer whose result is less high or wide than what it reads.
fn shrinks(text: &str) -> bool {
    let scales = text.split_whitespace().filter_map(|word| word.strip_prefix("1=").or_else(|| word.strip_prefix("2=")));
    scales.filter_map(|scale| scale.parse::<f32>().ok()).any(|scale| scale < 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPACT: &str = "7767517\n5 5\nInput in 0 1 data\nConvolution c0 1 1 data a 0=2 1=1 4=0 5=1 6=6\n\
        PReLU p 1 1 a b 0=2\nConvolution c1 1 1 b c 0=3 1=1 5=1 6=6\nPixelShuffle s 1 1 c out 0=1\n";

    fn numbers() -> Vec<u8> {
        let floats = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        // 1 to 6 in half precision.
        let first: [u16; 6] = [0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600];
        let first = first.iter().flat_map(|x| x.to_le_bytes()).collect();
        [
            HALF.to_le_bytes().to_vec(),
            first,
            floats(&[0.5, -0.5]),
            floats(&[0.25, 0.75]),
            vec![0; 4],
            floats(&[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
            floats(&[7.0, 8.0, 9.0]),
        ]
        .concat()
    }

    fn read(bytes: &[u8], apart: Option<&[u8]>) -> Result<Weights> {
        parse("test", &Bytes::from(bytes), apart.map(Bytes::from).as_ref())
    }

    #[test]
    fn layers_get_their_numbers_by_their_order() {
        let whole = [COMPACT.as_bytes(), &numbers()].concat();
        assert!(is_one(&whole) && !is_numbers(&whole) && is_numbers(&numbers()));
        for weights in [read(&whole, None).unwrap(), read(COMPACT.as_bytes(), Some(&numbers())).unwrap()] {
            assert_eq!(weights.get("body.0.weight").unwrap().shape, [2, 3, 1, 1]);
            assert_eq!(weights.to_f32("body.0.weight").unwrap()[..], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
            assert_eq!(weights.to_f32("body.0.bias").unwrap()[..], [0.5, -0.5]);
            assert_eq!(weights.to_f32("body.1.weight").unwrap()[..], [0.25, 0.75]);
            assert_eq!(weights.to_f32("body.2.weight").unwrap()[..], [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
            assert_eq!(weights.to_f32("body.2.bias").unwrap()[..], [7.0, 8.0, 9.0]);
        }
    }

    #[test]
    fn broken_networks_are_errors() {
        let error =
            |text: &str, numbers: &[u8]| read(&[text.as_bytes(), numbers].concat(), None).unwrap_err().to_string();
        for cut in 0..numbers().len() {
            let told = error(COMPACT, &numbers()[..cut]);
            assert!(told.contains("end before") || told.contains(".bin"), "{cut}: {told}");
        }
        for cut in 8..COMPACT.len() - 1 {
            read(&COMPACT.as_bytes()[..cut], Some(&numbers())).unwrap_err();
        }
        assert!(error(COMPACT, &[&numbers()[..], &[0; 4]].concat()).contains("4 bytes"));
        assert!(error(&COMPACT.replace("PReLU", "LSTM"), &numbers()).contains("is a LSTM"));
        assert!(error(&COMPACT.replace("6=6", "6=99999999999999999999"), &numbers()).contains("does not tell its 6"));
        assert!(error(&COMPACT.replace("0=2", "0=0"), &numbers()).contains("6 weights of 0 outputs"));
        assert!(error(&COMPACT.replace("5 5", "999999999 5"), &numbers()).contains("how many layers"));
        let smaller =
            COMPACT.replace("PixelShuffle s 1 1 c out 0=1", "Interp s 1 1 c out 0=3 1=5.000000e-01 2=5.000000e-01");
        assert!(error(&smaller, &numbers()).contains("smaller again"));
        assert!(error(&COMPACT.replace("PixelShuffle", "Concat"), &numbers()).contains("no RRDBNet"));
    }
}
