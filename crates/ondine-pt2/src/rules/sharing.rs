//! Whose memory results are in: what an operator says of it, and what the exporter's sizes and strides tell.

use ondine_graph::Dim;

use crate::{
    schema::{self, Argument},
    types::{dim_of, is_complex},
};

/// Whose memory an operator's results are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Memory {
    Own,
    /// That of the first argument.
    Shared,
    /// The exporter's sizes or strides do not tell.
    Unsure,
}

/// What the exporter says of a node's first argument and first result.
pub(crate) struct Ends<'a> {
    /// The argument, unless it is a list or no tensor.
    from: Option<&'a schema::TensorMeta>,
    to: Option<&'a schema::TensorMeta>,
    /// True if a copy is asked for.
    copies: bool,
}

impl<'a> Ends<'a> {
    pub(crate) fn of(graph: &'a schema::Graph, node: &schema::Node) -> Self {
        let meta = |argument: Option<&Argument>| match argument {
            Some(Argument::AsTensor(tensor)) => graph.tensor_values.get(&tensor.name),
            _ => None,
        };
        let copies =
            node.inputs.iter().any(|input| input.name == "copy" && matches!(input.arg, Argument::AsBool(true)));
        Self { from: meta(node.inputs.first().map(|input| &input.arg)), to: meta(node.outputs.first()), copies }
    }
}

pub(super) fn own(_: &Ends<'_>) -> Memory {
    Memory::Own
}

pub(super) fn shared(_: &Ends<'_>) -> Memory {
    Memory::Shared
}

/// Of operators that turn the imaginary part of what has one.
pub(super) fn conjugated(ends: &Ends<'_>) -> Memory {
    if ends.from.is_some_and(|from| is_complex(from.dtype)) { Memory::Unsure } else { Memory::Shared }
}

/// Of a list, one may share and another not.
pub(super) fn unless_a_list(ends: &Ends<'_>) -> Memory {
    if ends.from.is_none() { Memory::Unsure } else { Memory::Shared }
}

/// Of operators on lists.
pub(super) fn of_a_list(ends: &Ends<'_>) -> Memory {
    if ends.from.is_none() { Memory::Unsure } else { Memory::Own }
}

pub(super) fn reshaped(ends: &Ends<'_>) -> Memory {
    match (ends.from, ends.to) {
        (Some(from), Some(to)) => as_reshaped(from, to),
        _ => Memory::Unsure,
    }
}

pub(super) fn converted(ends: &Ends<'_>) -> Memory {
    as_converted(ends, false)
}

pub(super) fn raveled(ends: &Ends<'_>) -> Memory {
    as_converted(ends, true)
}

/// Whether a tensor in another type or order, or the same, is one of its own.
fn as_converted(ends: &Ends<'_>, ravel: bool) -> Memory {
    let (Some(from), Some(to)) = (ends.from, ends.to) else { return Memory::Unsure };
    if from.dtype != to.dtype || ends.copies {
        return Memory::Own;
    }
    let (Some(sizes), Some(a), Some(b)) = (dims(&from.sizes), dims(&from.strides), dims(&to.strides)) else {
        return Memory::Unsure;
    };
    if ravel {
        return match in_order(&sizes, &a) {
            true => Memory::Shared,
            false if known(&from.sizes).is_some() && known(&from.strides).is_some() => Memory::Own,
            false => Memory::Unsure,
        };
    }
    // The same tensor has the same strides, written in the same way.
    shared_if(sizes.iter().zip(a.iter().zip(&b)).all(|(n, (a, b))| n.constant() == Some(1) || a == b))
}

fn shared_if(shared: bool) -> Memory {
    if shared { Memory::Shared } else { Memory::Own }
}

fn known(sizes: &[schema::SymInt]) -> Option<Vec<i64>> {
    sizes.iter().map(|size| dim_of(size).ok()?.constant()).collect()
}

fn dims(sizes: &[schema::SymInt]) -> Option<Vec<Dim>> {
    sizes.iter().map(|size| dim_of(size).ok()).collect()
}

/// True if these are the strides of elements in row-major order, whatever sizes there are.
fn in_order(sizes: &[Dim], strides: &[Dim]) -> bool {
    let mut dense = Dim::from(1);
    sizes.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = size.constant() == Some(1) || *stride == dense;
        dense = &dense * size;
        fits
    })
}

