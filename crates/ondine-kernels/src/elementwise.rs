//! Functions of one operand, element by element, and gated linear units.

use crate::{
    Activation,
    arch::{enter::Kernel, isa::Isa},
    cpu::Cpu,
    math,
    number::{Float, Lane, Number},
    rowwise::{GRAIN, STAGE, for_rows, piece_rows},
    threads::Pool,
};

/// A function of one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// One of the activation functions of neural networks.
    Activation(Activation),
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `e^x`
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// `1 / sqrt(x)`
    Rsqrt,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// `scale * x + offset`, rounded twice.
    Affine {
        /// The factor.
        scale: f32,
        /// What is added after.
        offset: f32,
    },
}

/// `out = op(x)` for every element.
///
/// # Panics
/// If `x` and `out` differ in length.
pub fn unary<T: Float>(cpu: &Cpu, op: Unary, x: &[T], out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    for_rows(cpu.pool(), out, 1, GRAIN, |first, out| {
        cpu.enter(UnaryMap { op, x: &x[first..first + out.len()], out });
    });
}

/// `out = -x` or, for `Unary::Abs`, `|x|`, for every element; the smallest integer stays as it is.
///
/// # Panics
/// If `x` and `out` differ in length, or `op` is neither of the two.
#[expect(clippy::panic, reason = "said in its documentation")]
pub fn integer_unary<T: Number<Lane = T> + Lane + Eq>(pool: &Pool, op: Unary, x: &[T], out: &mut [T]) {
    assert_eq!(x.len(), out.len(), "input and output differ in length");
    let negate = |value: T| T::default().sub(value);
    let function: &(dyn Fn(T) -> T + Sync) = match op {
        Unary::Neg => &negate,
        Unary::Abs => &|value| if value < T::default() { negate(value) } else { value },
        _ => panic!("{op:?} is no function of integers"),
    };
    for_rows(pool, out, 1, GRAIN, |first, out| {
        for (value, &x) in out.iter_mut().zip(&x[first..]) {
            *value = function(x);
        }
    });
}

/// `out = a * activation(b)`, where each row of `x` is `a` and then `b`, of `width` elements each.
///
/// # Panics
/// If `out` is not rows of `width` elements or `x` not as many rows of twice as many.
pub fn glu<T: Float>(cpu: &Cpu, activation: Activation, width: usize, x: &[T], out: &mut [T]) {
    assert!(width > 0 && out.len().is_multiple_of(width), "the output is not rows of {width} elements");
    assert_eq!(x.len(), 2 * out.len(), "the input is not twice as wide as the output");
    for_rows(cpu.pool(), out, width, piece_rows(width), |first, out| {
        let x = &x[2 * first * width..][..2 * out.len()];
        cpu.enter(GluRows { activation, width, x, out });
    });
}

/// A piece of [`unary`].
pub(crate) struct UnaryMap<'a, T> {
    op: Unary,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for UnaryMap<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let Self { op, x, out } = self;
        match op {
            Unary::Activation(activation) => {
                let mut scratch = [0.0; STAGE];
                for (x, out) in x.chunks(STAGE).zip(out.chunks_mut(STAGE)) {
                    T::stage(out, &mut scratch, |lanes| {
                        map(x, lanes, |x| x);
                        math::activate::<I>(activation, lanes);
                    });
                }
            }
            Unary::Neg => map(x, out, |x| -x),
            Unary::Abs => map(x, out, f32::abs),
            Unary::Exp => map(x, out, math::exp::<I>),
            Unary::Log => map(x, out, f32::ln),
            Unary::Sqrt => map(x, out, f32::sqrt),
            Unary::Rsqrt => map(x, out, |x| 1.0 / x.sqrt()),
            Unary::Sin => map(x, out, f32::sin),
            Unary::Cos => map(x, out, f32::cos),
            Unary::Affine { scale, offset } => map(x, out, |x| x * scale + offset),
        }
    }
}

#[inline(always)]
fn map<A: Float, B: Float>(x: &[A], out: &mut [B], function: impl Fn(f32) -> f32) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = B::narrow(function(x.widen()));
    }
}

/// A piece of [`glu`].
pub(crate) struct GluRows<'a, T> {
    activation: Activation,
    width: usize,
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Kernel for GluRows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut scratch = [0.0; STAGE];
        for (x, out) in self.x.chunks_exact(2 * self.width).zip(self.out.chunks_exact_mut(self.width)) {
            let (values, gates) = x.split_at(self.width);
            for ((values, gates), out) in values.chunks(STAGE).zip(gates.chunks(STAGE)).zip(out.chunks_mut(STAGE)) {
                T::stage(out, &mut scratch, |lanes| {
                    map(gates, lanes, |gate| gate);
                    math::activate::<I>(self.activation, lanes);
                    for (lane, value) in lanes.iter_mut().zip(values) {
                        *lane *= value.widen();
                    }
                });
            }
        }
    }
}
