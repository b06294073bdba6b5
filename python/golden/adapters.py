"""Adapters of low rank (LoRA) for a tiny language model, with what transformers and peft compute.

    python adapters.py MODEL OUT
        (MODEL: crates/ondine-models/tests/data/language/llama, OUT: crates/ondine-models/tests/data/adapters)

OUT/NAME are folders as peft saves them; OUT/model.gguf holds the same model as GGUF files do, its rows in their order,
and OUT/NAME.gguf the same adapter. OUT/logits.safetensors: `input_ids` [tokens], and the `logits` [tokens, vocabulary]
`plain`, with each adapter, and with `both`: the first, and half of the second.
"""
import argparse
import json
import shutil
from pathlib import Path

import gguf
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

TOKENS = 17
ADAPTERS = {
    "patterns": dict(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "v_proj", "down_proj"],
                     rank_pattern={"v_proj": 2, "layers.1.self_attn.q_proj": 3}, alpha_pattern={"down_proj": 10}),
    "rooted": dict(r=5, lora_alpha=3, use_rslora=True, target_modules="all-linear"),
}
NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output", "gate_proj": "ffn_gate",
         "up_proj": "ffn_up", "down_proj": "ffn_down", "input_layernorm": "attn_norm",
         "post_attention_layernorm": "ffn_norm"}


def in_file(config, path, tensor):
    """The name and the rows of a tensor in a GGUF file."""
    outside = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
               "lm_head.weight": "output.weight"}
    if path in outside:
        return outside[path], tensor
    layer, *_, module, _ = path.removeprefix("model.layers.").split(".")
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(module)
    if heads:  # rows that are turned together are neighbours
        tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
    return f"blk.{layer}.{NAMES[module]}.weight", tensor


def write_model(path, config, state):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    for name, tensor in state.items():
        name, tensor = in_file(config, name, tensor)
        writer.add_tensor(name, tensor.contiguous().numpy())
    finish(writer)


def write_adapter(path, config, folder):
    state, said = load_file(folder / "adapter_model.safetensors"), json.loads((folder / "adapter_config.json").read_text())
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(said["lora_alpha"]))
    for name, tensor in state.items():
        module = name.removeprefix("base_model.model.").split(".lora_")[0]
        part = "a" if ".lora_A." in name else "b"
        if part == "b":
            if said["use_rslora"]:  # the file has one scale by rank for all
                tensor = tensor * tensor.shape[1] ** 0.5
            name, tensor = in_file(config, f"{module}.weight", tensor)
        else:
            name, _ = in_file(config, f"{module}.weight", torch.zeros(2 * config.num_attention_heads, 1))
        writer.add_tensor(f"{name}.lora_{part}", tensor.contiguous().numpy())
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    fresh = lambda: transformers.AutoModelForCausalLM.from_pretrained(options.model, attn_implementation="eager")
    model = fresh()
    config = model.config
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(0, config.vocab_size, (1, TOKENS), generator=generator)
    logits = lambda model: model(input_ids=ids, use_cache=False).logits[0].detach().contiguous()
    golden = {"input_ids": ids[0], "plain": logits(model)}
    write_model(options.out / "model.gguf", config, model.state_dict())
    for name, said in ADAPTERS.items():
        adapted = get_peft_model(fresh(), LoraConfig(**said))
        for path, parameter in adapted.named_parameters():
            if ".lora_" in path:
                parameter.data = torch.randn(parameter.shape, generator=generator) / parameter.shape[1] ** 0.5
        golden[name] = logits(adapted.eval())
        shutil.rmtree(options.out / name, ignore_errors=True)
        adapted.save_pretrained(options.out / name)
        (options.out / name / "README.md").unlink(missing_ok=True)
        text = json.loads((options.out / name / "adapter_config.json").read_text())
        text["base_model_name_or_path"] = None
        text["target_modules"] = sorted(text["target_modules"])
        (options.out / name / "adapter_config.json").write_text(json.dumps(text, indent=1, sort_keys=True) + "\n")
    write_adapter(options.out / "rooted.gguf", config, options.out / "rooted")
    first, second = ADAPTERS
    both = PeftModel.from_pretrained(fresh(), options.out / first, adapter_name=first)
    both.load_adapter(options.out / second, adapter_name=second)
    for path, module in both.named_modules():
        if isinstance(getattr(module, "scaling", None), dict) and second in module.scaling:
            module.scaling[second] *= 0.5
    both.base_model.set_adapter([first, second])
    golden["both"] = logits(both.eval())
    save_file(golden, options.out / "logits.safetensors")
    for name, tensor in golden.items():
        print(name, tuple(tensor.shape), f"{(tensor - golden['plain']).abs().max():.3f}" if name != "input_ids" else "")


if __name__ == "__main__":
    main()
