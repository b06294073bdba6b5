//! Cases of linear layers, matrices and attention.

use ondine_graph::{Activation, Attention, Binary, DType, Epilogue, Mask, Op};

use super::{
    case::{Case, array, reals},
    elementwise::ACTIVATIONS,
    every::every,
};

every!(MASKS: Mask = [Mask::None, Mask::Keys, Mask::Lengths, Mask::Ring, Mask::Additive]);

/// A linear layer with everything that its epilogue asks for.
fn linear(epilogue: Epilogue, shape: &[usize], outputs: usize) -> Case {
    Case::new(format!("{epilogue:?} of {shape:?} to {outputs}"), |case| {
        let channels = shape[shape.len() - 1];
        let mut result = shape.to_vec();
        result[shape.len() - 1] = if epilogue.gate { outputs / 2 } else { outputs };
        let mut inputs = vec![case.random(DType::F32, shape), case.weight(&[outputs, channels])?];
        if epilogue.bias {
            inputs.push(case.weight(&[outputs])?);
        }
        if epilogue.residual {
            inputs.push(case.random(DType::F32, &result));
        }
        case.push(Op::Linear(epilogue), &inputs)
    })
}

fn linears() -> Vec<Case> {
    let plain = Epilogue::default();
    let full = Epilogue { bias: true, activation: Activation::Silu, gate: false, residual: true };
    let sizes: [(&[usize], usize); 10] = [
        (&[1], 1),
        (&[7], 3),
        (&[1, 64], 65),
        (&[3, 17], 33),
        (&[2, 3, 5], 2),
        (&[65, 33], 17),
        (&[2, 300], 64),
        (&[0, 3], 2),
        (&[17, 64], 64),
        (&[5, 130], 96),
    ];
    let mut cases = Vec::new();
    for (shape, outputs) in sizes {
        cases.extend([plain, full].map(|epilogue| linear(epilogue, shape, outputs)));
        if outputs % 2 == 0 {
            cases.push(linear(Epilogue { gate: true, bias: true, ..plain }, shape, outputs));
        }
    }
    for &activation in ACTIVATIONS {
        for gate in [false, true] {
            let epilogue = Epilogue { bias: true, activation, gate, residual: gate };
            cases.push(linear(epilogue, &[3, 40], 34));
        }
    }
    for (epilogue, outputs) in [(plain, 5), (full, 17), (Epilogue { gate: true, ..full }, 6)] {
        cases.push(Case::new(format!("{epilogue:?} of a matrix that is computed, to {outputs}"), |case| {
            let mut inputs = vec![case.random(DType::F32, &[2, 3, 7]), case.random(DType::F32, &[outputs, 7])];
            let columns = if epilogue.gate { outputs / 2 } else { outputs };
            if epilogue.bias {
                inputs.push(case.random(DType::F32, &[outputs]));
            }
            if epilogue.residual {
                inputs.push(case.random(DType::F32, &[2, 3, columns]));
            }
            case.push(Op::Linear(epilogue), &inputs)
        }));
    }
    cases.push(Case::new("a convolution's weight in a linear layer", |case| {
        let (x, weight) = (case.random(DType::F32, &[2, 3, 5]), case.weight(&[7, 5, 1, 1])?);
        case.push(Op::Linear(plain), &[x, weight])
    }));
    cases
}

fn matmuls(floats: &[DType]) -> Vec<Case> {
    let sizes = [[1, 1, 1], [2, 3, 7], [17, 33, 5], [65, 2, 64], [3, 130, 17], [0, 3, 2], [3, 2, 0], [3, 0, 2]];
    let batches: [&[usize]; 4] = [&[], &[3], &[2, 1], &[0]];
    let mut cases = Vec::new();
    let types = floats.iter().chain(&[DType::I64, DType::I32]);
    for (&dtype, [rows, inner, columns]) in types.flat_map(|dtype| sizes.map(|sizes| (dtype, sizes))) {
        for (batch, transposed) in batches.into_iter().flat_map(|batch| [(batch, false), (batch, true)]) {
            let a = [batch, &[rows, inner]].concat();
            let b = [batch, &if transposed { [columns, inner] } else { [inner, columns] }].concat();
            cases.push(Case::of(Op::MatMul { transposed }, &[(dtype, &a), (dtype, &b)]));
        }
    }
    for (transposed, [rows, inner, columns]) in [false, true].iter().flat_map(|&t| sizes.map(|sizes| (t, sizes))) {
        let b = if transposed { [columns, inner] } else { [inner, columns] };
        for dtype in [DType::I8, DType::U8] {
            let op = Op::MatMul { transposed };
            cases.push(Case::of(op, &[(dtype, &[rows, inner]), (DType::I8, &b)]));
        }
    }
    cases
}

