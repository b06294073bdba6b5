//! All that is known of an operator of ATen, in one place.

use ondine_graph::Result;

use super::sharing::{self, Ends, Memory};
use crate::{
    builder::{Builder, Tensor},
    call::{Call, Item},
};

/// What a node becomes: its results in order.
pub(crate) type Run = fn(&mut Builder, &Call<'_>) -> Result<Vec<Item>>;

/// A change of result `index` of a view: it holds `new`, and its argument held `whole` before.
pub(crate) struct Change<'a> {
    pub(crate) index: usize,
    pub(crate) whole: &'a Tensor,
    pub(crate) new: &'a Tensor,
}

/// What the argument of a view holds after a change; none if there is no shorter way than element by element.
pub(crate) type Back = fn(&mut Builder, &Call<'_>, &Change<'_>) -> Result<Option<Tensor>>;

/// An operator: what a node of it becomes, and what it does to memory.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// Its name, without overload and the underscore of its in-place form.
    pub(crate) name: &'static str,
    /// What it becomes.
    pub(crate) run: Run,
    /// What it becomes of complex numbers, whose parts are a last dimension; none if it is known of real ones only.
    pub(crate) complex: Option<Run>,
    /// Whose memory its results are in.
    pub(crate) memory: fn(&Ends<'_>) -> Memory,
    /// How a change of its result reaches its argument.
    pub(crate) back: Back,
    /// Whether its result can hold an element of its argument more than once.
    pub(crate) repeats: fn(&Call<'_>) -> Result<bool>,
    /// True if its in-place form changes what a name means, not what memory holds.
    pub(crate) renames: bool,
    /// True if it works along a dimension, of which a number without any has one of size 1.
    pub(crate) along: bool,
}

impl Rule {
    /// An operator on real numbers whose results have memory of their own.
    pub(super) const fn new(name: &'static str, run: Run) -> Self {
        Self {
            name,
            run,
            complex: None,
            memory: sharing::own,
            back: by_element,
            repeats: never,
            renames: false,
            along: false,
        }
    }

    /// The same on complex numbers.
    pub(super) const fn complex(self) -> Self {
        Self { complex: Some(self.run), ..self }
    }

    /// Another on complex numbers.
    pub(super) const fn on_complex(self, run: Run) -> Self {
        Self { complex: Some(run), ..self }
    }

    /// Its results are views of its first argument.
    pub(super) const fn shared(self) -> Self {
        Self { memory: sharing::shared, ..self }
    }

    /// Whether its results are views depends on what is viewed.
    pub(super) const fn sharing(self, memory: fn(&Ends<'_>) -> Memory) -> Self {
        Self { memory, ..self }
    }

    /// How a change of it reaches its argument, if there is a shorter way than element by element.
    pub(super) const fn back(self, back: Back) -> Self {
        Self { back, ..self }
    }

    /// Whether it can hold an element more than once.
    pub(super) const fn repeats(self, repeats: fn(&Call<'_>) -> Result<bool>) -> Self {
        Self { repeats, ..self }
    }

    /// It works along a dimension, of which a number without any has one.
    pub(super) const fn along(self) -> Self {
        Self { along: true, ..self }
    }

    /// In place, it changes what a name means.
    pub(super) const fn renames(self) -> Self {
        Self { renames: true, ..self }
    }
}

fn by_element(_: &mut Builder, _: &Call<'_>, _: &Change<'_>) -> Result<Option<Tensor>> {
    Ok(None)
}

fn never(_: &Call<'_>) -> Result<bool> {
    Ok(false)
}

/// One tensor as the results of a rule.
pub(super) fn one(tensor: Tensor) -> Result<Vec<Item>> {
    Ok(vec![Item::Tensor(tensor)])
}
