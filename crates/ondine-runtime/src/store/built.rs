//! [`Specialized`] as one file: graphs as the passes left them, and weights as the kernels read them.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::Path,
    sync::Arc,
};

use super::{
    check::Level,
    graph::{Constants, StoredGraph},
    packed::{About, Front, Header, PackedFile},
    tensors::{self, Piece},
};
use crate::{cpu::{Coding, Format}, device::Device, specialize::{assign_packs, write_packed, ENGINE, Entry, Lowered, Options, Packed, Precision, Prepared, Specialized}};
use ondine_graph::{fail, file::write_whole, Bytes, Context, Result};

/// Everything of a file but the packed weights.
fn front(mut about: About, functions: &BTreeMap<Arc<str>, Arc<Lowered>>, entries: &[Entry]) -> Result<Front> {
    // Where the model lay when it was built is of no use elsewhere.
    about.model = about.model.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut header = Header::new(about, entries);
    let mut constants = Constants::default();
    for (name, lowered) in functions {
        header.functions.insert(name.clone(), StoredGraph::new(&lowered.graph, &mut constants).at(|| name)?);
    }
    let pieces = constants.arrays().iter().enumerate().map(|(i, array)| Piece::of(i.to_string(), array));
    let mut arrays = Vec::new();
    tensors::write(pieces.collect(), &mut arrays)?;
    Front::new(header, &arrays)
}

impl Prepared {
    /// Packs the weights into a file that [`Specialized::open`] opens; one weight at a time is in memory.
    ///
    /// # Errors
    /// If a tensor of the checkpoint cannot be read, or the file cannot be written; nothing is left then.
    pub fn build(&self, path: &Path) -> Result<()> {
        let front = front(self.about(), &self.functions, &self.entries)?;
        write_whole(path, |file| {
            front.write(file, |file| write_packed(self.asset().weights(), &self.entries, self.device(), file))
        })
    }
}

impl Specialized {
    /// True if the file at `path` begins like one of [`Specialized::save`] or [`Prepared::build`].
    #[must_use]
    pub fn is_file(path: &Path) -> bool {
        path.is_file() && Bytes::map(path).is_ok_and(|bytes| PackedFile::is_one(&bytes))
    }

    /// Writes everything to one file: aside first, then renamed.
    ///
    /// # Errors
    /// If the file cannot be written; nothing is left then.
    pub fn save(&self, path: &Path) -> Result<()> {
        let start = self.packed.entries.first().map_or(0, |first| first.offset);
        let moved = |entry: &Entry| Entry { offset: entry.offset - start, ..entry.clone() };
        let entries: Vec<Entry> = self.packed.entries.iter().map(moved).collect();
        let front = front(self.about(), &self.functions, &entries)?;
        write_whole(path, |file| {
            front.write(file, |file| {
                let mut position = 0;
                for (index, entry) in entries.iter().enumerate() {
                    file.write_all(&[0; 64][..entry.offset - position])?;
                    file.write_all(self.packed.get(index))?;
                    position = entry.offset + entry.len;
                }
                Ok(())
            })
        })
    }

    /// Opens a file of [`Specialized::save`] or [`Prepared::build`]: nothing is rewritten or packed, weights are
    /// mapped. It runs on the tier that it was built for, which may be less than the device's.
    ///
    /// # Errors
    /// If the file is cut or altered, was written by another version of the engine or for a tier that the device
    /// lacks.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        Self::read(path, device).at(|| path.display().to_string())
    }

    fn read(path: &Path, device: &Device) -> Result<Self> {
        let bytes = Bytes::map(path)?;
        let PackedFile { header, constants, start, .. } = PackedFile::read(&bytes)?;
        let About { precision, tier, engine, model, .. } = header.about;
        if engine != ENGINE {
            fail!(Unsupported, "built by version {engine} of the engine, this is {ENGINE}; build it again");
        }
        if header.functions.is_empty() {
            fail!(Format, "an entry of the cache, which has no functions of its own");
        }
        let device = device.with_tier(&tier)?;
        let options = Options { precision };
        let constants = tensors::read_arrays("constants", &constants)?;
        let coding = |entry: &Entry| match entry.format {
            Format::Coded { coding, .. } | Format::Rows { coding } if coding.is_known() => {
                Some((entry.path.clone(), coding))
            }
            Format::Panels { precision: Precision::Int8, groups: 1, .. } => Some((entry.path.clone(), Coding::ROWS8)),
            _ => None,
        };
        let codings: HashMap<Arc<str>, Coding> = header.entries.iter().filter_map(coding).collect();
        let (mut entries, mut known) = (Vec::new(), HashMap::new());
        let mut functions = BTreeMap::new();
        for (name, graph) in &header.functions {
            let graph = graph.build(&constants, Level::Lowered(options)).at(|| name)?;
            let coding = |path: &str| codings.get(path).copied();
            let lowered = assign_packs(graph, options, &device, (&mut entries, &mut known), coding);
            if !lowered.agrees(options) {
                fail!(Format, "function `{name}` multiplies what does not fit; build it again");
            }
            functions.insert(name.clone(), Arc::new(lowered));
        }
        if entries != header.entries {
            fail!(Format, "the packed weights are not those of its functions; build it again");
        }
        entries.iter_mut().for_each(|entry| entry.offset += start);
        Ok(Self { name: model.into(), functions, packed: Packed { bytes, entries }, options, device, from_cache: true })
    }
}