/// Whether a reshape is a view: it is, if each run of dimensions that lie densely becomes dimensions of its own.
fn as_reshaped(from: &schema::TensorMeta, to: &schema::TensorMeta) -> Memory {
    if let (Some(sizes), Some(strides)) = (dims(&from.sizes), dims(&from.strides))
        && sizes.len() == strides.len()
        && in_order(&sizes, &strides)
    {
        return Memory::Shared;
    }
    let (Some(sizes), Some(strides), Some(to)) = (known(&from.sizes), known(&from.strides), known(&to.sizes)) else {
        return Memory::Unsure;
    };
    if sizes.len() != strides.len() {
        return Memory::Unsure;
    }
    if sizes.is_empty() || sizes.contains(&0) {
        return Memory::Shared;
    }
    let mut rest = to.as_slice();
    let (mut run, mut stride) = (1_i64, strides[strides.len() - 1]);
    for axis in (0..sizes.len()).rev() {
        run = run.saturating_mul(sizes[axis]);
        let continues = axis > 0 && (sizes[axis - 1] == 1 || strides[axis - 1] == run.saturating_mul(stride));
        if continues {
            continue;
        }
        let mut covered = 1_i64;
        while let [head @ .., last] = rest
            && (covered < run || *last == 1)
        {
            covered = covered.saturating_mul(*last);
            rest = head;
        }
        if covered != run {
            return Memory::Own;
        }
        if axis > 0 {
            (run, stride) = (1, strides[axis - 1]);
        }
    }
    shared_if(rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(sizes: &[i64], strides: &[i64]) -> schema::TensorMeta {
        let list = |values: &[i64]| values.iter().map(|&value| schema::SymInt::AsInt(value)).collect();
        schema::TensorMeta { dtype: 7, sizes: list(sizes), strides: list(strides), storage_offset: None }
    }

    #[test]
    fn a_reshape_is_a_view_if_strides_can_say_it() {
        let shares = |sizes: &[i64], strides: &[i64], to: &[i64]| {
            as_reshaped(&meta(sizes, strides), &meta(to, &vec![1; to.len()])) == Memory::Shared
        };
        assert!(shares(&[6, 4], &[4, 1], &[3, 8]));
        assert!(shares(&[6, 4], &[4, 1], &[24, 1]));
        assert!(!shares(&[4, 6], &[1, 4], &[24]));
        assert!(shares(&[4, 6], &[1, 4], &[2, 2, 6]));
        assert!(shares(&[2, 3, 4], &[24, 4, 1], &[2, 12]));
        assert!(!shares(&[2, 3, 4], &[24, 4, 1], &[24]));
        assert!(shares(&[1, 4], &[9, 1], &[4]));
        assert!(shares(&[], &[], &[1, 1]));
        assert!(!shares(&[2, 4], &[0, 1], &[8]));
    }

    #[test]
    fn symbolic_strides_tell_too() {
        let size = |text: &str| {
            schema::SymInt::AsExpr(schema::Expr { expr_str: format!("Mul(Symbol('n'), Integer({text}))"), hint: None })
        };
        let with = |strides: [schema::SymInt; 2]| schema::TensorMeta {
            sizes: vec![schema::SymInt::AsInt(3), size("4")],
            strides: strides.to_vec(),
            ..meta(&[], &[])
        };
        let rows = with([size("4"), schema::SymInt::AsInt(1)]);
        let columns = with([schema::SymInt::AsInt(1), schema::SymInt::AsInt(3)]);
        assert_eq!(as_reshaped(&rows, &meta(&[12], &[1])), Memory::Shared);
        assert_eq!(as_reshaped(&columns, &meta(&[12], &[1])), Memory::Unsure);
        let ends = |from, to, copies| Ends { from: Some(from), to, copies };
        let flat = meta(&[12], &[1]);
        assert_eq!(converted(&ends(&rows, Some(&rows), false)), Memory::Shared);
        assert_eq!(converted(&ends(&columns, Some(&rows), false)), Memory::Own);
        assert_eq!(converted(&ends(&rows, Some(&rows), true)), Memory::Own);
        assert_eq!(raveled(&ends(&rows, None, false)), Memory::Unsure);
        assert_eq!(raveled(&ends(&rows, Some(&flat), false)), Memory::Shared);
        assert_eq!(raveled(&ends(&columns, Some(&flat), false)), Memory::Unsure);
    }
}
