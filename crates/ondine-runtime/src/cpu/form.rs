//! The forms in which operators read weights.

use serde::{Deserialize, Serialize};

use ondine_graph::{Epilogue, Error, ErrorKind, Op, Result, block::Block, encoding, fail};

use super::{
    coding::{
        Coding, FEWEST_CHANNELS, Levels, coding, coding_of_conv, coding_of_stack, lies_as_codes, multiplies_codes,
        multiplies_in_groups,
    },
    native::{CpuOp, Rows},
};
use crate::{
    backend::{Form, Reader},
    options::{Options, Precision},
};

/// The form in which an operator reads a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Format {
    /// Row-major f32: biases, parameters of norms, tables, everything that is not multiplied as a matrix.
    Plain,
    /// Panels for matrix products.
    Panels {
        /// Type of the packed elements, which decides that of the activations that they meet.
        precision: Precision,
        /// Independent groups of a convolution.
        groups: usize,
        /// True if the second half of the outputs gates the first.
        gate: bool,
    },
    /// Panels of codes for matrix products, as few bits in memory as in the file.
    Coded {
        /// How codes become numbers.
        coding: Coding,
        /// As above.
        gate: bool,
    },
    /// Panels of codes of a convolution, as few bits in memory as in the file.
    CodedConv {
        /// As above; groups run along what is `[in, height, width]` in the file.
        coding: Coding,
        /// What they are widened to, which decides the type of the activations that they meet.
        widened: Precision,
    },
    /// Panels of each matrix of a stack `[matrices, out, in]`, one after the other.
    PanelStack {
        /// As above.
        precision: Precision,
    },
    /// As that, of codes.
    CodedStack {
        /// As above.
        coding: Coding,
    },
    /// Panels of the very codes of the file, for products with codes.
    CodePanels {
        /// As above.
        groups: usize,
        /// As above.
        gate: bool,
    },
    /// Rows of blocks, as they are in the file.
    Blocks {
        /// Their format.
        block: Block,
    },
    /// Panels for Winograd's convolution.
    Winograd {
        /// As above.
        precision: Precision,
        /// True if the input is doubled before.
        doubled: bool,
    },
}

impl Format {
    /// As others keep it.
    pub(crate) fn form(self) -> Result<Form> {
        let text = serde_json::to_string(&self).map_err(|error| Error::new(ErrorKind::Format, error.to_string()))?;
        Ok(Form(text.into()))
    }

    /// What a form is, which may come from a file.
    ///
    /// # Errors
    /// If it is none of this backend's.
    pub(crate) fn of(form: &Form) -> Result<Self> {
        let format: Option<Self> = serde_json::from_str(&form.0).ok();
        let known = |format: &Self| match format {
            Self::Coded { coding, .. } | Self::CodedStack { coding } => coding.is_known(),
            Self::CodedConv { coding, widened } => coding.is_known() && *widened != Precision::A8,
            Self::PanelStack { precision } => *precision != Precision::Int8,
            Self::Panels { groups, .. } | Self::CodePanels { groups, .. } => *groups > 0,
            Self::Plain | Self::Blocks { .. } | Self::Winograd { .. } => true,
        };
        match format.filter(known) {
            Some(format) => Ok(format),
            None => fail!(Format, "no form of a weight of the CPU: {}", form.0),
        }
    }
}

/// The form in which a use of a weight reads it.
///
/// # Errors
/// If the operator is of another backend.
pub(crate) fn format(reader: &Reader<'_>) -> Result<Format> {
    let node = reader.graph.node(reader.node);
    let input = reader.graph.node(node.inputs[reader.position]);
    let Op::Weight(id) = input.op else {
        // Through a reshape a weight is what it is in the checkpoint.
        return Ok(Format::Plain);
    };
    let shape = &reader.graph.weight_info(id).shape;
    if shape.contains(&0) {
        // There is nothing to pack.
        return Ok(Format::Plain);
    }
    let coding = if reader.ranged {
        Some(Coding::ROWS8)
    } else {
        reader.encoding.and_then(|encoding| coding(encoding, reader.options.precision))
    };
    if let Op::Native(native) = &node.op {
        return own(CpuOp::of(native)?, reader, shape);
    }
    if matches!((&node.op, reader.position), (Op::GroupedMatMul { transposed: true }, 1)) {
        return Ok(stack(reader));
    }
    Ok(match (&node.op, reader.position) {
        (Op::Linear(epilogue), 1) => linear(*epilogue, shape, coding, reader.options),
        (Op::Conv2d(conv, _), 1) => {
            let of_conv = |encoding| coding_of_conv(encoding, conv.groups, reader.options.precision);
            match reader.encoding.and_then(of_conv) {
                Some((coding, widened)) => Format::CodedConv { coding, widened },
                None => {
                    let precision = precision(shape, conv.groups, reader.options);
                    Format::Panels { precision, groups: conv.groups, gate: false }
                }
            }
        }
        // The state is of 32 bits in every precision: errors of a step are handed on to all that follow.
        (Op::Recurrent { .. }, 1) => Format::Panels { precision: Precision::F32, groups: 1, gate: false },
        (Op::Gather, 0) => {
            let coding = coding.filter(|coding| coding.levels != Levels::Rows8);
            // Products of panels of 8 bits do not read codes.
            let shared = |block| reader.options.precision != Precision::Int8 && lies_as_codes(block);
            match reader.encoding.map(|encoding| encoding.levels) {
                Some(encoding::Levels::Blocks(block)) if shape.len() == 2 && !shared(block) => Format::Blocks { block },
                // As a head reads it, that multiplies with the same table.
                _ => coding.map_or(Format::Plain, |coding| Format::Coded { coding, gate: false }),
            }
        }
        _ => Format::Plain,
    })
}

