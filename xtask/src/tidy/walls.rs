//! Rules about what may know what: the arrows between crates, and words that stay on one side of a wall.

use proc_macro2::TokenTree;
use toml::Value;

use super::{
    finding::Finding,
    manifest::{Manifest, manifests},
    tokens::find,
    tree::Tree,
};

/// Each crate with the crates of this repository that it may name. Arrows point up; there are none sideways.
const ARROWS: &[(&str, &[&str])] = &[
    ("ondine-kernels", &[]),
    ("ondine-runtime", &["ondine-kernels"]),
    ("ondine-models", &["ondine-runtime"]),
    ("ondine-image", &["ondine-models", "ondine-runtime"]),
    ("ondine-language", &["ondine-macros", "ondine-models", "ondine-runtime"]),
    ("ondine-train", &["ondine-models", "ondine-runtime"]),
    ("ondine-gpu", &["ondine-runtime"]),
    ("ondine-macros", &[]),
    (
        "ondine",
        &[
            "ondine-gpu",
            "ondine-image",
            "ondine-language",
            "ondine-macros",
            "ondine-models",
            "ondine-runtime",
            "ondine-train",
        ],
    ),
    ("ondine-fuzz", &["ondine-image", "ondine-language", "ondine-models", "ondine-runtime"]),
    ("xtask", &[]),
];

/// Crates of others that only some of ours may name.
const RESERVED: &[(&str, &[&str])] = &[
    ("anyhow", &["ondine", "xtask"]),
    ("axum", &["ondine"]),
    ("clap", &["ondine"]),
    ("hf-hub", &["ondine"]),
    ("hyper", &["ondine"]),
    ("indicatif", &["ondine"]),
    ("reqwest", &["ondine"]),
    ("tokio", &["ondine"]),
    ("ureq", &["ondine"]),
];

/// What the bottom crate may name besides `std`; its tests may use more.
const KERNELS_MAY: &[&str] = &["half"];

/// Words that belong to a model or a family of them.
const MODELS: &[&str] = &[
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
];

/// A crate names only crates below it.
pub(super) fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for manifest in manifests(tree) {
        let (package, path) = (&manifest.package, &manifest.file.path);
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| name == package) else {
            findings.push(Finding::new(path, 1, format!("crate `{package}` is unknown; give it a line in ARROWS")));
            continue;
        };
        for dependency in manifest.dependencies() {
            let name = &*dependency.name;
            let ours = ARROWS.iter().any(|(ours, _)| *ours == name);
            if ours && !may.contains(&name) {
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

/// Only the program itself talks to others.
pub(super) fn sockets(tree: &Tree) -> Vec<Finding> {
    let files = tree.rust().filter(|file| file.path.starts_with("crates/") && !file.path.starts_with("crates/ondine/"));
    find(files, |tokens| {
        let TokenTree::Ident(name) = &tokens[0] else { return None };
        let socket = ["TcpListener", "TcpStream", "UdpSocket", "UnixListener", "UnixStream"].iter().any(|s| name == s);
        socket.then(|| format!("`{name}` in a library; only the program `ondine` may open sockets"))
    })
}

/// What runs a graph does not know whose graph it is.
pub(super) fn model_names(tree: &Tree) -> Vec<Finding> {
    let below = |path: &str| ["crates/ondine-kernels/", "crates/ondine-runtime/"].iter().any(|c| path.starts_with(c));
    find(tree.rust().filter(|file| below(&file.path)), |tokens| {
        let TokenTree::Ident(name) = &tokens[0] else { return None };
        let name = name.to_string();
        let model = words(&name).into_iter().find(|word| MODELS.contains(&&**word))?;
        Some(format!("`{name}` names the model `{model}`; name the property that matters, or move it to ondine-models"))
    })
}

/// The words of an identifier, in lower case: `UNet2DModel` and `unet_2d_model` begin with `unet`.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before_lower = false;
    for letter in name.chars() {
        let starts_word = !letter.is_alphabetic() || (letter.is_uppercase() && before_lower);
        if starts_word {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| letter.is_alphabetic()) {
            word.extend(letter.to_lowercase());
        }
        before_lower = letter.is_lowercase();
    }
    words
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
    fn libraries_open_no_sockets() {
        let code = "use std::net::{IpAddr, TcpStream};";
        assert_eq!(lines(sockets, "crates/ondine-models/src/a.rs", code), [1]);
        assert!(lines(sockets, "crates/ondine/src/serve.rs", code).is_empty());
    }

    #[test]
    fn models_are_not_named_below() {
        let check = |code| lines(model_names, "crates/ondine-runtime/src/a.rs", code);
        assert_eq!(check("// A unet.\nfn f(unet_block: A, b: UNet2DModel) {}"), [2, 2]);
        assert_eq!(check("struct ClipText;\nconst SDXL: u8 = 1;"), [1, 2]);
        assert!(check("fn eclipse(hilbert: Clipping) { \"unet\" }").is_empty());
        assert!(lines(model_names, "crates/ondine-models/src/unet.rs", "struct UNet;").is_empty());
    }
}
