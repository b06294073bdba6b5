//! What is kept of a bound operator: decoded once for each plan, used in every call.

use ondine_graph::{DType, Op, Pooling, Result, fail};
use ondine_kernels as k;

use super::{form::Format, general, movement, native::CpuOp, processor::Processor, products, recurrent, weights};
use crate::{
    backend::{OperandShape, Prepared},
    cost::cost,
    step::Cost,
};

/// A bound operator.
#[derive(Debug)]
pub(super) struct CpuKernel {
    /// The operator of this backend, if it is one.
    pub(super) own: Option<CpuOp>,
    /// The form of each operand that is a weight.
    pub(super) formats: Box<[Option<Format>]>,
    pub(super) table: Table,
}

/// What follows from sizes alone.
#[derive(Debug)]
pub(super) enum Table {
    None,
    /// Of pooling.
    Windows(Box<[k::Windows; 3]>),
    /// Of resampling.
    Sources(k::Sources),
}

impl Table {
    fn of(op: &Op, operands: &[OperandShape<'_>], result: &OperandShape<'_>) -> Result<Self> {
        let Some(x) = operands.first() else { return Ok(Self::None) };
        Ok(match op {
            Op::Pool(pooling) => Self::Windows(Box::new(windows(pooling, x.shape, result.shape)?)),
            Op::Interpolate { axis, how, .. } => match (x.shape.get(*axis), result.shape.get(*axis)) {
                (Some(&from), Some(&to)) => Self::Sources(general::sources(*how, from, to)?),
                _ => fail!(Shape, "dimension {axis} of {:?}", x.shape),
            },
            _ => Self::None,
        })
    }
}

fn windows(pooling: &Pooling, x: &[usize], out: &[usize]) -> Result<[k::Windows; 3]> {
    let spatial = pooling.windows.len();
    if spatial == 0 || spatial > 3 || x.len() != spatial + 2 || out.len() != spatial + 2 {
        fail!(Shape, "{spatial} windows do not fit {x:?}");
    }
    let mut axes = [k::Windows::one(), k::Windows::one(), k::Windows::one()];
    for (i, window) in pooling.windows.iter().enumerate() {
        let placed = window.place(x[1 + i], out[1 + i]);
        let mut windows = k::Windows { size: x[1 + i], dilation: placed.dilation, windows: placed.windows };
        if let Some(divisor) = pooling.divisor {
            let each = if i == 0 { divisor } else { 1 };
            windows.windows.iter_mut().for_each(|window| window.2 = each);
        }
        axes[3 - spatial + i] = windows;
    }
    Ok(axes)
}

impl Processor {
    /// All that is known of a bound operator.
    pub(super) fn kernel(
        &self,
        op: &Op,
        operands: &[OperandShape<'_>],
        result: &OperandShape<'_>,
    ) -> Result<(CpuKernel, Prepared)> {
        let formats = operands.iter().map(|operand| operand.form.map(Format::of).transpose());
        let formats = formats.collect::<Result<Box<[_]>>>()?;
        let own = match op {
            Op::Native(native) => Some(CpuOp::of(native)?),
            _ => None,
        };
        let table = Table::of(op, operands, result)?;
        let kernel = CpuKernel { own, formats, table };
        let portable = own.and_then(CpuOp::portable);
        let prepared = Prepared {
            kernel: std::sync::Arc::new(()),
            scratch: self.scratch_bytes(op, &kernel, operands, result),
            in_place: matches!(op, Op::Scatter(_)).then_some(0),
            cost: self.cost(portable.as_ref().unwrap_or(op), &kernel, operands, result)?,
        };
        Ok((kernel, prepared))
    }

    /// What an operator costs, its weights read as they are packed.
    fn cost(
        &self,
        op: &Op,
        kernel: &CpuKernel,
        operands: &[OperandShape<'_>],
        result: &OperandShape<'_>,
    ) -> Result<Cost> {
        let mut cost = cost(op, operands, result);
        if matches!(op, Op::Gather) {
            // Of a table only the rows are read that are looked up.
            return Ok(cost);
        }
        for (operand, format) in operands.iter().zip(&kernel.formats) {
            let Some(format) = *format else { continue };
            let written_out = operand.dtype.size() * operand.shape.iter().product::<usize>();
            let mut packed = weights::packed_bytes(format, operand.shape, self)?;
            if let (Format::PanelStack { .. } | Format::CodedStack { .. }, [x, ..]) = (format, operands) {
                // No more matrices are read than there are rows.
                packed = packed / operand.shape[0].max(1) * operand.shape[0].min(x.shape[0]);
            }
            cost.bytes = cost.bytes.saturating_sub(written_out as u64).saturating_add(packed as u64);
        }
        Ok(cost)
    }

    /// Bytes that an operator needs beside its inputs and result.
    fn scratch_bytes(
        &self,
        op: &Op,
        kernel: &CpuKernel,
        operands: &[OperandShape<'_>],
        result: &OperandShape<'_>,
    ) -> usize {
        let shapes: Vec<&[usize]> = operands.iter().map(|operand| operand.shape).collect();
        let dtype = operands.first().map_or(result.dtype, |first| first.dtype);
        match op {
            // Nothing is computed.
            _ if result.shape.contains(&0) => 0,
            Op::Recurrent { cell, .. } => {
                let computed = !matches!(kernel.formats[1], Some(Format::Panels { .. }));
                recurrent::scratch_bytes(*cell, &shapes, computed, self)
            }
            Op::Gather
                if operands[0].dtype != result.dtype || kernel.formats[0].is_some() && result.dtype != DType::F32 =>
            {
                movement::gathered_bytes(&shapes)
            }
            _ => {
                let weight = kernel.formats.get(1).copied().flatten();
                products::scratch_bytes(op, kernel.own, weight, dtype, &shapes, self)
            }
        }
    }
}
