//! Names of operators in a program: `torch.ops.aten.add_.Tensor`.

/// Libraries whose operators have rows of their own, by their full names.
const LIBRARIES: [&str; 5] = ["quantized_decomposed.", "torchao.", "torchvision.", "torch_nn.", "prims."];

/// `aten.add_.Tensor` of a target, as operator, overload, and whether it changes its first argument.
pub(super) fn split_target(target: &str) -> (&str, &str, bool) {
    let name = target.strip_prefix("torch.ops.").unwrap_or(target);
    let Some(name) = name.strip_prefix("aten.") else {
        if LIBRARIES.iter().any(|library| name.starts_with(library))
            && let Some((op, overload)) = name.rsplit_once('.')
        {
            return (op, overload, false);
        }
        return (name.strip_prefix("higher_order.").unwrap_or(name), "", false);
    };
    let (op, overload) = name.rsplit_once('.').unwrap_or((name, ""));
    match op.strip_suffix('_') {
        Some(pure) if !op.ends_with("__") => (pure, overload, true),
        _ => (op, overload, false),
    }
}

/// True for operators that hold graphs.
pub(super) fn is_control(op: &str) -> bool {
    let op = op.strip_prefix("torch._functorch.predispatch.").unwrap_or(op);
    matches!(
        op,
        "cond"
            | "while_loop"
            | "scan"
            | "map_impl"
            | "wrap_with_set_grad_enabled"
            | "wrap_with_autocast"
            | "wrap"
            | "with_effects"
            | "invoke_subgraph"
            | "hints_wrapper"
            | "tag_activation_checkpoint"
            | "_vmap_increment_nesting"
            | "_vmap_decrement_nesting"
            | "_add_batch_dim"
            | "_remove_batch_dim"
            | "lazy_load_decompositions"
    )
}
