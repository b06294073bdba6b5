//! What a MODEL is: a name, a folder or a file of any kind, opened in one way for every command.
//!
//! | MODEL | what it is |
//! |---|---|
//! | `M.ondine/` | a folder of `ondine import`: [`Asset`] |
//! | `m.pt2` | an archive of `torch.export.save`: [`Asset`] |
//! | `m.gguf` | a language model in one file, or a folder with nothing else of a model: [`Asset`] |
//! | `sd15/unet/` | the folder of one network as diffusers or transformers save it: [`Asset`] |
//! | `genmoji/unet` | a network of a built-in or installed pipeline: [`Asset`] |
//! | `m.bin` | a file of `ondine build`, of any name: [`Specialized`] |

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use ondine_graph::{Asset, Result, fail};
use ondine_models::{
    CONFIG, GraphSizes, Network, Pipeline, Source,
    gguf::{self, Gguf},
    open_upscaler, transformer,
};
use ondine_runtime::{Cache, Device, Options, Precision, Specialize, Specialized};

use crate::{catalog, folders, genmoji, realesrgan};

/// The file that makes a folder a pipeline.
const PIPELINE: &str = "model_index.json";

/// A model, at the stage in which it was found.
#[derive(Clone, Debug)]
pub enum Opened {
    /// Of no particular machine.
    Asset(Asset),
    /// Built ahead of time for a tier of processors.
    Specialized(Specialized),
}

/// Opens what `model` names.
///
/// # Errors
/// If there is no such model, it is broken, it is a pipeline of several networks, or it was built for a tier that
/// `device` lacks.
pub fn open(model: &str, device: &Device) -> Result<Opened> {
    let path = Path::new(model);
    if path.is_file() {
        return open_file(path, device);
    }
    if let Some((pipeline, component)) = model.trim_end_matches('/').rsplit_once('/').filter(|_| !path.exists())
        && let Some(source) = find(pipeline).ok().filter(|source| source.exists(PIPELINE))
    {
        return Pipeline::open(source)?.network(component)?.asset(GraphSizes::default()).map(Opened::Asset);
    }
    let source = find(model)?;
    match &source {
        Source::Folder(folder) if Asset::is_folder(folder) => Asset::open(folder).map(Opened::Asset),
        Source::Folder(folder) if only(folder, LANGUAGE).is_some() => {
            open_file(&only(folder, LANGUAGE).unwrap_or_default(), device)
        }
        source if source.exists(PIPELINE) => {
            let names: Vec<_> = Pipeline::open(source.clone())?.components.into_iter().map(|part| part.name).collect();
            fail!(Unsupported, "{model}: several networks; choose {model}/PART of: {}", names.join(", "))
        }
        source => Network::open(source, "", None)?.asset(GraphSizes::default()).map(Opened::Asset),
    }
}

/// The `config.json` of the network that `model` names, if it has one: what a pipeline asks of its parts.
#[must_use]
pub fn config(model: &str) -> Option<String> {
    let own = find(model).ok().filter(|source| source.exists(CONFIG)).map(|source| source.text(CONFIG).ok());
    own.unwrap_or_else(|| {
        let (pipeline, component) = model.trim_end_matches('/').rsplit_once('/')?;
        find(pipeline).ok()?.text(&format!("{component}/{CONFIG}")).ok()
    })
}

fn open_file(path: &Path, device: &Device) -> Result<Opened> {
    if Specialized::is_file(path) {
        return Specialized::open(path, device).map(Opened::Specialized);
    }
    if ondine_pt2::is_archive(path) {
        return ondine_pt2::open(path).map(Opened::Asset);
    }
    if gguf::is_one(path) {
        return transformer::asset(&Gguf::open(path)?).map(Opened::Asset);
    }
    let place = path.display();
    fail!(
        Unsupported,
        "{place}: neither an archive of torch.export.save, nor a GGUF file, nor one of `ondine build`; is it whole?"
    )
}

impl Opened {
    /// The names of its functions.
    #[must_use]
    pub fn functions(&self) -> Vec<String> {
        match self {
            Self::Asset(asset) => asset.functions().keys().map(ToString::to_string).collect(),
            Self::Specialized(specialized) => specialized.about().functions,
        }
    }

    /// The function that a caller means: the one of that name, or the only one.
    ///
    /// # Errors
    /// If there is none of that name, or none is named and there are several.
    pub fn choose(&self, function: Option<&str>) -> Result<Arc<str>> {
        let names = self.functions();
        match (function, names.as_slice()) {
            (Some(name), _) if names.iter().any(|known| known == name) => Ok(name.into()),
            (Some(name), _) => {
                fail!(Missing, "there is no function `{name}`; there are: {}", names.join(", "))
            }
            (None, [only]) => Ok(only.as_str().into()),
            (None, _) => fail!(Missing, "choose a function with --function: {}", names.join(", ")),
        }
    }

    /// The same with the function `name` alone, as far as its stage allows: only its weights are packed then.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn only(self, name: &str) -> Result<Self> {
        self.choose(Some(name))?;
        match self {
            Self::Asset(asset) => asset.only(name).map(Self::Asset),
            built @ Self::Specialized(_) => Ok(built),
        }
    }

    /// The model for this machine; `precision` is f32 unless it says otherwise or was chosen when the file was built.
    ///
    /// # Errors
    /// If an operator cannot run on the device, a weight cannot be read, or the model was built for another precision.
    pub fn specialize(
        self,
        precision: Option<Precision>,
        device: &Device,
        cache: Option<&Cache>,
    ) -> Result<Specialized> {
        match self {
            Self::Asset(asset) => {
                let options = Options { precision: precision.unwrap_or_default(), ..Options::default() };
                asset.specialize(&options, device, cache)
            }
            Self::Specialized(built) => {
                let about = built.about();
                match precision {
                    Some(wanted) if wanted != about.precision => {
                        fail!(
                            Unsupported,
                            "{}: built for {}, not {wanted}; build it again",
                            about.model,
                            about.precision
                        )
                    }
                    _ => Ok(built),
                }
            }
        }
    }
}

