//! Rules about what may know what: the arrows between crates, and words that stay on one side of a wall.

use proc_macro2::{TokenStream, TokenTree};
use toml::Value;

use super::{
    finding::Finding,
    manifest::{Manifest, manifests},
    tokens::find,
    tree::Tree,
};

/// A crate of ours, and which others it may name. Arrows point up; there are none sideways.
struct Arrow {
    from: &'static str,
    /// What its code names.
    to: &'static [&'static str],
    /// What its tests, benchmarks and examples name besides.
    tests_to: &'static [&'static str],
}

impl Arrow {
    const fn new(from: &'static str, to: &'static [&'static str], tests_to: &'static [&'static str]) -> Self {
        Self { from, to, tests_to }
    }
}

/// Every crate. Front doors meet the machine room in `ondine-graph` alone; their tests run what they have read.
const ARROWS: &[Arrow] = &[
    Arrow::new("ondine-graph", &[], &[]),
    Arrow::new("ondine-kernels", &[], &[]),
    Arrow::new("ondine-pt2", &["ondine-graph"], &["ondine-reference", "ondine-runtime"]),
    Arrow::new("ondine-models", &["ondine-graph"], &["ondine-reference", "ondine-runtime"]),
    Arrow::new("ondine-runtime", &["ondine-graph", "ondine-kernels"], &["ondine-reference"]),
    Arrow::new("ondine-reference", &["ondine-graph", "ondine-runtime"], &[]),
    Arrow::new("ondine-gpu", &["ondine-graph", "ondine-runtime"], &["ondine-reference"]),
    Arrow::new("ondine-macros", &[], &[]),
    Arrow::new(
        "ondine-image",
        &["ondine-graph", "ondine-models", "ondine-pt2", "ondine-runtime"],
        &["ondine-reference"],
    ),
    Arrow::new(
        "ondine-language",
        &["ondine-graph", "ondine-macros", "ondine-models", "ondine-pt2", "ondine-runtime"],
        &["ondine-reference"],
    ),
    Arrow::new("ondine-train", &["ondine-graph", "ondine-models", "ondine-runtime"], &["ondine-reference"]),
    Arrow::new(
        "ondine",
        &[
            "ondine-gpu",
            "ondine-graph",
            "ondine-image",
            "ondine-language",
            "ondine-macros",
            "ondine-models",
            "ondine-pt2",
            "ondine-runtime",
            "ondine-train",
        ],
        &["ondine-reference"],
    ),
    Arrow::new(
        "ondine-fuzz",
        &["ondine-graph", "ondine-image", "ondine-language", "ondine-models", "ondine-pt2", "ondine-runtime"],
        &[],
    ),
    Arrow::new("xtask", &[], &[]),
];

/// Crates of others that only some of ours may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["ondine", "xtask"]),
    ("axum", &["ondine"]),
    ("clap", &["ondine"]),
    ("clap_complete", &["ondine"]),
    ("clap_mangen", &["ondine"]),
    ("hf-hub", &["ondine"]),
    ("hyper", &["ondine"]),
    ("indicatif", &["ondine"]),
    ("memmap2", &["ondine-graph"]),
    ("reqwest", &["ondine"]),
    ("rustls", &["ondine"]),
    ("rustls-native-certs", &["ondine"]),
    ("tokio", &["ondine"]),
    ("ureq", &["ondine"]),
];

/// What the bottom crate may name besides `std`; its tests may use more.
const KERNELS_MAY: &[&str] = &["half"];

/// A word that stays on one side of a wall.
struct Wall {
    /// Rust's tokens: a name, a path `a::b`, a call `.a()` with any arguments.
    words: &'static [&'static str],
    /// True if a word may be a part of a name: `unet` of `UNetBlock`.
    parts: bool,
    /// Beginnings of the paths that it is kept out of.
    out_of: &'static [&'static str],
    /// Beginnings of the paths where it may stand nevertheless.
    but: &'static [&'static str],
    /// Whose it is, and what to do instead.
    why: &'static str,
}

