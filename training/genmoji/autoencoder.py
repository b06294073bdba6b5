"""Train the picture autoencoder (diffusers' AutoencoderTiny, 128x128 to 4x16x16) on the pack.

    python autoencoder.py --out runs/vae --minutes 15

The loss weighs colours, outlines and flat areas; the latents are kept near mean 0 and variance 1 and the decoder sees
them with a little noise. A U-Net is bound to the autoencoder whose latents it learned: train the U-Net anew after this.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from diffusion import AUTOENCODER, CHANNELS, sheet
from pack import read_pack, to_signed
from torch.nn import functional as F

PATCH = 64  # training crops, in pixels
NOISE = 0.05
WARMUP = 200


def patches(pictures, count):
    """Random square crops, never far from the middle, where the ground is plain."""
    margin = pictures.shape[-1] - PATCH
    corner = (torch.randint(9, (count, 2)) * margin // 8).tolist()
    chosen = torch.randint(len(pictures), (count,)).tolist()
    return to_signed(
        torch.stack([pictures[n, :, y : y + PATCH, x : x + PATCH] for n, (y, x) in zip(chosen, corner, strict=True)])
    )


def picture_loss(shown, true):
    outline = sum(F.l1_loss(shown.diff(dim=d), true.diff(dim=d)) for d in (2, 3))
    return F.l1_loss(shown, true) + outline / 2 + 2 * F.mse_loss(shown, true)


def latent_loss(z):
    """Distance of every channel from mean 0 and variance 1."""
    z = z.float().transpose(0, 1).flatten(1)
    return z.mean(1).square().mean() + (z.var(1) - 1).square().mean()


@torch.no_grad()
def round_trip(vae, pictures):
    """Pictures through the autoencoder, in [0, 1], and their PSNR."""
    parts = [vae.decode(vae.encode(to_signed(part)).latents).sample for part in pictures.split(32)]
    shown, true = torch.cat(parts).add(1).div(2).clamp(0, 1), pictures / 255
    return shown, -10 * (shown - true).square().mean((1, 2, 3)).log10().mean().item()


@torch.no_grad()
def set_scale(vae, pictures):
    """The factor that brings the latents to unit variance, into the configuration."""
    z = torch.cat([vae.encode(to_signed(part)).latents for part in pictures[::7].split(32)])
    vae.register_to_config(scaling_factor=round(1 / z.std().item(), 4))


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    p.add_argument("--start", type=Path, help="autoencoder folder to begin from")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--device", default="cpu")
    a = p.parse_args()
    pictures, records = read_pack(a.pack, lambda r: not r["skin"])
    held = torch.tensor([r["heldout"] for r in records])
    unseen, pictures = pictures[held].to(a.device), pictures[~held].to(a.device)
    vae = AutoencoderTiny.from_pretrained(a.start) if a.start else AutoencoderTiny(**AUTOENCODER)
    vae.to(a.device, memory_format=torch.channels_last)
    average = copy.deepcopy(vae).requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=a.lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)

    @torch.compile
    def pass_through(x, noise):
        z = vae.encode(x).latents
        return z, vae.decode(z + noise).sample

    begin, step = time.monotonic(), 0
    while (done := (time.monotonic() - begin) / 60 / a.minutes) < 1:
        for group in optimizer.param_groups:
            group["lr"] = a.lr * min(1, (step + 1) / WARMUP) * (1 - done)
        x = patches(pictures, a.batch).contiguous(memory_format=torch.channels_last)
        noise = NOISE * torch.randn(a.batch, CHANNELS, PATCH // 8, PATCH // 8, device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16):
            z, shown = pass_through(x, noise)
        loss = picture_loss(shown.float(), x) + 0.02 * latent_loss(z)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        pull = max(0.01, 1 / (step + 1))
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in vae.parameters()], pull)
        if step % 200 == 0:
            quality = round_trip(average, unseen[::8])[1]
            print(f"step {step}, {step * a.batch} crops, loss {loss.item():.4f}, PSNR {quality:.2f} dB", flush=True)
    set_scale(average, pictures)
    average.save_pretrained(a.out)
    shown, quality = round_trip(average, unseen)
    print(f"PSNR of the {len(unseen)} held-out pictures {quality:.2f} dB")
    pairs = torch.cat([unseen[:24] / 255, shown[:24]])
    sheet(pairs.cpu(), 12).save(a.out / "roundtrip.png")


if __name__ == "__main__":
    main()
