//! Rotary positions along several axes: each turns pairs of features of its own (Su et al. 2021, as in `FLUX`).

use ondine_graph::{DType, Dim, NDArray, Op, Result, Unary, Value};

use super::{joint::JointOptions, module::Module};
use crate::config::bounded;

/// Where the tokens of a text are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextPositions {
    /// All at the origin.
    Origin,
    /// One after the other along this axis.
    Along(usize),
}

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

    /// Pairs of features of a head.
    #[must_use]
    pub fn pairs(&self) -> usize {
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
    /// None for an axis that there is.
    pub fn angles(&self, m: &mut Module<'_>, positions: Value, axis: usize) -> Result<Value> {
        let frequencies = self.frequencies(m, axis)?;
        let mut shape = m.shape(positions).clone();
        shape.0.push(1.into());
        let positions = m.cast(positions, DType::F32)?;
        let positions = m.reshape(positions, shape)?;
        m.mul(positions, frequencies)
    }

    /// Angles of a picture whose tokens are placed by row and column along the second and third axis:
    /// `[rows * columns, pairs]`.
    ///
    /// # Errors
    /// If there are fewer axes.
    pub fn picture(&self, m: &mut Module<'_>, [rows, columns]: [&Dim; 2]) -> Result<Value> {
        let down = count_up(m, rows.clone())?;
        let down = m.reshape(down, vec![rows.clone(), 1.into()])?;
        let across = count_up(m, columns.clone())?;
        let across = m.reshape(across, vec![1.into(), columns.clone()])?;
        let (down, across) = (self.angles(m, down, 1)?, self.angles(m, across, 2)?);
        let picture = m.add(down, across)?;
        m.reshape(picture, vec![rows * columns, self.pairs().into()])
    }

    /// Cosines and sines of a text, the picture behind it and those that are looked at behind that,
    /// `[batch, all tokens, 1, pairs]`. Tokens of pictures are placed by row and column along the second and third
    /// axis; along the first the pictures that are looked at stand at multiples of `apart`.
    ///
    /// # Errors
    /// If there are fewer axes.
    pub fn tables(
        &self,
        m: &mut Module<'_>,
        options: &JointOptions,
        text: TextPositions,
        apart: i64,
    ) -> Result<[Value; 2]> {
        let JointOptions { batch, tokens, rows, columns, references } = options;
        let pairs = self.pairs();
        let picture = self.picture(m, [rows, columns])?;
        let picture = m.reshape(picture, vec![rows * columns, 1.into(), pairs.into()])?;
        let of_text = vec![tokens.clone(), 1.into(), pairs.into()];
        let text = match text {
            TextPositions::Origin => {
                let origin = m.constant(NDArray::new(&[1, 1, pairs], &vec![0.0_f32; pairs])?);
                m.push(Op::Expand(of_text.into()), &[origin])?
            }
            TextPositions::Along(axis) => {
                let along = count_up(m, tokens.clone())?;
                let angles = self.angles(m, along, axis)?;
                m.reshape(angles, of_text)?
            }
        };
        let (mut parts, mut all) = (vec![text, picture], tokens + &(rows * columns));
        for (place, [rows, columns]) in (1..).zip(references) {
            let own = self.picture(m, [rows, columns])?;
            let place = m.constant(NDArray::new(&[1], &[place * apart])?);
            let place = self.angles(m, place, 0)?;
            let own = m.add(own, place)?;
            parts.push(m.reshape(own, vec![rows * columns, 1.into(), pairs.into()])?);
            all = &all + &(rows * columns);
        }
        let angles = m.concat(&parts, 0)?;
        let angles = m.reshape(angles, vec![1.into(), all.clone(), 1.into(), pairs.into()])?;
        let mut table = |function: Unary| {
            let table = m.unary(function, angles)?;
            m.push(Op::Expand(vec![batch.clone(), all.clone(), 1.into(), pairs.into()].into()), &[table])
        };
        Ok([table(Unary::Cos)?, table(Unary::Sin)?])
    }
}

/// `count` numbers from 0 up, `[count]`.
fn count_up(m: &mut Module<'_>, count: Dim) -> Result<Value> {
    m.push(Op::Range { start: 0.into(), step: 1, count }, &[])
}
