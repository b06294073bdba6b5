//! Weights in the block formats of GGUF files are multiplied as the codes that they are, and looked up row by row.

use half::f16;
use ondine_graph::{
    block::Block,
    encoding::{BLOCKS, ENCODING},
};
use ondine_runtime::{
    Asset, DType, Device, Epilogue, Graph, NDArray, Op, Options, Precision, Processor, Specialize, Specialized, State,
    Tensor, Tier, Weights,
};

/// Numbers that look random, the same for the same seed.
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// From -1 to 1.
    fn number(&mut self) -> f32 {
        f32::from((self.bits() >> 16) as u16) / 32768.0 - 1.0
    }
}

/// Where a block keeps numbers of f16.
fn halves(block: Block) -> &'static [usize] {
    match block {
        Block::Q4_0 | Block::Q5_0 | Block::Q8_0 | Block::IQ4_NL | Block::IQ4_XS => &[0],
        Block::Q4_1 | Block::Q5_1 | Block::Q4_K | Block::Q5_K => &[0, 2],
        Block::Q2_K => &[80, 82],
        Block::Q3_K => &[108],
        Block::Q6_K => &[208],
        Block::MXFP4 => &[],
    }
}

/// Blocks with any codes, whose scales are as large as those of real weights.
fn blocks(block: Block, rows: usize, columns: usize, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..rows * block.row_bytes(columns).unwrap()).map(|_| random.bits() as u8).collect();
    for one in bytes.chunks_exact_mut(block.bytes()) {
        for &at in halves(block) {
            one[at..at + 2].copy_from_slice(&f16::from_f32(random.number() / 100.0).to_le_bytes());
        }
        if block == Block::MXFP4 {
            one[0] = 118 + one[0] % 8;
        }
    }
    bytes
}

fn weights(block: Block, [rows, columns]: [usize; 2], bytes: &[u8]) -> Weights {
    let mut weights = Weights::default();
    let file = || "blocks".into();
    let header: Vec<u8> = [BLOCKS + block.id() as usize, block.elements(), rows, columns]
        .iter()
        .flat_map(|&size| (size as i64).to_le_bytes())
        .collect();
    let header = Tensor { dtype: DType::I64, shape: vec![4], bytes: header.as_slice().into(), file: file() };
    weights.insert(&format!("w{ENCODING}"), header);
    let shape = vec![rows, bytes.len() / rows];
    weights.insert("w", Tensor { dtype: DType::U8, shape, bytes: bytes.into(), file: file() });
    weights
}

/// The result, and what the packed weights take.
fn run(graph: Graph, weights: Weights, precision: Precision, input: (&str, &NDArray)) -> (Vec<f32>, usize) {
    let asset = Asset::new("blocks", [("main", graph)], weights).unwrap();
    let options = Options { precision, ..Options::default() };
    let specialized = asset.specialize(&options, &Device::cpu(None).unwrap(), None).unwrap();
    let bytes = specialized.weight_bytes();
    let model = specialized.load().unwrap();
    let mut outputs = model.function("main").unwrap().run(&[input], &mut State::default()).unwrap();
    (outputs.take("y").unwrap().view::<f32>().unwrap().to_vec(), bytes)
}

