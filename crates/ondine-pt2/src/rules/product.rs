//! Matrix products, attention, and what is made of them.

use ondine_graph::{Attention, Binary, DType, Dim, Mask, Op, Reduce, Result, fail};

use super::{
    complex::{join, operand, split},
    reduce,
    rule::{Rule, one},
    shape::lower_triangle,
};
use crate::{
    builder::{Builder, Tensor, elements, wide},
    call::{Call, Item},
};

/// The operators of this file.
pub(super) const RULES: &[Rule] = &[
    Rule::new("linear", linear),
    Rule::new("matmul", multiply).on_complex(complex_matmul),
    Rule::new("mm", multiply).on_complex(complex_matmul),
    Rule::new("bmm", multiply).on_complex(complex_matmul),
    Rule::new("mv", multiply),
    Rule::new("dot", multiply),
    Rule::new("vdot", multiply),
    Rule::new("addmm", addmm),
    Rule::new("baddbmm", addmm),
    Rule::new("addbmm", addmm),
    Rule::new("addmv", addmm),
    Rule::new("inner", inner),
    Rule::new("chain_matmul", chain_matmul),
    Rule::new("linalg_multi_dot", chain_matmul),
    Rule::new("outer", outer),
    Rule::new("ger", outer),
    Rule::new("einsum", einsum_of_call),
    Rule::new("scaled_dot_product_attention", attention),
    Rule::new("_scaled_dot_product_flash_attention_for_cpu", attention_with_sums),
    Rule::new("_scaled_dot_product_efficient_attention", attention),
    Rule::new("_scaled_dot_product_flash_attention", attention),
    Rule::new("_grouped_mm", grouped),
];

fn einsum_of_call(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let Some(equation) = call.text("equation") else { fail!(Format, "einsum without an equation") };
    one(einsum(builder, equation, call.tensors("tensors")?)?)
}

fn outer(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let dtype = call.out_dtype(0)?;
    let (a, b) = (call.operand_as(builder, "self", dtype)?, call.operand_as(builder, "vec2", dtype)?);
    let size = builder.dim(&a, 0);
    let a = builder.reshape(&a, &[size, 1.into()])?;
    one(builder.binary(Binary::Mul, &a, &b)?)
}

fn chain_matmul(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let tensors = call.tensors(if call.has("matrices") { "matrices" } else { "tensors" })?;
    let Some((first, rest)) = tensors.split_first() else { fail!(Format, "a product of nothing") };
    let mut product = first.clone();
    for tensor in rest {
        product = matmul(builder, &product, tensor)?;
    }
    one(product)
}

fn inner(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.wide_tensor(builder, "self")?, call.wide_tensor(builder, "other")?);
    if a.rank() == 0 || b.rank() == 0 {
        return one(builder.binary(Binary::Mul, &a, &b)?);
    }
    // All rows of one by all rows of the other.
    let (inner, shape) = (builder.dim(&a, a.rank() - 1), call.out_shape(0)?);
    let rows = |builder: &mut Builder, x: &Tensor| {
        let count = elements(&builder.shape(x)[..x.rank() - 1]);
        builder.reshape(x, &[count, inner.clone()])
    };
    let (a, b) = (rows(builder, &a)?, rows(builder, &b)?);
    let product = matmul(builder, &a, &Builder::swapped(&b, 0, 1))?;
    one(builder.reshape(&product, &shape)?)
}

fn addmm(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let names = match call.op {
        "addmm" => ["mat1", "mat2"],
        "addmv" => ["mat", "vec"],
        _ => ["batch1", "batch2"],
    };
    let product = matmul(builder, &call.tensor(names[0])?, &call.tensor(names[1])?)?;
    let product =
        if call.op == "addbmm" { reduce::reduce(builder, Reduce::Sum, &product, &[0], false)? } else { product };
    let product = Call::scale(builder, &product, call.float("alpha", 1.0)?)?;
    let beta = call.float("beta", 1.0)?;
    let shape = call.out_shape(0)?;
    if beta == 0.0 {
        return one(builder.expand(&product, &shape)?);
    }
    let x = call.wide_tensor(builder, "self")?;
    let x = Call::scale(builder, &x, beta)?;
    let x = builder.cast(&x, builder.dtype(&product))?;
    let sum = builder.binary(Binary::Add, &product, &x)?;
    one(builder.expand(&sum, &shape)?)
}

