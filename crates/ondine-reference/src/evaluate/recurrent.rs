//! Recurrent layers.

use ondine_graph::{Cell, Result};

use crate::{
    number::{ELEMENTARY, Real},
    tensor::{Tensor, misfit},
};

/// What a step takes of one hidden unit: for each gate what the input and what the hidden state contribute.
struct Gates<R> {
    input: [R; 4],
    state: [R; 4],
}

impl<R: Real> Gates<R> {
    fn sum(&self, gate: usize) -> R {
        self.input[gate].plus(self.state[gate])
    }

    fn sigmoid(&self, gate: usize) -> R {
        self.sum(gate).map(ELEMENTARY, |x| 1.0 / (1.0 + (-x).exp()))
    }
}

fn tanh<R: Real>(x: R) -> R {
    x.map(ELEMENTARY, f64::tanh)
}

/// The hidden and the cell state of a unit after a step.
fn step<R: Real>(cell: Cell, gates: &Gates<R>, hidden: R, memory: R) -> [R; 2] {
    match cell {
        Cell::Lstm => {
            let kept = gates.sigmoid(1).times(memory);
            let memory = kept.plus(gates.sigmoid(0).times(tanh(gates.sum(2))));
            [gates.sigmoid(3).times(tanh(memory)), memory]
        }
        Cell::Gru => {
            let new = tanh(gates.input[2].plus(gates.sigmoid(0).times(gates.state[2])));
            let update = gates.sigmoid(1);
            let rest = R::exact(1.0).minus(update);
            [rest.times(new).plus(update.times(hidden)), memory]
        }
        Cell::Tanh => [tanh(gates.sum(0)), memory],
        Cell::Relu => [gates.sum(0).larger(R::exact(0.0)), memory],
    }
}

pub(super) fn recurrent<R: Real>(
    cell: Cell,
    reverse: bool,
    [x, weight, bias, start]: [&Tensor<R>; 4],
    shape: &[usize],
) -> Result<Tensor<R>> {
    let (&[steps, batch, width], &[_, hidden]) = (x.shape(), weight.shape()) else {
        return Err(misfit("a recurrent layer of matrices".into()));
    };
    let carried = cell.carried() * hidden;
    let (inputs, weight, bias) = (x.reals()?, weight.reals()?, bias.reals()?);
    let mut out = vec![R::exact(0.0); steps * batch * carried];
    for sequence in 0..batch {
        let mut state = start.reals()?[sequence * carried..][..carried].to_vec();
        for count in 0..steps {
            let at = if reverse { steps - 1 - count } else { count };
            let input = &inputs[(at * batch + sequence) * width..][..width];
            let gate = |unit: usize, gate: usize| {
                let row = gate * hidden + unit;
                R::dot(&state[..hidden], &weight[row * hidden..][..hidden]).plus(bias[row])
            };
            let mut next = state.clone();
            for unit in 0..hidden {
                let gates = Gates {
                    input: std::array::from_fn(
                        |i| if i < cell.gates() { input[i * hidden + unit] } else { R::exact(0.0) },
                    ),
                    state: std::array::from_fn(|i| if i < cell.gates() { gate(unit, i) } else { R::exact(0.0) }),
                };
                let memory = state.get(hidden + unit).copied().unwrap_or(R::exact(0.0));
                let [new, memory] = step(cell, &gates, state[unit], memory);
                next[unit] = new;
                if let Some(place) = next.get_mut(hidden + unit) {
                    *place = memory;
                }
            }
            out[(at * batch + sequence) * carried..][..carried].copy_from_slice(&next);
            state = next;
        }
    }
    Tensor::real(x.dtype(), shape, out)
}
