//! Recurrent layers: each step is checked against what it was handed, so errors do not add up over the steps.

use super::{EPS, assert_close, everywhere, numbers};
use crate::{
    Cpu, RecurrentCell, RecurrentProblem, RecurrentShape, RecurrentWeights, WeightSource,
    gemm::weights::{PackedWeights, pack},
    suite::Aligned,
};

const CELLS: [RecurrentCell; 4] = [RecurrentCell::Lstm, RecurrentCell::Gru, RecurrentCell::Tanh, RecurrentCell::Relu];

/// The operands of a layer.
struct Layer {
    shape: RecurrentShape,
    input: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    start: Vec<f32>,
}

/// A number, and the sum of the magnitudes that it was made of.
type Sum = (f64, f64);

impl Layer {
    fn new(shape: RecurrentShape) -> Self {
        let RecurrentShape { cell, steps, batch, hidden, .. } = shape;
        let gates = cell.gates() * hidden;
        let input = numbers(steps * batch * gates, 2.0);
        let weights = numbers(gates * hidden + 1, 1.0 / (hidden as f64).sqrt())[1..].to_vec();
        let start = numbers(batch * cell.carried() * hidden + 2, 0.7)[2..].to_vec();
        Self { shape, input, weights, bias: numbers(gates + 3, 0.5)[3..].to_vec(), start }
    }

    fn run(&self, cpu: &Cpu, packed: bool, out: &mut [f32]) {
        let mut memory = Aligned::new(self.shape.weights().packed_size(cpu));
        let weights = if packed {
            pack(cpu, &self.shape.weights(), WeightSource::F32(&self.weights), memory.get_mut());
            RecurrentWeights::Packed(PackedWeights::new(cpu, self.shape.weights(), memory.get()))
        } else {
            RecurrentWeights::Plain(&self.weights)
        };
        let mut scratch = vec![0xee; self.shape.scratch_bytes(cpu, packed)];
        let Self { shape, input, bias, start, .. } = self;
        let problem = RecurrentProblem { shape: *shape, input, weights, bias, start };
        crate::recurrent(cpu, &problem, out, &mut scratch);
    }

    /// What the input and what the hidden state contributes to gate `gate` of element `i`.
    fn gate(&self, place: usize, before: &[f32], gate: usize, i: usize) -> [Sum; 2] {
        let hidden = self.shape.hidden;
        let column = gate * hidden + i;
        let input = f64::from(self.input[place * self.shape.cell.gates() * hidden + column]);
        let products = self.weights[column * hidden..][..hidden].iter().zip(before);
        let products = products.map(|(&weight, &state)| f64::from(weight) * f64::from(state));
        let bias = f64::from(self.bias[column]);
        let sum = products.clone().sum::<f64>() + bias;
        [(input, input.abs()), (sum, products.map(f64::abs).sum::<f64>() + bias.abs())]
    }

    /// What element `i` of a sequence at a step should be, and how far from it it may be.
    fn element(&self, out: &[f32], [step, row, i]: [usize; 3]) -> (f64, f64) {
        let RecurrentShape { cell, reverse, steps, batch, hidden } = self.shape;
        let carried = cell.carried() * hidden;
        let last = if reverse { Some(step + 1).filter(|&last| last < steps) } else { step.checked_sub(1) };
        let before = last.map_or(&self.start[row * carried..], |last| &out[(last * batch + row) * carried..]);
        let place = step * batch + row;
        let state = |i: usize| f64::from(before[i]);
        let roundoff = EPS * (8.0 + 4.0 * (hidden as f64).sqrt());
        let sums = |gate: usize| self.gate(place, before, gate, i % hidden);
        let gate = |gate: usize| {
            let [(a, input), (b, product)] = sums(gate);
            (a + b, roundoff * (input + product))
        };
        let sigmoid = |(x, error): Sum| (1.0 / (1.0 + (-x).exp()), 0.25 * error + 4.0 * EPS);
        let tanh = |(x, error): Sum| (x.tanh(), error + 4.0 * EPS);
        let product =
            |(a, a_error): Sum, (b, b_error): Sum| (a * b, a_error * b.abs() + b_error * a.abs() + EPS * (a * b).abs());
        match cell {
            RecurrentCell::Lstm => {
                let kept = product(sigmoid(gate(1)), (state(hidden + i % hidden), 0.0));
                let added = product(sigmoid(gate(0)), tanh(gate(2)));
                let memory = (kept.0 + added.0, kept.1 + added.1 + EPS * (kept.0.abs() + added.0.abs()));
                if i < hidden { product(sigmoid(gate(3)), tanh(memory)) } else { memory }
            }
            RecurrentCell::Gru => {
                let [input, (own, magnitude)] = sums(2);
                let own = product(sigmoid(gate(0)), (own, roundoff * magnitude));
                let new = tanh((input.0 + own.0, own.1 + EPS * (input.1 + own.0.abs())));
                let update = sigmoid(gate(1));
                let [kept, added] = [product(update, (state(i), 0.0)), product((1.0 - update.0, update.1 + EPS), new)];
                (kept.0 + added.0, kept.1 + added.1 + 2.0 * EPS)
            }
            RecurrentCell::Tanh => tanh(gate(0)),
            RecurrentCell::Relu => (gate(0).0.max(0.0), gate(0).1),
        }
    }

    fn check(&self) {
        let RecurrentShape { cell, steps, batch, hidden, .. } = self.shape;
        let carried = cell.carried() * hidden;
        let run = |cpu: &Cpu, out: &mut [f32]| {
            self.run(cpu, true, out);
            let mut other = vec![0.0; out.len()];
            self.run(cpu, false, &mut other);
            assert!(*out == other, "who packs the weights matters to {:?}, {}", self.shape, cpu.tier());
        };
        everywhere(steps * batch * carried, run, |out| {
            assert_close(out, |at| self.element(out, [at / carried / batch, at / carried % batch, at % carried]));
        });
    }
}

#[test]
fn every_step_follows_from_the_one_before() {
    for cell in CELLS {
        for hidden in [1, 3, 17, 64, 129] {
            for (batch, steps, reverse) in
                [(1, 1, false), (1, 5, true), (2, 5, false), (7, 1, true), (7, 5, true), (33, 5, false)]
            {
                Layer::new(RecurrentShape { cell, reverse, steps, batch, hidden }).check();
            }
        }
    }
}

#[test]
fn large_layers_are_cut_into_columns() {
    for cell in CELLS {
        for (batch, reverse) in [(1, false), (7, true)] {
            Layer::new(RecurrentShape { cell, reverse, steps: 3, batch, hidden: 390 }).check();
        }
    }
}

#[test]
fn many_sequences_are_cut_into_blocks() {
    for cell in CELLS {
        Layer::new(RecurrentShape { cell, reverse: false, steps: 3, batch: 613, hidden: 9 }).check();
    }
}