const WALLS: &[Wall] = &[
    Wall {
        words: &["ondine_kernels"],
        parts: false,
        out_of: &["crates/", "fuzz/"],
        but: &["crates/ondine-kernels/", "crates/ondine-runtime/src/cpu.rs", "crates/ondine-runtime/src/cpu/"],
        why: "kernels belong to the backend `cpu`; ask a `Backend`",
    },
    Wall {
        words: &["memmap2"],
        parts: false,
        out_of: &["crates/", "fuzz/"],
        but: &[
            "crates/ondine-graph/src/aligned.rs",
            "crates/ondine-graph/src/bytes.rs",
            "crates/ondine-graph/src/mmap.rs",
        ],
        why: "one module maps files, one maps memory; use `Bytes`",
    },
    Wall {
        words: &["AlignedBytes"],
        parts: false,
        out_of: &["crates/ondine-graph/", "crates/ondine-runtime/"],
        but: &[
            "crates/ondine-graph/src/aligned.rs",
            "crates/ondine-graph/src/bytes.rs",
            "crates/ondine-graph/src/lib.rs",
            "crates/ondine-graph/src/ndarray.rs",
            "crates/ondine-runtime/src/backend.rs",
            "crates/ondine-runtime/src/cpu.rs",
            "crates/ondine-runtime/src/cpu/",
            "crates/ondine-runtime/src/pack.rs",
        ],
        why: "only a backend makes memory of places; keep a `Place`, or an `NDArray` of what is no place",
    },
    Wall {
        words: &["Backend::form", "backend.form()", "backend().form()"],
        parts: false,
        out_of: &["crates/ondine-reference/", "crates/ondine-runtime/"],
        but: &["crates/ondine-runtime/src/lowered.rs"],
        why: "the form of a weight is decided once, by `lowered.rs`; read it from the step",
    },
    Wall {
        words: &["TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream"],
        parts: false,
        out_of: &["crates/"],
        but: &["crates/ondine/src/catalog/tests.rs", "crates/ondine/src/fetch.rs"],
        why: "no crate opens sockets of its own; hand in what was read, or ask `fetch.rs` of the program",
    },
    Wall {
        words: &["rustls", "rustls_native_certs", "ureq"],
        parts: false,
        out_of: &["crates/"],
        but: &["crates/ondine/src/fetch.rs"],
        why: "one file reaches the network; use `fetch::Client`, for nothing but `models pull`",
    },
    Wall {
        words: &[
            "bert",
            "clip",
            "diffusion",
            "flux",
            "gemma",
            "genmoji",
            "gpt",
            "llama",
            "minilm",
            "mistral",
            "openclip",
            "qwen",
            "sdxl",
            "unet",
            "vae",
            "vit",
            "whisper",
        ],
        parts: true,
        out_of: &[
            "crates/ondine-graph/",
            "crates/ondine-kernels/",
            "crates/ondine-reference/",
            "crates/ondine-runtime/",
        ],
        but: &[],
        why: "what runs a graph does not know whose graph it is; name the property that matters",
    },
];

/// A crate names only crates below it.
pub(super) fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests(tree) {
        let (package, path) = (&manifest.package, &manifest.file.path);
        let Some(arrow) = ARROWS.iter().find(|arrow| arrow.from == package) else {
            findings.push(Finding::new(path, 1, format!("crate `{package}` is unknown; give it a line in ARROWS")));
            continue;
        };
        for dependency in manifest.dependencies() {
            let name = &*dependency.name;
            let ours = ARROWS.iter().any(|arrow| arrow.from == name);
            let in_tests = dependency.development && arrow.tests_to.contains(&name);
            if ours && !arrow.to.contains(&name) && !in_tests {
                let message = format!("`{package}` may not know `{name}`; move what it needs below both");
                findings.push(Finding::new(path, dependency.line, message));
            } else if package == "ondine" && name == "ondine-train" && !dependency.optional {
                let message = "inference would link training; make the dependency optional";
                findings.push(Finding::new(path, dependency.line, message));
            }
        }
    }
    findings
}

/// Crates of others appear only where they have a place.
pub(super) fn reserved_dependencies(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests(tree) {
        let package = &*manifest.package;
        for dependency in manifest.dependencies() {
            let name = &*dependency.name;
            let elsewhere = RESERVED.iter().find(|(reserved, may)| *reserved == name && !may.contains(&package));
            let alone = package == "ondine-kernels" && !dependency.development && !KERNELS_MAY.contains(&name);
            let message = match elsewhere {
                Some((_, may)) => format!("`{name}` in `{package}`; only {} may name it", may.join(" and ")),
                None if alone => format!("`{name}` in `{package}`; it needs std and half alone"),
                None => continue,
            };
            findings.push(Finding::new(&manifest.file.path, dependency.line, message));
        }
    }
    findings
}

