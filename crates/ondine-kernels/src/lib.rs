//! ondine-kernels
