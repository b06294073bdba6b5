//! Small whole files for the fuzzer to start from, and files that once broke a reader.

use std::{error::Error, fs, path::Path};

use ondine_graph::{Asset, Bytes, Conv2d, DType, Dim, Graph, Op, Shape, Tensor, Value, Weights, block::Block};
use ondine_image::codec::Picture;
use ondine_runtime::{Device, Options, Precision, Specialize};

use crate::{built, bundle, call, folder};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Larger seeds make the fuzzer slow.
const MAX_BYTES: usize = 1 << 16;

/// Fills the corpora below `corpus` from the archives in a folder, and with files that are made here.
///
/// # Errors
/// If a file cannot be read or written.
pub fn write(corpus: &Path, archives: &Path) -> Result<()> {
    for target in ["asset", "built", "gguf", "ncnn", "npy", "picture", "png", "template", "torch", "vocabulary"] {
        fs::create_dir_all(corpus.join(target))?;
    }
    let scratch = bundle::folder();
    for (name, asset) in faults()? {
        put(corpus, "asset", &name, &folder_input(&asset, &scratch.join("asset"))?)?;
    }
    for entry in fs::read_dir(archives)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|extension| extension == "pt2") {
            let asset = ondine_pt2::read(&name, &Bytes::map(&path)?)?;
            put(corpus, "asset", &name, &folder_input(&asset, &scratch.join("asset"))?)?;
            build(corpus, &name, &asset, &scratch.join("built"))?;
        }
    }
    for (name, from, to) in EDITED {
        let input = fs::read(corpus.join("asset").join(name))?;
        let text = String::from_utf8_lossy(&input);
        if !text.contains(from) {
            return Err(format!("{name}: no `{from}` to edit").into());
        }
        put(corpus, "asset", &format!("{name}-edited"), text.replace(from, to).as_bytes())?;
    }
    arrays(corpus)?;
    let checkpoints = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/ondine-models/tests/data/torch");
    for entry in fs::read_dir(checkpoints)? {
        let path = entry?.path();
        put(corpus, "torch", &path.file_stem().unwrap_or_default().to_string_lossy(), &fs::read(&path)?)?;
    }
    put(corpus, "ncnn", "compact", &ncnn())?;
    put(corpus, "picture", "prompt", b"a (b:1.2) [c:d:0.5] [e|f] {g|h} <lora:i:0.7> BREAK j AND k :0.5")?;
    pictures(corpus)?;
    language(corpus)?;
    Ok(fs::remove_dir_all(scratch)?)
}

/// A network of ncnn with weights in half and in full precision.
fn ncnn() -> Vec<u8> {
    let text = "7767517\n5 5\nInput in 0 1 data\nConvolution c0 1 1 data a 0=2 1=3 4=1 5=1 6=54\nPReLU p 1 1 a b 0=2\n\
        Convolution c1 1 1 b c 0=12 1=1 5=0 6=24\nPixelShuffle s 1 1 c out 0=2\n";
    let half = [&0x0130_6b47_u32.to_le_bytes()[..], &[0; 54 * 2], &[0; 2 * 4]].concat();
    [text.as_bytes(), &half, &[0; 2 * 4], &[0; 4], &[0; 24 * 4]].concat()
}

/// The parts of an asset built for the smallest tier and the present one, at every precision.
fn build(corpus: &Path, name: &str, asset: &Asset, scratch: &Path) -> Result<()> {
    for tier in ["generic", "native"] {
        let device = if tier == "generic" { call::DEVICE.narrowed(tier)? } else { Device::clone(&call::DEVICE) };
        for precision in [Precision::F32, Precision::BF16, Precision::Int8] {
            let options = Options { precision, ..Options::default() };
            // What a precision cannot do is no seed.
            let Ok(prepared) = asset.prepare(&options, &device) else { continue };
            prepared.build(scratch)?;
            let parts = built::parts(&fs::read(scratch)?).ok_or("a built file has other parts by now")?;
            put(corpus, "built", &format!("{name}-{tier}-{precision:?}"), &parts)?;
        }
    }
    Ok(())
}