/// One lint table serves every crate.
pub(super) fn workspace_lints(tree: &Tree) -> Vec<Finding> {
    let inherits = |manifest: &Manifest| {
        let lints = manifest.table.get("lints").and_then(|lints| lints.get("workspace"));
        lints.and_then(Value::as_bool) == Some(true)
    };
    let message = "no workspace lints; add `[lints]` with `workspace = true`";
    let members = manifests(tree).into_iter().filter(|manifest| !manifest.table.contains_key("workspace"));
    let silent = members.filter(|manifest| !inherits(manifest));
    silent.map(|manifest| Finding::new(&manifest.file.path, 1, message)).collect()
}

/// Words stay on their side of the walls.
pub(super) fn words(tree: &Tree) -> Vec<Finding> {
    WALLS.iter().flat_map(|wall| wall.crossings(tree)).collect()
}

impl Wall {
    fn crossings(&self, tree: &Tree) -> Vec<Finding> {
        let begins = |path: &str, places: &[&str]| places.iter().any(|place| path.starts_with(place));
        let files = tree.rust().filter(|file| begins(&file.path, self.out_of) && !begins(&file.path, self.but));
        let patterns: Vec<Vec<TokenTree>> = self.words.iter().map(|word| tokens(word)).collect();
        find(files, |tokens| {
            let found = self.words.iter().zip(&patterns).find(|(word, pattern)| match &tokens[0] {
                TokenTree::Ident(name) if self.parts => parts(&name.to_string()).iter().any(|part| part == *word),
                _ => !self.parts && begins_like(tokens, pattern),
            });
            let (word, _) = found?;
            Some(format!("`{word}` behind its wall: {}", self.why))
        })
    }
}

fn tokens(word: &str) -> Vec<TokenTree> {
    word.parse::<TokenStream>().into_iter().flatten().collect()
}

/// True if the tokens begin as the pattern does; its groups are like all between such delimiters.
fn begins_like(tokens: &[TokenTree], pattern: &[TokenTree]) -> bool {
    let alike = |(token, like): (&TokenTree, &TokenTree)| match (token, like) {
        (TokenTree::Ident(token), TokenTree::Ident(like)) => token == like,
        (TokenTree::Punct(token), TokenTree::Punct(like)) => token.as_char() == like.as_char(),
        (TokenTree::Group(token), TokenTree::Group(like)) => token.delimiter() == like.delimiter(),
        _ => false,
    };
    tokens.len() >= pattern.len() && tokens.iter().zip(pattern).all(alike)
}

