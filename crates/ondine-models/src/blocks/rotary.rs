//! Rotary positions along several axes: each turns pairs of features of its own (Su et al. 2021, as in `FLUX`).

use ondine_graph::{DType, NDArray, Op, Result, Value};

use super::module::Module;
use crate::config::bounded;

/// The axes of positions, and the features of a head that each turns.
#[derive(Clone, Debug, PartialEq)]
pub struct Axes {
    /// The base of the wavelengths.
    pub theta: f64,
    /// Features of a head for each axis, in their order; even numbers.
    pub features: Vec<usize>,
}

impl Axes {
    /// Refuses axes that do not turn all features of a head.
    ///
    /// # Errors
    /// If they are odd, or more or fewer.
    pub fn check(&self, option: &str, head: usize) -> Result<()> {
        for &features in &self.features {
            bounded(option, features, head)?;
        }
        if self.features.iter().sum::<usize>() != head || self.features.iter().any(|features| features % 2 != 0) {
            ondine_graph::fail!(
                Shape,
                "`{option}` = {:?} must be even numbers whose sum is the width of a head, {head}",
                self.features
            );
        }
        Ok(())
    }

    fn pairs(&self) -> usize {
        self.features.iter().sum::<usize>() / 2
    }

    /// What one step along an axis turns each pair by, 0 for the pairs of others: `[pairs]`.
    fn frequencies(&self, m: &mut Module<'_>, axis: usize) -> Result<Value> {
        let mut all = Vec::with_capacity(self.pairs());
        for (of, &features) in self.features.iter().enumerate() {
            let frequency = |i: usize| (1.0 / self.theta.powf((2 * i) as f64 / features as f64)) as f32;
            all.extend((0..features / 2).map(|i| if of == axis { frequency(i) } else { 0.0 }));
        }
        Ok(m.constant(NDArray::new(&[all.len()], &all)?))
    }

    /// Angles of each pair for `positions` along an axis, any shape: that shape and `pairs`. Angles of several axes add
    /// up.
    ///
    /// # Errors
    /// If the shapes do not fit.
    pub fn angles(&self, m: &mut Module<'_>, positions: Value, axis: usize) -> Result<Value> {
        let frequencies = self.frequencies(m, axis)?;
        let mut shape = m.shape(positions).clone();
        shape.0.push(1.into());
        let positions = m.cast(positions, DType::F32)?;
        let positions = m.reshape(positions, shape)?;
        m.mul(positions, frequencies)
    }

    /// Angles of an origin, `[1, 1, pairs]`.
    ///
    /// # Errors
    /// None; the signature is that of its kin.
    pub fn origin(&self, m: &mut Module<'_>) -> Result<Value> {
        Ok(m.constant(NDArray::new(&[1, 1, self.pairs()], &vec![0.0_f32; self.pairs()])?))
    }
}

/// `count` numbers from 0 up, `[count]`.
///
/// # Errors
/// None; the signature is that of its kin.
pub fn count_up(m: &mut Module<'_>, count: ondine_graph::Dim) -> Result<Value> {
    m.push(Op::Range { start: 0.into(), step: 1, count }, &[])
}
