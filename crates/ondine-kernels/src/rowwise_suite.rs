//! Properties of the row-wise operations, checked for every tier.