fn grouped() -> Vec<Case> {
    let sizes: [([usize; 3], &[i64]); 6] = [
        ([7, 3, 5], &[2, 2, 7]),
        ([17, 33, 2], &[17]),
        ([5, 2, 3], &[1, 3]),
        ([3, 4, 65], &[0, 0, 3]),
        ([0, 3, 2], &[0, 0]),
        ([4, 0, 2], &[1, 4]),
    ];
    let case = |([rows, inner, columns], ends): ([usize; 3], &[i64]), transposed: bool, refused: bool| {
        let build = |case: &mut Case| {
            let weight = if transposed { [ends.len(), columns, inner] } else { [ends.len(), inner, columns] };
            let (x, weight) = (case.random(DType::F32, &[rows, inner]), case.random(DType::F32, &weight));
            let ends = case.input(array(DType::I64, &[ends.len()], ends));
            case.push(Op::GroupedMatMul { transposed }, &[x, weight, ends])
        };
        let name = format!("groups to {ends:?} of {rows} rows, {inner} by {columns}, {transposed}");
        if refused { Case::refused(name, build) } else { Case::new(name, build) }
    };
    let good = sizes.into_iter().flat_map(|size| [case(size, false, false), case(size, true, false)]);
    let bad: [&[i64]; 3] = [&[2, 8], &[3, 2], &[-1, 2]];
    good.chain(bad.map(|ends| case(([7, 3, 5], ends), false, true))).collect()
}

/// Sizes of an attention: sequences, heads, those of keys, queries, keys, elements of a head, and of a value.
type Sizes = [usize; 7];

fn attention(
    sizes: Sizes,
    (causal, window): (bool, Option<usize>),
    mask: Mask,
    shared: [bool; 2],
    dtype: DType,
) -> Case {
    let [batch, heads, kv_heads, queries, keys, head, value] = sizes;
    let name = format!("attention {sizes:?} of {dtype}, causal {causal}, window {window:?}, mask {mask:?} {shared:?}");
    Case::new(name, |case| {
        let q = case.random(dtype, &[batch, queries, heads * head]);
        let k = case.random(dtype, &[batch, keys, kv_heads * head]);
        let v = case.random(dtype, &[batch, keys, kv_heads * value]);
        let mut inputs = vec![q, k, v];
        match mask {
            Mask::None => {}
            Mask::Keys => inputs.push(case.random(DType::Bool, &[batch, keys])),
            Mask::Lengths => {
                // Beyond both ends as well.
                let lengths: Vec<i64> = (0..batch).map(|i| keys as i64 + 1 - (i * keys) as i64 * 2 / 3).collect();
                inputs.push(case.input(array(DType::I64, &[batch], &lengths)));
            }
            Mask::Ring => {
                // From none to several rounds, as far as all that is seen is there.
                let reach = window.map_or(0, |window| keys as i64 + 1 - (queries + window) as i64);
                let most = if reach < 0 || window.is_none() { keys } else { 3 * keys } as i64;
                let lengths: Vec<i64> = (0..batch).map(|i| most - (i * keys) as i64 * 2 / 3 - 1).collect();
                inputs.push(case.input(array(DType::I64, &[batch], &lengths)));
            }
            Mask::Additive => {
                let shape = [if shared[0] { 1 } else { batch }, if shared[1] { 1 } else { heads }, queries, keys];
                let numbers: Vec<f64> = (0..shape.iter().product())
                    .map(|i| if i % 5 == 3 { f64::NEG_INFINITY } else { 3.0 * case.number() })
                    .collect();
                inputs.push(case.input(reals(DType::F32, &shape, &numbers)));
            }
        }
        let scale = 1.0 / (head as f32).sqrt();
        let attention = Attention { heads, kv_heads, scale, causal, window, mask };
        case.push(Op::Attention(attention), &inputs)
    })
}