fn multiply(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (a, b) = (call.tensor("self")?, call.tensor(second(call))?);
    let result = matmul(builder, &a, &b)?;
    one(call.cast_out(builder, &result)?)
}

fn second(call: &Call<'_>) -> &'static str {
    ["other", "mat2", "vec", "tensor"].into_iter().find(|name| call.has(name)).unwrap_or("other")
}

fn linear(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let (x, weight) = (call.wide_tensor(builder, "input")?, call.wide_tensor(builder, "weight")?);
    let bias = match call.try_tensor("bias")? {
        Some(bias) => Some(builder.cast(&bias, builder.dtype(&x))?),
        None => None,
    };
    one(linear_of(builder, &x, &weight, bias.as_ref())?)
}

/// `x` times the transposed `weight`, plus `bias`.
pub(super) fn linear_of(builder: &mut Builder, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    if weight.rank() == 1 {
        let size = builder.dim(weight, 0);
        let weight = builder.reshape(weight, &[1.into(), size])?;
        let y = linear_of(builder, x, &weight, bias)?;
        return builder.without(&y, y.rank() - 1);
    }
    let float = builder.dtype(x) == DType::F32 && is_packable(builder, weight);
    let fixed = float && bias.is_none_or(|bias| bias.rank() == 1);
    if !fixed || x.rank() == 0 {
        let product = matmul(builder, x, &Builder::swapped(weight, 0, 1))?;
        return match bias {
            Some(bias) => builder.binary(Binary::Add, &product, bias),
            None => Ok(product),
        };
    }
    let last = builder.axis_last(x, x.rank() - 1)?;
    let weight = builder.dense(weight)?;
    let bias = bias.map(|bias| builder.dense(bias)).transpose()?;
    let value = builder.graph.linear(last.value, weight, bias)?;
    Ok(Tensor { value, axes: last.axes })
}

/// The type in which tensors are multiplied: that of the floating-point ones, if there are any, else integers.
fn promoted<'t>(builder: &Builder, tensors: impl IntoIterator<Item = &'t Tensor>) -> DType {
    let types: Vec<DType> = tensors.into_iter().map(|tensor| wide(builder.dtype(tensor))).collect();
    if types.contains(&DType::F32) {
        DType::F32
    } else if types.contains(&DType::I64) {
        DType::I64
    } else {
        DType::I32
    }
}

/// True for what can be packed for products: known beforehand, and at least one element.
fn is_packable(builder: &mut Builder, weight: &Tensor) -> bool {
    builder.is_fixed(weight) && builder.shape(weight).iter().all(|dim| dim.fixed() != Some(0))
}

/// A product by the rules of `torch.matmul`.
pub(super) fn matmul(builder: &mut Builder, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.rank() == 0 || b.rank() == 0 {
        fail!(Shape, "the matrix product of a scalar");
    }
    let dtype = promoted(builder, [a, b]);
    let (a, b) = (builder.cast(a, dtype)?, builder.cast(b, dtype)?);
    if b.rank() == 1 {
        let size = builder.dim(&b, 0);
        let b = builder.reshape(&b, &[size, 1.into()])?;
        let product = matmul(builder, &a, &b)?;
        return builder.without(&product, product.rank() - 1);
    }
    if a.rank() == 1 {
        let size = builder.dim(&a, 0);
        let a = builder.reshape(&a, &[1.into(), size])?;
        let product = matmul(builder, &a, &b)?;
        return builder.without(&product, product.rank() - 2);
    }
    if b.rank() == 2 {
        if dtype == DType::F32 && is_packable(builder, &b) {
            return linear_of(builder, &a, &Builder::swapped(&b, 0, 1), None);
        }
        if a.rank() > 2 {
            let shape = builder.shape(&a);
            let (inner, columns) = (shape[shape.len() - 1].clone(), builder.dim(&b, 1));
            let rows = elements(&shape[..shape.len() - 1]);
            let flat = builder.reshape(&a, &[rows, inner])?;
            let product = matmul(builder, &flat, &b)?;
            let shape: Vec<Dim> = shape[..shape.len() - 1].iter().cloned().chain([columns]).collect();
            return builder.reshape(&product, &shape);
        }
    }
    batched(builder, &a, &b)
}