/// The pipeline that `name` names: a folder, built in or at a path or in the folder of models, or a checkpoint in one
/// file, for which `configs` counts if it is given.
///
/// # Errors
/// If there is no such model, or it is damaged or of another kind.
pub fn pipeline(name: &str, configs: Option<&Path>) -> Result<Pipeline> {
    let configs = configs.map(Source::folder).transpose()?;
    let path = Path::new(name);
    if path.is_file() {
        return Pipeline::open_file(path, configs.as_ref());
    }
    if configs.is_some() {
        fail!(Argument, "{name}: configs are for checkpoints in one file, and this has its own");
    }
    Pipeline::open(find(name)?)
}

/// Takes a network of a pipeline from elsewhere: a folder, or a file that holds it.
///
/// # Errors
/// If there is none there, or it is of another kind.
pub fn replace(pipeline: &mut Pipeline, part: &str, path: &Path) -> Result<()> {
    if path.is_file() { pipeline.replace_by_file(part, path) } else { pipeline.replace(part, Source::folder(path)?) }
}

/// The network that `name` names and that makes pictures larger: the built-in one, or one of the ESRGAN family in a
/// file.
///
/// # Errors
/// If there is no such file, it is damaged, or holds none.
pub fn upscaler(name: &str) -> Result<Network> {
    let path = Path::new(name);
    if path.exists() {
        return open_upscaler(path);
    }
    if name == realesrgan::NAME {
        return realesrgan::network();
    }
    match installed_at(name).and_then(|folder| only(&folder, UPSCALER)) {
        Some(file) => open_upscaler(&file),
        None if catalog::find(name).is_some_and(|entry| entry.file.ends_with(UPSCALER)) => {
            fail!(Missing, "{name}: not on this machine; `ondine models pull {name}` fetches it")
        }
        None => open_upscaler(path),
    }
}

/// What the file of a language model ends with that was fetched, and of a network that makes pictures larger.
const LANGUAGE: &str = "gguf";
/// See [`LANGUAGE`].
const UPSCALER: &str = "ncnn";

/// The files of a pipeline or network: built in, at a path, or in the folder of models.
///
/// # Errors
/// If there is no such model, or it is a file.
pub fn find(name: &str) -> Result<Source> {
    let path = Path::new(name);
    if name == genmoji::NAME && !path.exists() {
        return Ok(genmoji::source());
    }
    if path.is_dir() {
        return Ok(Source::Folder(path.to_path_buf()));
    }
    if path.is_file() {
        fail!(Unsupported, "{name}: a file, where a folder is needed, such as one that diffusers saves");
    }
    match installed().into_iter().find(|(known, _)| known == name) {
        Some((_, path)) => Ok(Source::Folder(path)),
        None => fail!(Missing, "{name}: there is no such model or folder; see `ondine models list`"),
    }
}

/// Where the language model lies that `name` names: a file or folder, or one of the folder of models.
///
/// # Errors
/// If there is none.
pub fn language(name: &str) -> Result<PathBuf> {
    let path = Path::new(name);
    let found = if path.exists() { Some(path.to_path_buf()) } else { installed_at(name) };
    match found {
        Some(folder) if folder.is_dir() => Ok(only(&folder, LANGUAGE).unwrap_or(folder)),
        Some(file) => Ok(file),
        None if catalog::find(name).is_some() => {
            fail!(Missing, "{name}: not on this machine; `ondine models pull {name}` fetches it")
        }
        None => fail!(Missing, "{name}: there is no such model or file; see `ondine models list`"),
    }
}

/// Where a model of the folder of models lies.
#[must_use]
pub fn installed_at(name: &str) -> Option<PathBuf> {
    installed().into_iter().find(|(known, _)| known == name).map(|(_, path)| path)
}

/// The file with an ending in a folder that is no model of another kind, if it is the only one.
fn only(folder: &Path, ending: &str) -> Option<PathBuf> {
    if folder.join(CONFIG).is_file() || folder.join(PIPELINE).is_file() {
        return None;
    }
    let paths = std::fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut files = paths.filter(|path| path.extension().is_some_and(|extension| extension == ending));
    files.next().filter(|_| files.next().is_none())
}

/// True for the folder of one network with a vocabulary.
fn is_language_folder(folder: &Path) -> bool {
    folder.join(CONFIG).is_file()
        && ["tokenizer.json", "tokenizer.model"].iter().any(|name| folder.join(name).is_file())
}

/// The folders of the folder of models that hold one, by name.
#[must_use]
pub fn installed() -> Vec<(String, PathBuf)> {
    let listing = folders::models().and_then(|folder| std::fs::read_dir(folder).ok());
    let paths = listing.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_model = |path: &PathBuf| {
        path.join(PIPELINE).is_file()
            || Asset::is_folder(path)
            || [LANGUAGE, UPSCALER].iter().any(|ending| only(path, ending).is_some())
            || is_language_folder(path)
    };
    let models = paths.filter(is_model);
    let mut named: Vec<_> =
        models.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path.clone()))).collect();
    named.sort();
    named
}
