//! Cases of functions of each element by itself.

use ondine_graph::{Activation, Binary, DType, Elementary, Op, Unary};

use super::{
    case::{Case, array, reals},
    every::every,
};

every!(ACTIVATIONS: Activation = [
    Activation::None,
    Activation::Silu,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Sigmoid,
    Activation::Tanh,
    Activation::Relu6,
    Activation::HardSigmoid,
    Activation::HardSwish,
]);

every!(FUNCTIONS: Elementary = [
    Elementary::Floor,
    Elementary::Ceil,
    Elementary::Round,
    Elementary::Trunc,
    Elementary::Sign,
    Elementary::Tan,
    Elementary::Asin,
    Elementary::Acos,
    Elementary::Atan,
    Elementary::Sinh,
    Elementary::Cosh,
    Elementary::Asinh,
    Elementary::Acosh,
    Elementary::Atanh,
    Elementary::Erf,
    Elementary::ExpM1,
    Elementary::Log1p,
    Elementary::Log2,
    Elementary::Log10,
    Elementary::Exp2,
    Elementary::Reciprocal,
    Elementary::Softplus,
    Elementary::LogGamma,
    Elementary::Digamma,
    Elementary::ErfInv,
]);

every!(BINARIES: Binary = [
    Binary::Add,
    Binary::Sub,
    Binary::Mul,
    Binary::Div,
    Binary::Min,
    Binary::Max,
    Binary::Pow,
    Binary::Prelu,
    Binary::Equal,
    Binary::Less,
    Binary::And,
    Binary::Or,
    Binary::Xor,
    Binary::Remainder,
    Binary::Fmod,
    Binary::FloorDiv,
    Binary::Atan2,
]);

every!(TYPES: DType = [
    DType::F32,
    DType::F16,
    DType::BF16,
    DType::I64,
    DType::I32,
    DType::I8,
    DType::U8,
    DType::Bool,
    DType::F64,
    DType::I16,
    DType::U16,
    DType::U32,
    DType::U64,
    DType::C64,
]);

/// Where the values of a function's argument lie that it is asked for.
#[derive(Clone, Copy, PartialEq)]
enum Domain {
    All,
    Positive,
    /// From -1 to 1.
    Unit,
    FromOne,
    AboveMinusOne,
}

/// The domain of a function; what leads out of it is tried elsewhere.
fn domain(op: Unary) -> Domain {
    match op {
        Unary::Log | Unary::Sqrt | Unary::Rsqrt => Domain::Positive,
        Unary::Function(Elementary::Log2 | Elementary::Log10) => Domain::Positive,
        Unary::Function(Elementary::Asin | Elementary::Acos | Elementary::Atanh | Elementary::ErfInv) => Domain::Unit,
        Unary::Function(Elementary::Acosh) => Domain::FromOne,
        Unary::Function(Elementary::Log1p) => Domain::AboveMinusOne,
        Unary::Activation(_) | Unary::Neg | Unary::Abs | Unary::Exp | Unary::Sin | Unary::Cos => Domain::All,
        Unary::Affine { .. } | Unary::Function(_) => Domain::All,
    }
}

fn unaries() -> Vec<Unary> {
    let mut all = vec![
        Unary::Neg,
        Unary::Abs,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Rsqrt,
        Unary::Sin,
        Unary::Cos,
        Unary::Affine { scale: 1.5, offset: -0.25 },
    ];
    all.extend(ACTIVATIONS.iter().map(|&activation| Unary::Activation(activation)));
    all.extend(FUNCTIONS.iter().map(|&function| Unary::Function(function)));
    all
}

/// Types of floating-point numbers that a function takes.
fn floats_of(op: Unary, floats: &[DType]) -> &[DType] {
    if matches!(op, Unary::Function(_)) { &floats[..1] } else { floats }
}

fn unary_cases(floats: &[DType]) -> Vec<Case> {
    let mut cases = Vec::new();
    for op in unaries() {
        for &dtype in floats_of(op, floats) {
            for shape in SHAPES {
                cases.push(Case::new(format!("{op:?} of {dtype} {shape:?}"), |case| {
                    let count: usize = shape.iter().product();
                    let numbers: Vec<f64> = (0..count).map(|i| inside(domain(op), case.number(), i)).collect();
                    let x = case.input(reals(dtype, shape, &numbers));
                    case.push(Op::Unary(op), &[x])
                }));
            }
        }
        cases.push(Case::new(format!("{op:?} of what is special"), |case| {
            let special = [0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0, -1.0, 100.0, -100.0];
            let x = case.input(reals(DType::F32, &[8], &special));
            case.push(Op::Unary(op), &[x])
        }));
    }
    for (op, dtype) in [Unary::Neg, Unary::Abs].into_iter().flat_map(|op| [(op, DType::I64), (op, DType::I32)]) {
        cases.push(Case::of(Op::Unary(op), &[(dtype, &[3, 17])]));
    }
    cases
}

