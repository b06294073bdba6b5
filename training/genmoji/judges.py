"""Two networks of other people that compare pictures: shift-tolerant LPIPS (VGG-16) and the Inception V3 of NSFWJS.

    pip download --no-deps stlpips-pytorch==0.0.2 && unzip -o stlpips_pytorch-*.whl -d stlpips
    npm pack nsfwjs@4.3.0 && mkdir -p nsfwjs inception && tar xzf nsfwjs-4.3.0.tgz -C nsfwjs --strip-components 1
    node -e '
        const fs = require("fs"), d = process.cwd() + "/nsfwjs/dist/models/inception_v3/", get = f => { const m = require(d + f); return m.default || m };
        fs.writeFileSync("inception/model.json", JSON.stringify(get("model.min.js")));
        const parts = fs.readdirSync(d).filter(f => f.startsWith("group1")).sort();
        fs.writeFileSync("inception/weights.bin", Buffer.concat(parts.map(f => Buffer.from(get(f), "base64"))));'

Both are computed here from the weights alone, so that neither torchvision nor TensorFlow is needed.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

VGG = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
TAPS = {1, 3, 6, 9, 12}  # convolutions whose outputs are compared


class Perception:
    """Perceptual distance of pictures in [0, 1] (Ghildyal and Liu 2022), as `stlpips_pytorch.LPIPS(net="vgg", variant="shift_tolerant")`."""

    def __init__(self, folder):
        path = Path(folder) / "stlpips_pytorch/weights/vST0.0/vgg_shift_tolerant.pth"
        weights = torch.load(path, map_location="cpu", weights_only=True)
        named = sorted((int(key.split(".")[-2]), key) for key in weights if key.startswith("net.slice") and weights[key].ndim == 4 and key.endswith("weight"))
        self.filters = [(weights[key], weights[key.replace("weight", "bias")]) for _, key in named]
        self.scales = [weights[f"lin{n}.model.1.weight"] for n in range(5)]
        self.shift = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        self.spread = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)
        line = torch.tensor([1.0, 2.0, 1.0])
        self.blur = (line[:, None] * line / 16)[None, None]

    def features(self, x):
        found, at = [], 0
        for layer in VGG:
            if layer == "M":
                x = F.max_pool2d(x, 2, 1)
                x = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), self.blur.expand(x.shape[1], -1, -1, -1), stride=2, groups=x.shape[1])
                continue
            x = F.relu(F.conv2d(x, *self.filters[at], padding=1))
            if at in TAPS:
                found.append(x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10))
            at += 1
        return found

    @torch.no_grad()
    def __call__(self, a, b):
        """One distance per pair."""
        a, b = ((2 * x - 1 - self.shift) / self.spread for x in (a, b))
        pairs = zip(self.features(a), self.features(b), self.scales, strict=True)
        return sum(F.conv2d((x - y).square(), scale).mean((1, 2, 3)) for x, y, scale in pairs)


class Inception:
    """The 2,048 pooled features of a Keras Inception V3 stored for TensorFlow.js."""

    def __init__(self, folder):
        facts = json.loads((Path(folder) / "model.json").read_text())
        data, at, self.weights = (Path(folder) / "weights.bin").read_bytes(), 0, {}
        for group in facts["weightsManifest"]:
            for entry in group["weights"]:
                size = int(np.prod(entry["shape"]))
                stored = np.frombuffer(data, np.uint8, size, at).astype(np.float32)
                rule, at = entry["quantization"], at + size
                value = torch.from_numpy(stored * rule["scale"] + rule["min"]).view(entry["shape"])
                self.weights[entry["name"]] = value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
        self.layers = facts["modelTopology"]["model_config"]["config"]["layers"]

    def compute(self, layer, inputs):
        kind, facts, name = layer["class_name"], layer["config"], layer["name"]
        x = inputs[0] if inputs else None
        if kind == "Conv2D":
            kernel = self.weights[f"{name}/kernel"]
            padding = "same" if facts["padding"] == "same" and facts["strides"] == [1, 1] else 0
            if facts["padding"] == "same" and not padding:
                raise ValueError(f"{name}: strides with padding do not occur in Inception V3")
            return F.conv2d(x, kernel, self.weights.get(f"{name}/bias"), stride=facts["strides"], padding=padding)
        if kind == "BatchNormalization":
            mean, variance, shift = (self.weights[f"{name}/{part}"] for part in ("moving_mean", "moving_variance", "beta"))
            return F.batch_norm(x, mean, variance, self.weights.get(f"{name}/gamma"), shift, eps=facts["epsilon"])
        if kind == "Activation":
            return F.relu(x)
        if kind == "MaxPooling2D":
            return F.max_pool2d(x, facts["pool_size"], facts["strides"])
        if kind == "AveragePooling2D":
            if facts["padding"] == "same":
                return F.avg_pool2d(x, facts["pool_size"], facts["strides"], padding=1, count_include_pad=False)
            return F.avg_pool2d(x, facts["pool_size"], facts["strides"])
        if kind == "Concatenate":
            return torch.cat(inputs, 1)
        raise ValueError(f"a layer {kind} does not occur in Inception V3")

    @torch.no_grad()
    def __call__(self, pictures):
        """Features (n, 2048) of pictures in [0, 1]."""
        x = F.interpolate(pictures, (299, 299), mode="bilinear", antialias=True)
        found = {}
        for layer in self.layers:
            if layer["class_name"] == "InputLayer":
                found[layer["name"]] = x
            elif layer["class_name"] in ("Flatten", "Dropout", "Dense"):
                break
            else:
                found[layer["name"]] = last = self.compute(layer, [found[source[0]] for source in layer["inbound_nodes"][0]])
        return last.mean((2, 3))


def frechet(a, b):
    """Frechet distance of the normal distributions fitted to two sets of features."""
    means, spreads = zip(*((x.mean(0), torch.cov(x.T)) for x in (a.double(), b.double())), strict=True)
    values, vectors = torch.linalg.eigh(spreads[0])
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ spreads[1] @ root).clamp_min(0).sqrt().sum()
    return ((means[0] - means[1]).square().sum() + spreads[0].trace() + spreads[1].trace() - 2 * cross).item()
