//! One method of [`Graph`] for each operator that builders use.

use crate::{
    dim::Dim,
    dtype::DType,
    error::Result,
    graph::{Graph, Value},
    op::{Activation, Attention, Binary, Conv2d, Epilogue, Op, Reduce, Resample, Unary},
    shape::Shape,
};

/// One method per operator; see [`Op`] for what each computes. All fail if the shapes do not fit.
#[expect(clippy::missing_errors_doc, reason = "said once above")]
impl Graph {
    /// `a + b`, broadcast.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(Binary::Add), &[a, b])
    }

    /// `a * b`, broadcast.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(Binary::Mul), &[a, b])
    }

    /// Any operator of two numbers, broadcast.
    pub fn binary(&mut self, op: Binary, a: Value, b: Value) -> Result<Value> {
        self.push(Op::Binary(op), &[a, b])
    }

    /// Any operator of one number.
    pub fn unary(&mut self, op: Unary, x: Value) -> Result<Value> {
        self.push(Op::Unary(op), &[x])
    }

    /// An activation function.
    pub fn activation(&mut self, activation: Activation, x: Value) -> Result<Value> {
        match activation {
            Activation::None => Ok(x),
            _ => self.unary(Unary::Activation(activation), x),
        }
    }

    /// `scale * x + offset`
    pub fn affine(&mut self, x: Value, scale: f32, offset: f32) -> Result<Value> {
        self.unary(Unary::Affine { scale, offset }, x)
    }

    /// `x` as another element type.
    pub fn cast(&mut self, x: Value, dtype: DType) -> Result<Value> {
        if self.node(x).signature.dtype == dtype { Ok(x) } else { self.push(Op::Cast(dtype), &[x]) }
    }

    /// `x` under another shape.
    pub fn reshape(&mut self, x: Value, shape: impl Into<Shape>) -> Result<Value> {
        self.push(Op::Reshape(shape.into()), &[x])
    }

    /// `x` with its dimensions in another order.
    pub fn permute(&mut self, x: Value, axes: &[usize]) -> Result<Value> {
        self.push(Op::Permute(axes.to_vec()), &[x])
    }

    /// `x[start..end]` along `axis`.
    pub fn slice(&mut self, x: Value, axis: usize, start: impl Into<Dim>, end: impl Into<Dim>) -> Result<Value> {
        self.push(Op::Slice { axis, start: start.into(), end: end.into() }, &[x])
    }

    /// `parts`, one after the other along `axis`.
    pub fn concat(&mut self, parts: &[Value], axis: usize) -> Result<Value> {
        self.push(Op::Concat { axis }, parts)
    }

    /// Rows of `table` by integer `indices`.
    pub fn gather(&mut self, table: Value, indices: Value) -> Result<Value> {
        self.push(Op::Gather, &[table, indices])
    }

    /// `x` folded along `axes`.
    pub fn reduce(&mut self, how: Reduce, x: Value, axes: &[usize], keep: bool) -> Result<Value> {
        self.push(Op::Reduce { how, axes: axes.to_vec(), keep }, &[x])
    }

    /// Softmax over the last dimension.
    pub fn softmax(&mut self, x: Value) -> Result<Value> {
        self.push(Op::Softmax, &[x])
    }

    /// Layer normalization over the last dimension.
    pub fn layer_norm(&mut self, x: Value, weight: Value, bias: Value, eps: f32) -> Result<Value> {
        self.push(Op::LayerNorm { eps }, &[x, weight, bias])
    }

    /// Group normalization, channels last.
    pub fn group_norm(&mut self, x: Value, weight: Value, bias: Value, groups: usize, eps: f32) -> Result<Value> {
        self.push(Op::GroupNorm { groups, eps, activation: Activation::None }, &[x, weight, bias])
    }

    /// `x` times the transposed `weight`, plus `bias`.
    pub fn linear(&mut self, x: Value, weight: Value, bias: Option<Value>) -> Result<Value> {
        let epilogue = Epilogue { bias: bias.is_some(), ..Epilogue::default() };
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.push(Op::Linear(epilogue), &inputs)
    }

    /// Convolution, channels last.
    pub fn conv2d(&mut self, x: Value, weight: Value, bias: Option<Value>, conv: Conv2d) -> Result<Value> {
        let epilogue = Epilogue { bias: bias.is_some(), ..Epilogue::default() };
        let inputs: Vec<_> = [x, weight].into_iter().chain(bias).collect();
        self.push(Op::Conv2d(conv, epilogue), &inputs)
    }

    /// Scaled dot-product attention; `mask` must be there exactly if `attention.mask` asks for one.
    pub fn attention(&mut self, attention: Attention, qkv: [Value; 3], mask: Option<Value>) -> Result<Value> {
        let inputs: Vec<_> = qkv.into_iter().chain(mask).collect();
        self.push(Op::Attention(attention), &inputs)
    }

    /// The first half of the last dimension times the activated second half.
    pub fn glu(&mut self, x: Value, activation: Activation) -> Result<Value> {
        self.push(Op::Glu(activation), &[x])
    }

    /// `x` (channels last) at another height and width.
    pub fn resize(&mut self, x: Value, how: Resample, height: Dim, width: Dim) -> Result<Value> {
        self.push(Op::Resize { how, height, width }, &[x])
    }

    /// Feature maps `[batch, channels, height, width]` as this engine holds them, channels last.
    pub fn channels_last(&mut self, x: Value) -> Result<Value> {
        self.permute(x, &[0, 2, 3, 1])
    }

    /// The inverse of [`Graph::channels_last`].
    pub fn channels_first(&mut self, x: Value) -> Result<Value> {
        self.permute(x, &[0, 3, 1, 2])
    }
}
