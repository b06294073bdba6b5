//! Codes: products of numbers that come of codes, with weights that are stored as codes, become products of codes; what
//! rounds numbers to codes becomes one operator.
//!
//! A program speaks of codes by arithmetic: `(q - zero) * scale` before a product, and to make them `round`, `clamp`
//! and a cast. What is not recognised runs as it is written.

use ondine_graph::{
    Activation, Binary, DType, Dim, Elementary, Graph, NDArray, Node, Op, Result, Shape, Signature, Unary, Value,
    Weights,
    rewrite::{Rewrite, rewrite, share::share, sweep},
};

use super::{
    coding::{multiplies_codes, multiplies_in_groups},
    native::{CpuOp, Finish},
    requantize::requantize,
};
use crate::options::Precision;

/// The pass.
pub(super) fn codes(graph: &Graph, weights: &Weights) -> Result<Graph> {
    let bytes = |node: &Node| matches!(node.signature.dtype, DType::I8 | DType::U8);
    if !graph.nodes().iter().any(bytes) {
        return Ok(graph.clone());
    }
    let multiplied = rewrite("products of codes", graph, |rewrite, _, node| product(rewrite, node, weights))?;
    let graph = share(&sweep(&multiplied)?)?;
    let rounded = rewrite("codes", &graph, |rewrite, value, node| match node.op {
        Op::Cast(DType::I8 | DType::U8) => encode(rewrite, value, node),
        Op::Unary(_) | Op::Binary(_) => decode(rewrite, value, node),
        _ => Ok(None),
    })?;
    requantize(&share(&sweep(&rounded)?)?)
}

/// A number of the graph, or one that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Number {
    Known(f32),
    Of(Value),
}

impl Number {
    /// The number of a value, if it is one for all or one for each row of `shape`.
    fn of(graph: &Graph, value: Value, shape: &Shape) -> Option<Self> {
        if let Op::Const(array) = &graph.node(value).op
            && let [first, rest @ ..] = &array.to_f32()[..]
            && rest.iter().all(|number| number == first)
        {
            return Some(Self::Known(*first));
        }
        let own = graph.shape(value);
        let single = own.elements().fixed() == Some(1);
        let rows = own.rank() == shape.rank() && own.0.split_last()?.1 == shape.0.split_last()?.1;
        let by_rows = rows && own.0.last().and_then(Dim::fixed) == Some(1);
        (graph.node(value).signature.dtype == DType::F32 && (single || by_rows)).then_some(Self::Of(value))
    }

    /// True if it surely is an integer.
    fn is_integer(self, graph: &Graph) -> bool {
        match self {
            Self::Known(number) => number.fract() == 0.0,
            Self::Of(value) => {
                let node = graph.node(value);
                match &node.op {
                    Op::Const(array) => array.to_f32().iter().all(|number| number.fract() == 0.0),
                    Op::Cast(DType::F32) => !graph.node(node.inputs[0]).signature.dtype.is_float(),
                    Op::Reshape(_) | Op::Expand(_) => Self::Of(node.inputs[0]).is_integer(graph),
                    Op::Unary(Unary::Function(Elementary::Round)) => true,
                    _ => false,
                }
            }
        }
    }

    /// The value in the new graph.
    fn place(self, rewrite: &mut Rewrite<'_>) -> Value {
        match self {
            Self::Known(number) => rewrite.new.scalar(number),
            Self::Of(value) => rewrite.get(value),
        }
    }
}

/// Numbers that come of codes: `(codes - zero) * scale`.
struct Coded {
    codes: Value,
    scale: Number,
    zero: Number,
}

/// `x` times or plus something: the operands of a node that `binary` or an affine function with one part does.
fn step(graph: &Graph, value: Value, wanted: Binary) -> Option<[(Value, Number); 2]> {
    let node = graph.node(value);
    let shape = &node.signature.shape;
    let pair = |x: Value, number: Number| Some([(x, number); 2]);
    match (node.op.clone(), &node.inputs[..], wanted) {
        (Op::Unary(Unary::Affine { scale, offset: 0.0 }), &[x], Binary::Mul) => pair(x, Number::Known(scale)),
        (Op::Unary(Unary::Affine { scale: 1.0, offset }), &[x], Binary::Add) => pair(x, Number::Known(offset)),
        (Op::Unary(Unary::Affine { scale: 1.0, offset }), &[x], Binary::Sub) => pair(x, Number::Known(-offset)),
        (Op::Binary(op), &[a, b], _) if op == wanted => {
            let whole = |x: Value| graph.shape(x) == shape;
            let first = Number::of(graph, b, shape).filter(|_| whole(a)).map(|number| (a, number));
            let second = Number::of(graph, a, shape).filter(|_| whole(b) && op != Binary::Sub);
            match (first, second.map(|number| (b, number))) {
                (Some(first), second) => Some([first, second.unwrap_or(first)]),
                (None, Some(second)) => Some([second; 2]),
                (None, None) => None,
            }
        }
        _ => None,
    }
}

