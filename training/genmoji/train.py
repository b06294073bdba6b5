"""Train the text-to-image U-Net on the autoencoder's latents, in stretches that can be cut off at any moment.

    python train.py --vae FOLDER --text FOLDER --out runs/unet --minutes 110            # two CPU cores
    python train.py --vae FOLDER --text FOLDER --out runs/unet --minutes 20 --device cuda

The learning rate warms up, stays, and falls to zero in the last `--cooldown` minutes of `--minutes`, which count what
the run has trained so far, not the time on the wall. `--out` is a checkpoint: the same command goes on from it after
any interruption (a changed `--minutes` moves the end). `OUT/unet` is always the averaged network in diffusers' layout.
"""

import argparse
import copy
import csv
import os
import random
import shutil
import time
from pathlib import Path

import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusion import STEPS, UNET, signal_share, velocity
from muon import optimizers
from pack import PLAIN_STYLE, describe, read_pack, share, to_signed
from recolour import recoloured
from text import WIDTH, TextEncoder
from torch.nn import functional as F

TOKENS = 24  # fixed length of a training caption, so that one compiled graph serves all
EMPTY = 0.1  # part of the captions left empty, for guidance
WARMUP = 100  # steps


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--start", type=Path, help="U-Net folder to begin from, if OUT holds no checkpoint")
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--styles", default="fluent-3d,fluent-flat,noto", help="style words, comma-separated")
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--cooldown", type=float, default=25.0)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=8e-4)
    p.add_argument("--average", type=float, default=0.998, help="decay of the averaged weights, per step")
    p.add_argument("--captions", type=int, default=12, help="different ones per picture")
    p.add_argument("--device", default="cpu")
    return p.parse_args()


class Captions:
    """`each` captions of every picture, encoded when first drawn; equal captions share a row, row 0 is the empty one."""

    def __init__(self, records, each, encoder):
        self.records, self.encoder, device = records, encoder, encoder.device
        self.rows = torch.full((len(records), each), -1, device=device)
        most = len(records) * each + 1
        self.hidden = torch.zeros(most, TOKENS, WIDTH, dtype=torch.bfloat16, device=device)
        self.mask = torch.zeros(most, TOKENS, device=device)
        self.sentence = torch.zeros(most, WIDTH, dtype=torch.bfloat16, device=device)
        self.row_of, self.rng = {}, random.Random(time.time_ns())
        self.encode([""])

    def encode(self, words):
        """The rows of captions, after encoding those not met before."""
        new = [text for text in dict.fromkeys(words) if text not in self.row_of]
        if new:
            begin, end = len(self.row_of), len(self.row_of) + len(new)
            with torch.autocast(self.mask.device.type, torch.bfloat16):
                hidden, mask, sentence = self.encoder(new)
            kept = min(TOKENS, mask.shape[1])
            self.hidden[begin:end, :kept] = hidden[:, :kept].bfloat16()
            self.mask[begin:end, :kept] = mask[:, :kept]
            self.sentence[begin:end] = sentence.bfloat16()
            self.row_of.update(zip(new, range(begin, end), strict=True))
        return torch.tensor([self.row_of[text] for text in words], device=self.mask.device)

    def __call__(self, pictures):
        column = torch.randint(self.rows.shape[1], pictures.shape, device=pictures.device)
        new = self.rows[pictures, column] < 0
        if new.any():
            words = [describe(self.records[n], self.rng) for n in pictures[new].tolist()]
            self.rows[pictures[new], column[new]] = self.encode(words)
        rows = self.rows[pictures, column]
        rows = rows.masked_fill(torch.rand(rows.shape, device=rows.device) < EMPTY, 0)
        return self.hidden[rows], self.mask[rows], self.sentence[rows]


def training_set(pack, styles):
    """The pictures and records of `styles` without the held-out names, and recoloured copies of the plain style."""
    pictures, records = read_pack(pack, lambda r: r["style"] in styles)
    forbidden = {r["name"] for r in records if r["heldout"]}
    allowed = [n for n, r in enumerate(records) if not r["heldout"]]
    pictures, records = pictures[allowed], [records[n] for n in allowed]
    painted, told = recoloured(pictures, records, PLAIN_STYLE, forbidden)
    return torch.cat([pictures, painted]), records + told


@torch.no_grad()
def encode_pictures(vae, pictures, device):
    parts = []
    for part in pictures.split(64):
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            parts.append(vae.encode(to_signed(part.to(device))).latents.float() * vae.config.scaling_factor)
    return torch.cat(parts)


