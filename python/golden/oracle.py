"""Diffusers as the oracle: loads a folder, draws one case, and records what Ondine's `--dump` records."""
import json
from pathlib import Path
from types import SimpleNamespace

import torch
from diffusers import (AutoencoderTiny, DDIMScheduler, DiffusionPipeline, DPMSolverMultistepScheduler,
                       EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler, LCMScheduler,
                       PNDMScheduler, TCDScheduler, UniPCMultistepScheduler, UNet2DConditionModel)
from diffusers.utils import logging
from diffusers.utils.torch_utils import randn_tensor
from transformers import AutoTokenizer, BertModel

SAMPLERS = {
    "ddim": (DDIMScheduler, {}),
    "pndm": (PNDMScheduler, dict(skip_prk_steps=True)),
    "euler": (EulerDiscreteScheduler, {}),
    "euler-a": (EulerAncestralDiscreteScheduler, {}),
    "heun": (HeunDiscreteScheduler, {}),
    "dpm++-2m": (DPMSolverMultistepScheduler, {}),
    "dpm++-2m-sde": (DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")),
    "unipc": (UniPCMultistepScheduler, {}),
    "lcm": (LCMScheduler, {}),
    "tcd": (TCDScheduler, {}),
}


def load(folder):
    """The pipeline of a folder, at f32 on the CPU."""
    logging.set_verbosity_error()
    index = json.loads((Path(folder) / "model_index.json").read_text())
    if index["_class_name"] == "GenmojiPipeline":
        return load_emoji(Path(folder))
    variant = "fp16" if list(Path(folder).glob("unet/*.fp16.safetensors")) else None
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, variant=variant, use_safetensors=True)
    pipe.set_progress_bar_config(disable=True)
    pipe.published = dict(pipe.scheduler.config)
    return pipe


def load_emoji(folder):
    """The parts of the emoji pipeline, which diffusers does not know."""
    return SimpleNamespace(
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"),
        text=BertModel.from_pretrained(folder / "text_encoder", add_pooling_layer=False, dtype=torch.float32).eval(),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32).eval(),
        vae=AutoencoderTiny.from_pretrained(folder / "vae", torch_dtype=torch.float32).eval(),
        published=DDIMScheduler.load_config(folder / "scheduler"))


def scheduler(published, case):
    """The case's scheduler, made from the folder's own config as diffusers makes it."""
    kind, extra = SAMPLERS[case.sampler]
    return kind.from_config(published, **extra, **(dict(use_karras_sigmas=True) if case.karras else {}))


def generators(case):
    """A generator per picture: picture i starts from seed + i."""
    return [torch.Generator().manual_seed(case.seed + i) for i in range(case.batch)]


@torch.no_grad()
def run(pipe, case):
    """Draw a case and return everything that a dump holds."""
    return run_emoji(pipe, case) if isinstance(pipe, SimpleNamespace) else run_pipeline(pipe, case)


def run_pipeline(pipe, case):
    """One of diffusers' own pipelines, with its latents recorded from the first."""
    pipe.scheduler = scheduler(pipe.published, case)
    path, prepare = [], pipe.prepare_latents

    def prepared(*values, **named):
        path.append(prepare(*values, **named))
        return path[0]

    def stepped(_pipe, _step, _time, tensors):
        path.append(tensors["latents"])
        return {}

    words = dict(prompt=[case.prompt] * case.batch, guidance_scale=case.guidance, num_inference_steps=case.steps,
                 width=case.width, height=case.height, latents=case.initial_noise(), output_type="pt",
                 generator=generators(case) if case.batch > 1 else generators(case)[0], callback_on_step_end=stepped)
    if case.sampler == "tcd":
        words["eta"] = 0.3  # the default of the scheduler, which the pipeline overrides with 0
    if case.negative is not None:
        words["negative_prompt"] = [case.negative] * case.batch
    pipe.prepare_latents = prepared
    try:
        image = pipe(**words).images
    finally:
        del pipe.prepare_latents
    return record(path, pipe.scheduler.timesteps, image) | embeddings(pipe, case)


def embeddings(pipe, case):
    """The text embeddings of a case; the negative one only where it is used."""
    guided = case.guidance > 1 and pipe.unet.config.time_cond_proj_dim is None
    words = dict(prompt=case.prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=guided)
    if guided:
        words["negative_prompt"] = case.negative
    states = pipe.encode_prompt(**words)
    return dict(prompt_embeds=states[0]) | (dict(negative_embeds=states[1]) if guided else {})


def record(path, timesteps, image):
    """The tensors of a dump, apart from the text."""
    latents = {f"latents_{i}": tensor.clone() for i, tensor in enumerate(path)}
    return latents | dict(timesteps=timesteps.float().clone(), image=image.float())


def emoji_text(pipe, prompt):
    """The hidden states of one prompt, and their mean scaled to a fixed length as the class vector."""
    ids = pipe.tokenizer(prompt, truncation=True, max_length=32, return_tensors="pt").input_ids
    hidden = pipe.text(input_ids=ids).last_hidden_state
    return hidden, torch.nn.functional.normalize(hidden.mean(1), dim=-1) * hidden.shape[-1] ** 0.5


def run_emoji(pipe, case):
    """The emoji pipeline: guidance between a prompt and the empty (or negative) one."""
    steps, seeds = scheduler(pipe.published, case), generators(case)
    steps.set_timesteps(case.steps)
    own, null = emoji_text(pipe, case.prompt), emoji_text(pipe, case.negative or "")
    shape = (case.batch, 4, case.height // 8, case.width // 8)
    noise = case.initial_noise()
    latents = (randn_tensor(shape, seeds) if noise is None else noise) * steps.init_noise_sigma
    drawn = dict(generator=seeds) if case.sampler in ("euler-a", "dpm++-2m-sde", "lcm", "tcd") else {}

    def predict(sample, time, text):
        hidden, pooled = (state.expand(case.batch, *state.shape[1:]) for state in text)
        return pipe.unet(sample, time, encoder_hidden_states=hidden, class_labels=pooled).sample

    path = [latents]
    for time in steps.timesteps:
        sample = steps.scale_model_input(path[-1], time)
        output = predict(sample, time, own)
        if case.guidance > 1:
            away = predict(sample, time, null)
            output = away + case.guidance * (output - away)
        path.append(steps.step(output, time, path[-1], **drawn).prev_sample)
    image = (pipe.vae.decode(path[-1] / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    text = dict(prompt_embeds=own[0]) | (dict(negative_embeds=null[0]) if case.guidance > 1 else {})
    return record(path, steps.timesteps, image) | text
