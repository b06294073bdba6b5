//! Numbers that a graph computes from constants and weights alone, found out while it is read.

use ondine_graph::{Binary, DType, Graph, NDArray, Op, Reduce, Unary, Value, Weights, element_count};

/// An array of numbers, row by row.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Numbers<T> {
    pub(super) shape: Vec<usize>,
    pub(super) data: Vec<T>,
}

impl<T: Copy> Numbers<T> {
    /// The same numbers under another shape, if it has as many elements.
    pub(super) fn reshaped(self, shape: &[usize]) -> Option<Self> {
        (element_count(shape) == Some(self.data.len())).then(|| Self { shape: shape.to_vec(), data: self.data })
    }

    /// Dimension `i` of the result is dimension `axes[i]`.
    pub(super) fn permuted(&self, axes: &[usize]) -> Self {
        let strides = strides(&self.shape);
        let shape: Vec<usize> = axes.iter().map(|&axis| self.shape[axis]).collect();
        let strides: Vec<usize> = axes.iter().map(|&axis| strides[axis]).collect();
        self.gathered(shape, &strides)
    }

    /// Repeated along dimensions of size 1 and leading ones that it lacks, if that yields `shape`.
    pub(super) fn expanded(&self, shape: &[usize]) -> Option<Self> {
        let missing = shape.len().checked_sub(self.shape.len())?;
        let mut all = vec![0; missing];
        for ((&size, stride), &wanted) in self.shape.iter().zip(strides(&self.shape)).zip(&shape[missing..]) {
            match size {
                1 => all.push(0),
                _ if size == wanted => all.push(stride),
                _ => return None,
            }
        }
        Some(self.gathered(shape.to_vec(), &all))
    }

    fn gathered(&self, shape: Vec<usize>, strides: &[usize]) -> Self {
        let count = shape.iter().product();
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0; shape.len()];
        let mut at = 0;
        for _ in 0..count {
            data.push(self.data[at]);
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                at += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                at -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        Self { shape, data }
    }
}

impl Numbers<f64> {
    /// Of a matrix: the sums over `axis`.
    pub(super) fn sums(&self, axis: usize) -> Vec<f64> {
        let other = if axis == 0 { self.permuted(&[1, 0]) } else { self.clone() };
        other.data.chunks(other.shape[1].max(1)).map(|row| row.iter().sum()).collect()
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

/// The numbers of an array; f64 holds those of all types but the largest of I64.
fn of_array(array: &NDArray) -> Option<Numbers<f64>> {
    let data = match array.dtype() {
        DType::I64 => array.view::<i64>().ok()?.iter().map(|&x| x as f64).collect(),
        DType::I32 => array.view::<i32>().ok()?.iter().map(|&x| f64::from(x)).collect(),
        _ => array.to_f32().into_iter().map(f64::from).collect(),
    };
    Some(Numbers { shape: array.shape().to_vec(), data })
}

/// The most operators that are looked through for one value.
pub(super) const MOST_STEPS: usize = 256;

/// The numbers of a value, if it depends on constants and weights through a few simple operators alone.
pub(super) fn evaluate(graph: &Graph, weights: &Weights, value: Value) -> Option<Numbers<f64>> {
    let mut steps = MOST_STEPS;
    evaluate_within(graph, weights, value, &mut steps)
}

fn evaluate_within(graph: &Graph, weights: &Weights, value: Value, steps: &mut usize) -> Option<Numbers<f64>> {
    *steps = steps.checked_sub(1)?;
    let node = graph.node(value);
    let shape = node.signature.shape.fixed()?;
    let mut input = |position: usize| evaluate_within(graph, weights, *node.inputs.get(position)?, steps);
    let mut result = match &node.op {
        Op::Const(array) => return of_array(array),
        Op::Weight(id) => {
            let numbers = weights.to_f32(&graph.weight_info(*id).path).ok()?;
            return Some(Numbers { shape, data: numbers.iter().map(|&x| f64::from(x)).collect() });
        }
        Op::Reshape(_) => input(0)?.reshaped(&shape)?,
        Op::Permute(axes) => input(0)?.permuted(axes),
        Op::Expand(_) => input(0)?.expanded(&shape)?,
        Op::Cast(dtype) => {
            let mut x = input(0)?;
            if !dtype.is_float() {
                x.data.iter_mut().for_each(|x| *x = x.trunc());
            }
            x
        }
        Op::Unary(Unary::Affine { scale, offset }) => {
            let mut x = input(0)?;
            x.data.iter_mut().for_each(|x| *x = f64::from((*x * f64::from(*scale)) as f32) + f64::from(*offset));
            x
        }
        Op::Binary(op) => {
            let (mut a, b) = (input(0)?.expanded(&shape)?, input(1)?.expanded(&shape)?);
            for (a, b) in a.data.iter_mut().zip(&b.data) {
                *a = match op {
                    Binary::Add => *a + b,
                    Binary::Sub => *a - b,
                    Binary::Mul => *a * b,
                    Binary::Div if node.signature.dtype == DType::F32 => *a / b,
                    _ => return None,
                };
            }
            a
        }
        Op::Reduce { how: Reduce::Sum, axes, .. } => {
            let x = input(0)?;
            match axes[..] {
                [axis] if x.shape.len() == 2 && axis < 2 => Numbers { shape, data: x.sums(axis) },
                _ => return None,
            }
        }
        _ => return None,
    };
    if node.signature.dtype == DType::F32 {
        result.data.iter_mut().for_each(|x| *x = f64::from(*x as f32));
    }
    Some(result)
}
