//! Stages on the disk: what is opened again gives the same bits, and files that are not what was written are errors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ondine_runtime::{
    About, Asset, DType, Device, Graph, NDArray, Op, Options, Precision, Specialize, Specialized, State, Weights,
};
use serde_json::Value;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pt2")
}

fn device() -> Device {
    Device::cpu(std::num::NonZeroUsize::new(2)).unwrap()
}

const FAMILIES: [&str; 9] =
    ["elementwise", "shapes", "reductions", "indexing", "products", "convolutions", "sequences", "states", "control"];

/// The archives with the inputs of their goldens.
fn archives() -> impl Iterator<Item = (String, Asset, Vec<(String, NDArray)>)> {
    let names =
        FAMILIES.into_iter().flat_map(|family| [(family, family.to_owned()), (family, format!("{family}.decomposed"))]);
    names.map(|(family, archive)| {
        let golden = Weights::open(&data().join(format!("{family}.golden.safetensors"))).unwrap();
        let inputs = golden.paths().filter_map(|path| Some((path.strip_prefix("in.")?.to_owned(), path)));
        let inputs = inputs.map(|(name, path)| (name, golden.array(path).unwrap())).collect();
        let asset = ondine_pt2::open(&data().join(format!("{archive}.pt2"))).unwrap();
        (archive, asset, inputs)
    })
}

/// All results of two calls, so that states are carried on.
fn outputs(specialized: Specialized, inputs: &[(String, NDArray)]) -> ondine_runtime::Result<Vec<(String, NDArray)>> {
    let function = specialized.load()?.function("model")?;
    let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    let mut state = State::default();
    let mut all = Vec::new();
    for _ in 0..2 {
        all.extend(function.run(&inputs, &mut state)?.iter().map(|(name, array)| (name.to_string(), array.clone())));
    }
    Ok(all)
}

fn specialize(asset: &Asset, precision: Precision) -> Specialized {
    asset.specialize(&Options { precision, ..Options::default() }, &device(), None).unwrap()
}

/// Everything of a graph that a file must keep.
fn text(graph: &Graph) -> String {
    let origins: Vec<_> = graph.nodes().iter().map(|node| &node.origin).collect();
    let constant = |node: &ondine_runtime::Node| match &node.op {
        Op::Const(array) => Some(array.bytes().to_vec()),
        _ => None,
    };
    let constants: Vec<_> = graph.nodes().iter().filter_map(constant).collect();
    let ops: Vec<_> = graph.nodes().iter().map(|node| (&node.op, &node.scope)).collect();
    let names = (graph.inputs(), graph.named());
    format!("{graph}{ops:?}{origins:?}{constants:?}{names:?}{:?}{:?}", graph.states(), graph.limits())
}

#[test]
fn assets_are_the_same_after_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    for (name, asset, inputs) in archives() {
        let path = folder.path().join(format!("{name}.ondine"));
        asset.save(&path).unwrap();
        assert!(Asset::is_folder(&path));
        let opened = Asset::open(&path).unwrap_or_else(|error| panic!("{error}"));
        for (function, graph) in asset.functions() {
            assert_eq!(text(opened.function(function).unwrap()), text(graph), "{name}");
        }
        let paths = |asset: &Asset| asset.weights().iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!((paths(&opened), opened.parameters()), (paths(&asset), asset.parameters()), "{name}");
        let found = outputs(specialize(&opened, Precision::F32), &inputs).unwrap();
        assert!(found == outputs(specialize(&asset, Precision::F32), &inputs).unwrap(), "{name}");
    }
}

