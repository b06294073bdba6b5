use proptest::prelude::*;

use super::*;
use crate::{specialize::Specialize, state::State};
use ondine_graph::{
    Activation, Bytes, DType, Graph, NDArray, Tensor,
    encoding::{ENCODING, code_at, pack_codes, symmetric_zero},
};

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

fn f32_tensor(shape: &[usize], values: &[f32]) -> Tensor {
    plain_tensor(values, shape)
}

/// Numbers that look random: half of them normal enough, with rows of zeros and of one number among them.
fn numbers(rows: usize, columns: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32
    };
    let row = |row: usize| -> Vec<f32> {
        match (seed as usize + row) % 7 {
            0 => vec![0.0; columns],
            1 => vec![0.37; columns],
            2 => (0..columns).map(|_| -next()).collect(),
            _ => (0..columns).map(|_| next() + next() + next() - 1.5).collect(),
        }
    };
    (0..rows).flat_map(row).collect()
}

/// The weight as a reader of the tensors finds it.
fn read_back(coded: &Coded) -> Vec<f32> {
    let mut weights = Weights::default();
    coded.insert("w", &mut weights);
    let arrays: Vec<_> = weights.iter().map(|(name, _)| (name.to_string(), weights.array(name).unwrap())).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("w.safetensors");
    ondine_graph::write_safetensors(&file, &arrays).unwrap();
    let read = Weights::open(&file).unwrap();
    assert_eq!(read.paths().map(|path| &**path).collect::<Vec<_>>(), ["w"]);
    read.to_f32("w").unwrap().into_owned()
}