/// The codes that numbers come of.
fn coded(graph: &Graph, value: Value) -> Option<Coded> {
    let unscaled = |value: Value, scale: Number| {
        let moved = step(graph, value, Binary::Sub).map_or((value, Number::Known(0.0)), |[first, _]| first);
        let node = graph.node(moved.0);
        let (Op::Cast(DType::F32), &[codes]) = (&node.op, &node.inputs[..]) else { return None };
        let bytes = matches!(graph.node(codes).signature.dtype, DType::I8 | DType::U8);
        bytes.then_some(Coded { codes, scale, zero: moved.1 })
    };
    let scaled = step(graph, value, Binary::Mul).into_iter().flatten();
    let found = scaled.filter_map(|(x, scale)| unscaled(x, scale)).next();
    let coded = found.or_else(|| unscaled(value, Number::Known(1.0)))?;
    Some(shifted(graph, &coded).unwrap_or(coded))
}

/// Codes with a sign that have been moved to be without one are the same codes with another zero.
fn shifted(graph: &Graph, coded: &Coded) -> Option<Coded> {
    let (Number::Known(zero), codes) = (coded.zero, unsigned(graph, coded.codes)?) else { return None };
    Some(Coded { codes, scale: coded.scale, zero: Number::Known(zero - 128.0) })
}

/// The signed codes that `value` holds plus 128.
fn unsigned(graph: &Graph, value: Value) -> Option<Value> {
    let node = graph.node(value);
    let (Op::Cast(DType::U8), &[sum]) = (&node.op, &node.inputs[..]) else { return None };
    let (Op::Binary(Binary::Add), &[a, b]) = (&graph.node(sum).op, &graph.node(sum).inputs[..]) else { return None };
    let middle = |value: Value| matches!(&graph.node(value).op, Op::Const(array) if array.to_f32() == [128.0]);
    let wide = if middle(b) { a } else { Some(b).filter(|_| middle(a))? };
    let (Op::Cast(DType::I32), &[codes]) = (&graph.node(wide).op, &graph.node(wide).inputs[..]) else { return None };
    (graph.node(codes).signature.dtype == DType::I8).then_some(codes)
}

/// True for convolutions that are better off with numbers: of pixels that are less than a word, as those of a picture,
/// which would be copied for each tap, and depthwise ones with more taps than sums in f32 surely stay exact for.
fn unfit(node: &Node, weight: &[usize]) -> bool {
    let Op::Conv2d(conv, _) = node.op else { return false };
    let taps = weight[2..].iter().product::<usize>();
    match (conv.groups > 1, weight[1]) {
        (true, 1) => taps > (1 << f32::MANTISSA_DIGITS) / (255 * 128),
        (false, channels) => channels < 4 && taps > 1,
        (true, _) => false,
    }
}