fn batched(builder: &mut Builder, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (a_shape, b_shape) = (builder.shape(a), builder.shape(b));
    let head = |shape: &[Dim]| ondine_graph::Shape(shape[..shape.len() - 2].to_vec());
    let batch = builder.broadcast_shape(&head(&a_shape), &head(&b_shape))?;
    let full = |shape: &[Dim]| batch.0.iter().chain(&shape[shape.len() - 2..]).cloned().collect::<Vec<_>>();
    let (a, b) = (builder.expand(a, &full(&a_shape))?, builder.expand(b, &full(&b_shape))?);
    let left = builder.dense(&a)?;
    // A transposed right operand is what the kernel likes as well.
    let rank = b.rank();
    let transposed = b.axes[rank - 2] > b.axes[rank - 1];
    let right = if transposed { Builder::swapped(&b, rank - 2, rank - 1) } else { b };
    let right = builder.dense(&right)?;
    let value = builder.graph.push(Op::MatMul { transposed }, &[left, right])?;
    Ok(builder.plain(value))
}

/// Attention, and the logarithm of what each query's weights were divided by.
fn attention_with_sums(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let mut items = attention(builder, call)?;
    let [q, k] = ["query", "key"].map(|name| call.float_tensor(builder, name));
    let (q, k) = (q?, k?);
    let width = builder.dim(&q, q.rank() - 1).fixed().unwrap_or(1);
    let (queries, keys) = (builder.dim(&q, q.rank() - 2), builder.dim(&k, k.rank() - 2));
    let scores = matmul(builder, &q, &Builder::swapped(&k, k.rank() - 2, k.rank() - 1))?;
    let mut scores = builder.affine(&scores, call.float("scale", 1.0 / (width as f64).sqrt())?, 0.0)?;
    let hidden = builder.number(f64::NEG_INFINITY, DType::F32)?;
    if call.flag("is_causal", false)? {
        let seen = lower_triangle(builder, &queries, &keys)?;
        scores = builder.select(&seen, &scores, &hidden)?;
    }
    if let Some(mask) = call.try_tensor("attn_mask")? {
        scores = match builder.dtype(&mask) {
            DType::Bool => builder.select(&mask, &scores, &hidden)?,
            _ => builder.binary(Binary::Add, &scores, &mask)?,
        };
    }
    let last = scores.rank() - 1;
    let sums = reduce::log_sum(builder, &scores, &[last])?;
    items.push(Item::Tensor(builder.without(&sums, last)?));
    Ok(items)
}

/// Attention over `[.., heads, length, head_dim]`.
fn attention(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let [q, k, v] = ["query", "key", "value"].map(|name| call.float_tensor(builder, name));
    let (q, k, v) = (q?, k?, v?);
    if call.float("dropout_p", 0.0)? != 0.0 {
        fail!(Unsupported, "dropout while training; export the model after .eval()");
    }
    let out = call.out_shape(0)?;
    if out.len() != q.rank() || q.rank() < 2 {
        fail!(Shape, "attention of rank {} with a result of rank {}", q.rank(), out.len());
    }
    let mut mask = match (call.try_tensor("attn_mask")?, call.try_tensor("attn_bias")?) {
        (Some(mask), _) | (None, Some(mask)) => Some(mask),
        _ => None,
    };
    let (queries, keys) = (builder.dim(&q, q.rank() - 2), builder.dim(&k, k.rank() - 2));
    let mut causal = call.flag("is_causal", false)?;
    if causal && queries != keys {
        // PyTorch aligns the triangle with the first key, not the last.
        mask = Some(lower_triangle(builder, &queries, &keys)?);
        causal = false;
    }
    let width = builder.dim(&q, q.rank() - 1);
    let Some(width) = width.fixed() else { fail!(Unsupported, "attention over heads of unknown size") };
    let scale = call.float("scale", 1.0 / (width as f64).sqrt())?;
    // Heads are told apart from pictures of a batch only where some share keys.
    let heads = [&q, &k].map(|x| x.rank().checked_sub(3).map(|axis| builder.dim(x, axis)));
    let apart = q.rank() > 3 && heads.iter().flatten().all(|heads| heads.fixed().is_some());
    let apart = apart || q.rank() > 2 && call.flag("enable_gqa", false)? && heads[0] != heads[1];
    let (q, k, v) = (four(builder, &q, apart)?, four(builder, &k, apart)?, four(builder, &v, apart)?);
    let batches = [&q, &k].map(|x| ondine_graph::Shape(vec![builder.dim(x, 0)]));
    let batch = builder.broadcast_shape(&batches[0], &batches[1])?;
    let heads = [&q, &k].map(|x| builder.dim(x, 1).fixed());
    let [Some(heads), Some(kv_heads)] = heads else { fail!(Unsupported, "an unknown number of heads") };
    let mut inputs = Vec::new();
    for x in [&q, &k, &v] {
        let mut shape = builder.shape(x);
        shape[0] = batch.0[0].clone();
        let x = builder.expand(x, &shape)?;
        // Heads side by side in the last dimension.
        let stored = builder.stored(&x, &[0, 2, 1, 3])?;
        let merged = &shape[1] * &shape[3];
        inputs.push(builder.graph.reshape(stored, vec![shape[0].clone(), shape[2].clone(), merged])?);
    }
    let mut kind = Mask::None;
    if let Some(mask) = mask {
        inputs.push(additive_mask(builder, &mask, &out, apart, &keys)?);
        kind = Mask::Additive;
    }
    let attention = Attention { heads, kv_heads, scale: scale as f32, causal, window: None, mask: kind };
    let value = builder.graph.push(Op::Attention(attention), &inputs)?;
    let value_dim = builder.dim(&v, 3);
    let value = builder.graph.reshape(value, vec![batch.0[0].clone(), queries, heads.into(), value_dim])?;
    one(builder.reshape(&Builder::ordered(value, &[0, 2, 1, 3]), &out)?)
}

