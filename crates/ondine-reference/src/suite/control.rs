//! Cases of sizes that the data decides, of loops, constants and states.

use std::sync::Arc;

use ondine_graph::{Binary, DType, Dim, Graph, Loop, NDArray, Op, Reduce, Result, Shape, Signature, Value};

use super::case::{Case, array};

/// The first rows of an argument, as many as another says.
fn measured(count: i64, refused: bool) -> Case {
    let build = |case: &mut Case| {
        let size = Dim::symbol("kept");
        let x = case.random(DType::F32, &[7, 3]);
        let count = case.input(array(DType::I64, &[], &[count]));
        let count = case.push(Op::Measure { size: size.clone(), most: 7.into() }, &[count])?;
        case.output(count);
        let kept = case.push(Op::Slice { axis: 0, start: 0.into(), end: size }, &[x])?;
        case.push(Op::Reduce { how: Reduce::Max, axes: vec![1], keep: false }, &[kept])
    };
    let name = format!("the first {count} rows of 7");
    if refused { Case::refused(name, build) } else { Case::new(name, build) }
}

/// Arguments of both graphs of a loop: a counter, a vector, and the number of turns.
fn arguments(graph: &mut Graph) -> [Value; 3] {
    let counter = graph.input("counter", DType::I64, Shape(Vec::new()));
    let x = graph.input("x", DType::F32, [5]);
    [counter, x, graph.input("turns", DType::I64, Shape(Vec::new()))]
}

fn turns() -> Result<Loop> {
    let mut condition = Graph::new();
    let [counter, _, turns] = arguments(&mut condition);
    let goes_on = condition.binary(Binary::Less, counter, turns)?;
    condition.output("goes on", goes_on);
    let mut body = Graph::new();
    let [counter, x, _] = arguments(&mut body);
    let one = body.constant(NDArray::scalar(1_i64));
    let counter = body.add(counter, one)?;
    let two = body.scalar(2.0);
    let x = body.mul(x, two)?;
    body.output("counter", counter);
    body.output("x", x);
    Ok(Loop { condition, body, carried: 2 })
}

/// A vector doubled so many times: what is carried is unpacked again.
fn looped(count: i64) -> Case {
    Case::new(format!("{count} turns"), |case| {
        let counter = case.input(array(DType::I64, &[], &[0]));
        let x = case.random(DType::F32, &[5]);
        let turns_input = case.input(array(DType::I64, &[], &[count]));
        let bytes = case.graph_mut().push_loop(Arc::new(turns()?), &[counter, x, turns_input])?;
        let unpack = |offset: usize, shape: Shape, dtype: DType| Op::Unpack {
            offset: offset.into(),
            signature: Signature { shape, dtype },
        };
        let counter = case.push(unpack(0, Shape(Vec::new()), DType::I64), &[bytes])?;
        case.output(counter);
        case.push(unpack(64, [5].into(), DType::F32), &[bytes])
    })
}

fn states() -> Vec<Case> {
    let fresh = Case::new("a state that is zero", |case| {
        let old = case.graph_mut().state("sum", DType::F32, [3]);
        let x = case.random(DType::F32, &[3]);
        let new = case.graph_mut().add(old, x)?;
        case.graph_mut().update_state("sum", new)?;
        Ok(new)
    });
    let started = Case::new("a state that is given", |case| {
        let old = case.graph_mut().state("count", DType::I64, [2]);
        case.graph_mut().start_state("count", array(DType::I64, &[2], &[3, -4]))?;
        let x = case.random(DType::I64, &[2]);
        case.graph_mut().add(old, x)
    });
    vec![fresh, started]
}

fn constants() -> Case {
    Case::new("an argument, a constant and a weight as they are", |case| {
        let drawn = case.draw(DType::F32, &[2, 3]);
        let constant = case.graph_mut().constant(drawn);
        case.output(constant);
        let weight = case.weight(&[3])?;
        case.output(weight);
        Ok(case.random(DType::F32, &[7]))
    })
}

/// What must be less than 2, where a number decides whether it is.
fn asserted(number: i64) -> Case {
    let build = |case: &mut Case| {
        let (number, two) =
            (case.input(array(DType::I64, &[2], &[1, number])), case.input(array(DType::I64, &[2], &[2, 2])));
        let less = case.push(Op::Binary(Binary::Less), &[number, two])?;
        case.push(Op::Assert { text: "numbers are less than 2".into() }, &[less])
    };
    let name = format!("1 and {number} are less than 2");
    if number < 2 { Case::new(name, build) } else { Case::refused(name, build) }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases =
        vec![measured(0, false), measured(3, false), measured(7, false), measured(8, true), measured(-1, true)];
    cases.extend([0, 1, 7].map(looped));
    cases.extend([1, 2].map(asserted));
    cases.extend(states());
    cases.push(constants());
    cases
}