/// As [`format`], for an operator of this backend.
fn own(op: CpuOp, reader: &Reader<'_>, shape: &[usize]) -> Result<Format> {
    if reader.position != 1 {
        return Ok(Format::Plain);
    }
    Ok(match op {
        CpuOp::LinearRows(epilogue) => Format::Panels { precision: Precision::Int8, groups: 1, gate: epilogue.gate },
        CpuOp::LinearChosen { epilogue, rows: None } => {
            let coding = reader.encoding.and_then(|encoding| coding(encoding, reader.options.precision));
            linear(epilogue, shape, coding, reader.options)
        }
        CpuOp::LinearChosen { epilogue, rows: Some(Rows::Spanning | Rows::Within(_)) } => {
            own(CpuOp::LinearRows(epilogue), reader, shape)?
        }
        CpuOp::LinearChosen { epilogue, rows: Some(Rows::Blocks) } => {
            own(CpuOp::LinearBlocks(epilogue), reader, shape)?
        }
        CpuOp::LinearBlocks(epilogue) => {
            match reader.encoding.and_then(|encoding| coding(encoding, reader.options.precision)) {
                Some(coding) => Format::Coded { coding, gate: epilogue.gate },
                None => fail!(Format, "a weight of numbers where codes are multiplied"),
            }
        }
        CpuOp::Winograd(conv, _) => {
            Format::Winograd { precision: precision(shape, 1, reader.options), doubled: conv.upsample }
        }
        CpuOp::LinearCodes(epilogue, _) => {
            let gate = epilogue.gate;
            let apart = reader
                .encoding
                .filter(|encoding| !multiplies_codes(encoding))
                .and_then(|of| multiplies_in_groups(of, reader.options.precision));
            apart.map_or(Format::CodePanels { groups: 1, gate }, |coding| Format::Coded { coding, gate })
        }
        CpuOp::ConvCodes(conv, ..) => Format::CodePanels { groups: conv.groups, gate: false },
        CpuOp::QuantizeRows { .. } | CpuOp::Attention8(_) | CpuOp::CachedAttention(_) => Format::Plain,
        CpuOp::Encode { .. } | CpuOp::Round { .. } | CpuOp::Decode => Format::Plain,
    })
}

/// The form of the weight of a linear layer.
fn linear(epilogue: Epilogue, shape: &[usize], coding: Option<Coding>, options: Options) -> Format {
    let gate = epilogue.gate;
    match coding {
        Some(Coding { levels: Levels::Rows8, .. }) => Format::Panels { precision: Precision::Int8, groups: 1, gate },
        Some(coding) if options.precision != Precision::Int8 => Format::Coded { coding, gate },
        _ => Format::Panels { precision: precision(shape, 1, options), groups: 1, gate },
    }
}

/// The form of a stack of matrices, of which each is multiplied with the rows of its group.
fn stack(reader: &Reader<'_>) -> Format {
    let precision = reader.options.precision;
    match reader.encoding.and_then(|encoding| coding_of_stack(encoding, precision)) {
        Some(coding) => Format::CodedStack { coding },
        None if precision == Precision::F32 => Format::PanelStack { precision },
        // Rows come in their order of groups from a table, and are not quantized there.
        None => Format::PanelStack { precision: Precision::BF16 },
    }
}

/// The precision of a weight that is multiplied.
fn precision(shape: &[usize], groups: usize, options: Options) -> Precision {
    let large = shape[..2].iter().all(|&channels| channels >= FEWEST_CHANNELS) && groups == 1;
    match options.precision {
        Precision::Int8 if !large => Precision::BF16,
        Precision::A8 => Precision::BF16,
        precision => precision,
    }
}

/// How a linear layer with a weight of this shape takes quantized rows of what it multiplies, if it does.
pub(crate) fn reads_rows(
    epilogue: Epilogue,
    shape: &[usize],
    coding: Option<Coding>,
    options: Options,
) -> Option<Rows> {
    match linear(epilogue, shape, coding, options) {
        Format::Panels { precision: Precision::Int8, .. } => Some(Rows::Spanning),
        Format::Coded { coding, gate } if options.precision == Precision::A8 => {
            (!shape.contains(&0) && coding.shape(gate, shape).multiplies_blocks()).then_some(Rows::Blocks)
        }
        _ => None,
    }
}
