//! ondine-runtime
