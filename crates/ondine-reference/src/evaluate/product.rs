//! Sums of products: linear layers and matrices.

use ondine_graph::{DType, Epilogue, Result};

use super::elementwise::activate;
use crate::{
    index::{count, rows},
    number::Real,
    tensor::{Elements, Tensor, misfit},
};

/// What an operator with weights does to its sums before they are stored.
pub(super) struct Finish<'a, R> {
    epilogue: Epilogue,
    bias: Option<&'a [R]>,
    residual: Option<&'a [R]>,
}

impl<'a, R: Real> Finish<'a, R> {
    /// The optional inputs are those behind the weight.
    pub(super) fn new(epilogue: Epilogue, inputs: &[&'a Tensor<R>]) -> Result<Self> {
        let wanted = 2 + usize::from(epilogue.bias) + usize::from(epilogue.residual);
        if inputs.len() != wanted {
            return Err(misfit(format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let read = |there: bool, at: usize| if there { inputs[at].reals().map(Some) } else { Ok(None) };
        Ok(Self { epilogue, bias: read(epilogue.bias, 2)?, residual: read(epilogue.residual, wanted - 1)? })
    }

    /// The result of rows of `outputs` sums.
    pub(super) fn finish(&self, mut sums: Vec<R>, outputs: usize) -> Vec<R> {
        if let Some(bias) = self.bias {
            sums.iter_mut().zip(bias.iter().cycle()).for_each(|(sum, bias)| *sum = sum.plus(*bias));
        }
        let activation = self.epilogue.activation;
        let mut out: Vec<R> = if self.epilogue.gate {
            let half = outputs / 2;
            let gated = |row: &[R]| (0..half).map(|i| row[i].times(activate(activation, row[half + i]))).collect();
            sums.chunks(outputs.max(1)).flat_map(|row| -> Vec<R> { gated(row) }).collect()
        } else {
            sums.into_iter().map(|sum| activate(activation, sum)).collect()
        };
        if let Some(residual) = self.residual {
            out.iter_mut().zip(residual).for_each(|(x, residual)| *x = x.plus(*residual));
        }
        out
    }
}

pub(super) fn linear<R: Real>(epilogue: Epilogue, inputs: &[&Tensor<R>], shape: &[usize]) -> Result<Tensor<R>> {
    let [x, weight, ..] = inputs else { return Err(misfit("a linear layer takes an input and a weight".into())) };
    let [outputs, channels, ..] = weight.shape() else { return Err(misfit("a weight is a matrix".into())) };
    let (numbers, weight) = (x.reals()?, weight.reals()?);
    let row_count = count(shape) / rows(shape).1.max(1);
    let mut sums = Vec::with_capacity(row_count * outputs);
    for row in (0..row_count).map(|row| &numbers[row * channels..][..*channels]) {
        sums.extend((0..*outputs).map(|output| R::dot(row, &weight[output * channels..][..*channels])));
    }
    Tensor::real(x.dtype(), shape, Finish::new(epilogue, inputs)?.finish(sums, *outputs))
}

/// A product of matrices, each column of the second as a row.
fn product<R: Real>(a: &[R], b: &[R], [rows, inner, columns]: [usize; 3], transposed: bool) -> Vec<R> {
    let column = |column: usize| -> Vec<R> {
        let at = |k: usize| if transposed { column * inner + k } else { k * columns + column };
        (0..inner).map(|k| b[at(k)]).collect()
    };
    let all: Vec<Vec<R>> = (0..columns).map(column).collect();
    (0..rows).flat_map(|row| all.iter().map(move |column| R::dot(&a[row * inner..][..inner], column))).collect()
}

/// As [`product`], of integers: they wrap around.
fn whole_product(a: &[i64], b: &[i64], [rows, inner, columns]: [usize; 3], transposed: bool) -> Vec<i64> {
    let at = |k: usize, column: usize| if transposed { column * inner + k } else { k * columns + column };
    let dot = |row: usize, column: usize| {
        (0..inner).fold(0_i64, |sum, k| sum.wrapping_add(a[row * inner + k].wrapping_mul(b[at(k, column)])))
    };
    (0..rows).flat_map(|row| (0..columns).map(move |column| dot(row, column))).collect()
}

pub(super) fn matmul<R: Real>(transposed: bool, [a, b]: [&Tensor<R>; 2], shape: &[usize]) -> Result<Tensor<R>> {
    let ([.., rows, inner], [batch @ .., _, columns]) = (a.shape(), shape) else {
        return Err(misfit("a product of matrices".into()));
    };
    let size = [*rows, *inner, *columns];
    if let (Elements::Integer(x), Elements::Integer(y)) = (a.elements(), b.elements()) {
        let numbers = (0..count(batch)).flat_map(|of| {
            let (x, y) = (&x[of * rows * inner..][..rows * inner], &y[of * inner * columns..][..inner * columns]);
            whole_product(x, y, size, transposed)
        });
        // Products of bytes are summed in 32 bits.
        let dtype = if matches!(a.dtype(), DType::I8 | DType::U8) { DType::I32 } else { a.dtype() };
        return Tensor::integer(dtype, shape, numbers.collect());
    }
    let (x, y) = (a.reals()?, b.reals()?);
    let numbers = (0..count(batch)).flat_map(|of| {
        let (x, y) = (&x[of * rows * inner..][..rows * inner], &y[of * inner * columns..][..inner * columns]);
        product(x, y, size, transposed)
    });
    Tensor::real(a.dtype(), shape, numbers.collect())
}

pub(super) fn grouped_matmul<R: Real>(
    transposed: bool,
    [x, weight, ends]: [&Tensor<R>; 3],
    shape: &[usize],
) -> Result<Tensor<R>> {
    let ([all, inner], [_, columns]) = (x.shape(), shape) else { return Err(misfit("a product in groups".into())) };
    let (numbers, weights) = (x.reals()?, weight.reals()?);
    let (mut out, mut first) = (Vec::with_capacity(count(shape)), 0);
    for (group, &end) in ends.integers()?.iter().enumerate() {
        let Some(end) = usize::try_from(end).ok().filter(|end| (first..=*all).contains(end)) else {
            return Err(misfit(format!("group {group} ends at {end}, after {first} of {all} rows")));
        };
        let weight = &weights[group * inner * columns..][..inner * columns];
        out.extend(product(&numbers[first * inner..end * inner], weight, [end - first, *inner, *columns], transposed));
        first = end;
    }
    out.resize(count(shape), R::exact(0.0));
    Tensor::real(x.dtype(), shape, out)
}
