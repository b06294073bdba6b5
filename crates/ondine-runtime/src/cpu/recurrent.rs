//! Recurrent layers.

use ondine_kernels::{self as k, PackedWeights, RecurrentProblem, RecurrentShape, RecurrentWeights};

use super::{
    enums::cell as kernel_cell,
    form::Format,
    operand::{Operand, Target},
    processor::Processor,
    weights::panels,
};
use ondine_graph::{Cell, DType, Result, fail};

fn shape(cell: Cell, reverse: bool, x: &[usize], weight: &[usize]) -> Result<RecurrentShape> {
    let (&[steps, batch, _], &[_, hidden]) = (x, weight) else { fail!(Shape, "a recurrent layer") };
    Ok(RecurrentShape { cell: kernel_cell(cell), reverse, steps, batch, hidden })
}

/// Bytes of scratch; more if the weight is `computed` at run time.
pub(super) fn scratch_bytes(cell: Cell, inputs: &[&[usize]], computed: bool, device: &Processor) -> usize {
    let shape = shape(cell, false, inputs[0], inputs[1]);
    shape.map_or(0, |shape| shape.scratch_bytes(&device.cpu, !computed))
}

pub(super) fn recurrent(
    cell: Cell,
    reverse: bool,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Processor,
) -> Result<()> {
    let [x, weight, bias, start] = inputs else { fail!(Shape, "a recurrent layer takes 4 inputs") };
    let shape = shape(cell, reverse, x.shape, weight.shape)?;
    if x.dtype != DType::F32 {
        fail!(Unsupported, "a recurrent layer of {} numbers", x.dtype);
    }
    if out.bytes.is_empty() {
        return Ok(());
    }
    let weights = match weight.format {
        Some(Format::Panels { precision, groups, gate }) => {
            let shape = panels(precision, groups, gate, weight.shape);
            RecurrentWeights::Packed(PackedWeights::new(&device.cpu, shape, weight.bytes))
        }
        _ => RecurrentWeights::Plain(weight.view()),
    };
    let problem = RecurrentProblem { shape, input: x.view(), weights, bias: bias.view(), start: start.view() };
    k::recurrent(&device.cpu, &problem, out.view(), scratch);
    Ok(())
}