/// The words of an identifier, in lower case: `UNet2DModel` and `unet_2d_model` begin with `unet`.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before_lower = false;
    for letter in name.chars() {
        let starts_word = !letter.is_alphabetic() || (letter.is_uppercase() && before_lower);
        if starts_word {
            parts.push(String::new());
        }
        if let Some(word) = parts.last_mut().filter(|_| letter.is_alphabetic()) {
            word.extend(letter.to_lowercase());
        }
        before_lower = letter.is_lowercase();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::{super::tests::lines, *};

    fn found(check: fn(&Tree) -> Vec<Finding>, package: &str, rest: &str) -> Vec<usize> {
        lines(check, "crates/x/Cargo.toml", &format!("[package]\nname = \"{package}\"\n{rest}"))
    }

    #[test]
    fn arrows_point_up() {
        assert_eq!(found(arrows, "ondine-runtime", "[dependencies]\nondine-models.workspace = true\n"), [4]);
        assert_eq!(found(arrows, "ondine-image", "[dev-dependencies.ondine-language]\npath = \"\"\n"), [3]);
        assert_eq!(found(arrows, "ondine-image", "[build-dependencies]\nx = { package = \"ondine-train\" }\n"), [4]);
        assert_eq!(found(arrows, "ondine-models", "[target.'cfg(unix)'.dependencies]\nondine-kernels = \"1\"\n"), [4]);
        assert_eq!(found(arrows, "ondine-new", ""), [1]);
        assert!(found(arrows, "ondine-image", "[dependencies]\nondine-models = \"1\"\nserde = \"1\"\n").is_empty());
    }

    #[test]
    fn inference_links_no_training() {
        assert_eq!(found(arrows, "ondine", "[dependencies]\nondine-train.workspace = true\n"), [4]);
        let optional = "[dependencies]\nondine-train = { workspace = true, optional = true }\n";
        assert!(found(arrows, "ondine", optional).is_empty());
    }

    #[test]
    fn dependencies_have_their_place() {
        let check = |package, rest| found(reserved_dependencies, package, rest);
        assert_eq!(check("ondine-models", "[dependencies]\nanyhow = \"1\"\n"), [4]);
        assert_eq!(check("ondine-kernels", "[dependencies]\nhalf = \"2\"\nlibc = \"1\"\n"), [5]);
        assert!(check("ondine-kernels", "[dev-dependencies]\nproptest = \"1\"\n").is_empty());
        assert!(check("ondine", "[dependencies]\nanyhow = \"1\"\n").is_empty());
    }

    #[test]
    fn crates_share_the_lints() {
        assert_eq!(found(workspace_lints, "ondine", "[lints]\nworkspace = false\n"), [1]);
        assert!(found(workspace_lints, "ondine", "[lints]\nworkspace = true\n").is_empty());
        assert!(found(workspace_lints, "ondine-fuzz", "[workspace]\n").is_empty());
    }

    #[test]
    fn front_doors_know_the_graph_alone() {
        for package in ["ondine-models", "ondine-pt2"] {
            let check = |kind, name| found(arrows, package, &format!("[{kind}]\n{name} = \"1\"\n")).len();
            assert_eq!(check("dependencies", "ondine-graph"), 0);
            assert_eq!(check("dependencies", "ondine-runtime"), 1);
            assert_eq!(check("dev-dependencies", "ondine-runtime"), 0, "what was read is run by tests");
            assert_eq!(check("dev-dependencies", "ondine-image"), 1);
        }
        assert_eq!(found(arrows, "ondine-runtime", "[dependencies]\nondine-reference = \"1\"\n"), [4]);
        assert_eq!(found(arrows, "ondine-graph", "[dev-dependencies]\nondine-runtime = \"1\"\n"), [4]);
    }

    #[test]
    fn kernels_and_memory_stay_in_the_backend() {
        let check = |file: &str, code| lines(words, &format!("crates/ondine-runtime/src/{file}.rs"), code);
        for code in ["use ondine_kernels::Cpu;", "fn f(memory: &AlignedBytes) {}"] {
            assert_eq!(check("exec", code), [1], "{code}");
            assert!(check("cpu/rows", code).is_empty() && check("cpu", code).is_empty(), "{code}");
        }
        assert_eq!(lines(words, "crates/ondine/src/a.rs", "\nuse {memmap2::Mmap, ondine_kernels::Tier};"), [2, 2]);
    }

    #[test]
    fn one_file_decides_forms() {
        let check = |file: &str, code| lines(words, &format!("crates/ondine-runtime/src/{file}.rs"), code);
        assert_eq!(check("exec", "fn f() {\n backend.form(graph, node)?\n}"), [2]);
        assert_eq!(check("exec", "fn f() { map(Backend::form) }"), [1]);
        assert!(check("lowered", "fn f() { backend.form(graph, node)? }").is_empty());
        assert_eq!(check("exec", "fn f() { self.device.backend().form(&reader) }"), [1]);
        assert!(check("cpu", "fn form(&self) -> Form { self.form(step) }").is_empty());
    }

    #[test]
    fn one_file_reaches_the_network() {
        let code = "use std::net::{IpAddr, TcpStream};";
        assert_eq!(lines(words, "crates/ondine-models/src/a.rs", code), [1]);
        assert_eq!(lines(words, "crates/ondine/src/command/ask.rs", "use ureq::Agent;"), [1]);
        assert!(lines(words, "crates/ondine/src/fetch.rs", "use {std::net::TcpStream, ureq::Agent};").is_empty());
    }

    #[test]
    fn models_are_not_named_below() {
        let check = |code| lines(words, "crates/ondine-runtime/src/a.rs", code);
        assert_eq!(check("// A unet.\nfn f(unet_block: A, b: UNet2DModel) {}"), [2, 2]);
        assert_eq!(check("struct ClipText;\nconst SDXL: u8 = 1;"), [1, 2]);
        assert!(check("fn eclipse(hilbert: Clipping) { \"unet\" }").is_empty());
        assert!(lines(words, "crates/ondine-models/src/unet.rs", "struct UNet;").is_empty());
    }

    #[test]
    fn walls_are_of_words_and_reasons() {
        for wall in WALLS {
            assert!(wall.words.iter().all(|word| !tokens(word).is_empty()) && !wall.why.is_empty(), "{}", wall.why);
        }
    }
}
