//! Cases of recurrent layers and of linear algebra.

use ondine_graph::{Cell, DType, Op};

use super::{
    case::{Case, reals},
    every::every,
};

every!(CELLS: Cell = [Cell::Lstm, Cell::Gru, Cell::Tanh, Cell::Relu]);

/// A layer whose weight comes from the checkpoint, or is computed.
fn layer(cell: Cell, reverse: bool, [steps, batch, hidden]: [usize; 3], stored: bool) -> Case {
    Case::new(format!("{cell:?}, {steps} steps of {batch} by {hidden}, reverse {reverse}, stored {stored}"), |case| {
        let gates = cell.gates() * hidden;
        let x = case.random(DType::F32, &[steps, batch, gates]);
        let weight = [gates, hidden];
        let weight = if stored { case.weight(&weight)? } else { case.random(DType::F32, &weight) };
        let bias = if stored { case.weight(&[gates])? } else { case.random(DType::F32, &[gates]) };
        let start = case.random(DType::F32, &[batch, cell.carried() * hidden]);
        case.push(Op::Recurrent { cell, reverse }, &[x, weight, bias, start])
    })
}

fn layers() -> Vec<Case> {
    let sizes = [[1, 1, 1], [3, 2, 7], [7, 1, 17], [2, 17, 3], [5, 3, 33], [1, 2, 65], [0, 2, 3], [3, 0, 2]];
    let all = CELLS.iter().flat_map(|&cell| sizes.map(|sizes| (cell, sizes)));
    all.flat_map(|(cell, sizes)| {
        [(false, true), (true, true), (false, false)].map(|(reverse, stored)| layer(cell, reverse, sizes, stored))
    })
    .collect()
}

/// Matrices that are far from singular.
fn regular(case: &mut Case, shape: &[usize], symmetric: bool) -> ondine_graph::NDArray {
    let n = shape[shape.len() - 1];
    let mut numbers: Vec<f64> = (0..shape.iter().product()).map(|_| case.number()).collect();
    for matrix in numbers.chunks_mut((n * n).max(1)) {
        for i in 0..n {
            matrix[i * n + i] = 2.0 + n as f64 + case.number();
            for k in (0..i).filter(|_| symmetric) {
                matrix[i * n + k] = matrix[k * n + i];
            }
        }
    }
    reals(DType::F32, shape, &numbers)
}

fn algebra() -> Vec<Case> {
    let shapes: [&[usize]; 7] = [&[1, 1], &[2, 2], &[3, 7, 7], &[17, 17], &[2, 1, 3, 3], &[0, 3, 3], &[0, 0]];
    let mut cases = Vec::new();
    for shape in shapes {
        for (op, symmetric) in [(Op::Determinant, false), (Op::Cholesky, true)] {
            cases.push(Case::new(format!("{op} of {shape:?}"), |case| {
                let x = regular(case, shape, symmetric);
                let x = case.input(x);
                case.push(op, &[x])
            }));
        }
        for columns in [0, 1, 3] {
            cases.push(Case::new(format!("{columns} solutions of {shape:?}"), |case| {
                let a = regular(case, shape, false);
                let a = case.input(a);
                let b = case.random(DType::F32, &[&shape[..shape.len() - 1], &[columns]].concat());
                case.push(Op::Solve, &[a, b])
            }));
        }
    }
    cases.push(Case::new("a solution that needs its rows exchanged", |case| {
        let a = case.input(reals(DType::F32, &[2, 2], &[0.0, 2.0, 1.0, 0.0]));
        let b = case.input(reals(DType::F32, &[2, 1], &[6.0, 5.0]));
        case.push(Op::Solve, &[a, b])
    }));
    cases.push(Case::new("the determinant of a singular matrix", |case| {
        let x = case.input(reals(DType::F32, &[2, 2], &[1.0, 2.0, 2.0, 4.0]));
        case.push(Op::Determinant, &[x])
    }));
    cases
}

pub(super) fn cases() -> Vec<Case> {
    [layers(), algebra()].into_iter().flatten().collect()
}
