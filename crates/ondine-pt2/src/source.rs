//! Where a node of the program comes from: its module, and the Python lines that led to it.

use std::sync::Arc;

use super::schema::{Argument, Node, OptionalTensor, SymArgument};
use ondine_graph::{Frame, Origin};

/// The path of the innermost module, such as `layers.0.attention`.
pub(super) fn module(node: &Node) -> Arc<str> {
    // Entries are `key,path,class`, outermost first.
    let innermost = node.metadata.get("nn_module_stack").and_then(|stack| stack.rsplit(';').next());
    let path = innermost.and_then(|entry| entry.split(',').nth(1)).unwrap_or_default();
    path.strip_prefix("L__self__").unwrap_or(path).into()
}

/// The calls of modules that the node is part of: paths, with `@` and the number of the call from the second one on.
fn modules(node: &Node) -> Vec<Arc<str>> {
    node.metadata.get("nn_module_stack").map_or_else(Vec::new, |stack| calls(stack))
}

/// The calls of modules in a stack as the format has it.
pub(super) fn calls(stack: &str) -> Vec<Arc<str>> {
    let call = |entry: &str| {
        let mut parts = entry.split(',');
        let (key, path) = (parts.next()?, parts.next()?);
        let path = path.strip_prefix("L__self__").unwrap_or(path);
        Some(match key.rsplit_once('@') {
            Some((_, count)) => format!("{path}@{count}").into(),
            None => path.into(),
        })
    };
    stack.split(';').filter_map(call).filter(|path: &Arc<str>| !path.is_empty()).collect()
}

/// Everything that is known of where the node comes from.
pub(super) fn origin(node: &Node) -> Arc<Origin> {
    let stack = node.metadata.get("stack_trace").map_or_else(Vec::new, |text| frames(text));
    let op = node.target.trim_start_matches("torch.ops.").into();
    let name = node.name.as_deref().unwrap_or_default().into();
    Arc::new(Origin { op, node: name, stack, modules: modules(node), fused: Vec::new() })
}

/// The frames of a Python stack trace: `File "x.py", line 3, in forward` and the line's text below.
fn frames(text: &str) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::new();
    for line in text.lines().map(str::trim) {
        let head = line.strip_prefix("File \"").and_then(|rest| rest.split_once("\", line "));
        match (head, frames.last_mut()) {
            (Some((file, rest)), _) => {
                let (number, function) = rest.split_once(", in ").unwrap_or((rest, ""));
                let line = number.trim().parse().unwrap_or(0);
                frames.push(Frame { file: file.into(), line, function: function.into(), text: "".into() });
            }
            (None, Some(frame)) if frame.text.is_empty() => frame.text = line.into(),
            _ => {}
        }
    }
    frames
}

/// A node's name, module and Python line, for messages.
pub(super) fn place(node: &Node) -> String {
    let mut place = node.name.clone().unwrap_or_default();
    let module = module(node);
    if !module.is_empty() {
        place.push_str(&format!(" in {module}"));
    }
    if let Some(frame) = origin(node).line() {
        let file = frame.file.rsplit(['/', '\\']).next().unwrap_or_default();
        place.push_str(&format!(" at {file}:{}", frame.line));
    }
    place
}

/// The names of values in an argument, lists flattened.
pub(super) fn names(argument: &Argument) -> Box<dyn Iterator<Item = &Arc<str>> + '_> {
    match argument {
        Argument::AsTensor(tensor) | Argument::AsOptionalTensor(OptionalTensor::AsTensor(tensor)) => {
            Box::new(std::iter::once(&tensor.name))
        }
        Argument::AsTensors(tensors) => Box::new(tensors.iter().map(|tensor| &tensor.name)),
        Argument::AsOptionalTensors(tensors) => Box::new(tensors.iter().filter_map(|tensor| match tensor {
            OptionalTensor::AsTensor(tensor) => Some(&tensor.name),
            OptionalTensor::AsNone(_) => None,
        })),
        Argument::AsSymInt(sym) | Argument::AsSymFloat(sym) | Argument::AsSymBool(sym) => {
            Box::new(std::iter::once(sym).filter_map(name_of))
        }
        Argument::AsSymInts(syms) => Box::new(syms.iter().filter_map(name_of)),
        _ => Box::new(std::iter::empty()),
    }
}

fn name_of(sym: &SymArgument) -> Option<&Arc<str>> {
    match sym {
        SymArgument::AsName(name) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_a_module_are_told_apart() {
        let stack = "L__self__,,M;L__self__b@1,b,Sequential;L__self__b.0@1,b.0,Linear";
        let metadata = [("nn_module_stack".to_owned(), stack.to_owned())].into_iter().collect();
        let node = Node { target: "t".into(), inputs: Vec::new(), outputs: Vec::new(), metadata, name: None };
        assert_eq!(modules(&node), ["b@1".into(), "b.0@1".into()]);
        assert_eq!(&*module(&node), "b.0");
    }

    #[test]
    fn stacks_become_frames() {
        let text = "File \"/a/m.py\", line 7, in forward\n    y = self.l(x)\n  File \"linear.py\", line 134, in forward\n    return F.linear(x)";
        let frames = frames(text);
        assert_eq!(
            (frames.len(), &*frames[0].file, frames[0].line, &*frames[0].text),
            (2, "/a/m.py", 7, "y = self.l(x)")
        );
        assert_eq!((frames[1].line, &*frames[1].function), (134, "forward"));
    }
}
