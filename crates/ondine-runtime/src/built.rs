//! [`Specialized`] as one file: graphs as the backend runs them, and weights as its kernels read them.

use std::{collections::BTreeMap, io::Write, path::Path, sync::Arc};

use ondine_graph::{
    Bytes, Context, Graph, Result, Value, fail,
    file::write_whole,
    folder::{
        check::Level,
        graph::Constants,
        graph::StoredGraph,
        tensors::{self, Piece},
    },
};

use crate::{
    backend::Lowering,
    device::Device,
    lowered::{Entry, Listing, Lowered},
    options::Options,
    pack::write_packed,
    specialize::{ENGINE, Functions, Prepared, Specialized},
    store::packed::{About, Front, Header, PackedFile, StoredFunction},
};

/// Everything of a file but the packed weights.
fn front(mut about: About, functions: &Functions, entries: &[Entry]) -> Result<Front> {
    // Where the model lay when it was built is of no use elsewhere.
    about.model = about.model.rsplit(['/', '\\']).next().unwrap_or_default().to_owned();
    let mut header = Header::new(about, entries);
    let mut constants = Constants::default();
    for (name, lowered) in functions {
        let graph = StoredGraph::new(&lowered.graph, &mut constants).at(|| name)?;
        let [spaces, states] = lowered.spaces().map(<[u8]>::to_vec);
        let function = StoredFunction { graph, uses: lowered.uses(entries), spaces, states };
        header.functions.insert(name.clone(), function);
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
        let entries = &self.listing.entries;
        let front = front(self.about(), &self.functions, entries)?;
        let backend = &**self.device.backend();
        write_whole(path, |file| front.write(file, |file| write_packed(&self.asset, entries, backend, file)))
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
        let start = self.entries.first().map_or(0, |first| first.offset);
        let moved = |entry: &Entry| Entry { offset: entry.offset - start, ..entry.clone() };
        let entries: Vec<Entry> = self.entries.iter().map(moved).collect();
        let front = front(self.about(), &self.functions, &entries)?;
        write_whole(path, |file| {
            front.write(file, |file| {
                let mut position = 0;
                for (index, entry) in entries.iter().enumerate() {
                    file.write_all(&[0; 64][..entry.offset - position])?;
                    file.write_all(self.packed(index))?;
                    position = entry.offset + entry.len;
                }
                Ok(())
            })
        })
    }

    /// Reads a file of [`Specialized::save`] or [`Prepared::build`] to its end and compares it with what was written,
    /// for whatever machine that was. Opening one reads no weights.
    ///
    /// # Errors
    /// If it is not what was written.
    pub fn check_file(path: &Path) -> Result<()> {
        let read = || PackedFile::read(&Bytes::map(path)?)?.check();
        read().at(|| path.display().to_string())
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
        let device = device.narrowed(&tier)?;
        let options = Options { precision, ..Options::default() };
        let constants: Vec<_> = tensors::read_arrays("constants", &constants)?.into_iter().map(Arc::new).collect();
        let (mut listing, mut functions) = (Listing::default(), BTreeMap::new());
        // What runs, and reads weights in which forms, the backend is asked once all of a function is there.
        let later = |_: &Graph, _: Value| Ok(());
        for (name, function) in header.functions {
            let StoredFunction { graph, uses, spaces, states } = function;
            let graph = graph.build(&constants, Level::Lowered(&later)).at(|| &name)?;
            let known = |spaces: &[u8], count: usize| {
                let many = device.backend().identity().spaces.len();
                (spaces.is_empty() || spaces.len() == count) && spaces.iter().all(|&space| usize::from(space) < many)
            };
            if !(known(&spaces, graph.nodes().len()) && known(&states, graph.states().len())) {
                fail!(Format, "function `{name}` has values in no memory of the device");
            }
            let lowering = Lowering { graph, spaces, states };
            let lowered = Lowered::stored(lowering, &uses, options, &**device.backend(), &mut listing).at(|| &name)?;
            functions.insert(name, Arc::new(lowered));
        }
        if listing.entries != header.entries {
            fail!(Format, "the packed weights are not those of its functions; build it again");
        }
        let moved = |entry: &Entry| Entry { offset: entry.offset + start, ..entry.clone() };
        let entries = listing.entries.iter().map(moved).collect();
        let (name, listing) = (model.into(), Arc::new(listing));
        Ok(Self { name, functions, bytes, entries, listing, options, device, from_cache: true })
    }
}