/// `[batch, heads, length, width]`, with leading dimensions joined or added; all are the batch if heads are not
/// `apart`.
fn four(builder: &mut Builder, x: &Tensor, apart: bool) -> Result<Tensor> {
    let shape = builder.shape(x);
    let Some((head, [length, width])) = shape.split_last_chunk::<2>() else {
        fail!(Shape, "attention of rank {}", shape.len())
    };
    let (batch, heads) = match head.split_last() {
        Some((heads, batch)) if apart => (elements(batch), heads.clone()),
        _ => (elements(head), 1.into()),
    };
    builder.reshape(x, &[batch, heads, length.clone(), width.clone()])
}

/// A mask of truth values or numbers as `[batch or 1, heads or 1, queries, keys]` to be added.
fn additive_mask(
    builder: &mut Builder,
    mask: &Tensor,
    out: &[Dim],
    apart: bool,
    keys: &Dim,
) -> Result<ondine_graph::Value> {
    let mut mask = mask.clone();
    if builder.dtype(&mask) == DType::Bool {
        let (seen, hidden) = (builder.number(0.0, DType::F32)?, builder.number(f64::NEG_INFINITY, DType::F32)?);
        mask = builder.select(&mask, &seen, &hidden)?;
    }
    let rank = out.len();
    let mut shape = builder.shape(&mask);
    if shape.len() > rank {
        fail!(Shape, "a mask of rank {} for attention of rank {rank}", shape.len());
    }
    while shape.len() < rank {
        shape.insert(0, 1.into());
    }
    let (queries, head) = (out[rank - 2].clone(), rank - 2);
    let heads = if apart { shape[head - 1].clone() } else { 1.into() };
    let leading = head - usize::from(apart);
    // Parts of a batch of several dimensions may share a mask.
    if shape[..leading].iter().any(|dim| dim.fixed() != Some(1)) {
        shape[..leading].clone_from_slice(&out[..leading]);
    }
    let batch = elements(&shape[..leading]);
    shape[head..].clone_from_slice(&[queries.clone(), keys.clone()]);
    let mask = builder.expand(&mask, &shape)?;
    let mask = builder.reshape(&mask, &[batch, heads, queries, keys.clone()])?;
    builder.dense(&mask)
}