const SHAPES: [&[usize]; 7] = [&[], &[0], &[1], &[3], &[17], &[2, 33], &[5, 1, 13]];

/// A number of a domain, made of one in -1..1.
fn inside(domain: Domain, x: f64, index: usize) -> f64 {
    let reach = [0.01, 1.0, 6.0][index % 3];
    match domain {
        Domain::All => reach * x,
        Domain::Positive => reach * (x.abs() + 1e-3),
        Domain::Unit => x,
        Domain::FromOne => 1.0 + reach * x.abs(),
        Domain::AboveMinusOne => {
            if x < 0.0 {
                0.99 * x
            } else {
                reach * x
            }
        }
    }
}

/// Pairs of shapes that are broadcast.
const PAIRS: [[&[usize]; 2]; 11] = [
    [&[], &[]],
    [&[0], &[0]],
    [&[65], &[65]],
    [&[7], &[]],
    [&[], &[3, 3]],
    [&[2, 3, 17], &[17]],
    [&[2, 1, 5], &[3, 1]],
    [&[33, 1], &[1, 7]],
    [&[0, 3], &[1, 3]],
    [&[4, 2, 3], &[4, 1, 3]],
    [&[2, 3, 4, 5], &[3, 1, 5]],
];

/// The types of numbers that an operator takes.
fn types_of(op: Binary, floats: &[DType]) -> Vec<DType> {
    match op {
        Binary::And | Binary::Or | Binary::Xor => vec![DType::I64, DType::I32, DType::I8, DType::U8, DType::Bool],
        Binary::Atan2 => vec![DType::F32],
        Binary::Remainder | Binary::Fmod | Binary::FloorDiv => vec![DType::F32, DType::I64, DType::I32],
        Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Min
        | Binary::Max
        | Binary::Pow
        | Binary::Prelu
        | Binary::Equal
        | Binary::Less => floats.iter().copied().chain([DType::I64, DType::I32]).collect(),
    }
}

fn binary_cases(floats: &[DType]) -> Vec<Case> {
    let mut cases = Vec::new();
    for (&op, dtype) in BINARIES.iter().flat_map(|op| types_of(*op, floats).into_iter().map(move |dtype| (op, dtype))) {
        for [a, b] in PAIRS {
            cases.push(Case::new(format!("{op:?} of {dtype} {a:?} and {b:?}"), |case| {
                let x = case.draw(dtype, a);
                // A power of what is not positive, and a division by nothing, are tried below.
                let x = match op {
                    Binary::Pow if dtype.is_float() => positive(dtype, a, case),
                    _ => x,
                };
                let y = match op {
                    Binary::Div | Binary::FloorDiv | Binary::Fmod | Binary::Remainder if dtype.is_float() => {
                        positive(dtype, b, case)
                    }
                    _ => case.draw(dtype, b),
                };
                let (x, y) = (case.input(x), case.input(y));
                case.push(Op::Binary(op), &[x, y])
            }));
        }
        cases.push(Case::new(format!("{op:?} of special {dtype}"), |case| {
            let [a, b] = specials(op, dtype);
            let (x, y) = (case.input(a), case.input(b));
            case.push(Op::Binary(op), &[x, y])
        }));
    }
    cases
}

/// Numbers that are larger than a quarter.
fn positive(dtype: DType, shape: &[usize], case: &mut Case) -> ondine_graph::NDArray {
    let numbers: Vec<f64> = (0..shape.iter().product()).map(|_| 0.25 + case.number().abs()).collect();
    reals(dtype, shape, &numbers)
}