#[test]
fn a_linear_layer_multiplies_codes_of_every_format() {
    let mut random = Random(7);
    for block in Block::ALL {
        for (outputs, channels, rows) in [(3, 256, 1), (70, 512, 4), (33, 768, 40)] {
            let bytes = blocks(block, outputs, channels, &mut random);
            let mut numbers = vec![0.0; outputs * channels];
            let row_bytes = bytes.len() / outputs;
            for (row, out) in numbers.chunks_exact_mut(channels).enumerate() {
                block.decode(&bytes[row * row_bytes..][..row_bytes], out);
            }
            let x: Vec<f32> = (0..rows * channels).map(|_| random.number()).collect();
            let x = NDArray::new(&[rows, channels], &x).unwrap();
            let mut all = Vec::new();
            for (precision, relative) in
                [(Precision::F32, 2e-6), (Precision::BF16, 1.0 / 128.0), (Precision::A8, 1.0 / 128.0)]
            {
                let mut graph = Graph::new();
                let input = graph.input("x", DType::F32, [rows, channels]);
                let weight = graph.weight("w", &[outputs, channels]).unwrap();
                let y = graph.push(Op::Linear(Epilogue::default()), &[input, weight]).unwrap();
                graph.output("y", y);
                let (got, taken) = run(graph, weights(block, [outputs, channels], &bytes), precision, ("x", &x));
                for (row, got) in got.chunks_exact(outputs).enumerate() {
                    let x = &x.view::<f32>().unwrap()[row * channels..][..channels];
                    // Half of a step in each block, if it is rounded.
                    let largest = |block: &[f32]| block.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
                    let steps: Vec<f32> = x.chunks(32).map(|block| largest(block) / 252.0).collect();
                    for (weights, &got) in numbers.chunks_exact(channels).zip(got) {
                        let products = x.iter().zip(weights).map(|(&x, &w)| f64::from(x) * f64::from(w));
                        let (wanted, size) = products.fold((0.0, 0.0), |(sum, size), p| (sum + p, size + f64::abs(p)));
                        // Codes and minima are summed apart, and may be far from each other.
                        let off = (f64::from(got) - wanted).abs();
                        let rounded = weights.chunks(32).zip(&steps);
                        let rounded: f32 = rounded.map(|(w, step)| step * w.iter().map(|w| w.abs()).sum::<f32>()).sum();
                        let rounded = if precision == Precision::A8 { f64::from(rounded) } else { 0.0 };
                        let scale = if precision == Precision::A8 { 1.0 } else { 8.0 };
                        let allowed = relative * (scale * size + 1e-3) + rounded;
                        assert!(off <= allowed, "{block} {precision:?} {outputs}x{channels}: {got} for {wanted}");
                    }
                }
                // Whole panels of columns, and scales that may be wider than in the file.
                let wide = outputs.next_multiple_of(64) * channels;
                assert!(taken <= wide * 12 / 8, "{block} {precision:?}: {taken} bytes for {wide} numbers");
                all.push((got, taken));
            }
            // The same codes, but rounded activations.
            assert_eq!(all[1].1, all[2].1, "{block}: bytes");
            // A few numbers of half precision may be the same.
            assert!(outputs < 33 || all[1].0 != all[2].0, "{block}: activations are not rounded");
        }
    }
}

#[test]
fn a_table_of_blocks_is_read_to_the_bit_and_lies_in_memory_once() {
    let mut random = Random(8);
    for block in Block::ALL {
        let (rows, columns) = (80, 512);
        let bytes = blocks(block, rows, columns, &mut random);
        let mut numbers = vec![0.0; rows * columns];
        for (row, out) in bytes.chunks_exact(bytes.len() / rows).zip(numbers.chunks_exact_mut(columns)) {
            block.decode(row, out);
        }
        let places = NDArray::new(&[4], &[79_i64, 0, 3, 3]).unwrap();
        for precision in [Precision::F32, Precision::A8] {
            let table = |multiplied: bool| {
                let mut graph = Graph::new();
                let indices = graph.input("i", DType::I64, [4]);
                let table = graph.weight("w", &[rows, columns]).unwrap();
                let y = graph.push(Op::Gather, &[table, indices]).unwrap();
                graph.output("y", y);
                if multiplied {
                    let logits = graph.push(Op::Linear(Epilogue::default()), &[y, table]).unwrap();
                    graph.output("logits", logits);
                }
                run(graph, weights(block, [rows, columns], &bytes), precision, ("i", &places))
            };
            let ((got, alone), (again, taken)) = (table(false), table(true));
            // Where products read 8 bits of 4, the table of the file stays beside them.
            let twice = matches!(block, Block::IQ4_NL | Block::IQ4_XS | Block::MXFP4);
            assert_eq!(taken > alone, twice, "{block}: {alone} bytes, {taken} with a head");
            assert!(alone <= bytes.len() * 4 / 3, "{block}: {alone} bytes of {}", bytes.len());
            for (&index, got) in [79, 0, 3, 3].iter().zip(got.chunks_exact(columns)) {
                let wanted = &numbers[index * columns..][..columns];
                // At a8 rows are rounded to bf16.
                let same = |x: f32, y: f32| match precision {
                    Precision::F32 => x == y,
                    _ => (x - y).abs() <= y.abs() / 256.0,
                };
                assert!(got.iter().zip(wanted).all(|(&x, &y)| same(x, y)), "{block} {precision:?}");
            }
            assert_eq!(got, again, "{block}");
        }
    }
}

