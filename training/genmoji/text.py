"""The text side: all-MiniLM-L6-v2 without its pooler, and its storage as int8 rows."""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.nn import functional as F

WIDTH = 384  # of a hidden state
LONGEST = 32  # tokens of a prompt, [CLS] and [SEP] included
SCALE = ".scale"


def pack_rows(tensors):
    """Matrices as int8 with one f16 scale per row (beside them, under `NAME.scale`), everything else as f16."""
    packed = {}
    for name, value in tensors.items():
        if value.ndim != 2:
            packed[name] = value.half()
            continue
        step = (value.float().abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-7).half()
        packed[name] = torch.round(value.float() / step.float()).clamp_(-127, 127).to(torch.int8)
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
            plain[name] *= packed[name + SCALE].float()
    return plain


class TextEncoder:
    """Prompts to (hidden states, padding mask, sentence vector); reads f16 and int8-row checkpoints alike."""

    def __init__(self, folder, device="cpu"):
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        folder = Path(folder)
        beside = folder.parent / "tokenizer"
        self.tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str((beside if beside.is_dir() else folder) / "tokenizer.json"),
            pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        )  # fmt: skip
        self.network = BertModel(BertConfig.from_pretrained(folder), add_pooling_layer=False)
        weights = unpack_rows(load_file(folder / "model.safetensors"))
        missing, unused = self.network.load_state_dict(weights, strict=False)
        unused = [name for name in unused if not name.startswith("pooler.")]
        missing = [name for name in missing if not name.endswith("position_ids")]
        if missing or unused:
            raise ValueError(f"{folder}: tensors missing {missing}, unknown {unused}")
        self.network.to(device).eval().requires_grad_(False)
        self.device = device

    @torch.no_grad()
    def __call__(self, prompts):
        tokens = self.tokenizer(
            list(prompts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        ).to(self.device)
        mask = tokens.attention_mask.float()
        hidden = self.network(tokens.input_ids, attention_mask=tokens.attention_mask).last_hidden_state.float()
        mean = torch.einsum("nlc,nl->nc", hidden, mask) / mask.sum(1, keepdim=True)
        return hidden, mask, F.normalize(mean, dim=1) * WIDTH**0.5