#[test]
fn built_files_give_the_same_bits_at_every_precision_and_tier() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.built");
    for (name, asset, inputs) in archives().filter(|(name, ..)| !name.contains("decomposed")) {
        for precision in [Precision::F32, Precision::BF16, Precision::Int8] {
            let specialized = specialize(&asset, precision);
            specialized.save(&path).unwrap();
            assert!(Specialized::is_file(&path) && !Specialized::is_file(folder.path()));
            let opened = Specialized::open(&path, &device()).unwrap_or_else(|error| panic!("{name}: {error}"));
            let about = About { model: format!("{name}.pt2"), ..specialized.about() };
            assert_eq!(opened.about(), about);
            let wanted = outputs(specialized, &inputs).unwrap();
            assert!(outputs(opened, &inputs).unwrap() == wanted, "{name} {precision}");
            // What was opened can be saved again, and what is built without packing in memory is the same file.
            let bytes = fs::read(&path).unwrap();
            Specialized::open(&path, &device()).unwrap().save(&path).unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "{name} {precision}");
            asset.prepare(&Options { precision, ..Options::default() }, &device()).unwrap().build(&path).unwrap();
            assert!(fs::read(&path).unwrap() == bytes, "{name} {precision}");
        }
    }
    for tier in ["generic", "avx2"] {
        let Ok(device) = device().narrowed(tier) else { continue };
        let (_, asset, inputs) = archives().nth(10).unwrap();
        let specialized = asset.specialize(&Options::default(), &device, None).unwrap();
        specialized.save(&path).unwrap();
        let opened = Specialized::open(&path, &self::device()).unwrap();
        assert_eq!(opened.about().tier, tier);
        assert!(outputs(opened, &inputs).unwrap() == outputs(specialized, &inputs).unwrap(), "{tier}");
    }
}

#[test]
fn weights_are_aligned_mapped_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("states.ondine");
    let asset = ondine_pt2::open(&data().join("states.pt2")).unwrap();
    asset.save(&path).unwrap();
    let opened = Asset::open(&path).unwrap();
    let (whole, part) = (opened.weights().get("first.weight").unwrap(), opened.weights().get("part").unwrap());
    assert_eq!(part.bytes.as_ptr(), whole.bytes[16..].as_ptr());
    for (path, tensor) in opened.weights().iter() {
        assert!(tensor.bytes.file().is_some(), "{path}");
        assert!(tensor.bytes.as_ptr().addr().is_multiple_of(64) || &**path == "part", "{path}");
    }
    // A folder is replaced by a newer asset, and by nothing else.
    asset.save(&path).unwrap();
    fs::remove_file(path.join("graph.json")).unwrap();
    let error = Asset::open(&path).unwrap_err().to_string();
    assert!(error.contains("graph.json: there is no such file"), "{error}");
    assert!(asset.save(&path).unwrap_err().to_string().contains("is there already"));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Numbers that are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

#[test]
fn cut_and_flipped_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ondine");
    ondine_pt2::open(&data().join("states.pt2")).unwrap().save(&path).unwrap();
    let mut random = Random(1);
    for name in ["manifest.json", "graph.json", "constants.safetensors", "weights.safetensors"] {
        let file = path.join(name);
        let whole = fs::read(&file).unwrap();
        for round in 0..60 {
            let mut bytes = whole.clone();
            if round % 2 == 0 {
                bytes.truncate(random.below(whole.len()));
            } else {
                let at = random.below(whole.len());
                bytes[at] ^= 1 << random.below(8);
            }
            fs::write(&file, &bytes).unwrap();
            let opened = Asset::open(&path);
            // Other numbers are other weights, and another producer another name: no file knows better.
            let checked = round % 2 == 0 || matches!(name, "graph.json" | "constants.safetensors");
            assert!(opened.is_err() || !checked, "{name} {round}");
        }
        fs::write(&file, &whole).unwrap();
    }
    assert!(Asset::open(&path).is_ok());
}

#[test]
fn built_files_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.built");
    let asset = ondine_pt2::open(&data().join("convolutions.pt2")).unwrap();
    specialize(&asset, Precision::F32).save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    let header = 48 + u64::from_le_bytes(whole[8..16].try_into().unwrap()) as usize;
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Specialized::open(&path, &device()).map(|_| ()).map_err(|error| error.to_string())
    };
    let mut random = Random(2);
    for _ in 0..60 {
        assert!(open(&whole[..random.below(whole.len())]).is_err());
        let mut flipped = whole.clone();
        flipped[random.below(header)] ^= 1 << random.below(8);
        assert!(open(&flipped).is_err());
    }
    // Another header with the hash that belongs to it.
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(whole[48..header].to_vec()).unwrap();
        let text = text.replacen(from, to, 1).into_bytes();
        let hash = blake3::hash(&text);
        [&whole[..8], &(text.len() as u64).to_le_bytes(), hash.as_bytes(), &text, &whole[header..]].concat()
    };
    let version = env!("CARGO_PKG_VERSION");
    let old = "9".repeat(version.len());
    let error = open(&altered(&format!("\"engine\":\"{version}\""), &format!("\"engine\":\"{old}\""))).unwrap_err();
    assert!(error.contains(&format!("version {old} of the engine")), "{error}");
    let tier = device().processor().unwrap().tier().to_string();
    let other = "x".repeat(tier.len());
    let error = open(&altered(&format!("\"tier\":\"{tier}\""), &format!("\"tier\":\"{other}\""))).unwrap_err();
    assert!(error.contains(&format!("no tier `{other}`")), "{error}");
    assert!(open(&whole).is_ok());
}

