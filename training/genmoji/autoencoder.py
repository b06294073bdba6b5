"""Train the picture autoencoder (diffusers' AutoencoderTiny, 128x128 to 8x16x16) on the pack.

    python autoencoder.py --out runs/vae --minutes 3 --sharpen 1.5 --device cuda --batch 384
    python autoencoder.py --start FOLDER --decoder-blocks 3,3,3,1 --out runs/vae --sharpen 90 --batch 24     # the decoder alone, two CPU cores

First both halves learn: the loss weighs colours, outlines and flat areas; the latents are kept near mean 0 and variance 1
and the decoder sees them with a little noise. Then, for `--sharpen` minutes, the decoder goes on alone against a
discriminator of small patches, which takes the last softness from its edges; `OUT/soft` keeps what was there before. A
U-Net is bound to the encoder whose latents it learned: train the U-Net anew after this.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny
from diffusion import AUTOENCODER, sheet
from pack import read_pack, to_signed
from torch import nn
from torch.nn import functional as F

PATCH = 64  # training crops, in pixels
NOISE = 0.15  # at most, on the latents, since those that the U-Net draws are never quite right
SMALL, GROUND = 0.3, 0.25  # part of the crops that are whole pictures at half their size, and that lie on a coloured ground
WARMUP = 200
ADVERSARY = 0.012  # weight of the discriminator's judgement


def patches(pictures, count):
    """Crops in [-1, 1]: anywhere in a picture, or all of it at half its size as scenes show it; some on a coloured ground."""
    device = pictures.device
    chosen = pictures[torch.randint(len(pictures), (count,), device=device)].float()
    corner = torch.randint(pictures.shape[-1] - PATCH + 1, (2, count, 1), device=device)
    rows, columns = corner + torch.arange(PATCH, device=device)
    each, channel = torch.arange(count, device=device)[:, None, None, None], torch.arange(3, device=device)[None, :, None, None]
    parts = chosen[each, channel, rows[:, None, :, None], columns[:, None, None, :]]
    small = F.avg_pool2d(chosen, chosen.shape[-1] // PATCH)
    parts = torch.where(torch.rand(count, 1, 1, 1, device=device) < SMALL, small, parts)
    ground = torch.rand(count, 3, 1, 1, device=device) * 0.9 + 0.1
    parts = torch.where(torch.rand(count, 1, 1, 1, device=device) < GROUND, parts * ground, parts)
    return to_signed(parts).contiguous(memory_format=torch.channels_last)


def picture_loss(shown, true):
    outline = sum(F.l1_loss(shown.diff(dim=d), true.diff(dim=d)) for d in (2, 3))
    return F.l1_loss(shown, true) + outline / 2 + 2 * F.mse_loss(shown, true)


def latent_loss(z):
    """Distance of every channel from mean 0 and variance 1."""
    z = z.float().transpose(0, 1).flatten(1)
    return z.mean(1).square().mean() + (z.var(1) - 1).square().mean()


def discriminator():
    """Judges overlapping patches of 34 pixels, by hinge loss."""

    def layer(taken, given, stride):
        return nn.Sequential(nn.utils.spectral_norm(nn.Conv2d(taken, given, 4, stride, 1)), nn.LeakyReLU(0.2))

    return nn.Sequential(layer(3, 48, 2), layer(48, 96, 2), layer(96, 128, 1), nn.Conv2d(128, 1, 4, 1, 1))


def disturbed(z):
    """Latents with noise, of another strength in each picture."""
    return z + NOISE * torch.rand(len(z), 1, 1, 1, device=z.device) * torch.randn_like(z)


def grown(folder, blocks):
    """An autoencoder with the weights of another and, where `blocks` says so, more residual blocks in its decoder, which change (almost) nothing at first."""
    before = AutoencoderTiny.from_pretrained(folder)
    had = before.config.num_decoder_blocks
    if blocks is None or tuple(blocks) == tuple(had):
        return before
    after = AutoencoderTiny.from_config({**before.config, "num_decoder_blocks": blocks})
    after.encoder.load_state_dict(before.encoder.state_dict())
    old, new = list(before.decoder.layers), list(after.decoder.layers)
    pairs, at, to = [(0, 0)], 2, 2  # the first layer; the second, its activation, has no weights
    for level, (few, many) in enumerate(zip(had, blocks, strict=True)):
        pairs += [(at + n, to + n) for n in range(few)]
        for block in new[to + few : to + many]:
            nn.init.zeros_(block.conv[-1].weight)
            nn.init.zeros_(block.conv[-1].bias)
        at, to = at + few, to + many
        last = level == len(had) - 1
        pairs.append((at, to) if last else (at + 1, to + 1))
        at, to = at + 2, to + 2
    for a, b in pairs:
        new[b].load_state_dict(old[a].state_dict())
    return after


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


class Clock:
    """Steps until the minutes are over, with the share that is done; the first one, which compiles, is not counted."""

    def __init__(self, minutes):
        self.minutes, self.step, self.begin = minutes, 0, None

    def __iter__(self):
        while self.minutes > 0 and (done := self.share()) < 1:
            yield self.step, done
            self.step += 1
            self.begin = self.begin or time.monotonic()

    def share(self):
        return (time.monotonic() - self.begin) / 60 / self.minutes if self.begin else 0.0


def follow(average, network, step, pull=0.003):
    """`average` moves towards `network`."""
    pull = max(pull, 1 / (step + 1))
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in network.parameters()], pull)


def learn(vae, average, pictures, unseen, a):
    """Both halves."""
    optimizer = torch.optim.AdamW(vae.parameters(), lr=a.lr, betas=(0.9, 0.98), weight_decay=1e-3, fused=True)

    def pass_through(x):
        z = vae.encode(x).latents
        return z, vae.decode(disturbed(z)).sample

    compiled = torch.compile(pass_through)
    for step, done in Clock(a.minutes):
        optimizer.param_groups[0]["lr"] = a.lr * min(1, (step + 1) / WARMUP) * (1 - done)
        x = patches(pictures, a.batch)
        with torch.autocast(x.device.type, torch.bfloat16):
            z, shown = compiled(x)
        loss = picture_loss(shown.float(), x) + 0.02 * latent_loss(z)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        follow(average, vae, step)
        if step % 500 == 499:
            print(f"step {step + 1}, {(step + 1) * a.batch} crops, loss {loss.item():.4f}, PSNR {round_trip(average, unseen[::8])[1]:.2f} dB", flush=True)


def sharpen(vae, average, pictures, unseen, a):
    """The decoder alone, against a discriminator."""
    vae.load_state_dict(average.state_dict())
    vae.encoder.requires_grad_(False)
    judge = discriminator().to(a.device, memory_format=torch.channels_last)
    rate = a.lr / 5
    painting, judging = (torch.optim.AdamW(n.parameters(), lr=rate, betas=(0.5, 0.98), fused=True) for n in (vae.decoder, judge))
    encode, decode = torch.compile(lambda x: vae.encode(x).latents), torch.compile(lambda z: vae.decode(z).sample)
    for step, done in Clock(a.sharpen):
        for group in painting.param_groups + judging.param_groups:
            group["lr"] = rate * min(1, (step + 1) / WARMUP) * (1 - 0.95 * done)
        x = patches(pictures, a.batch)
        with torch.autocast(x.device.type, torch.bfloat16):
            with torch.no_grad():
                z = encode(x)
            shown = decode(disturbed(z))
            opinion = judge(shown).float().mean()
        loss = picture_loss(shown.float(), x) - (ADVERSARY if step > WARMUP else 0) * opinion
        painting.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
        painting.step()
        with torch.autocast(x.device.type, torch.bfloat16):
            real, false = judge(x).float(), judge(shown.detach()).float()
        error = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        judging.zero_grad(set_to_none=True)
        error.backward()
        judging.step()
        follow(average.decoder, vae.decoder, step)
        if step % 200 == 199:
            average.save_pretrained(a.out)
            print(f"step {step + 1} of sharpening, loss {loss.item():.4f}, judge {error.item():.2f}, PSNR {round_trip(average, unseen[::8])[1]:.2f} dB", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    p.add_argument("--start", type=Path, help="autoencoder folder to begin from")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--minutes", type=float, default=0.0)
    p.add_argument("--decoder-blocks", type=lambda text: [int(n) for n in text.split(",")], help="in place of those of --start, such as 3,3,3,1")
    p.add_argument("--sharpen", type=float, default=0.0, help="minutes of the decoder against a discriminator, after those")
    p.add_argument("--batch", type=int, default=32)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--device", default="cpu")
    a = p.parse_args()
    torch.set_float32_matmul_precision("high")
    pictures, records = read_pack(a.pack, lambda r: not r["skin"] and r["style"] != "silhouette")
    held = torch.tensor([r["heldout"] for r in records])
    unseen, pictures = pictures[held].to(a.device), pictures[~held].to(a.device)
    vae = grown(a.start, a.decoder_blocks) if a.start else AutoencoderTiny(**AUTOENCODER)
    vae.to(a.device, memory_format=torch.channels_last)
    average = copy.deepcopy(vae).requires_grad_(False)
    learn(vae, average, pictures, unseen, a)
    if a.minutes:
        set_scale(average, pictures)
    average.save_pretrained(a.out / "soft")
    soft, quality = round_trip(average, unseen)
    print(f"PSNR of the {len(unseen)} held-out pictures {quality:.2f} dB", flush=True)
    sharpen(vae, average, pictures, unseen, a)
    average.save_pretrained(a.out)
    shown, quality = round_trip(average, unseen)
    print(f"after sharpening {quality:.2f} dB")
    rows = [part[n : n + 12] for n in (0, 12) for part in (unseen / 255, soft, shown)]
    sheet(torch.cat(rows).cpu(), 12).save(a.out / "roundtrip.png")


if __name__ == "__main__":
    main()