/// Weights of numbers, or of blocks.
fn head(block: Option<Block>, [outputs, channels]: [usize; 2], random: &mut Random) -> Weights {
    if let Some(block) = block {
        return weights(block, [outputs, channels], &blocks(block, outputs, channels, random));
    }
    let numbers: Vec<u8> = (0..outputs * channels).flat_map(|_| random.number().to_le_bytes()).collect();
    let mut weights = Weights::default();
    let shape = vec![outputs, channels];
    weights.insert("w", Tensor { dtype: DType::F32, shape, bytes: numbers.as_slice().into(), file: "numbers".into() });
    weights
}

/// A head whose input has been normed: all columns, or those that the input `names` names.
fn head_of(rows: usize, [outputs, channels]: [usize; 2], names: Option<usize>) -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [rows, channels]);
    let scale = graph.constant(NDArray::new(&[channels], &vec![1.0_f32; channels]).unwrap());
    let x = graph.push(Op::RmsNorm { eps: 1e-5 }, &[x, scale]).unwrap();
    let weight = graph.weight("w", &[outputs, channels]).unwrap();
    let mut y = graph.push(Op::Linear(Epilogue::default()), &[x, weight]).unwrap();
    if let Some(count) = names {
        let names = graph.input("names", DType::I64, [count]);
        y = graph.push(Op::Take { axis: 1 }, &[y, names]).unwrap();
    }
    graph.output("y", y);
    graph
}

#[test]
fn columns_that_are_named_are_computed_alone_and_are_what_they_are_among_all() {
    let mut random = Random(9);
    let shape @ [outputs, channels] = [300, 256];
    let names = [299_i64, 3, 3, 130, 0, -2];
    let processor = Processor::new(None).unwrap();
    let tiers = Tier::ALL.into_iter().filter_map(|tier| processor.with_tier(tier.name()).ok());
    let devices: Vec<_> = tiers.map(Device::from).collect();
    let folder = tempfile::tempdir().unwrap();
    let kinds = Block::ALL.into_iter().map(Some).chain([None]);
    for (block, rows) in kinds.flat_map(|kind| [(kind, 1), (kind, 5)]) {
        let functions = [("all", head_of(rows, shape, None)), ("chosen", head_of(rows, shape, Some(names.len())))];
        let asset = Asset::new("head", functions, head(block, shape, &mut random)).unwrap();
        let x: Vec<f32> = (0..rows * channels).map(|_| random.number()).collect();
        let (x, named) = (NDArray::new(&[rows, channels], &x).unwrap(), NDArray::new(&[names.len()], &names).unwrap());
        for device in &devices {
            for precision in [Precision::F32, Precision::BF16, Precision::Int8, Precision::A8] {
                let case = format!("{block:?} {precision} {rows} rows {device:?}");
                let options = Options { precision, ..Options::default() };
                // By way of a file, whose nodes are believed only if a pass could have left them.
                let file = folder.path().join("head.ondine");
                asset.specialize(&options, device, None).unwrap().save(&file).unwrap();
                let model = Specialized::open(&file, device).unwrap().load().unwrap();
                let chosen = model.function("chosen").unwrap();
                let ops: Vec<_> = chosen.graph().nodes().iter().map(|node| node.op.name().to_owned()).collect();
                assert!(ops.iter().any(|name| name == "linear_chosen") && !ops.contains(&"take".into()), "{ops:?}");
                let call = |name: &str, inputs: &[(&str, &NDArray)]| {
                    let function = model.function(name).unwrap();
                    function.run(inputs, &mut State::default()).unwrap().take("y").unwrap().to_f32()
                };
                let (all, some) = (call("all", &[("x", &x)]), call("chosen", &[("x", &x), ("names", &named)]));
                for (all, some) in all.chunks_exact(outputs).zip(some.chunks_exact(names.len())) {
                    let place = |name: i64| name.rem_euclid(outputs as i64) as usize;
                    let wanted = names.map(|name| all[place(name)].to_bits());
                    assert_eq!(some.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), wanted, "{case}");
                }
                let beyond = NDArray::new(&[6], &[0_i64, 1, 300, 3, 4, 5]).unwrap();
                let refused = chosen.run(&[("x", &x), ("names", &beyond)], &mut State::default()).unwrap_err();
                assert!(refused.to_string().contains("300"), "{refused}");
            }
        }
    }
}