/// A linear layer or a convolution of codes with codes.
fn product(rewrite: &mut Rewrite<'_>, node: &Node, weights: &Weights) -> Result<Option<Value>> {
    let graph = rewrite.old;
    let (Op::Linear(_) | Op::Conv2d(..), [x, weight, ..]) = (&node.op, &node.inputs[..]) else { return Ok(None) };
    let Op::Weight(id) = graph.node(*weight).op else { return Ok(None) };
    let info = graph.weight_info(id);
    let encoding = weights.encoding(&info.path)?;
    let linear = matches!(node.op, Op::Linear(_));
    if !encoding
        .is_some_and(|of| multiplies_codes(&of) || linear && multiplies_in_groups(&of, Precision::F32).is_some())
    {
        return Ok(None);
    }
    let source = &graph.node(*x);
    let inner = if let Op::Reshape(_) | Op::Permute(_) = source.op { source.inputs[0] } else { *x };
    let Some(Coded { codes, scale, zero }) = coded(graph, inner) else { return Ok(None) };
    let single = |number: Number| match number {
        Number::Known(_) => true,
        Number::Of(value) => graph.shape(value).elements().fixed() == Some(1),
    };
    let moved = matches!(source.op, Op::Permute(_));
    let rows = graph.shape(inner).0.last() == graph.shape(*x).0.last() && linear && !moved;
    let in_reach = match zero {
        Number::Known(zero) => {
            let signed = graph.node(codes).signature.dtype == DType::I8;
            zero.fract() == 0.0 && if signed { (-128.0..128.0).contains(&zero) } else { (0.0..256.0).contains(&zero) }
        }
        Number::Of(_) => zero.is_integer(graph),
    };
    if unfit(node, &info.shape) || !in_reach || !(rows || single(scale) && single(zero)) {
        return Ok(None);
    }
    let mut codes = rewrite.get(codes);
    let signed = rewrite.new.node(codes).signature.dtype == DType::I8;
    let (scale, zero) = match zero {
        Number::Known(zero) if signed => (scale.place(rewrite), rewrite.new.scalar(zero + 128.0)),
        Number::Of(_) if signed => {
            let (scale, zero) = (scale.place(rewrite), zero.place(rewrite));
            (scale, rewrite.new.affine(zero, 1.0, 128.0)?)
        }
        zero => (scale.place(rewrite), zero.place(rewrite)),
    };
    let new = &mut rewrite.new;
    if signed {
        // Kernels read codes without a sign.
        let wide = new.cast(codes, DType::I32)?;
        let middle = new.constant(NDArray::scalar(128_i32));
        let sum = new.binary(Binary::Add, wide, middle)?;
        codes = new.cast(sum, DType::U8)?;
    }
    codes = match &source.op {
        Op::Permute(axes) => new.permute(codes, axes)?,
        Op::Reshape(_) => new.reshape(codes, graph.shape(*x).clone())?,
        _ => codes,
    };
    let mut inputs = vec![codes];
    inputs.extend(node.inputs[1..].iter().map(|&input| rewrite.get(input)));
    inputs.extend([scale, zero]);
    let op = match &node.op {
        Op::Conv2d(conv, epilogue) => CpuOp::ConvCodes(*conv, *epilogue, Finish::default()),
        Op::Linear(epilogue) => CpuOp::LinearCodes(*epilogue, Finish::default()),
        _ => return Ok(None),
    };
    rewrite.new.push(op.op(node.signature.clone())?, &inputs).map(Some)
}

/// How numbers become codes, and what is added to those.
struct Encoding {
    x: Value,
    inverse: Number,
    zero: Number,
    ends: [f32; 2],
    moved_first: bool,
    shift: f32,
}

/// How the codes `value` are made.
fn encoding(graph: &Graph, value: Value) -> Option<Encoding> {
    if let Some(signed) = unsigned(graph, value) {
        return encoding(graph, signed).map(|encoding| Encoding { shift: 128.0, ..encoding });
    }
    let node = graph.node(value);
    let (&Op::Cast(dtype), &[cut]) = (&node.op, &node.inputs[..]) else { return None };
    let (ends, moved) = ends(graph, cut)?;
    let held = if dtype == DType::U8 { [0.0, 255.0] } else { [-128.0, 127.0] };
    let fit =
        held[0] <= ends[0] && ends[0] <= ends[1] && ends[1] <= held[1] && ends.iter().all(|end| end.fract() == 0.0);
    if !matches!(dtype, DType::I8 | DType::U8) || !fit {
        return None;
    }
    let rounds = |value: Value| match graph.node(value).op {
        Op::Unary(Unary::Function(Elementary::Round)) => Some(graph.node(value).inputs[0]),
        _ => None,
    };
    let add = |value: Value| step(graph, value, Binary::Add).map(|[first, _]| first);
    let ways = match rounds(moved) {
        // Zero first, or none.
        Some(steps) => {
            let first = add(steps).map(|(steps, zero)| (steps, zero, true));
            [first, Some((steps, Number::Known(0.0), false))]
        }
        None => {
            let (nearest, zero) = add(moved)?;
            [Some((rounds(nearest)?, zero, false)), None]
        }
    };
    ways.into_iter().flatten().find_map(|(steps, zero, moved_first)| {
        let sides = step(graph, steps, Binary::Mul)?;
        // Of two factors with a number for each row, the one that is wider is what is rounded.
        let (x, inverse) = sides.into_iter().find(|(x, _)| graph.node(*x).signature.dtype == DType::F32)?;
        let whole = graph.shape(x) == &node.signature.shape && zero.is_integer(graph);
        whole.then_some(Encoding { x, inverse, zero, ends, moved_first, shift: 0.0 })
    })
}