fn attentions(floats: &[DType]) -> Vec<Case> {
    let sizes: [Sizes; 10] = [
        [1, 1, 1, 1, 1, 1, 1],
        [2, 3, 3, 7, 7, 5, 5],
        [1, 4, 2, 17, 33, 8, 8],
        [2, 6, 1, 3, 65, 16, 7],
        [1, 2, 2, 65, 64, 40, 40],
        [1, 2, 1, 1, 130, 64, 64],
        [3, 1, 1, 2, 3, 33, 2],
        [0, 2, 2, 3, 3, 4, 4],
        [2, 1, 1, 0, 3, 4, 4],
        [1, 8, 8, 9, 9, 2, 3],
    ];
    let mut cases = Vec::new();
    for (&dtype, size) in floats.iter().flat_map(|dtype| sizes.map(|size| (dtype, size))) {
        for &mask in MASKS {
            let shared: &[[bool; 2]] = match mask {
                Mask::Additive => &[[false, false], [true, false], [false, true], [true, true]],
                Mask::None | Mask::Keys | Mask::Lengths | Mask::Ring => &[[false, false]],
            };
            for &shared in shared {
                cases.push(attention(size, (false, None), mask, shared, dtype));
                cases.push(attention(size, (true, None), mask, shared, dtype));
                cases.push(attention(size, (true, Some(1 + size[4] / 3)), mask, shared, dtype));
            }
        }
    }
    cases.push(Case::new("queries that see no key", |case| {
        let [q, k, v] = [(); 3].map(|()| case.random(DType::F32, &[2, 3, 4]));
        let mask = case.input(array(DType::Bool, &[2, 3], &[0, 0, 0, 1, 0, 1]));
        let attention = Attention { heads: 2, kv_heads: 2, scale: 0.7, causal: false, window: None, mask: Mask::Keys };
        case.push(Op::Attention(attention), &[q, k, v, mask])
    }));
    cases
}

/// What keys and values are kept in.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Bf16,
    /// Codes with one scale for all.
    Scaled,
    /// Codes with a scale for each head of a row.
    ScaledByHead,
}

/// Attention to keys and values that are made numbers right before it.
fn attention_to_kept(sizes: Sizes, mask: Mask, window: Option<usize>, kept: Kept) -> Case {
    let [batch, heads, kv_heads, queries, keys, head, value] = sizes;
    let name = format!("attention {sizes:?} to keys and values in {kept:?}, mask {mask:?}, window {window:?}");
    Case::new(name, |case| {
        let q = case.random(DType::F32, &[batch, queries, heads * head]);
        let mut inputs = vec![q];
        for dim in [head, value] {
            let flat = [batch, keys, kv_heads * dim];
            if let Kept::Bf16 = kept {
                let held = case.random(DType::BF16, &flat);
                inputs.push(case.push(Op::Cast(DType::F32), &[held])?);
                continue;
            }
            let count = flat.iter().product::<usize>() as i64;
            let codes: Vec<i64> = (0..count).map(|i| i * 37 % 256 - 128).collect();
            let codes = case.input(array(DType::I8, &[batch, keys, kv_heads, dim], &codes));
            let shape: &[usize] = match kept {
                Kept::ScaledByHead => &[batch, keys, kv_heads, 1],
                Kept::Bf16 | Kept::Scaled => &[1],
            };
            let scales: Vec<f64> = (0..shape.iter().product()).map(|_| (2.0 + case.number()) / 400.0).collect();
            let scales = case.input(reals(DType::F32, shape, &scales));
            let numbers = case.push(Op::Cast(DType::F32), &[codes])?;
            let numbers = case.push(Op::Binary(Binary::Mul), &[scales, numbers])?;
            inputs.push(case.push(Op::Reshape(flat.into()), &[numbers])?);
        }
        if mask != Mask::None {
            let had = if mask == Mask::Ring { 5 * keys / 2 } else { keys };
            let lengths: Vec<i64> = (0..batch).map(|i| had as i64 - (i * keys) as i64 / 2).collect();
            inputs.push(case.input(array(DType::I64, &[batch], &lengths)));
        }
        let scale = 1.0 / (head as f32).sqrt();
        case.push(Op::Attention(Attention { heads, kv_heads, scale, causal: true, window, mask }), &inputs)
    })
}

fn attentions_to_kept() -> Vec<Case> {
    let sizes: [Sizes; 6] = [
        [1, 1, 1, 1, 1, 1, 1],
        [1, 4, 2, 1, 33, 8, 8],
        [3, 6, 2, 1, 130, 20, 17],
        [1, 6, 3, 65, 140, 40, 33],
        [2, 2, 1, 40, 40, 7, 9],
        [0, 2, 2, 3, 3, 4, 4],
    ];
    let mut cases = Vec::new();
    for (size, kept) in
        sizes.into_iter().flat_map(|size| [Kept::Bf16, Kept::Scaled, Kept::ScaledByHead].map(|kept| (size, kept)))
    {
        cases.push(attention_to_kept(size, Mask::None, None, kept));
        cases.push(attention_to_kept(size, Mask::None, Some(1 + size[4] / 3), kept));
        cases.push(attention_to_kept(size, Mask::Lengths, None, kept));
        if size[3] == 1 {
            cases.push(attention_to_kept(size, Mask::Ring, Some(1 + size[4] / 3), kept));
        }
    }
    cases
}

pub(super) fn cases(floats: &[DType]) -> Vec<Case> {
    [linears(), matmuls(floats), grouped(), attentions(floats), attentions_to_kept()].into_iter().flatten().collect()
}
