//! Recurrent layers: a product with the hidden state at every step.

use ondine_kernels::{self as k, MatmulShape, Output, Values};

use crate::{
    device::Device,
    dtype::DType,
    error::{Result, fail},
    op::Cell,
    run::{Operand, Target},
};

fn product_shape(cell: Cell, batch: usize, hidden: usize) -> MatmulShape {
    MatmulShape { batch: 1, rows: batch, inner: hidden, columns: cell.gates() * hidden, transposed: true }
}

/// Bytes for the product's scratch, its result, and the hidden state alone.
pub(super) fn scratch_bytes(cell: Cell, inputs: &[&[usize]], device: &Device) -> usize {
    let (batch, hidden) = (inputs[0][1], inputs[1][1]);
    let product = product_shape(cell, batch, hidden).scratch_bytes(device.kernels, device.pool.threads());
    product.next_multiple_of(64) + (cell.gates() + 1) * batch * hidden * size_of::<f32>()
}

/// One step of one sequence.
struct Step<'a> {
    hidden: usize,
    /// What the input contributes to the gates.
    input: &'a [f32],
    /// What the hidden state contributes, without its bias.
    product: &'a [f32],
    bias: &'a [f32],
    before: &'a [f32],
}

pub(super) fn recurrent(
    cell: Cell,
    reverse: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Device,
) -> Result<()> {
    let [x, weight, bias, start] = inputs else { fail!(Shape, "a recurrent layer takes 4 inputs") };
    let (&[steps, batch, gates], &[_, hidden]) = (x.shape, weight.shape) else { fail!(Shape, "a recurrent layer") };
    if x.dtype != DType::F32 || steps * batch * hidden == 0 {
        fail!(Unsupported, "a recurrent layer of {} numbers and shape {:?}", x.dtype, x.shape);
    }
    let shape = product_shape(cell, batch, hidden);
    let carried = cell.carried() * hidden;
    let split = scratch.len() - (cell.gates() + 1) * batch * hidden * size_of::<f32>();
    let (scratch, rest) = scratch.split_at_mut(split);
    let (product, state) = bytemuck::cast_slice_mut::<_, f32>(rest).split_at_mut(batch * gates);
    let (x, weight, bias) = (x.view::<f32>(), weight.view::<f32>(), bias.view::<f32>());
    let out = out.view::<f32>();
    let mut before = start.view::<f32>().to_vec();
    for step in 0..steps {
        let step = if reverse { steps - 1 - step } else { step };
        for (state, before) in state.chunks_exact_mut(hidden).zip(before.chunks_exact(carried)) {
            state.copy_from_slice(&before[..hidden]);
        }
        let operands = [Values::F32(state), Values::F32(weight)];
        k::matmul(&device.pool, device.kernels, &shape, operands, Output::F32(product), scratch);
        let now = &mut out[step * batch * carried..][..batch * carried];
        for (row, now) in now.chunks_exact_mut(carried).enumerate() {
            let input = &x[(step * batch + row) * gates..][..gates];
            let (product, before) = (&product[row * gates..][..gates], &before[row * carried..][..carried]);
            advance(cell, &Step { hidden, input, product, bias, before }, now);
        }
        before.copy_from_slice(now);
    }
    Ok(())
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn advance(cell: Cell, step: &Step<'_>, now: &mut [f32]) {
    let &Step { hidden, input, product, bias, before } = step;
    let gate = |gate: usize, i: usize| {
        let at = gate * hidden + i;
        input[at] + product[at] + bias[at]
    };
    for i in 0..hidden {
        match cell {
            Cell::Lstm => {
                let kept = sigmoid(gate(1, i)) * before[hidden + i];
                let memory = kept + sigmoid(gate(0, i)) * gate(2, i).tanh();
                now[hidden + i] = memory;
                now[i] = sigmoid(gate(3, i)) * memory.tanh();
            }
            Cell::Gru => {
                let (reset, update) = (sigmoid(gate(0, i)), sigmoid(gate(1, i)));
                let at = 2 * hidden + i;
                let new = (input[at] + reset * (product[at] + bias[at])).tanh();
                now[i] = (1.0 - update) * new + update * before[i];
            }
            Cell::Tanh => now[i] = gate(0, i).tanh(),
            Cell::Relu => now[i] = gate(0, i).max(0.0),
        }
    }
}
