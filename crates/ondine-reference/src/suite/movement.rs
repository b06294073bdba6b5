//! Cases of elements that move.

use ondine_graph::{DType, Dim, Op, Shape};

use super::{
    case::{Case, array},
    elementwise::TYPES,
};

/// A case of each type.
fn typed(op: &Op, shape: &[usize]) -> Vec<Case> {
    TYPES.iter().map(|&dtype| Case::of(op.clone(), &[(dtype, shape)])).collect()
}

fn slice(axis: usize, start: usize, end: usize) -> Op {
    Op::Slice { axis, start: start.into(), end: end.into() }
}

fn views() -> Vec<Case> {
    let permute = |axes: &[usize]| Op::Permute(axes.to_vec());
    let reshape = |shape: &[usize]| Op::Reshape(Shape::from(shape));
    let expand = |shape: &[usize]| Op::Expand(Shape::from(shape));
    let pad = |amounts: &[[usize; 2]]| Op::Pad { amounts: amounts.to_vec() };
    let all: Vec<(Op, &[usize])> = vec![
        (reshape(&[6]), &[2, 3]),
        (reshape(&[]), &[1, 1]),
        (reshape(&[0, 7]), &[7, 0]),
        (permute(&[]), &[]),
        (permute(&[0]), &[17]),
        (permute(&[1, 0]), &[33, 65]),
        (permute(&[1, 0]), &[0, 3]),
        (permute(&[0, 2, 1]), &[3, 7, 17]),
        (permute(&[2, 0, 1]), &[1, 33, 2]),
        (permute(&[0, 2, 3, 1]), &[2, 3, 5, 7]),
        (permute(&[3, 1, 0, 2]), &[2, 3, 1, 17]),
        (permute(&[4, 2, 0, 3, 1]), &[2, 2, 3, 2, 5]),
        (expand(&[3, 5]), &[3, 1]),
        (expand(&[3, 5]), &[5]),
        (expand(&[7]), &[]),
        (expand(&[0, 3]), &[1, 3]),
        (expand(&[2, 3, 17, 2]), &[1, 3, 1, 2]),
        (slice(0, 0, 17), &[17]),
        (slice(0, 3, 3), &[17]),
        (slice(0, 1, 2), &[7, 3]),
        (slice(1, 2, 33), &[3, 33]),
        (slice(1, 1, 2), &[2, 3, 65]),
        (slice(2, 5, 12), &[2, 1, 13]),
        (pad(&[]), &[]),
        (pad(&[[1, 2]]), &[3]),
        (pad(&[[0, 0], [2, 0]]), &[7, 5]),
        (pad(&[[1, 0], [0, 3]]), &[0, 2]),
        (pad(&[[0, 1], [1, 1], [2, 3]]), &[2, 3, 17]),
    ];
    all.into_iter().flat_map(|(op, shape)| typed(&op, shape)).collect()
}

fn concats() -> Vec<Case> {
    let all: [(usize, &[&[usize]]); 6] = [
        (0, &[&[3]]),
        (0, &[&[1, 7], &[0, 7], &[3, 7]]),
        (1, &[&[2, 3], &[2, 17]]),
        (1, &[&[2, 1, 5], &[2, 2, 5], &[2, 3, 5]]),
        (2, &[&[3, 1, 65], &[3, 1, 2]]),
        (0, &[&[0], &[0]]),
    ];
    let pairs = TYPES.iter().flat_map(|&dtype| all.map(|(axis, shapes)| (dtype, axis, shapes)));
    pairs
        .map(|(dtype, axis, shapes)| {
            Case::of(Op::Concat { axis }, &shapes.iter().map(|shape| (dtype, *shape)).collect::<Vec<_>>())
        })
        .collect()
}

fn ranges() -> Vec<Case> {
    let all = [(0, 1, 7), (-3, 2, 17), (5, -1, 65), (1, 0, 3), (i64::MAX, 1, 2), (0, 1, 0)];
    let range = |(start, step, count): (i64, i64, usize)| {
        Case::of(Op::Range { start: Dim::from_i64(start), step, count: count.into() }, &[])
    };
    let named = Case::new("a range as long as an argument", |case| {
        let array = case.draw(DType::F32, &[2, 5]);
        case.symbolic([2.into(), Dim::symbol("n")], array);
        let (n, start) = (Dim::symbol("n"), Dim::from_i64(-1));
        case.push(Op::Range { start: &start + &n, step: 3, count: &n * 2 }, &[])
    });
    all.map(range).into_iter().chain([named]).collect()
}

fn symbols() -> Vec<Case> {
    let n = || Dim::symbol("n");
    let shaped = |name: &str, op: Op| {
        Case::new(name, |case| {
            let array = case.draw(DType::F32, &[3, 7]);
            let x = case.symbolic([3.into(), n()], array);
            case.push(op, &[x])
        })
    };
    vec![
        shaped("a slice up to a symbol", Op::Slice { axis: 1, start: &n() - 2, end: n() }),
        shaped("a shape of a symbol", Op::Reshape(Shape(vec![&n() * 3]))),
    ]
}

fn unpacked() -> Vec<Case> {
    TYPES
        .iter()
        .map(|&dtype| {
            Case::new(format!("{dtype} among bytes"), |case| {
                // A byte of 0 or 1 is a value of every type.
                let bytes: Vec<i64> = (0..192).map(|i| i64::from(i % 3 == 0)).collect();
                let x = case.input(array(DType::U8, &[192], &bytes));
                let signature = ondine_graph::Signature { shape: Shape::from([2, 3]), dtype };
                case.push(Op::Unpack { offset: 64.into(), signature }, &[x])
            })
        })
        .collect()
}

pub(super) fn cases() -> Vec<Case> {
    [views(), concats(), ranges(), symbols(), unpacked()].into_iter().flatten().collect()
}
