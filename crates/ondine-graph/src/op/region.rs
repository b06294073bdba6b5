//! Regions of feature maps, read at a fixed size whatever theirs is.

use serde::{Deserialize, Serialize};

/// How regions are read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regions {
    /// Rows and columns of bins that each region is cut into; at least one each.
    pub bins: [usize; 2],
    /// What positions in regions are multiplied by to be positions in the map.
    pub scale: f32,
    /// What a bin holds.
    pub how: Region,
}

/// What a bin of a region holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Region {
    /// The mean of samples between elements (He et al. 2017).
    Mean {
        /// Samples of a bin in each dimension; 0 for as many as it has elements.
        samples: usize,
        /// True if positions are those of edges, half an element before the elements themselves; else regions have at
        /// least the size of an element.
        edges: bool,
        /// True if each bin reads channels of its own (Dai et al. 2016): channel `(c * rows + row) * columns + column`
        /// of the map for channel `c`.
        apart: bool,
    },
    /// The largest of the elements that a bin touches (Girshick 2015); 0 of none.
    Largest,
    /// The mean of the elements that a bin touches, each bin reading channels of its own; 0 of none.
    Touched,
}

impl Region {
    /// True if each bin reads channels of its own.
    #[must_use]
    pub fn is_apart(self) -> bool {
        match self {
            Self::Mean { apart, .. } => apart,
            Self::Largest => false,
            Self::Touched => true,
        }
    }
}
