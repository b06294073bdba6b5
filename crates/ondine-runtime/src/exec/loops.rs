//! Loops whose length the data decides.

use crate::{cpu, device::Device, exec::{find, Cut, Operand, Target}, plan::{plan, Place, Plan}, specialize::Options};
use ondine_graph::{fail, Bindings, Context, Graph, Loop, Op, Result};

/// What a loop needs to run: the plans of both graphs, and where it carries what.
struct Prepared {
    condition: Plan,
    body: Plan,
    /// Of each carried value, and of all together.
    offsets: Vec<usize>,
}

fn prepare(inner: &Loop, shapes: &[&[usize]], device: &Device) -> Result<Prepared> {
    let mut bindings = Bindings::new();
    for (signature, shape) in inner.arguments().zip(shapes) {
        for (dim, &size) in signature.shape.0.iter().zip(*shape) {
            if let Some((symbol, value)) = dim.solve(size)? {
                bindings.entry(symbol.clone()).or_insert(value);
            }
        }
    }
    let planned = |graph: &Graph| {
        plan(graph, &bindings, |value, shapes| cpu::scratch_bytes(graph, value, shapes, Options::default(), device))
    };
    let offsets = inner.offsets().iter().map(|offset| offset.bind(&bindings)).collect::<Result<Vec<_>>>()?;
    Ok(Prepared { condition: planned(&inner.condition)?, body: planned(&inner.body)?, offsets })
}

impl Prepared {
    /// Bytes of what is carried.
    fn carried(&self) -> usize {
        self.offsets.last().copied().unwrap_or_default()
    }

    fn scratch_bytes(&self) -> usize {
        self.carried() + self.condition.arena.max(self.body.arena)
    }
}

/// Bytes that a loop needs beside its inputs and result; none if it cannot run, which it then says itself.
pub(super) fn scratch_bytes(inner: &Loop, shapes: &[&[usize]], device: &Device) -> usize {
    prepare(inner, shapes, device).map_or(0, |prepared| prepared.scratch_bytes())
}

pub(super) fn run(
    inner: &Loop,
    inputs: &[Operand<'_>],
    out: &mut Target<'_>,
    scratch: &mut [u8],
    device: &Device,
) -> Result<()> {
    let shapes: Vec<&[usize]> = inputs.iter().map(|input| input.shape).collect();
    let prepared = prepare(inner, &shapes, device)?;
    if scratch.len() < prepared.scratch_bytes() || out.bytes.len() != prepared.carried() {
        fail!(Memory, "a loop of {} bytes in {}", prepared.scratch_bytes(), scratch.len());
    }
    let (next, arena) = scratch.split_at_mut(prepared.carried());
    for (input, &offset) in inputs.iter().zip(&prepared.offsets).take(inner.carried) {
        out.bytes[offset..offset + input.bytes.len()].copy_from_slice(input.bytes);
    }
    loop {
        device.cancel().check()?;
        let arguments: Vec<&[u8]> = (0..inputs.len())
            .map(|i| {
                if i < inner.carried {
                    &out.bytes[prepared.offsets[i]..][..inputs[i].bytes.len()]
                } else {
                    inputs[i].bytes
                }
            })
            .collect();
        let mut goes_on = false;
        turn(&inner.condition, &prepared.condition, &arguments, arena, device, |_, result| {
            goes_on = result.first().is_some_and(|&truth| truth != 0);
        })
        .at(|| "the condition of a loop")?;
        if !goes_on {
            return Ok(());
        }
        turn(&inner.body, &prepared.body, &arguments, arena, device, |index, result| {
            next[prepared.offsets[index]..][..result.len()].copy_from_slice(result);
        })
        .at(|| "the body of a loop")?;
        out.bytes.copy_from_slice(next);
    }
}

/// Runs a graph without weights and states once, and hands on its results.
fn turn(
    graph: &Graph,
    plan: &Plan,
    arguments: &[&[u8]],
    arena: &mut [u8],
    device: &Device,
    mut result: impl FnMut(usize, &[u8]),
) -> Result<()> {
    for step in &plan.steps {
        let node = graph.node(step.value);
        let Place::Arena(region) = plan.places[step.value.index()] else {
            fail!(Unsupported, "a result without a place")
        };
        let Cut { taken: [bytes, scratch], rest } = Cut::new(arena, [region, step.scratch]);
        let mut operands = Vec::with_capacity(node.inputs.len());
        for &input in &node.inputs {
            operands.push(read(graph, plan, arguments, input, &rest)?);
        }
        let shape = plan.shapes[step.value.index()].as_slice();
        let mut target = Target { dtype: node.signature.dtype, shape, bytes, scale: None };
        cpu::run(&step.op, &operands, &mut target, scratch, device).at(|| format!("{} ({})", node.scope, node.op))?;
    }
    for (index, (_, value)) in graph.outputs().iter().enumerate() {
        result(index, read(graph, plan, arguments, *value, &[(0, arena)])?.bytes);
    }
    Ok(())
}

fn read<'a>(
    graph: &'a Graph,
    plan: &'a Plan,
    arguments: &[&'a [u8]],
    value: ondine_graph::Value,
    rest: &[(usize, &'a [u8])],
) -> Result<Operand<'a>> {
    let bytes = match (plan.places[value.index()], &graph.node(plan.roots[value.index()]).op) {
        (Place::Arena(region), _) => find(rest, region),
        (Place::Input(position), _) => arguments[position],
        (_, Op::Const(array)) => array.bytes(),
        (_, op) => fail!(Unsupported, "a loop that reads a {op}"),
    };
    let (dtype, shape) = (graph.node(value).signature.dtype, plan.shapes[value.index()].as_slice());
    Ok(Operand { dtype, shape, bytes, format: None })
}
