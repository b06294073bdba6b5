//! ondine-models