def spread_steps(count, device):
    """Training steps, one per stratum of the batch; half of them lean to the noisy end, where words decide."""
    u = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    u = u[torch.randperm(count, device=device)]
    lean = torch.rand(count, device=device) < 0.5
    return (torch.where(lean, u ** (1 / 3), u) * STEPS).long().clamp_(max=STEPS - 1)


def rate(step, minutes, a):
    """Learning rate relative to `--lr`: warm-up, plateau, linear fall to 1%."""
    return min(1.0, (step + 1) / WARMUP) * min(1.0, max(0.01, (a.minutes - minutes) / a.cooldown))


class Run:
    """The network, its average and its optimizers: everything a checkpoint holds."""

    def __init__(self, a):
        self.out, self.step, self.seen, self.minutes = a.out, 0, 0, 0.0
        kept = a.out / "state.pt"
        state = torch.load(kept, map_location="cpu") if kept.exists() else None
        if a.start and state is None:
            self.net = UNet2DConditionModel.from_pretrained(a.start, torch_dtype=torch.float32)
        else:
            self.net = UNet2DConditionModel(**UNET)
        self.net.to(a.device, memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.optimizers = optimizers(self.net, a.lr)
        if state:
            self.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            self.step, self.seen, self.minutes = state["step"], state["seen"], state["minutes"]

    def save(self):
        """Written aside and renamed, so that a kill leaves the older checkpoint whole."""
        state = {
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seen": self.seen,
            "minutes": self.minutes,
        }
        torch.save(state, self.out / "state.new")
        os.replace(self.out / "state.new", self.out / "state.pt")
        self.average.save_pretrained(self.out / "unet.new")
        shutil.rmtree(self.out / "unet", ignore_errors=True)
        os.replace(self.out / "unet.new", self.out / "unet")

    @torch.no_grad()
    def follow(self, decay):
        decay = min(decay, (self.step + 1) / (self.step + 10))
        torch._foreach_lerp_(list(self.average.parameters()), list(self.net.parameters()), 1 - decay)


def main():
    a = arguments()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    pictures, records = training_set(a.pack, set(a.styles.split(",")))
    vae = AutoencoderTiny.from_pretrained(a.vae, torch_dtype=torch.float32).to(a.device).eval()
    latents = encode_pictures(vae, pictures, a.device)
    captions = Captions(records, a.captions, TextEncoder(a.text, a.device))
    odds = torch.tensor([share(r) for r in records], device=a.device)
    run = Run(a)
    compiled = torch.compile(run.net)
    abar = signal_share().to(a.device)
    worth = (5 * (1 - abar)).clamp(max=1)  # min(SNR + 1, 5) / (SNR + 1)
    plain = sum(r["style"] == PLAIN_STYLE for r in records)
    print(f"{len(records)} pictures, {plain} of them {PLAIN_STYLE}", flush=True)

    log = csv.writer((a.out / "loss.csv").open("a", newline=""))
    saved, losses, before = time.monotonic(), [], time.monotonic()
    while run.minutes < a.minutes:
        for optimizer in run.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = a.lr * rate(run.step, run.minutes, a)
        shown = torch.multinomial(odds, a.batch, replacement=True)
        clean, t = latents[shown], spread_steps(a.batch, a.device)
        noise = torch.randn_like(clean)
        keep, blur = (part.sqrt().view(-1, 1, 1, 1) for part in (abar[t], 1 - abar[t]))
        noisy = (keep * clean + blur * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast(noisy.device.type, torch.bfloat16):
            guess = velocity(compiled, noisy, t, captions(shown))
        error = F.mse_loss(guess.float(), keep * noise - blur * clean, reduction="none").mean((1, 2, 3))
        (error * worth[t]).mean().backward()
        for optimizer in run.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        run.step, run.seen = run.step + 1, run.seen + a.batch
        run.follow(a.average)
        losses.append(error.detach().mean())
        now = time.monotonic()
        run.minutes += min(now - before, 30) / 60  # a paused process is not training
        before = now
        if run.step % 50 == 0:
            mean = torch.stack(losses).mean().item()
            losses.clear()
            log.writerow([run.step, run.seen, f"{run.minutes:.2f}", f"{mean:.5f}"])
            print(f"step {run.step}, {run.seen} seen, {run.minutes:.1f} min, v error {mean:.4f}", flush=True)
        if now - saved > 240:
            run.save()
            saved = time.monotonic()
    run.save()


if __name__ == "__main__":
    main()