/// Graphs whose files are valid JSON of the right shape, but say something else: an error or a result, never a panic.
#[test]
fn altered_graphs_are_errors_or_run() {
    let mut counts = [0; 2];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ondine");
    for (name, asset, inputs) in archives().filter(|(name, ..)| !name.contains("decomposed")) {
        asset.save(&path).unwrap();
        let graph: Value = serde_json::from_slice(&fs::read(path.join("graph.json")).unwrap()).unwrap();
        let manifest: Value = serde_json::from_slice(&fs::read(path.join("manifest.json")).unwrap()).unwrap();
        let open = |graph: &Value| {
            write(&path, graph, manifest.clone());
            let prepared = Asset::open(&path)?.prepare(&Options::default(), &device())?;
            // What takes the memory of a server is not packed here.
            if prepared.weight_bytes() < LARGE { prepared.specialize(None).map(Some) } else { Ok(None) }
        };
        add(&mut counts, survive(&name, &graph, &inputs, open));
    }
    assert!(counts.iter().all(|&count| count > 0), "refused and run: {counts:?}");
}

fn add(sums: &mut [usize; 2], counts: [usize; 2]) {
    sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
}

/// The same of files of `Specialized`, with the hash that belongs to the altered header.
#[test]
fn altered_built_files_are_errors_or_run() {
    let mut counts = [0; 2];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.built");
    for (name, asset, inputs) in archives().filter(|(name, ..)| !name.contains("decomposed")) {
        for precision in [Precision::BF16, Precision::Int8] {
            specialize(&asset, precision).save(&path).unwrap();
            let whole = fs::read(&path).unwrap();
            let header = 48 + u64::from_le_bytes(whole[8..16].try_into().unwrap()) as usize;
            let graph: Value = serde_json::from_slice(&whole[48..header]).unwrap();
            // Constants begin at a line after the header, weights at a page after those.
            let constants = header.next_multiple_of(64);
            let end = constants + graph["constants_bytes"].as_u64().unwrap() as usize;
            let open = |graph: &Value| {
                let text = serde_json::to_vec(graph).unwrap();
                let (len, hash) = ((text.len() as u64).to_le_bytes(), blake3::hash(&text));
                let mut file = [&whole[..8], &len, hash.as_bytes(), &text].concat();
                file.resize(file.len().next_multiple_of(64), 0);
                file.extend_from_slice(&whole[constants..end]);
                file.resize(file.len().next_multiple_of(4096), 0);
                file.extend_from_slice(&whole[end.next_multiple_of(4096)..]);
                fs::write(&path, file).unwrap();
                Specialized::open(&path, &device()).map(Some)
            };
            add(&mut counts, survive(&name, &graph, &inputs, open));
        }
    }
    assert!(counts.iter().all(|&count| count > 0), "refused and run: {counts:?}");
}

const ROUNDS: usize = 40;
const LARGE: usize = 1 << 28;

