//! Loops in a plan: their graphs are planned twice, reading what is carried from one memory and from the other.

use std::ops::Range;

use ondine_graph::{Bindings, Context, Graph, Loop, Result, fail};

use super::{Part, Planner, bytes};
use crate::step::{Copy, Operand, Place, Region, Side, Sizes, Step, Turns};

/// Where a graph of a loop finds its arguments.
pub(super) struct Within {
    arguments: Vec<Place>,
    space: u8,
}

impl Within {
    /// The places of the arguments, in their order.
    pub(super) fn arguments(&self) -> &[Place] {
        &self.arguments
    }

    /// The space of everything that the graph computes.
    pub(super) fn space(&self) -> u8 {
        self.space
    }
}

/// A loop whose own memory has no place yet: its regions count from the beginning of that, what it carries from two
/// places to come.
pub(super) struct Draft {
    /// For each side the condition and the body.
    sides: [[Part; 2]; 2],
    /// The graphs' results, by side and part.
    results: [[Vec<(Place, usize)>; 2]; 2],
    /// Of each carried value, and of all together.
    offsets: Vec<usize>,
    lens: Vec<usize>,
    arguments: usize,
    arena: usize,
    space: u8,
}

/// An argument of a loop's graph in its draft: which one it is.
fn argument(index: usize) -> Place {
    Place::Input(index)
}

impl Draft {
    pub(super) fn new(planner: &Planner<'_>, inner: &Loop, step: &Step, space: u8) -> Result<Self> {
        let mut bindings = Bindings::new();
        for (signature, read) in inner.arguments().zip(&step.reads) {
            for (dim, &size) in signature.shape.0.iter().zip(&read.shape) {
                if let Some((symbol, value)) = dim.solve(size)? {
                    bindings.entry(symbol.clone()).or_insert(value);
                }
            }
        }
        let sizes = Sizes::from(&bindings);
        let offsets = inner.offsets().iter().map(|offset| offset.bind(&bindings)).collect::<Result<Vec<_>>>()?;
        let lens = step.reads[..inner.carried].iter().map(|read| bytes(read.dtype, &read.shape));
        let lens = lens.collect::<Result<Vec<_>>>()?;
        let within = Within { arguments: (0..step.reads.len()).map(argument).collect(), space };
        let part = |graph: &Graph| planner.part(graph, Some(&within), &sizes);
        let condition = || part(&inner.condition).at(|| "the condition of a loop");
        let body = || part(&inner.body).at(|| "the body of a loop");
        let sides = [[condition()?, body()?], [condition()?, body()?]];
        let results = |graph: &Graph, part: &Part| -> Result<Vec<(Place, usize)>> {
            let result = |&(_, value): &(_, ondine_graph::Value)| {
                let dtype = graph.node(value).signature.dtype;
                Ok((part.places[value.index()], bytes(dtype, &part.shapes[value.index()])?))
            };
            graph.outputs().iter().map(result).collect()
        };
        let both = |[condition, body]: &[Part; 2]| -> Result<[Vec<(Place, usize)>; 2]> {
            Ok([results(&inner.condition, condition)?, results(&inner.body, body)?])
        };
        let results = [both(&sides[0])?, both(&sides[1])?];
        let arena = sides.iter().flatten().map(|part| part.arenas[usize::from(space)]).max().unwrap_or_default();
        Ok(Self { sides, results, offsets, lens, arguments: step.reads.len(), arena, space })
    }

    /// Bytes of what is carried.
    fn carried(&self) -> usize {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// Bytes that the loop needs beside its arguments and its result.
    pub(super) fn scratch_bytes(&self) -> usize {
        self.carried() + self.arena
    }

    /// Gives the loop its places, and its steps the numbers from `first` on, at the end of `steps`.
    pub(super) fn place(self, step: &Step, first: usize, steps: &mut Vec<Step>) -> Result<Turns> {
        let Place::Arena(even) = step.result.place else { fail!(Unsupported, "a loop whose result has no workspace") };
        let odd = step.scratch.part(0, self.carried());
        let arena = step.scratch.part(self.carried(), self.arena);
        let slot = |memory: Region, index: usize| Place::Arena(memory.part(self.offsets[index], self.lens[index]));
        let memories = [even, odd];
        let carried = 0..self.lens.len();
        let entry = carried.clone().map(|i| (step.reads[i].place, slot(even, i), self.lens[i])).collect();
        let back = carried.map(|i| (slot(odd, i), slot(even, i), self.lens[i])).collect();
        let arguments = |memory: Region| -> Vec<Place> {
            (0..self.arguments)
                .map(|i| if i < self.lens.len() { slot(memory, i) } else { step.reads[i].place })
                .collect()
        };
        let mut sides = Vec::with_capacity(2);
        for (index, (parts, results)) in self.sides.into_iter().zip(self.results).enumerate() {
            let mover = Mover { arguments: arguments(memories[index]), arena, space: self.space };
            let [condition, body] = parts;
            let [truth, carried_on] = results;
            let condition = mover.steps(condition, first, steps)?;
            let body = mover.steps(body, first, steps)?;
            let Some(&(truth, _)) = truth.first() else { fail!(Format, "a loop without a condition") };
            let next = memories[1 - index];
            let results =
                carried_on.iter().enumerate().map(|(i, &(from, len))| (mover.place(from), slot(next, i), len));
            let results: Vec<Copy> = results.collect();
            sides.push(Side { condition, truth: mover.place(truth), body, results });
        }
        let Ok(sides) = <[Side; 2]>::try_from(sides) else { fail!(Unsupported, "a loop has two sides") };
        Ok(Turns { entry, sides, back })
    }
}

/// Brings drafted places to where a loop lies.
struct Mover {
    arguments: Vec<Place>,
    arena: Region,
    space: u8,
}

impl Mover {
    fn place(&self, place: Place) -> Place {
        match place {
            Place::Input(index) => self.arguments[index],
            Place::Arena(region) => Place::Arena(self.region(region)),
            Place::Packed(_) | Place::Const(_) | Place::State(_) | Place::Result(_) => place,
        }
    }

    fn region(&self, region: Region) -> Region {
        debug_assert_eq!(region.space, self.space, "a loop computes in one space");
        self.arena.part(region.offset, region.len)
    }

    fn operand(&self, operand: &mut Operand) {
        operand.place = self.place(operand.place);
    }

    /// Puts the steps of a part at the end of `steps`, and says which they are among all.
    fn steps(&self, part: Part, first: usize, steps: &mut Vec<Step>) -> Result<Range<usize>> {
        let begin = steps.len();
        steps.reserve(part.steps.len());
        let mut inner = Vec::new();
        for mut step in part.steps {
            step.reads.iter_mut().for_each(|read| self.operand(read));
            self.operand(&mut step.result);
            step.scratch = self.region(step.scratch);
            steps.push(step);
        }
        let end = steps.len();
        for (index, turns) in (begin..end).zip(part.turns) {
            if let Some(turns) = turns {
                // Loops within come behind the steps of this graph.
                let placed = turns.place(&steps[index].clone(), first + steps.len(), &mut inner)?;
                steps[index].turns = Some(std::sync::Arc::new(placed));
                steps.append(&mut inner);
            }
        }
        Ok(first + begin..first + end)
    }
}
