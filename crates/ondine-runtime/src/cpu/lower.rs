//! The passes that make a portable graph one of this backend, in their order.

use ondine_graph::{
    Graph, Result, Weight, Weights,
    encoding::CODES,
    rewrite::{layout::layout, share::share},
};

use super::{
    algorithm::algorithm,
    cached::cached,
    chosen::chosen,
    codes::codes,
    coding::{Coding, coding},
    computed::computed,
    form::reads_rows,
    native::Rows,
    processor::Processor,
    quantize::quantize,
    run::evaluate,
};
use crate::{
    options::{Options, Precision},
    pass::{fold::fold, fuse::fuse, low_rank::low_rank, precision::precision},
};

impl Processor {
    /// The graph as kernels run it.
    pub(super) fn rewrite(&self, graph: &Graph, options: Options, weights: &Weights) -> Result<Graph> {
        if options.as_written {
            return computed(graph);
        }
        let corrected = |weight: &Weight| match options.precision {
            // Panels of 8 bits are made of all that the weight stands for.
            Precision::Int8 => Ok(None),
            Precision::F32 | Precision::BF16 | Precision::A8 => rank_beside_codes(weights, options, &weight.path),
        };
        let graph = low_rank(graph, corrected)?;
        let graph = fold(&graph, |node, inputs| evaluate(node, inputs, self))?;
        let graph = share(&layout(&graph)?)?;
        let graph = codes(&fuse(&computed(&graph)?)?, weights)?;
        let graph = share(&precision(&graph, self.identity.dtype(options.precision))?)?;
        let graph =
            cached(&layout(&algorithm(&graph, options.precision, weights)?)?, options.precision == Precision::Int8)?;
        let graph = quantize(&graph, options.precision == Precision::Int8, |epilogue, weight| {
            let range = weights.input_range(&weight.path);
            let coding = match (range, weights.encoding(&weight.path)?) {
                (Some(_), _) => Some(Coding::ROWS8),
                (None, encoding) => encoding.as_ref().and_then(|encoding| coding(encoding, options.precision)),
            };
            Ok(reads_rows(epilogue, &weight.shape, coding, options).map(|rows| match (rows, range) {
                (Rows::Spanning, Some(range)) => Rows::Within(range),
                (rows, _) => rows,
            }))
        })?;
        chosen(&graph)
    }
}

/// The rank of the correction of a weight whose codes kernels read, if it has one.
fn rank_beside_codes(weights: &Weights, options: Options, path: &str) -> Result<Option<usize>> {
    if weights.input_range(path).is_some() {
        return Ok(None);
    }
    let codes = weights.encoding(&format!("{path}{CODES}"))?;
    let whole = weights.encoding(path)?;
    let read = codes.as_ref().and_then(|codes| coding(codes, options.precision)).is_some();
    Ok(whole.map(|encoding| encoding.rank).filter(|&rank| read && rank > 0))
}