/// Writes a graph and a manifest that agrees with it.
fn write(folder: &Path, graph: &Value, mut manifest: Value) {
    let text = serde_json::to_vec(graph).unwrap();
    manifest["graph"] = blake3::hash(&text).to_hex().to_string().into();
    fs::write(folder.join("graph.json"), text).unwrap();
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Opens and runs altered versions of a graph, and counts which were refused and which ran.
fn survive(
    name: &str,
    graph: &Value,
    inputs: &[(String, NDArray)],
    open: impl Fn(&Value) -> ondine_runtime::Result<Option<Specialized>>,
) -> [usize; 2] {
    let mut random = Random(name.len() as u64);
    let (mut refused, mut ran) = (0, 0);
    for round in 0..ROUNDS {
        let mut altered = graph.clone();
        let alterations: Vec<String> = (0..1 + random.below(2)).map(|_| alter(&mut altered, &mut random)).collect();
        let attempt = || open(&altered).and_then(|specialized| specialized.map_or(Ok(()), |it| call(it, inputs)));
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(attempt)) {
            Ok(Ok(())) => ran += 1,
            Ok(Err(_)) => refused += 1,
            Err(_) => panic!("{name}, round {round}: {}", alterations.join(" and ")),
        }
    }
    [refused, ran]
}

fn call(specialized: Specialized, inputs: &[(String, NDArray)]) -> ondine_runtime::Result<()> {
    let function = specialized.load()?.function("model")?;
    let graph = function.graph();
    let mut bindings = ondine_runtime::Bindings::new();
    for (name, value) in graph.inputs() {
        let Some((_, array)) = inputs.iter().find(|(known, _)| **known == **name) else { continue };
        for (dim, &size) in graph.shape(*value).0.iter().zip(array.shape()) {
            if let Some((symbol, size)) = dim.solve(size)? {
                bindings.insert(symbol.clone(), size);
            }
        }
    }
    if function.plan(&bindings)?.arena_bytes() > LARGE {
        return Ok(());
    }
    let inputs: Vec<(&str, &NDArray)> = inputs.iter().map(|(name, array)| (name.as_str(), array)).collect();
    function.run(&inputs, &mut State::default()).map(|_| ())
}

/// Changes one number, word or list in a node, and says which.
fn alter(graph: &mut Value, random: &mut Random) -> String {
    // A built file says of a function more than its graph.
    let nodes =
        ["/functions/model/graph/nodes", "/functions/model/nodes"].into_iter().find(|p| graph.pointer(p).is_some());
    let nodes = graph.pointer_mut(nodes.unwrap()).and_then(Value::as_array_mut).unwrap();
    let (index, other) = (random.below(nodes.len()), random.below(nodes.len()));
    let donor = nodes[other].clone();
    let node = &mut nodes[index];
    let before = node.to_string();
    match random.below(8) {
        0 => node["node"] = donor["node"].clone(),
        1 => node["in"] = donor["in"].clone(),
        2 => node["dtype"] = "I64".into(),
        _ => {
            let mut leaves = Vec::new();
            collect(node, &mut leaves);
            let leaf = random.below(leaves.len());
            *leaves.swap_remove(leaf) = match random.below(9) {
                0 => 0.into(),
                1 => (-1).into(),
                2 => 1.into(),
                3 => 3.into(),
                4 => (1_u64 << 40).into(),
                5 => u64::MAX.into(),
                6 => "I64".into(),
                7 => "BF16".into(),
                _ => random.below(64).into(),
            };
        }
    }
    format!("{before} -> {node}")
}

/// Everything below a value that holds nothing itself.
fn collect<'a>(value: &'a mut Value, leaves: &mut Vec<&'a mut Value>) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|value| collect(value, leaves)),
        Value::Object(map) => map
            .iter_mut()
            .filter(|(key, _)| !matches!(key.as_str(), "scope" | "origin"))
            .for_each(|(_, value)| collect(value, leaves)),
        leaf => leaves.push(leaf),
    }
}

#[test]
fn graphs_of_builders_keep_infinite_numbers() {
    let mut graph = Graph::new();
    let x = graph.input("x", DType::F32, [3]);
    let y = graph.affine(x, f32::NEG_INFINITY, -0.0).unwrap();
    let y = graph.affine(y, 0.1, f32::MIN_POSITIVE / 3.0).unwrap();
    graph.output("y", y);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ondine");
    let asset = Asset::new("x", [("model", graph)], Weights::default()).unwrap();
    asset.save(&path).unwrap();
    let opened = Asset::open(&path).unwrap();
    assert_eq!(text(opened.function("model").unwrap()), text(asset.function("model").unwrap()));
}