/// Every pair of some numbers at the ends of a type, or infinite, or none.
fn specials(op: Binary, dtype: DType) -> [ondine_graph::NDArray; 2] {
    if dtype.is_float() {
        let mut numbers = vec![0.0, 1.0, -2.5, f64::NAN];
        // Where a remainder by infinity leads is left to devices.
        if !matches!(op, Binary::Remainder | Binary::Fmod | Binary::FloorDiv) {
            numbers.extend([f64::INFINITY, f64::NEG_INFINITY]);
        }
        let n = numbers.len();
        return [reals(dtype, &[n, 1], &numbers), reals(dtype, &[1, n], &numbers)];
    }
    let (low, high) = match dtype {
        DType::I64 => (i64::MIN, i64::MAX),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        DType::I8 => (-128, 127),
        DType::U8 => (0, 255),
        _ => (0, 1),
    };
    let numbers = if dtype == DType::Bool {
        vec![0, 1]
    } else {
        vec![low, high, 0, 1, 3, high - 1, if low < 0 { -1 } else { 2 }]
    };
    let n = numbers.len();
    [array(dtype, &[n, 1], &numbers), array(dtype, &[1, n], &numbers)]
}

fn select_cases() -> Vec<Case> {
    let shapes: [[&[usize]; 3]; 5] = [
        [&[], &[], &[]],
        [&[3, 1], &[1, 7], &[]],
        [&[65], &[65], &[65]],
        [&[0], &[1], &[0]],
        [&[2, 1, 5], &[3, 5], &[2, 3, 1]],
    ];
    let all = TYPES.iter().flat_map(|&dtype| shapes.map(|shapes| (dtype, shapes)));
    all.map(|(dtype, [c, a, b])| Case::of(Op::Select, &[(DType::Bool, c), (dtype, a), (dtype, b)])).collect()
}

fn cast_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let real = || TYPES.iter().filter(|dtype| **dtype != DType::C64);
    for (&from, &to) in real().flat_map(|from| real().map(move |to| (from, to))) {
        for shape in [&[][..], &[0], &[7], &[3, 17]] {
            cases.push(Case::of(Op::Cast(to), &[(from, shape)]));
        }
        cases.push(Case::new(format!("special {from} as {to}"), |case| {
            let x = case.input(to_cast(from));
            case.push(Op::Cast(to), &[x])
        }));
    }
    cases
}

/// Bits read as those of other types; truth values have no other bits than their own.
fn bits_cases() -> Vec<Case> {
    let pairs = TYPES.iter().flat_map(|from| TYPES.iter().map(move |to| (*from, *to)));
    let pairs = pairs.filter(|(from, to)| from == to || *to != DType::Bool);
    pairs.flat_map(|(from, to)| [[3, 8], [0, 8]].map(|shape| Case::of(Op::Bits(to), &[(from, &shape)]))).collect()
}

/// Numbers near the ends of types, halfway between others, and none.
fn to_cast(dtype: DType) -> ondine_graph::NDArray {
    if dtype.is_float() {
        let numbers = [
            0.0,
            -0.4,
            0.6,
            -1.5,
            2.5,
            127.4,
            128.0,
            -128.9,
            255.9,
            256.0,
            300.0,
            -1e3,
            65_503.0,
            65_520.0,
            3e9,
            -3e9,
            1e19,
            -1e19,
            1.001_953_1,
            1.000_488_3,
            5.96e-8,
            1e-40,
            f64::NAN,
            f64::INFINITY,
            f64::NEG_INFINITY,
        ];
        return reals(dtype, &[numbers.len()], &numbers);
    }
    let numbers: &[i64] = match dtype {
        DType::Bool => &[0, 1],
        DType::U8 => &[0, 1, 127, 128, 255],
        _ => &[
            0,
            1,
            -1,
            127,
            128,
            -128,
            255,
            256,
            257,
            2049,
            65_519,
            65_520,
            16_777_217,
            -16_777_219,
            0x7fff_ffff,
            0x8000_0000,
            -0x8000_0001,
            0x7fff_ffff_ffff_ffff,
            -0x7fff_ffff_ffff_ffff,
            0x1_0000_0180,
        ],
    };
    array(dtype, &[numbers.len()], numbers)
}

fn glu_cases(floats: &[DType]) -> Vec<Case> {
    let shapes: [&[usize]; 5] = [&[2], &[3, 14], &[0, 4], &[2, 3, 66], &[3, 0]];
    let all = ACTIVATIONS.iter().flat_map(|&activation| floats.iter().map(move |&dtype| (activation, dtype)));
    all.flat_map(|(activation, dtype)| shapes.map(|shape| Case::of(Op::Glu(activation), &[(dtype, shape)]))).collect()
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    let kinds =
        [unary_cases(floats), binary_cases(floats), select_cases(), cast_cases(), bits_cases(), glu_cases(floats)];
    kinds.into_iter().flatten().collect()
}
