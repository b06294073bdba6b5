//! Cases of dimensions folded, accumulated along and ordered.

use ondine_graph::{DType, Op, Reduce, Scan};

use super::{
    case::{Case, array, reals},
    every::every,
};

every!(REDUCES: Reduce = [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Product]);
every!(SCANS: Scan = [Scan::Sum, Scan::Product, Scan::Max, Scan::Min]);

fn reduces(floats: &[DType]) -> Vec<Case> {
    let shapes: [(&[usize], &[usize]); 13] = [
        (&[7], &[0]),
        (&[0], &[0]),
        (&[3, 65], &[1]),
        (&[33, 3], &[0]),
        (&[2, 17, 5], &[1]),
        (&[2, 17, 5], &[0, 1]),
        (&[2, 17, 5], &[0, 1, 2]),
        (&[2, 3, 4, 7], &[2, 3]),
        (&[3, 0, 2], &[1]),
        (&[0, 3], &[1]),
        (&[2, 3], &[]),
        (&[], &[]),
        (&[2, 600], &[1]),
    ];
    let mut cases = Vec::new();
    for (&how, (shape, axes)) in REDUCES.iter().flat_map(|how| shapes.map(|shapes| (how, shapes))) {
        for keep in [false, true] {
            let op = Op::Reduce { how, axes: axes.to_vec(), keep };
            let floats = if how == Reduce::Product { &floats[..1] } else { floats };
            cases.extend(floats.iter().chain([&DType::I64]).map(|&dtype| Case::of(op.clone(), &[(dtype, shape)])));
        }
    }
    for &how in REDUCES {
        cases.push(Case::new(format!("{how:?} of the largest integers"), |case| {
            let x = case.input(array(DType::I64, &[3, 2], &[i64::MAX, -7, i64::MAX, 2, 3, i64::MIN]));
            case.push(Op::Reduce { how, axes: vec![0], keep: false }, &[x])
        }));
        cases.push(Case::new(format!("{how:?} of what is no number"), |case| {
            let x = case.input(reals(DType::F32, &[2, 3], &[1.0, f64::NAN, 2.0, f64::NEG_INFINITY, 0.0, 3.0]));
            case.push(Op::Reduce { how, axes: vec![1], keep: false }, &[x])
        }));
    }
    cases
}

fn scans() -> Vec<Case> {
    let shapes: [(&[usize], usize); 7] =
        [(&[1], 0), (&[65], 0), (&[3, 17], 0), (&[3, 17], 1), (&[2, 7, 3], 1), (&[0, 3], 0), (&[3, 0], 0)];
    let mut cases = Vec::new();
    for (&how, (shape, axis)) in SCANS.iter().flat_map(|how| shapes.map(|shapes| (how, shapes))) {
        for dtype in [DType::F32, DType::I64, DType::I32] {
            cases.push(Case::of(Op::Scan { axis, how }, &[(dtype, shape)]));
        }
    }
    for &how in SCANS {
        cases.push(Case::new(format!("{how:?} so far of what is no number"), |case| {
            let x = case.input(reals(DType::F32, &[4], &[1.0, f64::NAN, 2.0, -3.0]));
            case.push(Op::Scan { axis: 0, how }, &[x])
        }));
        cases.push(Case::new(format!("{how:?} so far of the largest integers"), |case| {
            let x = case.input(array(DType::I32, &[3], &[0x7fff_ffff, 2, -0x8000_0000]));
            case.push(Op::Scan { axis: 0, how }, &[x])
        }));
    }
    cases
}

fn orders(floats: &[DType]) -> Vec<Case> {
    let shapes: [&[usize]; 6] = [&[1], &[17], &[3, 65], &[2, 3, 7], &[0, 3], &[5, 33]];
    let mut cases = Vec::new();
    for shape in shapes {
        let last = shape[shape.len() - 1];
        cases.extend(floats.iter().map(|&dtype| Case::of(Op::ArgMax, &[(dtype, shape)])));
        for (descending, keep) in [(false, last), (true, last), (true, 1), (false, last.min(3)), (true, 0)] {
            for dtype in [DType::F32, DType::I64, DType::I32, DType::U8, DType::Bool] {
                cases.push(Case::of(Op::ArgSort { descending, keep: keep.into() }, &[(dtype, shape)]));
            }
        }
    }
    // The first of equal ones, and of what is no number.
    let special = [1.0, 3.0, 3.0, -1.0, f64::NAN, f64::NAN, 3.0, 3.0, 2.0, f64::NEG_INFINITY, f64::INFINITY, 0.0];
    for &dtype in floats {
        cases.push(Case::new(format!("the largest of special {dtype}"), |case| {
            let x = case.input(reals(dtype, &[3, 4], &special));
            case.push(Op::ArgMax, &[x])
        }));
    }
    for descending in [false, true] {
        cases.push(Case::new(format!("special numbers in order, {descending}"), |case| {
            let x = case.input(reals(DType::F32, &[2, 6], &special));
            case.push(Op::ArgSort { descending, keep: 6.into() }, &[x])
        }));
    }
    cases.push(Case::refused("the largest of nothing", |case| {
        let x = case.random(DType::F32, &[2, 0]);
        case.push(Op::ArgMax, &[x])
    }));
    cases
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    [reduces(floats), scans(), orders(floats)].into_iter().flatten().collect()
}
