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
