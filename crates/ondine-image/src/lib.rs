//! ondine-image
