//! How many rows of keys and values the states of a layer have.

use ondine_graph::{Result, fail};

use super::{
    cache::KvCache,
    config::{Config, Layer},
};

/// What is kept of a text from call to call.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The most tokens of the text.
    pub context: usize,
    /// The most tokens of a call. With fewer than the context, layers with a window keep what their windows hold, and
    /// room for one call: a ring, in which token `p` lies in row `p % rows`. A call can then go back to a smaller
    /// `past` only as far as [`Rings::hold`] says.
    pub call: usize,
    /// What keys and values are kept in.
    pub kv: KvCache,
}

/// Rows are whole multiples of this many, and what a window holds may begin inside of such a block: kernels add up keys
/// in tiles that begin at multiples of it, and so get the same bits as from a state that holds the whole text.
const BLOCK: usize = 96;

/// The rows of a layer's states that belong to one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rows {
    pub(super) count: usize,
    /// The widest window of those who read them, if later tokens take the rows of earlier ones.
    window: Option<usize>,
}

impl Rows {
    pub(super) fn are_ring(self) -> bool {
        self.window.is_some()
    }
}

impl Room {
    /// Room for texts of `context` tokens, in calls of as many.
    #[must_use]
    pub fn whole(context: usize, kv: KvCache) -> Self {
        Self { context, call: context, kv }
    }

    /// Makes sure that the model can keep so much.
    pub(super) fn check(&self, config: &Config) -> Result<()> {
        let most = config.max_positions;
        if self.context == 0 || self.context > most {
            fail!(Argument, "a context of {} tokens; the model was made for 1 to {most}", self.context);
        }
        if self.call == 0 {
            fail!(Argument, "calls of 0 tokens; give at least 1");
        }
        if config.coded_keys && self.kv == KvCache::Bf16 {
            fail!(Argument, "keys and values of this model are kept in int8 with scales of its own; leave out bf16");
        }
        Ok(())
    }

    /// The rows of the layer `index`, which has keys of its own; other layers may read them too.
    fn rows(&self, config: &Config, index: usize) -> Rows {
        let whole = Rows { count: self.context, window: None };
        let reads = |&(reader, layer): &(usize, &Layer)| reader == index || layer.keys_of == Some(index);
        let readers = config.layers.iter().enumerate().filter(reads);
        let widest = readers.map(|(_, layer)| layer.window).reduce(|a, b| Some(a?.max(b?))).flatten();
        let Some(window) = widest.filter(|_| self.call < self.context) else { return whole };
        let count = window.saturating_add(self.call + BLOCK - 2).div_ceil(BLOCK).saturating_mul(BLOCK);
        if count < self.context { Rows { count, window: Some(window) } } else { whole }
    }

    /// The rows of each layer with keys of its own.
    pub(super) fn all_rows(&self, config: &Config) -> impl Iterator<Item = (usize, Rows)> {
        let own = config.layers.iter().enumerate().filter(|(_, layer)| layer.keys_of.is_none());
        own.map(|(index, _)| (index, self.rows(config, index)))
    }

    /// The rings among the states of a model.
    #[must_use]
    pub fn rings(&self, config: &Config) -> Rings {
        let mut rings: Vec<[usize; 2]> =
            self.all_rows(config).filter_map(|(_, rows)| Some([rows.window?, rows.count])).collect();
        rings.sort_unstable();
        rings.dedup();
        Rings(rings)
    }
}

/// States of which later tokens take the rows of earlier ones: windows, and the rows that there are for each.
#[derive(Clone, Debug, Default)]
pub struct Rings(Vec<[usize; 2]>);

impl Rings {
    /// True if a text whose first `written` tokens have been written, one call after the other from the first on, can
    /// be gone on with after `past` of them: no token that a window holds then has been overwritten. Where it cannot,
    /// it can be read again from its beginning.
    #[must_use]
    pub fn hold(&self, past: usize, written: usize) -> bool {
        self.0.iter().all(|&[window, rows]| {
            let first = (past + 1).saturating_sub(window) / BLOCK * BLOCK;
            past == 0 || written <= first + rows
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_can_go_back_as_far_as_nothing_is_overwritten() {
        let rings = Rings(vec![[5, 192], [100, 288]]);
        assert!(rings.hold(192, 192) && rings.hold(100, 192) && rings.hold(400, 400));
        // Of 300 tokens, a ring of 192 rows has lost the first 108; it has to have whole blocks.
        assert!(!rings.hold(100, 300) && !rings.hold(195, 300) && rings.hold(291, 300));
        assert!(rings.hold(0, 9999) && Rings::default().hold(7, 9999));
    }
}
