//! Where the nodes of an imported graph come from, so that a value can be traced to its line of Python.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

/// A line of the program that a node was written in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Frame {
    /// The source file.
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: u32,
    /// The function that the line is in.
    pub function: Arc<str>,
    /// The text of the line, if it was recorded.
    pub text: Arc<str>,
}

impl Frame {
    /// The file with its last folder, and the line: `models/resnet.py:150`.
    #[must_use]
    pub fn place(&self) -> String {
        let parts: Vec<&str> = self.file.rsplit(['/', '\\']).take(2).collect();
        format!("{}:{}", parts.into_iter().rev().collect::<Vec<_>>().join("/"), self.line)
    }

    fn is_torch(&self) -> bool {
        let file = self.file.replace('\\', "/");
        file.starts_with("torch/") || file.contains("-packages/torch/") || file.contains("/torch/nn/modules/")
    }
}

/// Where a node of an imported graph comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The operator that was imported, such as `aten.linear.default`.
    pub op: Arc<str>,
    /// The name of the imported node.
    pub node: Arc<str>,
    /// The calls that led to it, outermost first.
    pub stack: Vec<Frame>,
    /// The calls of modules that it is part of, outermost first: paths such as `layers.0`, and `layers.0@1` in the
    /// second call of the same module.
    pub modules: Vec<Arc<str>>,
    /// Other imported nodes that a pass has made part of this one, in the order in which they would run.
    pub fused: Vec<Arc<Origin>>,
}

impl Origin {
    /// The line to look at: the innermost one that is not PyTorch's own.
    #[must_use]
    pub fn line(&self) -> Option<&Frame> {
        self.stack.iter().rev().find(|frame| !frame.is_torch()).or(self.stack.last())
    }

    /// Names of the imported nodes, the fused ones joined with `+`.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> =
            std::iter::once(self).chain(self.fused.iter().map(|fused| &**fused)).map(|o| &*o.node).collect();
        names.join("+")
    }

    /// What a node comes from that does the work of two: of `first`, and of `second` upon its result.
    #[must_use]
    pub fn fuse(first: Option<&Arc<Self>>, second: Option<&Arc<Self>>) -> Option<Arc<Self>> {
        let (Some(first), Some(second)) = (first, second) else { return first.or(second).cloned() };
        let mut parts = vec![first.clone()];
        parts.extend(first.fused.iter().chain([second]).chain(&second.fused).cloned());
        let mut known = BTreeSet::new();
        parts.retain(|part| known.insert(part.node.clone()));
        let fused = parts.split_off(1).into_iter();
        let fused = fused.map(|part| Arc::new(Self { fused: Vec::new(), ..(*part).clone() })).collect();
        Some(Arc::new(Self { fused, ..(**first).clone() }))
    }
}