/// The first and the last of what `value` is cut to, and what is cut.
fn ends(graph: &Graph, value: Value) -> Option<([f32; 2], Value)> {
    let (mut low, mut high, mut value) = (f32::NEG_INFINITY, f32::INFINITY, value);
    loop {
        let node = graph.node(value);
        let scalar = |input: Value| match &graph.node(input).op {
            Op::Const(array) => array.to_f32().first().copied().filter(|_| array.len() == 1),
            _ => None,
        };
        let limit = || {
            let (a, b) = (node.inputs[0], node.inputs[1]);
            scalar(b).map(|limit| (a, limit)).or_else(|| scalar(a).map(|limit| (b, limit)))
        };
        // What was cut first counts less.
        let (inner, [least, most]) = match node.op {
            Op::Unary(Unary::Activation(Activation::Relu)) => (node.inputs[0], [0.0, f32::INFINITY]),
            Op::Unary(Unary::Activation(Activation::Relu6)) => (node.inputs[0], [0.0, 6.0]),
            Op::Binary(Binary::Max) => limit().map(|(inner, limit)| (inner, [limit, f32::INFINITY]))?,
            Op::Binary(Binary::Min) => limit().map(|(inner, limit)| (inner, [f32::NEG_INFINITY, limit]))?,
            _ if low.is_finite() && high.is_finite() => return Some(([low, high], value)),
            _ => return None,
        };
        (low, high) = (low.max(least.min(high)), high.min(most.max(low)));
        value = inner;
        if low.is_finite() && high.is_finite() {
            return Some(([low, high], value));
        }
    }
}

/// Numbers to codes.
fn encode(rewrite: &mut Rewrite<'_>, value: Value, node: &Node) -> Result<Option<Value>> {
    let Some(Encoding { x, inverse, zero, ends, moved_first, shift }) = encoding(rewrite.old, value) else {
        return Ok(None);
    };
    let inputs = [rewrite.get(x), inverse.place(rewrite), zero.place(rewrite)];
    let op = CpuOp::Encode { ends, moved_first, shift }.op(node.signature.clone())?;
    rewrite.new.push(op, &inputs).map(Some)
}