/// Sums of products by labels of dimensions, two operands at a time from the left.
fn einsum(builder: &mut Builder, equation: &str, tensors: Vec<Tensor>) -> Result<Tensor> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = equation.split_once("->").map_or((equation.as_str(), None), |(l, r)| (l, Some(r)));
    let mut operands: Vec<(Tensor, Vec<char>)> = Vec::new();
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != tensors.len() {
        fail!(Format, "einsum `{equation}` of {} tensors", tensors.len());
    }
    let dtype = promoted(builder, &tensors);
    let mut all = Vec::new();
    for (tensor, term) in tensors.into_iter().zip(terms) {
        let mut tensor = builder.cast(&tensor, dtype)?;
        let mut labels = labels(term, tensor.rank())?;
        all.extend(labels.iter().copied());
        while let Some((a, b)) = repeated(&labels) {
            tensor = diagonal(builder, &tensor, a, b)?;
            let label = labels.remove(b);
            labels.remove(a);
            labels.push(label);
        }
        operands.push((tensor, labels));
    }
    let most =
        operands.iter().map(|(_, labels)| labels.iter().filter(|c| c.is_ascii_digit()).count()).max().unwrap_or(0);
    let output = match right {
        Some(right) => {
            labels(right, right.replace("...", "").chars().count() + if right.contains("...") { most } else { 0 })?
        }
        None => {
            let once = all
                .iter()
                .copied()
                .filter(|c| all.iter().filter(|other| *other == c).count() == 1 || c.is_ascii_digit());
            let mut once: Vec<char> = once.collect();
            once.sort_unstable();
            once.dedup();
            once
        }
    };
    let mut rest = operands.into_iter();
    let Some(mut result) = rest.next() else { fail!(Format, "einsum of nothing") };
    let rest: Vec<_> = rest.collect();
    for i in 0..rest.len() {
        let needed: Vec<char> =
            rest[i + 1..].iter().flat_map(|(_, labels)| labels.iter()).chain(&output).copied().collect();
        result = contract(builder, result, rest[i].clone(), &needed)?;
    }
    let (tensor, labels) = summed(builder, result, &output)?;
    let order: Option<Vec<usize>> = output.iter().map(|c| labels.iter().position(|label| label == c)).collect();
    match order {
        Some(order) => Ok(Builder::permuted(&tensor, &order)),
        None => fail!(Format, "einsum `{equation}` has a result without a source"),
    }
}

/// One label per dimension; an ellipsis stands for digits, the last dimension being `9`.
fn labels(term: &str, rank: usize) -> Result<Vec<char>> {
    let (head, tail) = term.split_once("...").map_or((term, None), |(head, tail)| (head, Some(tail)));
    let mut labels: Vec<char> = head.chars().collect();
    if let Some(tail) = tail {
        let hidden = rank.saturating_sub(labels.len() + tail.chars().count()).min(9);
        labels.extend(('0'..='9').skip(10 - hidden));
        labels.extend(tail.chars());
    }
    if labels.len() != rank {
        fail!(Unsupported, "einsum with the term `{term}` for rank {rank}");
    }
    Ok(labels)
}

/// Two dimensions of one label.
fn repeated(labels: &[char]) -> Option<(usize, usize)> {
    (1..labels.len()).find_map(|b| Some((labels[..b].iter().position(|label| *label == labels[b])?, b)))
}

/// What lies where dimensions `a` and `b` agree, as a last dimension.
fn diagonal(builder: &mut Builder, x: &Tensor, a: usize, b: usize) -> Result<Tensor> {
    let order: Vec<usize> = (0..x.rank()).filter(|&axis| axis != a && axis != b).chain([a, b]).collect();
    let size = builder.dim(x, a);
    let Some(n) = size.fixed().filter(|_| builder.dim(x, b) == size) else {
        fail!(Unsupported, "the diagonal of a matrix of unknown size");
    };
    let moved = Builder::permuted(x, &order);
    let mut shape = builder.shape(&moved);
    shape.truncate(order.len() - 2);
    let last = shape.len();
    shape.push((n * n).into());
    let flat = builder.reshape(&moved, &shape)?;
    let places = builder.range(&0.into(), n as i64 + 1, &size)?;
    builder.take(&flat, last, &places)
}

/// Sums what nobody needs.
fn summed(builder: &mut Builder, x: (Tensor, Vec<char>), needed: &[char]) -> Result<(Tensor, Vec<char>)> {
    let (tensor, mut labels) = x;
    let axes: Vec<usize> = (0..labels.len()).filter(|&i| !needed.contains(&labels[i])).collect();
    let tensor = reduce::reduce(builder, Reduce::Sum, &tensor, &axes, false)?;
    labels.retain(|label| needed.contains(label));
    Ok((tensor, labels))
}

