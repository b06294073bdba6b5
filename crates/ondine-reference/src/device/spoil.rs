//! Memory that holds nothing, and what is written there so that nobody reads it.

use ondine_runtime::step::{Operand, Place, Plan, Region, Step};

/// Bytes that are no number in any floating-point type, and -1 in every integer type.
const NO_NUMBER: u8 = 0xff;

/// Bytes that are a small number in every floating-point type, and a large one in every integer type.
const WRONG: u8 = 0xa5;

/// Overwrites bytes, in one way or another.
pub(super) fn spoil(bytes: &mut [u8], chance: u64) {
    bytes.fill(if chance.is_multiple_of(2) { NO_NUMBER } else { WRONG });
}

/// For each of the function's own steps the regions that hold nothing once it has run.
pub(super) fn dead_regions(plan: &Plan) -> Vec<Vec<Region>> {
    let own = &plan.all_steps()[..plan.steps()];
    (0..own.len()).map(|index| dead_after(own, index)).collect()
}

/// The regions that a step reads, and that the next to use them overwrites.
fn dead_after(steps: &[Step], index: usize) -> Vec<Region> {
    let next_writes = |region: &Region| {
        let next = steps[index + 1..].iter().find(|step| reads(step, *region) || writes(step, *region));
        // What nobody uses again may be a result.
        let kept = writes(&steps[index], *region);
        !kept && next.is_some_and(|step| !reads(step, *region))
    };
    let mut dead: Vec<Region> = steps[index].reads.iter().filter_map(region).filter(next_writes).collect();
    dead.push(steps[index].scratch);
    dead
}

/// What a step has of the workspace: what it reads, what it writes, and what it has for itself; nothing that is empty.
pub(super) fn regions(step: &Step) -> impl Iterator<Item = Region> {
    let operands = step.reads.iter().chain([&step.result]).filter_map(region);
    operands.chain([step.scratch]).filter(|region| region.len > 0)
}

fn region(operand: &Operand) -> Option<Region> {
    match operand.place {
        Place::Arena(region) => Some(region),
        Place::Input(_) | Place::Packed(_) | Place::Const(_) | Place::State(_) | Place::Result(_) => None,
    }
}

fn meets(a: Region, b: Region) -> bool {
    let apart = a.offset + a.len <= b.offset || b.offset + b.len <= a.offset;
    a.space == b.space && a.len > 0 && b.len > 0 && !apart
}

fn reads(step: &Step, region_: Region) -> bool {
    step.reads.iter().filter_map(region).any(|other| meets(other, region_))
}

fn writes(step: &Step, region_: Region) -> bool {
    region(&step.result).into_iter().chain([step.scratch]).any(|other| meets(other, region_))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ondine_graph::{Asset, Bindings, DType, Graph, Reduce, Weights};
    use ondine_runtime::{Device, Options, Specialize};

    use super::*;
    use crate::Reference;

    #[test]
    fn what_was_read_last_is_dead_and_what_is_kept_is_not() {
        let mut graph = Graph::new();
        let x = graph.input("x", DType::F32, [100, 3]);
        let first = graph.reduce(Reduce::Sum, x, &[1], false).unwrap();
        let second = graph.reduce(Reduce::Sum, first, &[0], true).unwrap();
        let third = graph.affine(second, 2.0, 0.0).unwrap();
        let both = graph.concat(&[second, third], 0).unwrap();
        graph.output("second", second);
        graph.output("both", both);
        let asset = Asset::new("example", [("main", graph)], Weights::default()).unwrap();
        let device = Device::new(Arc::new(Reference::new(1, 1 << 20)));
        let plan = asset.prepare(&Options::default(), &device).unwrap().plan("main", &Bindings::new()).unwrap();
        let (steps, dead) = (&plan.all_steps()[..plan.steps()], dead_regions(&plan));
        let read = |step: usize| region(&steps[step].reads[0]).unwrap();
        let names: Vec<_> = steps.iter().map(|step| step.op.name()).collect();
        assert_eq!(names, ["upload", "reduce", "reduce", "affine", "concat"]);
        // The argument's copy is overwritten by what comes later; the second sum is a result.
        assert!(dead[1].contains(&read(1)), "{dead:?}");
        assert!(!dead[3].contains(&read(3)) && !dead[4].contains(&read(4)), "{dead:?}");
        assert!((0..steps.len()).all(|step| dead[step].contains(&steps[step].scratch)));
    }
}