/// Models in GGUF files of a few types, vocabularies, and templates.
fn language(corpus: &Path) -> Result<()> {
    for block in [None, Some(Block::Q4_0), Some(Block::Q5_1), Some(Block::MXFP4)] {
        let name = block.map_or("plain".to_owned(), |block| block.to_string());
        put(corpus, "gguf", &name, &gguf(block))?;
    }
    let steps = r#"{"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": ["a b"]},
"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}, "decoder": {"type": "ByteLevel"},
"added_tokens": [{"id": 3, "content": "<s>", "special": true}]}"#;
    let options = r#"{"bos_token": "<s>", "chat_template": "{{ messages[0].content }}"}"#;
    put(
        corpus,
        "vocabulary",
        "steps",
        &bundle::join(&[steps.as_bytes(), options.as_bytes(), br#"{"eos_token_id": [1]}"#]),
    )?;
    // Two pieces of SentencePiece: a text, a score, a type; and what kind of model it is.
    let pieces =
        b"\x0a\x0c\x0a\x03\xe2\x96\x81\x15\0\0\x80\xbf\x18\x01\x0a\x0a\x0a\x01a\x15\0\0\0\xc0\x18\x01\x12\x02\x18\x02";
    put(corpus, "vocabulary", "pieces", pieces)?;
    let template = "{% for m in messages %}<|{{ m.role }}|>{{ m.content | trim }}{% endfor %}\
{% if add_generation_prompt %}{{ bos_token + strftime_now('%Y') }}{% endif %}{{ tools | tojson(indent=2) }}";
    put(corpus, "template", "chat", &bundle::join(&[template.as_bytes(), br#"[{"role": "user", "content": " a "}]"#]))
}

/// A model of one layer, its matrices in a block format or f32.
fn gguf(block: Option<Block>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat();
    let number = |key: &str, value: u32| [text(key), 4_u32.to_le_bytes().into(), value.to_le_bytes().into()].concat();
    let word = |key: &str, value: &str| [text(key), 8_u32.to_le_bytes().into(), text(value)].concat();
    let list = |key: &str, kind: u32, items: Vec<Vec<u8>>| {
        let head = [text(key), 9_u32.to_le_bytes().into(), kind.to_le_bytes().into()].concat();
        [head, (items.len() as u64).to_le_bytes().into(), items.concat()].concat()
    };
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "a", "b", "\u{2581}a", "ab"];
    let score = |index: usize| (-(index as f32)).to_le_bytes().to_vec();
    let pairs = [
        word("general.architecture", "llama"),
        number("llama.block_count", 1),
        number("llama.context_length", 32),
        number("llama.embedding_length", 32),
        number("llama.feed_forward_length", 32),
        number("llama.attention.head_count", 4),
        number("llama.attention.head_count_kv", 2),
        [text("llama.attention.layer_norm_rms_epsilon"), 6_u32.to_le_bytes().into(), 1e-5_f32.to_le_bytes().into()]
            .concat(),
        word("tokenizer.ggml.model", "llama"),
        list("tokenizer.ggml.tokens", 8, tokens.iter().map(|token| text(token)).collect()),
        list("tokenizer.ggml.scores", 6, (0..tokens.len()).map(score).collect()),
        list(
            "tokenizer.ggml.token_type",
            5,
            [2_i32, 3, 3, 1, 1, 1, 1, 1].iter().map(|x| x.to_le_bytes().into()).collect(),
        ),
        number("tokenizer.ggml.bos_token_id", 1),
        number("tokenizer.ggml.eos_token_id", 2),
    ];
    let mut tensors = vec![("token_embd.weight", 32, tokens.len()), ("output_norm.weight", 32, 0)];
    tensors.extend([("blk.0.attn_norm.weight", 32, 0), ("blk.0.ffn_norm.weight", 32, 0)]);
    tensors.extend([("blk.0.attn_q.weight", 32, 32), ("blk.0.attn_k.weight", 32, 16)]);
    tensors.extend([("blk.0.attn_v.weight", 32, 16), ("blk.0.attn_output.weight", 32, 32)]);
    tensors.extend([("blk.0.ffn_gate.weight", 32, 32), ("blk.0.ffn_up.weight", 32, 32)]);
    tensors.push(("blk.0.ffn_down.weight", 32, 32));
    let mut file = [&b"GGUF"[..], &3_u32.to_le_bytes(), &(tensors.len() as u64).to_le_bytes()].concat();
    file.extend((pairs.len() as u64).to_le_bytes());
    file.extend(pairs.concat());
    let mut offset = 0_u64;
    for &(name, columns, rows) in &tensors {
        let block = block.filter(|_| rows > 0);
        let sizes = if rows > 0 { vec![columns as u64, rows as u64] } else { vec![columns as u64] };
        file.extend(text(name));
        file.extend((sizes.len() as u32).to_le_bytes());
        file.extend(sizes.iter().flat_map(|size| size.to_le_bytes()));
        file.extend(block.map_or(0, Block::id).to_le_bytes());
        file.extend(offset.to_le_bytes());
        let row = block.and_then(|block| block.row_bytes(columns)).unwrap_or(4 * columns);
        offset = (offset + (row * rows.max(1)) as u64).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32) + offset as usize, 0x3c);
    file
}

fn put(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> Result<()> {
    if bytes.len() <= MAX_BYTES {
        fs::write(corpus.join(target).join(name), bytes)?;
    }
    Ok(())
}

/// The files of an asset as an input of the target `asset`, without weights, which that makes itself.
fn folder_input(asset: &Asset, scratch: &Path) -> Result<Vec<u8>> {
    asset.save(scratch)?;
    let read = |name: &str| fs::read(scratch.join(name));
    let [manifest, graph, constants, _] = folder::NAMES;
    let files = [read(manifest)?, read(graph)?, read(constants)?];
    Ok(bundle::join(&[&files[0], &files[1], &files[2], b""]))
}

/// Graphs, named by what has been broken with them or with what [`EDITED`] makes of them.
fn faults() -> Result<Vec<(String, Asset)>> {
    let build: [(&str, fn(&mut Graph) -> Result<Value>); 5] = [
        ("state-from-weight", |graph| {
            let state = graph.state("s", DType::F32, [3_usize]);
            let weight = graph.weight("w", &[3])?;
            graph.update_state("s", weight)?;
            Ok(state)
        }),
        ("convolution-without-padding", |graph| {
            let sizes = [Dim::from(1), Dim::symbol("h"), Dim::symbol("w"), Dim::from(32)];
            let x = graph.input("x", DType::F32, Shape(sizes.into()));
            let weight = graph.weight("w", &[32, 32, 3, 3])?;
            Ok(graph.conv2d(x, weight, None, Conv2d::default())?)
        }),
        ("group-norm", |graph| {
            let x = graph.input("x", DType::F32, [5_usize, 8]);
            let (weight, bias) = (graph.weight("w", &[8])?, graph.weight("b", &[8])?);
            Ok(graph.group_norm(x, weight, bias, 2, 1e-5)?)
        }),
        ("take-row", |graph| {
            let x = graph.input("x", DType::F32, [5_usize, 3, 8]);
            let rows = graph.input("rows", DType::I64, [5_usize]);
            Ok(graph.push(Op::TakeRow, &[x, rows])?)
        }),
        ("concat-of-one", |graph| {
            let x = graph.input("x", DType::F32, Shape([Dim::symbol("n"), Dim::from(3)].into()));
            graph.limit("n", 1, 9);
            Ok(graph.concat(&[x], 1)?)
        }),
    ];
    build
        .into_iter()
        .map(|(name, build)| {
            let mut graph = Graph::new();
            let value = build(&mut graph)?;
            graph.output("y", value);
            Ok((name.to_owned(), asset(name, graph)?))
        })
        .collect()
}

/// An asset of one function, with weights of zeros.
fn asset(name: &str, graph: Graph) -> Result<Asset> {
    let mut weights = Weights::default();
    for weight in graph.weights() {
        let bytes = Bytes::from(vec![0; weight.shape.iter().product::<usize>() * 4].as_slice());
        let tensor = Tensor { dtype: DType::F32, shape: weight.shape.clone(), bytes, file: name.into() };
        weights.insert(&weight.path, tensor);
    }
    Ok(Asset::new(name, [("main", graph)], weights)?)
}

/// What no builder makes: an edit of the text of a seed.
const EDITED: [(&str, &str, &str); 4] = [
    ("group-norm", "\"shape\":[5,8]", "\"shape\":[8]"),
    ("take-row", "\"shape\":[5]", "\"shape\":[5,2]"),
    ("concat-of-one", "{\"axis\":1}", "{\"axis\":7}"),
    ("concat-of-one", "[1,9]", "[4611686018427387904,4611686018427387904]"),
];

/// Files of numpy, of every type and some shapes.
fn arrays(corpus: &Path) -> Result<()> {
    let types = ["<f4", "<f8", "<f2", "<i8", "<i4", "|i1", "|u1", "|b1"];
    let shapes = ["()", "(3,)", "(2, 3)", "(0, 7)"];
    for (i, descr) in types.iter().enumerate() {
        let header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {}, }}\n", shapes[i % shapes.len()]);
        let version = 1 + u8::try_from(i % 3)?;
        let len = u32::try_from(header.len())?.to_le_bytes();
        let len = if version == 1 { &len[..2] } else { &len[..] };
        let file = [b"\x93NUMPY", &[version, 0][..], len, header.as_bytes(), &[1; 48]].concat();
        put(corpus, "npy", &format!("{}-{i}", &descr[1..]), &file)?;
    }
    Ok(())
}

/// Pictures of every colour type, with texts of each kind, and texts alone.
fn pictures(corpus: &Path) -> Result<()> {
    const TEXT: &str = "a cat\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, \
        Size: 512x512, Model hash: 0123456789, Extra: \"a, \\\"b\\\": c\", Version: v1.10.1";
    put(corpus, "png", "text", TEXT.as_bytes())?;
    let picture = Picture { width: 3, height: 2, rgb: (0..18).collect(), texts: Vec::new() };
    let mut written = Vec::new();
    picture.with_text("parameters", TEXT).with_text("Comment", "日本").write_png(&mut written)?;
    put(corpus, "png", "rgb", &written)?;
    for (name, color, depth, bytes) in [
        ("grey-1", png::ColorType::Grayscale, png::BitDepth::One, 1),
        ("grey-16", png::ColorType::Grayscale, png::BitDepth::Sixteen, 6),
        ("grey-alpha", png::ColorType::GrayscaleAlpha, png::BitDepth::Eight, 6),
        ("rgba-16", png::ColorType::Rgba, png::BitDepth::Sixteen, 24),
        ("palette-4", png::ColorType::Indexed, png::BitDepth::Four, 2),
    ] {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, 3, 2);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![7; 48]);
            encoder.set_trns(vec![0, 128]);
        }
        encoder.add_ztxt_chunk("parameters".to_owned(), TEXT.to_owned())?;
        encoder.write_header()?.write_image_data(&vec![0x5a; 2 * bytes])?;
        put(corpus, "png", name, &file)?;
    }
    Ok(())
}
