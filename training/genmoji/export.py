"""Write a model folder in diffusers' layout (int8 rows, f16 vectors and autoencoder) and golden tensors for other programs.

    python export.py --unet runs/unet/unet --vae runs/vae --text FOLDER --out model --reference reference.safetensors
"""

import argparse
import json
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusion import SCHEDULE, first_noise, load_network, load_networks, scheduler, velocity
from safetensors.torch import load_file
from text import LONGEST, TextEncoder, pack_rows

ALIGN = 64  # bytes
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.int8: "I8", torch.int64: "I64"}
PROMPTS = ("red heart", "a sleepy bear, noto style")
STEPS, GUIDANCE, SEED = 8, 4, 42  # of the golden drawings
INDEX = {
    "_class_name": "GenmojiPipeline",
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "BertModel"],
    "tokenizer": ["transformers", "BertTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
    "ondine": {"steps": 6, "guidance": 2.0, "precision": "bf16", "upscaler": "realesr-animevideov3"},  # what Ondine takes unless it is told otherwise
}


def write_json(path, value, indent=2):
    separators = (",", ": ") if indent else (",", ":")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent, separators=separators, ensure_ascii=False) + "\n")


def write_tensors(path, tensors, metadata):
    """A safetensors file whose data begins at a multiple of 64 bytes, as does every tensor of a multiple of 64 bytes."""
    size = {name: value.numel() * value.element_size() for name, value in tensors.items()}

    def looseness(name):  # 0 for whole multiples of 64, larger the less a size keeps alignment
        return ALIGN // min(ALIGN, size[name] & -size[name])

    order = sorted(tensors, key=lambda name: (looseness(name), name))
    header, end = {"__metadata__": metadata}, 0
    for name in order:
        begin, end = end, end + size[name]
        kind, shape = DTYPES[tensors[name].dtype], list(tensors[name].shape)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGN)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".new")  # the tensors may be a map of the very file that is replaced
    with aside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(tensors[name].contiguous().numpy().tobytes())
    aside.replace(path)


def write_network(folder, network, store):
    """A diffusers network with its weights as `store` makes them; its configuration without the marks of where it was read from."""
    facts = {key: value for key, value in network.config.items() if key != "_name_or_path"}
    facts = {"_class_name": type(network).__name__, **facts}
    write_json(folder / "config.json", facts)
    write_tensors(folder / "diffusion_pytorch_model.safetensors", store(network.state_dict()), {"format": "pt"})


def halves(tensors):
    return {name: value.half() for name, value in tensors.items()}


def write_text_encoder(source, out):
    weights = load_file(source / "model.safetensors")
    if not any(value.dtype == torch.int8 for value in weights.values()):
        weights = pack_rows({name: value for name, value in weights.items() if not name.startswith("pooler.")})
    write_tensors(out / "text_encoder/model.safetensors", weights, {"format": "pt"})
    facts = json.loads((source / "config.json").read_text())
    facts.pop("_name_or_path", None)
    write_json(out / "text_encoder/config.json", facts)

    beside = source.parent / "tokenizer"
    beside = beside if beside.is_dir() else source
    rules = json.loads((beside / "tokenizer.json").read_text())
    rules["padding"] = None
    rules["truncation"] = {"direction": "Right", "max_length": LONGEST, "strategy": "LongestFirst", "stride": 0}
    write_json(out / "tokenizer/tokenizer.json", rules, indent=None)
    facts = json.loads((beside / "tokenizer_config.json").read_text())
    facts.pop("name_or_path", None)
    write_json(out / "tokenizer/tokenizer_config.json", {**facts, "model_max_length": LONGEST})


@torch.no_grad()
def golden(model):
    """What a right implementation computes from the folder as stored, in f32."""
    unet, vae = load_networks(model)
    encoder = TextEncoder(model / "text_encoder")
    noise, plan = first_noise(unet, 1, SEED), scheduler()
    plan.set_timesteps(STEPS)
    found = {"noise": noise, "timesteps": plan.timesteps, "alphas_cumprod": plan.alphas_cumprod}
    nothing = encoder([""])
    conditions = {"null": nothing, **{f"p{n}": encoder([prompt]) for n, prompt in enumerate(PROMPTS)}}
    for key, parts in conditions.items():
        found.update({f"{key}.{part}": value for part, value in zip(("hidden", "mask", "pooled"), parts, strict=True)})
    for n, prompt in enumerate(PROMPTS):
        text = conditions[f"p{n}"]
        found[f"p{n}.token_ids"] = torch.tensor([encoder.tokenizer.encode(prompt).ids])
        for t in (999, 500, 50):
            found[f"p{n}.unet_t{t}"] = velocity(unet, noise, torch.tensor([t]), text)
        x, walk = noise, []
        for t in plan.timesteps:
            without = velocity(unet, x, t[None], nothing)
            guided = without + GUIDANCE * (velocity(unet, x, t[None], text) - without)
            x = plan.step(guided, t, x).prev_sample
            walk.append(x)
        found[f"p{n}.latents"] = torch.cat(walk)
        found[f"p{n}.image"] = ((vae.decode(x / vae.config.scaling_factor).sample + 1) / 2).clamp(0, 1)
    found["vae_latent"] = vae.encode(found["p0.image"] * 2 - 1).latents
    return found


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--unet", type=Path, required=True)
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True, help="all-MiniLM-L6-v2; its tokenizer inside or in ../tokenizer")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--reference", type=Path, required=True, help="file for the golden tensors")
    a = p.parse_args()
    write_network(a.out / "unet", load_network(UNet2DConditionModel, a.unet), pack_rows)
    write_network(a.out / "vae", load_network(AutoencoderTiny, a.vae), halves)
    write_text_encoder(a.text, a.out)
    facts = {"_class_name": "DDIMScheduler", **SCHEDULE}
    write_json(a.out / "scheduler/scheduler_config.json", facts)
    write_json(a.out / "model_index.json", INDEX)
    told = {"prompts": json.dumps(PROMPTS), "guidance": str(GUIDANCE), "steps": str(STEPS), "seed": str(SEED)}
    write_tensors(a.reference, golden(a.out), told)
    for file in sorted([*a.out.rglob("*.*"), a.reference]):
        print(f"{file.stat().st_size:>10}  {file}")


if __name__ == "__main__":
    main()
