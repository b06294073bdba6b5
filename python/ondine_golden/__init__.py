"""Records what PyTorch computes on the way, for `ondine compare MODEL.pt2 --reference FILE`.

    from ondine_golden import record

    program = torch.export.export(model, (x,))
    torch.export.save(program, "model.pt2")
    record(program, (x,), path="reference.safetensors")   # every node, by its name in the archive
    record(model, (x,), path="modules.safetensors")       # or every module's result, by its path

    ondine compare model.pt2 --reference reference.safetensors

The file holds the inputs by their names, `output_0` and so on, and, of an exported program, the result of each node by the
node's name; of a module, the result of each submodule by its path (`layers.0.attention`; the second call of the same one is
`layers.0.attention@1`, as torch.export counts; tensors of a tuple are `PATH.0`, `PATH.1`). Each value is copied when it is
computed, before anything changes it in place. Needs torch and safetensors.
"""

import inspect

import safetensors.torch
import torch
import torch.utils._pytree as pytree

__all__ = ["record"]

_STORED = {torch.float64: torch.float32, torch.int16: torch.int32, torch.complex128: torch.complex64}


def record(model, args=(), kwargs=None, *, path=None, only=None):
    """Runs `model`, an ExportedProgram or a Module, and yields its intermediate tensors by name; writes them to `path` too.

    `only` is a function from a name to whether it is kept, for models whose values do not fit into memory all at once.
    """
    kept = {}

    def keep(name, value):
        if isinstance(value, torch.Tensor) and (only is None or only(name)):
            kept[name] = _stored(value)

    with torch.no_grad():
        if isinstance(model, torch.export.ExportedProgram):
            _program(model, args, kwargs or {}, keep)
        else:
            _module(model, args, kwargs or {}, keep)
    if path is not None:
        safetensors.torch.save_file(kept, str(path))
    return kept


def _stored(value):
    """A copy in a type that safetensors and Ondine have; complex numbers as pairs."""
    value = value.detach().to("cpu", _STORED.get(value.dtype, value.dtype))
    value = torch.view_as_real(value.resolve_conj()) if value.is_complex() else value
    return value.clone(memory_format=torch.contiguous_format)


class _Recorder(torch.fx.Interpreter):
    def __init__(self, module, keep):
        super().__init__(module)
        self.keep = keep

    def run_node(self, node):
        value = super().run_node(node)
        if node.op == "call_function":
            self.keep(node.name, value)
        return value


def _program(program, args, kwargs, keep):
    kinds = torch.export.graph_signature.InputKind
    given = iter(pytree.tree_leaves((args, kwargs)))
    values = []
    for spec in program.graph_signature.input_specs:
        if spec.kind == kinds.USER_INPUT:
            values.append(next(given))
            keep(spec.arg.name, values[-1])
        else:
            stored = program.state_dict.get(spec.target)
            stored = program.constants.get(spec.target) if stored is None else stored
            # A call changes buffers in place, and must leave the program as it was.
            values.append(stored.clone() if isinstance(stored, torch.Tensor) else stored)
    results = _Recorder(program.graph_module, keep).run(*values)
    kinds = torch.export.graph_signature.OutputKind
    specs = program.graph_signature.output_specs
    user = [result for spec, result in zip(specs, results) if spec.kind in (kinds.USER_OUTPUT, kinds.LOSS_OUTPUT)]
    for index, value in enumerate(user):
        keep(f"output_{index}", value)


def _module(module, args, kwargs, keep):
    calls = {}

    def hook(name):
        def after(_module, _args, result):
            count = calls[name] = calls.get(name, -1) + 1
            path = f"{name}@{count}" if count else name
            leaves = pytree.tree_leaves(result)
            for index, value in enumerate(leaves):
                keep(path if len(leaves) == 1 else f"{path}.{index}", value)

        return after

    hooks = [part.register_forward_hook(hook(name)) for name, part in module.named_modules(remove_duplicate=True) if name]
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            keep(name, value)
        result = module(*args, **kwargs)
    finally:
        for handle in hooks:
            handle.remove()
    for index, value in enumerate(pytree.tree_leaves(result)):
        keep(f"output_{index}", value)
