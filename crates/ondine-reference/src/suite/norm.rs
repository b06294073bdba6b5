//! Cases of normalizations.

use ondine_graph::{Activation, DType, Op};

use super::{
    case::{Case, reals},
    elementwise::ACTIVATIONS,
};

fn softmaxes(floats: &[DType]) -> Vec<Case> {
    let shapes: [&[usize]; 7] = [&[1], &[7], &[3, 17], &[2, 3, 65], &[0, 3], &[3, 0], &[2, 300]];
    let mut cases = Vec::new();
    for &dtype in floats {
        cases.extend(shapes.map(|shape| Case::of(Op::Softmax, &[(dtype, shape)])));
        cases.push(Case::new(format!("shares of special {dtype}"), |case| {
            let low = f64::NEG_INFINITY;
            let rows = [[low; 3], [low, 1.0, 2.0], [f64::NAN, 0.0, 1.0], [100.0, -100.0, 99.0]];
            let x = case.input(reals(dtype, &[4, 3], rows.as_flattened()));
            case.push(Op::Softmax, &[x])
        }));
    }
    cases
}

/// A norm's inputs: rows far from zero, and its parameters.
fn normed(name: String, op: &Op, dtype: DType, shape: &[usize], parameters: usize) -> Case {
    Case::new(name, |case| {
        let count = shape.iter().product();
        let numbers: Vec<f64> = (0..count).map(|i| case.number() + (i % 3) as f64).collect();
        let mut inputs = vec![case.input(reals(dtype, shape, &numbers))];
        for _ in 0..parameters {
            inputs.push(case.weight(&shape[shape.len() - 1..])?);
        }
        case.push(op.clone(), &inputs)
    })
}

fn norms(floats: &[DType]) -> Vec<Case> {
    let shapes: [&[usize]; 7] = [&[1], &[7], &[3, 17], &[2, 3, 65], &[0, 3], &[5, 64], &[2, 300]];
    let mut cases = Vec::new();
    for (&dtype, shape) in floats.iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
        for (op, parameters) in [(Op::LayerNorm { eps: 1e-5 }, 2), (Op::RmsNorm { eps: 1e-6 }, 1)] {
            cases.push(normed(format!("{op:?} of {dtype} {shape:?}"), &op, dtype, shape, parameters));
        }
    }
    for &dtype in floats {
        cases.push(Case::of(Op::LayerNorm { eps: 1e-3 }, &[(dtype, &[3, 5]), (DType::F32, &[5]), (DType::F32, &[5])]));
        cases.push(Case::of(Op::RmsNorm { eps: 1e-3 }, &[(dtype, &[3, 5]), (DType::F32, &[5])]));
        cases.push(Case::new(format!("a norm of equal {dtype}"), |case| {
            let x = case.input(reals(dtype, &[2, 7], &[0.5; 14]));
            let (weight, bias) = (case.weight(&[7])?, case.weight(&[7])?);
            case.push(Op::LayerNorm { eps: 1e-5 }, &[x, weight, bias])
        }));
    }
    cases
}

fn rotations(floats: &[DType]) -> Vec<Case> {
    let shapes: [(&[usize], usize); 6] =
        [(&[1, 1, 2], 1), (&[3, 2, 8], 4), (&[5, 1, 7], 2), (&[2, 4, 3, 66], 33), (&[0, 2, 4], 1), (&[40, 9, 64], 32)];
    let mut cases = Vec::new();
    for (&dtype, (shape, pairs)) in floats.iter().flat_map(|dtype| shapes.map(|shape| (dtype, shape))) {
        let angles = [&shape[..shape.len() - 2], &[1, pairs]].concat();
        for interleaved in [false, true] {
            let inputs: [(DType, &[usize]); 3] = [(dtype, shape), (DType::F32, &angles), (DType::F32, &angles)];
            cases.push(Case::of(Op::Rotate { interleaved }, &inputs));
        }
    }
    cases
}

fn group_norms(floats: &[DType]) -> Vec<Case> {
    let shapes: [(&[usize], usize); 6] = [
        (&[1, 1, 1, 2], 1),
        (&[2, 3, 5, 8], 4),
        (&[1, 7, 3, 33], 33),
        (&[3, 2, 2, 6], 2),
        (&[0, 2, 2, 4], 2),
        (&[2, 17, 64], 32),
    ];
    let mut cases = Vec::new();
    for (&dtype, (shape, groups)) in floats.iter().flat_map(|dtype| shapes.map(|shapes| (dtype, shapes))) {
        let op = Op::GroupNorm { groups, eps: 1e-5, activation: Activation::None };
        cases.push(normed(format!("{op:?} of {dtype} {shape:?}"), &op, dtype, shape, 2));
    }
    for (&activation, &dtype) in
        ACTIVATIONS.iter().flat_map(|activation| floats.iter().map(move |dtype| (activation, dtype)))
    {
        let op = Op::GroupNorm { groups: 3, eps: 1e-5, activation };
        cases.push(normed(format!("{op:?} of {dtype}"), &op, dtype, &[2, 3, 3, 9], 2));
    }
    cases
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    [softmaxes(floats), norms(floats), group_norms(floats), rotations(floats)].into_iter().flatten().collect()
}
