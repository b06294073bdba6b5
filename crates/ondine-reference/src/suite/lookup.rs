//! Cases of elements found by indices.

use ondine_graph::{DType, Op, Scatter};

use super::{
    case::{Case, array, reals},
    elementwise::TYPES,
    every::every,
};

every!(SCATTERS: Scatter =
    [Scatter::Replace, Scatter::Add, Scatter::Multiply, Scatter::Max, Scatter::Min]);

fn gathers(floats: &[DType]) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 6] =
        [(&[7, 3], &[5]), (&[65, 17], &[2, 3]), (&[3], &[]), (&[3, 0], &[2]), (&[2, 3, 5], &[1, 4]), (&[3, 4], &[0])];
    let mut cases = Vec::new();
    for (table, indices) in shapes {
        for (&dtype, of) in TYPES.iter().flat_map(|dtype| [(dtype, DType::I64), (dtype, DType::I32)]) {
            cases.push(Case::new(format!("rows {of} {indices:?} of {dtype} {table:?}"), |case| {
                let (x, at) = (case.random(dtype, table), case.indices(of, indices, table[0], false));
                case.push(Op::Gather, &[x, at])
            }));
        }
        cases.push(Case::new(format!("rows {indices:?} of a weight {table:?}"), |case| {
            let (x, at) = (case.weight(table)?, case.indices(DType::I64, indices, table[0], false));
            case.push(Op::Gather, &[x, at])
        }));
    }
    for (&dtype, wrong) in floats.iter().flat_map(|dtype| [(dtype, 7), (dtype, -1), (dtype, i64::MAX)]) {
        cases.push(Case::refused(format!("row {wrong} of 7 of {dtype}"), |case| {
            let x = case.random(dtype, &[7, 3]);
            let at = case.input(array(DType::I64, &[3], &[0, wrong, 2]));
            case.push(Op::Gather, &[x, at])
        }));
    }
    cases
}

fn rows() -> Vec<Case> {
    let shapes: [&[usize]; 4] = [&[1, 1, 1], &[3, 7, 17], &[2, 5, 0], &[0, 3, 2]];
    let mut cases = Vec::new();
    for (&dtype, shape) in TYPES.iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
        cases.push(Case::new(format!("a row of each of {dtype} {shape:?}"), |case| {
            let (x, at) = (case.random(dtype, shape), case.indices(DType::I64, &shape[..1], shape[1], false));
            case.push(Op::TakeRow, &[x, at])
        }));
    }
    for wrong in [5, -1] {
        cases.push(Case::refused(format!("row {wrong} of 5"), |case| {
            let x = case.random(DType::F32, &[2, 5, 3]);
            let at = case.input(array(DType::I64, &[2], &[0, wrong]));
            case.push(Op::TakeRow, &[x, at])
        }));
    }
    cases
}

fn takes() -> Vec<Case> {
    let shapes: [(&[usize], usize, &[usize]); 6] = [
        (&[7], 0, &[3]),
        (&[3, 17], 1, &[2, 2]),
        (&[2, 3, 5], 1, &[]),
        (&[2, 65, 2], 1, &[33]),
        (&[2, 3], 0, &[0]),
        (&[0, 3], 1, &[2]),
    ];
    let mut cases = Vec::new();
    for (&dtype, (shape, axis, indices)) in TYPES.iter().flat_map(|dtype| shapes.map(|shapes| (dtype, shapes))) {
        cases.push(Case::new(format!("{indices:?} along {axis} of {dtype} {shape:?}"), |case| {
            let (x, at) = (case.random(dtype, shape), case.indices(DType::I64, indices, shape[axis], true));
            case.push(Op::Take { axis }, &[x, at])
        }));
    }
    for wrong in [3, -4, i64::MIN] {
        cases.push(Case::refused(format!("part {wrong} of 3"), |case| {
            let x = case.random(DType::F32, &[2, 3]);
            let at = case.input(array(DType::I64, &[2], &[0, wrong]));
            case.push(Op::Take { axis: 1 }, &[x, at])
        }));
    }
    cases
}

fn scatters() -> Vec<Case> {
    let shapes: [(&[usize], usize); 5] = [(&[7, 3], 4), (&[1], 3), (&[65, 2, 2], 17), (&[3, 0], 2), (&[3, 5], 0)];
    let mut cases = Vec::new();
    for (&how, (shape, count)) in SCATTERS.iter().flat_map(|how| shapes.map(|shapes| (how, shapes))) {
        let types: &[DType] = if how == Scatter::Replace { TYPES } else { &[DType::F32, DType::I64, DType::I32] };
        for &dtype in types {
            cases.push(Case::new(format!("{how:?} {count} rows of {dtype} {shape:?}"), |case| {
                let rows: Vec<usize> = [count].iter().chain(&shape[1..]).copied().collect();
                let x = case.random(dtype, shape);
                let at = case.indices(DType::I64, &[count], shape[0], true);
                let values = case.random(dtype, &rows);
                case.push(Op::Scatter(how), &[x, at, values])
            }));
        }
    }
    for (how, dtype) in
        [Scatter::Add, Scatter::Multiply].into_iter().flat_map(|how| [(how, DType::I64), (how, DType::I32)])
    {
        cases.push(Case::new(format!("{how:?} at the ends of {dtype}"), |case| {
            let most = if dtype == DType::I64 { i64::MAX } else { i32::MAX.into() };
            let x = case.input(array(dtype, &[2], &[most, most]));
            let at = case.input(array(DType::I64, &[2], &[0, 1]));
            let values = case.input(array(dtype, &[2], &[1, most]));
            case.push(Op::Scatter(how), &[x, at, values])
        }));
    }
    for how in [Scatter::Max, Scatter::Min] {
        cases.push(Case::new(format!("{how:?} of what is no number"), |case| {
            let x = case.input(reals(DType::F32, &[4], &[f64::NAN, 1.0, -2.0, 3.0]));
            let at = case.input(array(DType::I64, &[5], &[0, 1, 2, 2, 3]));
            let values = case.input(reals(DType::F32, &[5], &[1.0, f64::NAN, f64::NAN, 5.0, 3.0]));
            case.push(Op::Scatter(how), &[x, at, values])
        }));
    }
    cases.push(Case::refused("a row that is not there, replaced", |case| {
        let x = case.random(DType::F32, &[2, 3]);
        let at = case.input(array(DType::I64, &[1], &[2]));
        let values = case.random(DType::F32, &[1, 3]);
        case.push(Op::Scatter(Scatter::Replace), &[x, at, values])
    }));
    cases
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    [gathers(floats), rows(), takes(), scatters()].into_iter().flatten().collect()
}
