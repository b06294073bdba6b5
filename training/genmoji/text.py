"""The text side: all-MiniLM-L6-v2 without its pooler, and its storage as int8 rows."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

WIDTH = 384  # of a hidden state
LONGEST = 32  # tokens of a prompt, [CLS] and [SEP] included
SCALE = ".scale"


def pack_rows(tensors):
    """Matrices and filters as int8 with one f16 scale per row (beside them, as `NAME.scale`), everything else as f16."""
    packed = {}
    for name, value in tensors.items():
        if value.ndim < 2:
            packed[name] = value.half()
            continue
        flat = value.float().flatten(1)
        step = (flat.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-7).half()
        packed[name] = torch.round(flat / step.float()).clamp_(-127, 127).to(torch.int8).view(value.shape)
        packed[name + SCALE] = step
    return packed


def unpack_rows(packed):
    """The f32 tensors of what `pack_rows` (or a plain checkpoint) stored."""
    plain = {}
    for name, value in packed.items():
        if name.endswith(SCALE):
            continue
        plain[name] = value.float()
        if value.dtype == torch.int8:
            plain[name] *= packed[name + SCALE].float().view(-1, *[1] * (value.ndim - 1))
    return plain


class Bert(nn.Module):
    """The text network, under the names of transformers' BertModel; without its pooler and token types but the first."""

    def __init__(self, facts):
        super().__init__()
        width, self.heads = facts["hidden_size"], facts["num_attention_heads"]
        self.depth, self.epsilon = facts["num_hidden_layers"], facts["layer_norm_eps"]
        self.tables = nn.ParameterDict()
        self.width = width

    def load(self, tensors):
        for name, value in tensors.items():
            if not name.startswith("pooler.") and not name.endswith("position_ids"):
                self.tables[name.replace(".", "/")] = nn.Parameter(value, requires_grad=False)
        wanted = 5 + 16 * self.depth
        if len(self.tables) != wanted:
            raise ValueError(f"{len(self.tables)} tensors of the text network, {wanted} were expected")
        return self

    def apply_linear(self, name, x):
        return F.linear(x, self.tables[f"{name}/weight"], self.tables[f"{name}/bias"])

    def normal(self, name, x):
        return F.layer_norm(x, (self.width,), self.tables[f"{name}/weight"], self.tables[f"{name}/bias"], self.epsilon)

    def forward(self, tokens, mask):
        table = self.tables
        x = F.embedding(tokens, table["embeddings/word_embeddings/weight"])
        x = x + table["embeddings/position_embeddings/weight"][: tokens.shape[1]] + table["embeddings/token_type_embeddings/weight"][0]
        x = self.normal("embeddings/LayerNorm", x)
        seen = mask.bool()[:, None, None]
        for n in range(self.depth):
            at = f"encoder/layer/{n}"
            parts = [self.apply_linear(f"{at}/attention/self/{part}", x) for part in ("query", "key", "value")]
            parts = [part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts]
            mixed = F.scaled_dot_product_attention(*parts, attn_mask=seen).transpose(1, 2).flatten(2)
            x = self.normal(f"{at}/attention/output/LayerNorm", x + self.apply_linear(f"{at}/attention/output/dense", mixed))
            inner = F.gelu(self.apply_linear(f"{at}/intermediate/dense", x))
            x = self.normal(f"{at}/output/LayerNorm", x + self.apply_linear(f"{at}/output/dense", inner))
        return x


def sentence(hidden, mask):
    """The mean of the hidden states over all tokens, brought to length sqrt(WIDTH)."""
    mean = torch.einsum("nlc,nl->nc", hidden, mask) / mask.sum(1, keepdim=True)
    return F.normalize(mean, dim=1) * WIDTH**0.5


def read_tokenizer(folder, length=None):
    """Of the text encoder in `folder`; with `length`, every text is filled up to so many tokens."""
    beside = folder.parent / "tokenizer"
    tokenizer = Tokenizer.from_file(str((beside if beside.is_dir() else folder) / "tokenizer.json"))
    tokenizer.enable_truncation(length or LONGEST)
    tokenizer.enable_padding(length=length)
    return tokenizer


class TextEncoder:
    """Prompts to (hidden states, padding mask, sentence vector); reads f16 and int8-row checkpoints alike."""

    def __init__(self, folder, device="cpu"):
        folder = Path(folder)
        self.tokenizer = read_tokenizer(folder)
        facts = json.loads((folder / "config.json").read_text())
        self.network = Bert(facts).load(unpack_rows(load_file(folder / "model.safetensors"))).to(device).eval()
        self.device = device

    @torch.no_grad()
    def __call__(self, prompts):
        encoded = self.tokenizer.encode_batch(list(prompts))
        tokens = torch.tensor([text.ids for text in encoded], device=self.device)
        mask = torch.tensor([text.attention_mask for text in encoded], device=self.device).float()
        hidden = self.network(tokens, mask).float()
        return hidden, mask, sentence(hidden, mask)
