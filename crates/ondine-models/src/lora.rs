//! Adapters of other networks' weights: LoRA (Hu et al. 2021) and its kin in all dialects that people share.
//!
//! A file says for modules of a network how their weights change: by a product of two narrow matrices
//! (LoRA, for convolutions `LoCon`), a product of two such products (`LoHa`, Hyeon-Woo et al. 2021), a Kronecker
//! product (`LoKr`), a difference; and all with the length of rows or columns learned apart (`DoRA`, Liu et al. 2024).
//! The changed weights are [`Recipes`](ondine_graph::recipe::Recipes): computed when they are packed, so an adapter
//! suits a base in any precision, and what runs is as fast as the base alone.

mod change;
mod keys;
mod modules;
mod original;
mod place;
mod scales;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
    sync::Arc,
};

use ondine_graph::{Context, Result, Weights, fail};

use crate::{checkpoint, network::Network};
use change::Change;
use keys::{Key, Part};
use place::Place;
use scales::Scales;

/// A file of changes of weights.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// Its file, without folder and extension.
    pub name: String,
    /// The tensors, under the names of the file.
    weights: Arc<Weights>,
    /// What changes, by module as the file calls it.
    changes: BTreeMap<Key, Change>,
    /// Tensors of the file that are no part of a change.
    unknown: Vec<String>,
}

/// What became of an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// The name of the adapter.
    pub name: String,
    /// Modules whose weights changed.
    pub applied: usize,
    /// Modules that the adapter has changes for.
    pub total: usize,
    /// Modules of the adapter that the model has not, or of other sizes, with the reason.
    pub left: Vec<String>,
}

impl fmt::Display for Applied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: applied {} of {}", self.name, self.applied, self.total)?;
        if let Some(first) = self.left.first() {
            write!(f, "; left out: {first}")?;
        }
        if self.left.len() > 1 {
            write!(f, " and {} more", self.left.len() - 1)?;
        }
        Ok(())
    }
}

impl Adapter {
    /// Reads a file of any dialect and format, or a folder that peft or diffusers saved.
    ///
    /// # Errors
    /// If the file is damaged, or holds nothing that changes weights.
    pub fn open(path: &Path) -> Result<Self> {
        let (file, name) = scales::file(path).at(|| path.display().to_string())?;
        let (weights, notes) = checkpoint::tensors_of(&file)?;
        let adapter = Scales::of(&file, &notes).and_then(|scales| Self::of(name, weights)?.scaled(&scales));
        adapter.at(|| file.display().to_string())
    }

    /// This one, with factors multiplied by what configs say of them.
    fn scaled(mut self, scales: &Scales) -> Result<Self> {
        for path in self.weights.paths() {
            let Some((target, module, Part::Down)) = keys::named(path) else { continue };
            let rank = self.weights.get(path).and_then(|down| down.shape.first().copied()).unwrap_or(0);
            if let Some(scale) = scales.scale(target, &module, rank)?
                && let Some(change) = self.changes.get_mut(&Key::Named(target, module.replace('.', "_")))
            {
                change.set_scale(scale);
            }
        }
        Ok(self)
    }

    /// The adapter that tensors are, under the names of some dialect.
    pub(crate) fn of(name: String, weights: Weights) -> Result<Self> {
        let (mut changes, mut unknown) = (BTreeMap::<Key, Change>::new(), Vec::new());
        for path in weights.paths() {
            match keys::parse(path) {
                Some((key, part)) => {
                    let scalar = || weights.to_f32(path).ok().and_then(|values| values.first().copied());
                    let change = changes.entry(key).or_default();
                    if !change.set(part, path, if part == Part::Alpha { scalar() } else { None }) {
                        unknown.push(path.to_string());
                    }
                }
                None => unknown.push(path.to_string()),
            }
        }
        // A scale alone changes nothing.
        changes.retain(|key, change| {
            let acts = change.acts();
            if !acts {
                unknown.push(key.to_string());
            }
            acts
        });
        if changes.is_empty() {
            let some: Vec<_> = unknown.iter().take(3).map(|path| format!("`{path}`")).collect();
            fail!(Unsupported, "no adapter (LoRA) of a kind that is known here: it holds {}", some.join(", "));
        }
        Ok(Self { name, weights: Arc::new(weights), changes, unknown })
    }

    /// How many modules it has changes for.
    #[must_use]
    pub fn modules(&self) -> usize {
        self.changes.len()
    }

    /// Changes networks of a pipeline, each named as diffusers names it (`unet` or `transformer`, `text_encoder`,
    /// `text_encoder_2`), by so much of the adapter as its number says.
    ///
    /// # Errors
    /// If no module of the adapter is one of these networks: it was made for another model.
    pub fn apply(&self, networks: &mut [(&str, f32, &mut Network)]) -> Result<Applied> {
        let mut applied = Applied { name: self.name.clone(), total: self.changes.len(), ..Applied::default() };
        let modules: Vec<_> =
            networks.iter().map(|(name, _, network)| modules::of(name, network)).collect::<Result<Vec<_>>>()?;
        let mut found = Vec::new();
        for (key, change) in &self.changes {
            match modules.iter().enumerate().find_map(|(i, modules)| Some((i, modules.find(key)?))) {
                Some((i, places)) => found.push((key, change, i, places)),
                None => applied.left.push(format!("`{key}`: the model has no such module")),
            }
        }
        // Some files say a change twice, for modules and for the layer that they are together: each counts once.
        found.sort_by_key(|(.., places)| places.len() > 1);
        let mut changed = BTreeSet::new();
        for (key, change, i, places) in found {
            if places.iter().any(|place| changed.contains(&(i, place.path.clone()))) {
                applied.left.push(format!("`{key}`: other tensors of the file change the same module"));
                continue;
            }
            changed.extend(places.iter().map(|place| (i, place.path.clone())));
            let (_, strength, network) = &mut networks[i];
            let mut changes =
                places.iter().map(|place| network.change(&self.name, &self.weights, place, change, *strength));
            match changes.try_for_each(|change| change) {
                Ok(()) => applied.applied += 1,
                Err(error) => applied.left.push(format!("`{key}`: {error}")),
            }
        }
        applied
            .left
            .extend(self.unknown.iter().map(|path| format!("`{path}`: no part of a change that is known here")));
        if applied.applied == 0 {
            let first = applied.left.first().map_or("", String::as_str);
            fail!(
                Unsupported,
                "{}: none of its {} changes fit this model, so it was made for another one: {first}",
                self.name,
                applied.total
            );
        }
        Ok(applied)
    }
}

impl Network {
    /// Changes the weight of a module, and its bias if the change has one, by a share of a change.
    fn change(&mut self, name: &str, from: &Weights, place: &Place, change: &Change, share: f32) -> Result<()> {
        for (end, of) in [("weight", change.weight()), ("bias", change.bias())] {
            let Some(change) = of else { continue };
            let path = format!("{}.{end}", place.path);
            let Some(shape) = self.shape_of(&path) else { fail!(Missing, "the model has no `{path}`") };
            let prefix = format!("{name}#{}:", self.weights.iter().count());
            // What a weight is made of stays under a name of its own; the recipe has the name that the graphs ask for.
            match change.recipe(self, &path, &shape, place.rows.as_ref(), from, &prefix, share) {
                Ok(recipe) => self.recipes.insert(&path, recipe),
                Err(error) => {
                    self.restore(&path)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}
