"""The networks' shapes, the noise schedule, and drawing with DDIM."""

import numpy as np
import torch
from diffusers import AutoencoderTiny, DDIMScheduler, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file
from text import WIDTH, unpack_rows

CHANNELS, SIDE = 8, 16  # of the latent of a 128x128 picture

UNET = {
    "sample_size": SIDE,
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "layers_per_block": 2,
    "block_out_channels": (192, 288),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    "attention_head_dim": (6, 9),  # numbers of heads, by diffusers' old meaning of the word
    "cross_attention_dim": WIDTH,
    "use_linear_projection": True,
    "class_embed_type": "simple_projection",
    "projection_class_embeddings_input_dim": WIDTH,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_dim": WIDTH,
}

AUTOENCODER = {
    "latent_channels": CHANNELS,
    "encoder_block_out_channels": (48, 48, 48, 48),
    "decoder_block_out_channels": (64, 64, 64, 64),
    "num_encoder_blocks": (1, 1, 2, 3),
    "num_decoder_blocks": (3, 3, 3, 1),
}

STEPS = 1000
SCHEDULE = {
    "num_train_timesteps": STEPS,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 0,
    "set_alpha_to_one": True,
    "clip_sample": False,
}


def scheduler():
    return DDIMScheduler(**SCHEDULE)


def signal_share():
    """abar of every training step: the share of the picture in the variance of what the U-Net sees."""
    return scheduler().alphas_cumprod


def load_network(kind, folder):
    """A diffusers network in f32; its weights may be stored as int8 rows."""
    network = kind.from_config(kind.load_config(folder))
    network.load_state_dict(unpack_rows(load_file(folder / "diffusion_pytorch_model.safetensors")))
    return network


def load_networks(folder, device="cpu"):
    """U-Net and autoencoder of a model folder, in f32."""
    found = [load_network(kind, folder / name) for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderTiny, "vae"))]
    return [network.to(device).eval().requires_grad_(False) for network in found]


def velocity(unet, x, t, text):
    """The U-Net's v for noisy latents `x` at steps `t` under the text condition (hidden, mask, sentence vector)."""
    hidden, mask, sentence = text
    return unet(x, t, encoder_hidden_states=hidden, encoder_attention_mask=mask.bool(), class_labels=sentence).sample


def first_noise(unet, count, seed):
    """What `unet` begins to draw from: row n is the noise of seed + n, from torch's CPU generator."""
    shape = (1, unet.config.in_channels, SIDE, SIDE)
    return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed + n)) for n in range(count)])


@torch.no_grad()
def draw(unet, vae, encoder, prompts, steps=8, guidance=2.0, seed=42):
    """Pictures (n, 3, 128, 128) in [0, 1]; all prompts go through as one batch."""
    device, count = unet.device, len(prompts)
    plan = scheduler()
    plan.set_timesteps(steps)
    text = encoder([""] * count + list(prompts))
    alone = [part[count:] for part in text]
    x = first_noise(unet, count, seed).to(device)
    for t in plan.timesteps:
        with torch.autocast(device.type, torch.bfloat16):
            if guidance == 1:
                guess = velocity(unet, x, t, alone).float()
            else:
                without, with_text = velocity(unet, x.repeat(2, 1, 1, 1), t, text).float().chunk(2)
                guess = torch.lerp(without, with_text, guidance)
        x = plan.step(guess, t, x).prev_sample
    with torch.autocast(device.type, torch.bfloat16):
        shown = vae.decode(x / vae.config.scaling_factor).sample
    return shown.float().add(1).div(2).clamp(0, 1)


def draw_all(unet, vae, encoder, prompts, chunk=64, **options):
    """Like `draw`, in chunks; the seeds begin anew in every chunk."""
    parts = (prompts[n : n + chunk] for n in range(0, len(prompts), chunk))
    return torch.cat([draw(unet, vae, encoder, part, **options).cpu() for part in parts])


def sheet(pictures, columns):
    """Float pictures in [0, 1] as one PIL picture, `columns` a row."""
    count, _, high, wide = pictures.shape
    rows = (count + columns - 1) // columns
    paper = np.full((rows * high, columns * wide, 3), 255, np.uint8)
    shown = (pictures.permute(0, 2, 3, 1).clamp(0, 1) * 255).round().byte().numpy()
    for n, picture in enumerate(shown):
        top, left = n // columns * high, n % columns * wide
        paper[top : top + high, left : left + wide] = picture
    return Image.fromarray(paper)