fn contract(
    builder: &mut Builder,
    a: (Tensor, Vec<char>),
    b: (Tensor, Vec<char>),
    needed: &[char],
) -> Result<(Tensor, Vec<char>)> {
    let of_a: Vec<char> = needed.iter().chain(&b.1).copied().collect();
    let of_b: Vec<char> = needed.iter().chain(&a.1).copied().collect();
    let ((a, a_labels), (b, b_labels)) = (summed(builder, a, &of_a)?, summed(builder, b, &of_b)?);
    let both = |label: &char| a_labels.contains(label) && b_labels.contains(label);
    let pick = |labels: &[char], f: &dyn Fn(&char) -> bool| labels.iter().copied().filter(|l| f(l)).collect::<Vec<_>>();
    let batch = pick(&a_labels, &|label| both(label) && needed.contains(label));
    let inner = pick(&a_labels, &|label| both(label) && !needed.contains(label));
    let rows = pick(&a_labels, &|label| !both(label));
    let columns = pick(&b_labels, &|label| !both(label));
    let position = |labels: &[char], label: &char| labels.iter().position(|other| other == label).unwrap_or(0);
    let left: Vec<usize> = batch.iter().chain(&rows).chain(&inner).map(|l| position(&a_labels, l)).collect();
    let right: Vec<usize> = batch.iter().chain(&inner).chain(&columns).map(|l| position(&b_labels, l)).collect();
    let (a, b) = (Builder::permuted(&a, &left), Builder::permuted(&b, &right));
    let (a_shape, b_shape) = (builder.shape(&a), builder.shape(&b));
    // Dimensions of size 1 among an ellipsis are repeated.
    let head: Vec<Dim> = a_shape
        .iter()
        .zip(&b_shape)
        .take(batch.len())
        .map(|(a, b)| if a.fixed() == Some(1) { b.clone() } else { a.clone() })
        .collect();
    let all = |dims: &[Dim]| dims.iter().fold(Dim::from(1), |product, dim| &product * dim);
    let (n, r) = (batch.len(), rows.len());
    let (row_dims, inner_dims, column_dims) = (&a_shape[n..n + r], &a_shape[n + r..], &b_shape[n + inner.len()..]);
    let shaped = |builder: &mut Builder, x: &Tensor, shape: &[Dim], two: [Dim; 2]| -> Result<Tensor> {
        let full: Vec<Dim> = head.iter().chain(&shape[n..]).cloned().collect();
        let x = builder.expand(x, &full)?;
        builder.reshape(&x, &head.iter().cloned().chain(two).collect::<Vec<_>>())
    };
    let a = shaped(builder, &a, &a_shape, [all(row_dims), all(inner_dims)])?;
    let b = shaped(builder, &b, &b_shape, [all(inner_dims), all(column_dims)])?;
    let product = matmul(builder, &a, &b)?;
    let shape: Vec<Dim> = head.iter().chain(row_dims).chain(column_dims).cloned().collect();
    let product = builder.reshape(&product, &shape)?;
    Ok((product, batch.into_iter().chain(rows).chain(columns).collect()))
}

fn complex_matmul(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let second = if call.has("other") { "other" } else { "mat2" };
    let [a, b] = [operand(builder, call, "self")?, operand(builder, call, second)?];
    let (ar, ai) = split(builder, &a)?;
    let (br, bi) = split(builder, &b)?;
    let (rr, ii) = (matmul(builder, &ar, &br)?, matmul(builder, &ai, &bi)?);
    let (ri, ir) = (matmul(builder, &ar, &bi)?, matmul(builder, &ai, &br)?);
    let (real, imaginary) = (builder.binary(Binary::Sub, &rr, &ii)?, builder.binary(Binary::Add, &ri, &ir)?);
    one(join(builder, &real, &imaginary)?)
}

/// The rule for a library's operator that stands for one of ATen where PyTorch has no kernel, whatever the library.
pub(super) fn library_rule(op: &str) -> Option<Rule> {
    op.ends_with(".grouped_mm_fallback.default").then_some(Rule::new("grouped_mm_fallback", grouped))
}

/// Rows in groups, each multiplied with a matrix of its own.
fn grouped(builder: &mut Builder, call: &Call<'_>) -> Result<Vec<Item>> {
    let named = call.has("input");
    let x = call.float_tensor(builder, if named { "input" } else { "self" })?;
    let weight = call.float_tensor(builder, if named { "weight" } else { "mat2" })?;
    let ends = call.tensor("offs")?;
    if x.rank() != 2 || weight.rank() != 3 || call.has("bias") {
        fail!(Unsupported, "a grouped product of ranks {} and {}", x.rank(), weight.rank());
    }
    let ends = builder.cast(&ends, DType::I64)?;
    let ends = builder.guarded(&ends)?;
    let transposed = weight.axes[1] > weight.axes[2];
    let weight = if transposed { Builder::swapped(&weight, 1, 2) } else { weight };
    let inputs = [builder.dense(&x)?, builder.dense(&weight)?, builder.dense(&ends)?];
    let value = builder.graph.push(Op::GroupedMatMul { transposed }, &inputs)?;
    one(builder.plain(value))
}