/// Codes to numbers, or numbers to what they become by way of codes.
fn decode(rewrite: &mut Rewrite<'_>, value: Value, node: &Node) -> Result<Option<Value>> {
    let graph = rewrite.old;
    let Some(Coded { codes, scale, zero }) = coded(graph, value) else { return Ok(None) };
    let signature: Signature = node.signature.clone();
    let made = encoding(graph, codes).filter(|made| made.zero == zero && made.shift == 0.0);
    if let Some(Encoding { x, inverse, ends, moved_first, .. }) = made {
        let inputs = [rewrite.get(x), inverse.place(rewrite), zero.place(rewrite), scale.place(rewrite)];
        return rewrite.new.push(CpuOp::Round { ends, moved_first }.op(signature)?, &inputs).map(Some);
    }
    let (Number::Known(_), Number::Known(_)) = (scale, zero) else { return Ok(None) };
    let inputs = [rewrite.get(codes), scale.place(rewrite), zero.place(rewrite)];
    rewrite.new.push(CpuOp::Decode.op(signature)?, &inputs).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ondine_graph::{Bytes, Conv2d, Epilogue, Tensor};

    /// A weight `[8, 16]` of 8-bit codes with one scale for each row.
    fn weights() -> Weights {
        let mut weights = Weights::default();
        let mut insert = |path: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>| {
            let tensor = Tensor { dtype, shape: shape.to_vec(), bytes: Bytes::from(&bytes[..]), file: "test".into() };
            weights.insert(path, tensor);
        };
        insert("w", DType::U8, &[8, 16], (0..128).collect());
        insert("w.encoding", DType::I64, &[4], [8_i64, 16, 8, 16].iter().flat_map(|n| n.to_le_bytes()).collect());
        insert("w.scale", DType::F32, &[8, 1], [0.5_f32; 8].iter().flat_map(|n| n.to_le_bytes()).collect());
        weights
    }

    fn function(graph: &mut Graph, function: Elementary, x: Value) -> Value {
        graph.unary(Unary::Function(function), x).unwrap()
    }

    /// Codes of `x` with the zero 3, and numbers of them.
    fn quantized(graph: &mut Graph, x: Value) -> [Value; 2] {
        let steps = graph.affine(x, 4.0, 0.0).unwrap();
        let nearest = function(graph, Elementary::Round, steps);
        let moved = graph.affine(nearest, 1.0, 3.0).unwrap();
        let (low, high) = (graph.scalar(-128.0), graph.scalar(127.0));
        let cut = graph.binary(Binary::Max, moved, low).unwrap();
        let cut = graph.binary(Binary::Min, cut, high).unwrap();
        let codes = graph.cast(cut, DType::I8).unwrap();
        let numbers = graph.cast(codes, DType::F32).unwrap();
        let numbers = graph.affine(numbers, 1.0, -3.0).unwrap();
        [codes, graph.affine(numbers, 0.25, 0.0).unwrap()]
    }

    fn names(graph: &Graph) -> Vec<String> {
        let computed = graph.nodes().iter().filter(|node| !node.inputs.is_empty());
        computed.map(|node| node.op.name().to_owned()).collect()
    }

    #[test]
    fn a_product_of_codes_reads_codes() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 3, 16]);
        let [_, numbers] = quantized(&mut graph, x);
        let rows = graph.reshape(numbers, [6, 16]).unwrap();
        let weight = graph.weight("w", &[8, 16]).unwrap();
        let y = graph.linear(rows, weight, None).unwrap();
        graph.output("y", y);
        let coded = codes(&graph, &weights()).unwrap();
        assert_eq!(names(&coded), ["encode", "reshape", "linear_codes"], "{coded}");
        let encode = coded.nodes().iter().find(|node| node.op.name() == "encode").unwrap();
        assert_eq!(encode.signature.dtype, DType::U8, "kernels read codes without a sign");
    }

    #[test]
    fn a_product_with_weights_in_groups_or_with_zeros_reads_codes() {
        let mut weights = weights();
        let mut insert = |path: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>| {
            let tensor = Tensor { dtype, shape: shape.to_vec(), bytes: Bytes::from(&bytes[..]), file: "test".into() };
            weights.insert(path, tensor);
        };
        insert("g", DType::U8, &[8, 8], (0..64).collect());
        insert("g.encoding", DType::I64, &[4], [4_i64, 8, 8, 16].iter().flat_map(|n| n.to_le_bytes()).collect());
        insert("g.scale", DType::F32, &[8, 2], [0.5_f32; 16].iter().flat_map(|n| n.to_le_bytes()).collect());
        insert("odd", DType::U8, &[8, 8], (0..64).collect());
        insert("odd.encoding", DType::I64, &[4], [4_i64, 2, 8, 16].iter().flat_map(|n| n.to_le_bytes()).collect());
        insert("odd.scale", DType::F32, &[8, 8], [0.5_f32; 64].iter().flat_map(|n| n.to_le_bytes()).collect());
        for (path, wanted) in [("g", "linear_codes"), ("odd", "linear")] {
            let mut graph = Graph::new();
            let x = graph.input("x", DType::F32, [6, 16]);
            let [_, numbers] = quantized(&mut graph, x);
            let weight = graph.weight(path, &[8, 16]).unwrap();
            let y = graph.linear(numbers, weight, None).unwrap();
            graph.output("y", y);
            let coded = codes(&graph, &weights).unwrap();
            assert_eq!(names(&coded).last().map(String::as_str), Some(wanted), "{coded}");
        }
    }

    #[test]
    fn numbers_that_only_go_by_way_of_codes_are_rounded_at_once() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 16]);
        let [codes_of, numbers] = quantized(&mut graph, x);
        graph.output("y", numbers);
        assert_eq!(names(&codes(&graph, &weights()).unwrap()), ["round_to_codes"]);
        graph.output("codes", codes_of);
        assert_eq!(names(&codes(&graph, &weights()).unwrap()), ["encode", "round_to_codes"]);
    }

    #[test]
    fn a_product_does_what_is_between_it_and_the_next_codes() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 3, 16]);
        let [_, numbers] = quantized(&mut graph, x);
        let weight = graph.weight("w", &[8, 16]).unwrap();
        let y = graph.linear(numbers, weight, None).unwrap();
        let [_, rounded] = quantized(&mut graph, y);
        let active = graph.unary(Unary::Activation(Activation::HardSwish), rounded).unwrap();
        let [codes_of, again] = quantized(&mut graph, active);
        graph.output("codes", codes_of);
        assert_eq!(names(&codes(&graph, &weights()).unwrap()), ["encode", "linear_codes"]);
        // What is read as codes and as numbers is stored as codes alone.
        graph.output("y", again);
        let coded = codes(&graph, &weights()).unwrap();
        assert_eq!(names(&coded), ["encode", "linear_codes", "decode"], "{coded}");
        // Two that read the same result get it as it is.
        graph.output("active", active);
        let coded = codes(&graph, &weights()).unwrap();
        assert_eq!(names(&coded), ["encode", "linear_codes", "encode", "decode"], "{coded}");
    }

    #[test]
    fn a_product_adds_what_is_added_to_it() {
        let mut graph = Graph::new();
        let (x, other) = (graph.input("x", DType::F32, [2, 3, 16]), graph.input("other", DType::F32, [2, 3, 8]));
        let [_, numbers] = quantized(&mut graph, x);
        let weight = graph.weight("w", &[8, 16]).unwrap();
        let y = graph.linear(numbers, weight, None).unwrap();
        let [_, rounded] = quantized(&mut graph, y);
        let sum = graph.binary(Binary::Add, other, rounded).unwrap();
        let [codes_of, again] = quantized(&mut graph, sum);
        graph.output("codes", codes_of);
        graph.output("y", again);
        let coded = codes(&graph, &weights()).unwrap();
        assert_eq!(names(&coded), ["encode", "linear_codes", "decode"], "{coded}");
        // What is read twice is added by itself.
        graph.output("rounded", rounded);
        let coded = codes(&graph, &weights()).unwrap();
        assert!(names(&coded).contains(&"add".to_owned()), "{coded}");
    }

    #[test]
    fn a_depthwise_convolution_of_codes_reads_codes() {
        let mut weights = weights();
        let mut insert = |path: &str, dtype: DType, shape: &[usize], bytes: Vec<u8>| {
            let tensor = Tensor { dtype, shape: shape.to_vec(), bytes: Bytes::from(&bytes[..]), file: "test".into() };
            weights.insert(path, tensor);
        };
        insert("d", DType::U8, &[16, 9], (0..144).collect());
        let encoding = [8_i64, 9, 16, 1, 3, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
        insert("d.encoding", DType::I64, &[6], encoding);
        insert("d.scale", DType::F32, &[16, 1], [0.5_f32; 16].iter().flat_map(|n| n.to_le_bytes()).collect());
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 5, 5, 16]);
        let [_, numbers] = quantized(&mut graph, x);
        let weight = graph.weight("d", &[16, 1, 3, 3]).unwrap();
        let conv = Conv2d { padding: [1; 4], groups: 16, ..Conv2d::default() };
        let y = graph.push(Op::Conv2d(conv, Epilogue::default()), &[numbers, weight]).unwrap();
        graph.output("y", y);
        assert_eq!(names(&codes(&graph, &weights).unwrap()), ["encode", "conv2d_codes"]);
        // What is moved before is moved as codes.
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 16, 5, 5]);
        let [_, numbers] = quantized(&mut graph, x);
        let moved = graph.permute(numbers, &[0, 2, 3, 1]).unwrap();
        let weight = graph.weight("d", &[16, 1, 3, 3]).unwrap();
        let y = graph.push(Op::Conv2d(conv, Epilogue::default()), &[moved, weight]).unwrap();
        graph.output("y", y);
        assert_eq!(names(&codes(&graph, &weights).unwrap()), ["encode", "permute", "conv2d_codes"]);
    }

    #[test]
    fn what_is_no_code_stays_as_it_is_written() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [2, 16]);
        let steps = graph.affine(x, 4.0, 0.0).unwrap();
        let nearest = function(&mut graph, Elementary::Round, steps);
        let low = graph.scalar(-128.0);
        let cut = graph.binary(Binary::Max, nearest, low).unwrap();
        let codes_of = graph.cast(cut, DType::I8).unwrap();
        graph.output("y", codes_of);
        let same = codes(&graph, &weights()).unwrap();
        assert!(names(&same).iter().all(|name| name != "encode"), "no upper end: {same}");
    }
}