fn format() -> impl Strategy<Value = Format> {
    let kind = prop_oneof![
        (proptest::sample::select(vec![2_u32, 4, 6, 8]), any::<bool>())
            .prop_map(|(bits, symmetric)| Kind::Integer { bits, symmetric }),
        proptest::sample::select(vec![2_u32, 4, 6, 8]).prop_map(|bits| Kind::Palette { bits }),
        Just(Kind::Rows8),
    ];
    (kind, proptest::option::of(1_usize..40), prop_oneof![3 => Just(0_usize), 1 => 1_usize..4]).prop_map(
        |(kind, group, low_rank)| {
            let low_rank = if kind == Kind::Rows8 { 0 } else { low_rank };
            Format { kind, group, low_rank }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn codes_are_packed_and_found_again(
        bits in proptest::sample::select(vec![2_u32, 4, 6, 8]),
        codes in proptest::collection::vec(any::<u8>(), 1..50),
    ) {
        let codes: Vec<u8> = codes.into_iter().map(|code| (u16::from(code) % (1 << bits)) as u8).collect();
        let mut packed = vec![0xff; (codes.len() * bits as usize).div_ceil(8)];
        pack_codes(&codes, bits, &mut packed);
        for (index, &code) in codes.iter().enumerate() {
            prop_assert_eq!(code_at(&packed, bits, index), code);
        }
    }

    #[test]
    fn what_is_read_is_what_was_encoded(
        format in format(),
        (rows, columns) in (1_usize..9, 1_usize..70),
        seed: u64,
    ) {
        let values = numbers(rows, columns, seed);
        let coded = encode(&values, &[rows, columns], &format, device().processor().unwrap()).unwrap();
        prop_assert_eq!(read_back(&coded), coded.values);
    }

    /// Within the codes the error is half a step; beyond them, which takes two or four bits, it is the way back.
    #[test]
    fn integers_are_off_by_half_a_step(
        bits in proptest::sample::select(vec![2_u32, 4, 8]),
        symmetric: bool,
        group in 1_usize..40,
        (rows, columns) in (1_usize..9, 1_usize..70),
        exponent in -30_i32..30,
        seed: u64,
    ) {
        let mut values = numbers(rows, columns, seed);
        values.iter_mut().for_each(|value| *value *= 2.0_f32.powi(exponent));
        let format = Format { kind: Kind::Integer { bits, symmetric }, group: Some(group), low_rank: 0 };
        let coded = encode(&values, &[rows, columns], &format, device().processor().unwrap()).unwrap();
        let mut weights = Weights::default();
        coded.insert("w", &mut weights);
        let encoded = weights.encoded("w").unwrap().unwrap();
        let (groups, top) = (encoded.encoding.groups(), (1_u32 << bits) as f32 - 1.0);
        for (index, (value, found)) in values.iter().zip(&coded.values).enumerate() {
            let at = index / columns * groups + index % columns / encoded.encoding.group;
            let (scale, zero) = (encoded.scales[at], encoded.zeros.get(at).copied().unwrap_or(symmetric_zero(bits)));
            let ends = [scale * -zero, scale * (top - zero)];
            let nearest = value.clamp(ends[0], ends[1]);
            let allowed = (value - nearest).abs() + 0.5 * scale * (1.0 + 1e-5) + 1e-6 * value.abs();
            prop_assert!((value - found).abs() <= allowed, "{} became {} with {} and {}", value, found, scale, zero);
            if bits == 8 {
                prop_assert!((value - nearest).abs() <= 0.51 * scale, "{} is cut to {}", value, nearest);
            }
        }
    }

    /// No number of the table is nearer than the one that was chosen, and no table of equal distances is better.
    #[test]
    fn palettes_are_nearest_and_better_than_even_ones(
        bits in proptest::sample::select(vec![2_u32, 4]),
        (rows, columns) in (3_usize..9, 30_usize..70),
        seed: u64,
    ) {
        let values = numbers(rows, columns, seed);
        let format = Format::new(Kind::Palette { bits });
        let coded = encode(&values, &[rows, columns], &format, device().processor().unwrap()).unwrap();
        let mut weights = Weights::default();
        coded.insert("w", &mut weights);
        let table = weights.encoded("w").unwrap().unwrap().tables;
        for (value, found) in values.iter().zip(&coded.values) {
            let least = table.iter().map(|entry| (entry - value).abs()).fold(f32::INFINITY, f32::min);
            prop_assert!((value - found).abs() <= least + 1e-6 * value.abs());
        }
        let even = Format { group: Some(usize::MAX), ..Format::new(Kind::Integer { bits, symmetric: false }) };
        let flat = encode(&values, &[1, rows * columns], &even, device().processor().unwrap()).unwrap();
        let error = |found: &[f32]| Loss::between(found, &values).relative;
        prop_assert!(error(&coded.values) <= 1.1 * error(&flat.values) + 1e-6);
    }

    #[test]
    fn corrections_of_low_rank_lessen_the_error(seed: u64, rank in 1_usize..6) {
        let values = numbers(24, 33, seed);
        let format = Format::new(Kind::Integer { bits: 2, symmetric: true });
        let error = |low_rank| {
            let coded = encode(&values, &[24, 33], &Format { low_rank, ..format }, device().processor().unwrap()).unwrap();
            Loss::between(&coded.values, &values).relative
        };
        prop_assert!(error(rank) < error(0));
    }
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    for bad in [f32::INFINITY, f32::NAN] {
        let mut values = numbers(2, 8, 3);
        values[9] = bad;
        let format = Format::new(Kind::Palette { bits: 4 });
        assert!(encode(&values, &[2, 8], &format, device().processor().unwrap()).is_err());
    }
}

#[test]
fn a_matrix_of_that_rank_is_corrected_whole() {
    let (u, v) = (numbers(40, 1, 3), numbers(1, 50, 5));
    let values: Vec<f32> = u.iter().flat_map(|u| v.iter().map(move |v| u * v)).collect();
    let format = Format { low_rank: 2, ..Format::new(Kind::Integer { bits: 2, symmetric: true }) };
    let coded = encode(&values, &[40, 50], &format, device().processor().unwrap()).unwrap();
    let plain = encode(&values, &[40, 50], &Format { low_rank: 0, ..format }, device().processor().unwrap()).unwrap();
    let error = |coded: &Coded| Loss::between(&coded.values, &values).relative;
    assert!(error(&coded) < 0.2 * error(&plain), "{} {}", error(&coded), error(&plain));
}

#[test]
fn hostile_parts_are_refused() {
    let coded =
        encode(&numbers(4, 40, 1), &[4, 40], &Format::new("int4".parse().unwrap()), device().processor().unwrap())
            .unwrap();
    let whole = || {
        let mut weights = Weights::default();
        coded.insert("w", &mut weights);
        weights
    };
    assert!(whole().to_f32("w").is_ok() && whole().expect("w", &[4, 40]).is_ok());
    assert!(whole().expect("w", &[4, 20]).is_err(), "the shape of the codes is not that of the weight");
    let header = |numbers: &[i64]| {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        Tensor { dtype: DType::I64, shape: vec![numbers.len()], bytes: Bytes::from(&*bytes), file: "test".into() }
    };
    let headers: [&[i64]; 11] = [
        &[],
        &[4],
        &[4, 64],
        &[3, 64, 4, 40],
        &[4, 0, 4, 40],
        &[4, -1, 4, 40],
        &[4, 64, 0, 40],
        &[4, 64, 4, -40],
        &[4, 64, i64::MAX, i64::MAX],
        &[4, 64, 1 << 40, 1 << 40],
        &[4, 64, 1, 1, 1, 1, 1, 1, 1, 4, 40],
    ];
    for numbers in headers {
        let mut weights = whole();
        weights.insert("w.encoding", header(numbers));
        let error = weights.to_f32("w").unwrap_err().to_string();
        assert!(error.contains("w.encoding") || error.contains("codes"), "{error}");
    }
    for (name, tensor) in [
        ("w.scale", f32_tensor(&[4, 2], &[1.0; 8])),
        ("w.scale", f32_tensor(&[4, 1], &[f32::NAN; 4])),
        ("w.zero", f32_tensor(&[4, 1], &[0.0; 4])),
        ("w.lut", f32_tensor(&[1, 16], &[0.0; 16])),
        ("w.low_rank.a", f32_tensor(&[1, 40], &[0.0; 40])),
        ("w", f32_tensor(&[4, 40], &[0.0; 160])),
    ] {
        let mut weights = whole();
        weights.insert(name, tensor);
        assert!(weights.to_f32("w").is_err(), "{name}");
    }
    let mut renamed = whole();
    renamed.rename(|path| Some(format!("layer.{path}"))).unwrap();
    assert_eq!(renamed.to_f32("layer.w").unwrap(), whole().to_f32("w").unwrap());
}

/// Three linear layers with activations between, on random weights that differ in size.
fn network() -> Asset {
    let (mut graph, mut weights) = (Graph::new(), Weights::default());
    let mut x = graph.input("x", DType::F32, [4, 64]);
    for (index, outputs) in [96, 80, 48].into_iter().enumerate() {
        let path = format!("layers.{index}.weight");
        let inputs = graph.dim(x, 1).fixed().unwrap();
        weights.insert(&path, f32_tensor(&[outputs, inputs], &numbers(outputs, inputs, index as u64 + 3)));
        let weight = graph.weight(&path, &[outputs, inputs]).unwrap();
        x = graph.linear(x, weight, None).unwrap();
        x = graph.activation(Activation::Gelu, x).unwrap();
    }
    graph.output("y", x);
    Asset::new("network", [("main", graph)], weights).unwrap()
}

fn silent(_: Progress<'_>) {}

#[test]
fn a_compressed_asset_runs_on_what_its_weights_stand_for() {
    let asset = network();
    let format = Format::new("int4".parse().unwrap());
    let options = Options { format: Some(format), measure: true, ..Options::default() };
    let (small, report) = compress(&asset, &options, &device(), &silent).unwrap();
    assert!(report.bytes_after * 6 < report.bytes_before, "{report:?}");
    let x = NDArray::new(&[4, 64], &numbers(4, 64, 5)).unwrap();
    let run = |asset: &Asset| {
        let model = asset.specialize(&crate::Options::default(), &device(), None).unwrap().load().unwrap();
        let mut outputs = model.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
        outputs.take("y").unwrap().to_f32()
    };
    let loss = Loss::between(&run(&small), &run(&asset));
    assert!(loss.relative > 0.0 && loss.relative < 0.3, "{loss:?}");
    // Kernels read the codes: the panels take little more room than the file.
    let prepared = |asset: &Asset| asset.prepare(&crate::Options::default(), &device()).unwrap().weight_bytes();
    assert!(5 * prepared(&small) < prepared(&asset), "{} {}", prepared(&small), prepared(&asset));
    // What is compressed can be compressed again.
    let (smaller, _) =
        compress(&small, &Options { goal: Goal::Share(0.7), ..Options::default() }, &device(), &silent).unwrap();
    assert!(Loss::between(&run(&smaller), &run(&asset)).relative < 1.0);
    let outputs = report.outputs.unwrap();
    assert!(outputs.relative > 0.0 && outputs.relative < 0.3, "{outputs:?}");
    assert!(report.layers.iter().all(|layer| layer.output.is_some_and(|loss| loss.relative < 0.2)), "{report:?}");
}

#[test]
fn the_first_rule_that_names_a_layer_decides() {
    let rule = |pattern: &str, format: Option<&str>| Rule {
        pattern: pattern.to_owned(),
        format: format.map(|name| Format::new(name.parse().unwrap())),
    };
    let options = Options {
        format: Some(Format::new("int2".parse().unwrap())),
        rules: vec![rule("*.0", None), rule("layers.1", Some("palette4")), rule("layers.*1", Some("int8"))],
        ..Options::default()
    };
    let (small, report) = compress(&network(), &options, &device(), &silent).unwrap();
    let formats: Vec<_> = report.layers.iter().map(|layer| layer.format.as_str()).collect();
    assert_eq!(formats, ["keep", "palette4", "int2"]);
    assert!(report.layers[0].weight.relative == 0.0 && !small.weights().is_encoded("layers.0.weight"));
    assert!(small.weights().get(&format!("layers.1.weight{ENCODING}")).is_some());
}

#[test]
fn goals_are_reached_with_formats_that_are_mixed() {
    let asset = network();
    let compress = |goal| compress(&asset, &Options { goal, ..Options::default() }, &device(), &silent);
    let (_, half) = compress(Goal::Share(0.2)).unwrap();
    assert!(half.bytes_after as f64 <= 0.2 * half.bytes_before as f64, "{half:?}");
    let (_, bytes) = compress(Goal::Bytes(half.bytes_before / 8)).unwrap();
    assert!(bytes.bytes_after <= half.bytes_before / 8 && bytes.bytes_after < half.bytes_after, "{bytes:?}");
    let mut sizes = Vec::new();
    for psnr in [20.0, 35.0, 50.0] {
        let (_, report) = compress(Goal::Psnr(psnr)).unwrap();
        assert!(report.outputs.unwrap().psnr.unwrap() >= psnr, "{report:?}");
        sizes.push(report.bytes_after);
    }
    assert!(sizes.is_sorted() && sizes[0] < sizes[2], "{sizes:?}");
    let error = compress(Goal::Bytes(10)).unwrap_err().to_string();
    assert!(error.contains("the least is"), "{error}");
}

#[test]
fn the_same_asset_is_compressed_to_the_same_bytes() {
    let bytes = |threads: usize| {
        let device = Device::cpu(std::num::NonZeroUsize::new(threads)).unwrap();
        let options = Options { goal: Goal::Share(0.2), low_rank: 2, ..Options::default() };
        let (small, _) = compress(&network(), &options, &device, &silent).unwrap();
        small.weights().iter().map(|(path, tensor)| (path.clone(), tensor.bytes.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(bytes(1), bytes(3));
}

#[test]
fn patterns_have_stars() {
    for (pattern, text, wanted) in [
        ("a.b", "a.b", true),
        ("a.b", "a.bc", false),
        ("a.*", "a.b.c", true),
        ("*.c", "a.b.c", true),
        ("a*b*c", "a.x.b.y.c", true),
        ("a*b*c", "a.x.c", false),
        ("*", "", true),
    ] {
        assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
    }
}

#[test]
fn activations_of_8_bits_have_the_ranges_of_the_calibration() {
    let asset = network();
    let x = NDArray::new(&[4, 64], &numbers(4, 64, 5)).unwrap();
    let options = Options {
        format: Some(Format::new(Kind::Rows8)),
        calibration: vec![BTreeMap::from([("x".to_owned(), x.clone())])],
        ..Options::default()
    };
    let (small, _) = compress(&asset, &options, &device(), &silent).unwrap();
    let [low, high] = small.weights().input_range("layers.0.weight").unwrap();
    let values = x.view::<f32>().unwrap();
    assert_eq!(low, values.iter().fold(0.0, |a: f32, &b| a.min(b)));
    assert_eq!(high, values.iter().fold(0.0, |a: f32, &b| a.max(b)));
    let run = |asset: &Asset, precision, x: &NDArray| {
        let model = asset
            .specialize(&crate::Options { precision, ..Default::default() }, &device(), None)
            .unwrap()
            .load()
            .unwrap();
        let function = model.function("main").unwrap();
        let mut outputs = function.run(&[("x", x)], &mut State::default()).unwrap();
        let names: Vec<_> = function.graph().nodes().iter().map(|node| node.op.name()).collect();
        (outputs.take("y").unwrap().to_f32(), names.iter().filter(|name| **name == "quantize").count())
    };
    let wanted = run(&asset, crate::Precision::F32, &x).0;
    for precision in [crate::Precision::F32, crate::Precision::BF16, crate::Precision::Int8] {
        let (found, quantized) = run(&small, precision, &x);
        let loss = Loss::between(&found, &wanted);
        assert!(quantized == 3 && loss.relative < 0.03, "{precision}: {loss:?}, {quantized} quantized");
    }
    // Nothing is measured: what is beyond the range is cut off.
    let far: Vec<f32> = values.iter().map(|x| 100.0 * x).collect();
    let far = NDArray::new(&[4, 64], &far).unwrap();
    let cut: Vec<f32> = far.view::<f32>().unwrap().iter().map(|x| x.clamp(low, high)).collect();
    let cut = NDArray::new(&[4, 64], &cut).unwrap();
    let [far, cut] = [far, cut].map(|x| run(&small, crate::Precision::F32, &x).0);
    assert!(Loss::between(&far, &cut).relative < 0.02);
    // What was built ahead of time opens again.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.bin");
    small.prepare(&crate::Options::default(), &device()).unwrap().build(&file).unwrap();
    let built = crate::Specialized::open(&file, &device()).unwrap().load().unwrap();
    let mut outputs = built.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
    assert_eq!(outputs.take("y").unwrap().to_f32(), run(&small, crate::Precision::F32, &x).0);
}

#[test]
fn what_activations_lose_is_measured() {
    let asset = network();
    // One column is far larger than the others: 8 bits for its range leave few for theirs.
    let mut values = numbers(4, 64, 5);
    values.iter_mut().skip(3).step_by(64).for_each(|x| *x = 300.0);
    let x = NDArray::new(&[4, 64], &values).unwrap();
    let calibration = vec![BTreeMap::from([("x".to_owned(), x.clone())])];
    let format = Some(Format::new(Kind::Rows8));
    let run = |asset: &Asset| {
        let model = asset.specialize(&crate::Options::default(), &device(), None).unwrap().load().unwrap();
        let mut outputs = model.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
        outputs.take("y").unwrap().to_f32()
    };
    let wanted = run(&asset);
    let goals = [Goal::Format, Goal::Psnr(1.0), Goal::Bytes(u64::MAX), Goal::Psnr(1e9)];
    let reports = goals.map(|goal| {
        let options = Options { format, calibration: calibration.clone(), goal, ..Options::default() };
        let (small, report) = compress(&asset, &options, &device(), &silent).unwrap();
        let (told, real) = (report.outputs.unwrap(), Loss::between(&run(&small), &wanted));
        assert_eq!(told, real, "{goal:?}");
        report
    });
    let [small, ..] = &reports;
    let first = small.layers.iter().find(|layer| &*layer.path == "layers.0.weight").unwrap();
    assert!(first.output.unwrap().relative > 3.0 * first.weight.relative, "{first:?}");
    assert!(reports[3].layers.iter().all(|layer| layer.format == "keep"), "{:?}", reports[3]);
}

#[test]
fn codes_go_through_folders_and_built_files() {
    let formats =
        ["int8", "int4", "int6", "int2", "palette4", "palette6"].map(|name| Format::new(name.parse().unwrap()));
    for format in formats.into_iter().chain([Format { low_rank: 3, ..formats[1] }]) {
        let name = format.to_string();
        let options = Options { format: Some(format), ..Options::default() };
        let (small, _) = compress(&network(), &options, &device(), &silent).unwrap();
        let folder = tempfile::tempdir().unwrap();
        small.save(&folder.path().join("small.ondine")).unwrap();
        let opened = Asset::open(&folder.path().join("small.ondine")).unwrap();
        let file = folder.path().join("small.bin");
        opened.prepare(&crate::Options::default(), &device()).unwrap().build(&file).unwrap();
        let x = NDArray::new(&[4, 64], &numbers(4, 64, 5)).unwrap();
        let specialized = |asset: &Asset| asset.specialize(&crate::Options::default(), &device(), None).unwrap();
        let built = crate::Specialized::open(&file, &device()).unwrap();
        let [a, b, c] = [specialized(&small), specialized(&opened), built].map(|specialized| {
            let model = specialized.load().unwrap();
            let mut outputs = model.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
            outputs.take("y").unwrap()
        });
        assert!(a == b && a == c, "{name}");
    }
}

#[test]
fn tables_stay_codes_in_memory() {
    let mut weights = Weights::default();
    weights.insert("table", f32_tensor(&[90, 37], &numbers(90, 37, 4)));
    let mut graph = Graph::new();
    let table = graph.weight("table", &[90, 37]).unwrap();
    let ids = graph.input("ids", DType::I64, [5]);
    let rows = graph.gather(table, ids).unwrap();
    graph.output("y", rows);
    let asset = Asset::new("table", [("main", graph)], weights).unwrap();
    let ids = NDArray::new(&[5], &[89_i64, 0, 7, 7, 31]).unwrap();
    for (name, group) in [
        ("int8", None),
        ("int6", Some(20)),
        ("int4", Some(16)),
        ("int2", Some(7)),
        ("palette4", None),
        ("palette6", None),
    ] {
        let format = Format { group, ..Format::new(name.parse().unwrap()) };
        let (small, _) =
            compress(&asset, &Options { format: Some(format), ..Options::default() }, &device(), &silent).unwrap();
        let values = small.weights().to_f32("table").unwrap();
        let prepared = small.prepare(&crate::Options::default(), &device()).unwrap();
        assert_eq!(prepared.weight_bytes() < 90 * 37 * 2, name != "palette6", "{name}: {}", prepared.weight_bytes());
        let function = prepared.specialize(None).unwrap().load().unwrap().function("main").unwrap();
        let found = function.run(&[("ids", &ids)], &mut State::default()).unwrap().take("y").unwrap();
        let wanted: Vec<f32> = [89, 0, 7, 7, 31].iter().flat_map(|row| values[row * 37..][..37].to_vec()).collect();
        assert_eq!(found.view::<f32>().unwrap(), wanted, "{name}");
        let beyond = NDArray::new(&[5], &[90_i64, 0, 7, 7, 31]).unwrap();
        assert!(function.run(&[("ids", &beyond)], &mut State::default()).is_err());
    }
}

#[test]
fn a_table_that_is_multiplied_too_lies_in_memory_once() {
    let [rows, columns] = [70, 64];
    let mut weights = Weights::default();
    weights.insert("table", f32_tensor(&[rows, columns], &numbers(rows, columns, 4)));
    let looking_up = |graph: &mut Graph| {
        let (table, ids) = (graph.weight("table", &[rows, columns]).unwrap(), graph.input("ids", DType::I64, [5]));
        (table, graph.gather(table, ids).unwrap())
    };
    let (mut next, mut extend) = (Graph::new(), Graph::new());
    let (table, found) = looking_up(&mut next);
    let logits = next.linear(found, table, None).unwrap();
    next.output("y", logits);
    let (_, found) = looking_up(&mut extend);
    extend.output("y", found);
    let asset = Asset::new("tied", [("next", next), ("extend", extend)], weights).unwrap();
    let ids = NDArray::new(&[5], &[69_i64, 0, 7, 7, 31]).unwrap();
    // Codes of 2 bits are a sixteenth of the numbers, whatever asks for them.
    for (bits, most) in [(2, 16), (4, 8)] {
        let format = Format { group: Some(columns), ..Format::new(Kind::Integer { bits, symmetric: true }) };
        let (small, _) =
            compress(&asset, &Options { format: Some(format), ..Options::default() }, &device(), &silent).unwrap();
        let values = small.weights().to_f32("table").unwrap();
        for precision in [crate::Precision::F32, crate::Precision::A8] {
            let options = crate::Options { precision, ..crate::Options::default() };
            let prepared = small.prepare(&options, &device()).unwrap();
            let whole = rows.next_multiple_of(16) * (columns * 4 / most + 4) + 64;
            assert!(prepared.weight_bytes() <= whole, "{bits} bits: {} of {whole}", prepared.weight_bytes());
            let model = prepared.specialize(None).unwrap().load().unwrap();
            let run = |name: &str| {
                let mut outputs = model.function(name).unwrap().run(&[("ids", &ids)], &mut State::default()).unwrap();
                outputs.take("y").unwrap().to_f32()
            };
            let looked_up: Vec<f32> =
                [69, 0, 7, 7, 31].iter().flat_map(|row| values[row * columns..][..columns].to_vec()).collect();
            let allowed = if precision == crate::Precision::F32 { 0.0 } else { 1.0 / 256.0 };
            assert!(Loss::between(&run("extend"), &looked_up).relative <= allowed, "{bits} bits, {precision}");
            let products = looked_up.chunks(columns).flat_map(|x| {
                let values = &values;
                (0..rows).map(move |row| x.iter().zip(&values[row * columns..][..columns]).map(|(a, b)| a * b).sum())
            });
            let products: Vec<f32> = products.collect();
            let allowed = if precision == crate::Precision::F32 { 1e-5 } else { 0.02 };
            assert!(Loss::between(&run("next"), &products).relative <= allowed, "{bits} bits, {precision}");
        }
    }
}

#[test]
fn corrections_are_products_of_their_own_and_codes_stay_codes() {
    let format = Format { low_rank: 4, ..Format::new("int4".parse().unwrap()) };
    let (small, report) =
        compress(&network(), &Options { format: Some(format), ..Options::default() }, &device(), &silent).unwrap();
    let prepared = small.prepare(&crate::Options::default(), &device()).unwrap();
    assert!(2 * prepared.weight_bytes() < report.bytes_before as usize, "{}", prepared.weight_bytes());
    let linears = prepared.graph("main").unwrap().nodes().iter().filter(|node| node.op.name() == "linear").count();
    assert_eq!(linears, 9);
    // The same numbers without codes.
    let plain = decoded(&small, &layers(&small)).unwrap();
    let x = NDArray::new(&[4, 64], &numbers(4, 64, 5)).unwrap();
    for precision in [crate::Precision::F32, crate::Precision::BF16, crate::Precision::Int8] {
        let [found, wanted] = [&small, &plain].map(|asset| {
            let model = asset
                .specialize(&crate::Options { precision, ..Default::default() }, &device(), None)
                .unwrap()
                .load()
                .unwrap();
            let mut outputs = model.function("main").unwrap().run(&[("x", &x)], &mut State::default()).unwrap();
            outputs.take("y").unwrap().to_f32()
        });
        let allowed = if precision == crate::Precision::F32 { 1e-5 } else { 0.02 };
        assert!(Loss::between(&found, &wanted).relative < allowed, "{precision}");
    }
}
