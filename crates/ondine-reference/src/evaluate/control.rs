//! What decides whether a call goes on.

use ondine_graph::{Error, ErrorKind, Result};

use crate::{number::Real, tensor::Tensor};

pub(super) fn assert<R: Real>(text: &str, x: &Tensor<R>) -> Result<Tensor<R>> {
    if x.integers()?.contains(&0) {
        return Err(Error::new(ErrorKind::Shape, format!("it does not hold that {text}")));
    }
    Ok(x.clone())
}
