"""Train the text-to-image U-Net on the autoencoder's latents, in stretches that can be cut off at any moment.

    python train.py --vae FOLDER --text FOLDER --out runs/unet --minutes 110 --batch 32                       # two CPU cores
    python train.py --vae FOLDER --text FOLDER --out runs/unet --minutes 18 --cooldown 7 --device cuda        # one large GPU

The learning rate warms up, stays, and falls to zero in the last `--cooldown` minutes of `--minutes`, which count what
the run has trained so far, not the time on the wall. `--out` is a checkpoint: the same command goes on from it after
any interruption (a changed `--minutes` moves the end). `OUT/unet` is always the averaged network in diffusers' layout.
"""

import argparse
import copy
import csv
import os
import shutil
import time
from pathlib import Path

import torch
from data import Data
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusion import STEPS, UNET, load_network, signal_share, velocity
from muon import optimizers
from pack import STYLE_SHARE
from safetensors.torch import load_file
from text import unpack_rows
from torch.nn import functional as F

EMPTY = 0.1  # part of the captions left empty, for guidance
WARMUP = 150  # steps


def arguments(p):
    p.add_argument("--pack", type=Path, default=Path(__file__).with_name("pack.npz"))
    p.add_argument("--vae", type=Path, required=True)
    p.add_argument("--text", type=Path, required=True)
    p.add_argument("--out", type=Path, required=True)
    p.add_argument("--styles", default=",".join(STYLE_SHARE), help="style words, comma-separated")
    p.add_argument("--minutes", type=float, required=True)
    p.add_argument("--batch", type=int, default=1024)
    p.add_argument("--scenes", type=float, default=0.45, help="part of the batch that is composed scenes")
    p.add_argument("--captions", type=int, default=32, help="different ones per picture")
    p.add_argument("--ring", type=int, default=65536, help="scenes kept ready")
    p.add_argument("--reuse", type=float, default=3.0, help="how often a scene is shown on average")
    p.add_argument("--workers", type=int, default=12, help="processes that compose scenes")
    p.add_argument("--device", default="cpu")
    p.add_argument("--no-compile", action="store_true")
    p.add_argument("--until", type=float, default=1e9, help="stop after so many seconds of this call, saving everything")
    return p


def spread_steps(count, device):
    """Training steps, one per stratum of the batch; half of them lean to the noisy end, where words decide."""
    u = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    u = u[torch.randperm(count, device=device)]
    lean = torch.rand(count, device=device) < 0.5
    return (torch.where(lean, u ** (1 / 3), u) * STEPS).long().clamp_(max=STEPS - 1)


def rate(step, minutes, a):
    """Learning rate relative to `--lr`: warm-up, plateau, linear fall to nothing."""
    return min(1.0, (step + 1) / WARMUP) * min(1.0, max(0.003, (a.minutes - minutes) / a.cooldown))


def new_network(vae):
    """A network of the shape `UNET` for the latents of `vae`."""
    channels = vae.config.latent_channels
    return UNet2DConditionModel(**{**UNET, "in_channels": channels, "out_channels": channels})


def begun_from(folder, vae):
    """A new network with the weights of another: of one that saw other latents, all but the outermost layers."""
    net = new_network(vae)
    stored, own = unpack_rows(load_file(folder / "diffusion_pytorch_model.safetensors")), net.state_dict()
    fitting = {name: value for name, value in stored.items() if name in own and own[name].shape == value.shape}
    net.load_state_dict(fitting, strict=False)
    print(f"{len(fitting)} of {len(own)} tensors begin as in {folder}; not {', '.join(own.keys() - fitting.keys()) or 'none'}", flush=True)
    return net


class Run:
    """The network, its average and its optimizers: everything a checkpoint holds."""

    def __init__(self, a, vae):
        self.out, self.step, self.seen, self.minutes = a.out, 0, 0, 0.0
        kept = a.out / "state.pt"
        state = torch.load(kept, map_location="cpu") if kept.exists() else None
        if a.start and state is None:
            self.net = begun_from(a.start, vae)
        else:
            self.net = new_network(vae)
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

    def update(self, lr):
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def main():
    begun = time.monotonic()
    p = arguments(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    p.add_argument("--start", type=Path, help="U-Net folder to begin from, if OUT holds no checkpoint")
    p.add_argument("--cooldown", type=float, default=25.0)
    p.add_argument("--lr", type=float, default=1.5e-3)
    p.add_argument("--average", type=float, default=0.999, help="decay of the averaged weights, per step")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    torch.set_float32_matmul_precision("high")
    vae = load_network(AutoencoderTiny, a.vae)
    data = Data(a, vae)
    run = Run(a, vae)
    compiled = run.net if a.no_compile else torch.compile(run.net)
    abar = signal_share().to(a.device)
    worth = (5 * (1 - abar)).clamp(max=1)  # min(SNR + 1, 5) / (SNR + 1)

    log = csv.writer((a.out / "loss.csv").open("a", newline=""))
    losses, told, saved = [], time.monotonic(), time.monotonic()
    before, first = time.monotonic(), True
    while run.minutes < a.minutes and time.monotonic() - begun < a.until:
        clean, text = data.batch(EMPTY)
        t = spread_steps(a.batch, a.device)
        noise = torch.randn_like(clean)
        keep, blur = (part.sqrt().view(-1, 1, 1, 1) for part in (abar[t], 1 - abar[t]))
        noisy = (keep * clean + blur * noise).contiguous(memory_format=torch.channels_last)
        with torch.autocast(noisy.device.type, torch.bfloat16):
            guess = velocity(compiled, noisy, t, text)
        error = F.mse_loss(guess.float(), keep * noise - blur * clean, reduction="none").mean((1, 2, 3))
        (error * worth[t]).mean().backward()
        run.update(a.lr * rate(run.step, run.minutes, a))
        run.step, run.seen = run.step + 1, run.seen + a.batch
        run.follow(a.average)
        losses.append(error.detach())
        now = time.monotonic()
        if not first:  # compilation is no training either
            run.minutes += min(now - before, 30) / 60  # a paused process is not training
        before, first = now, False
        if now - told > 10:
            mean, parts = torch.stack(losses).mean(0), data.singles
            one, many = mean[:parts].mean().item(), mean[parts:].mean().item()
            speed = len(losses) * a.batch / (now - told)
            losses.clear()
            log.writerow([run.step, run.seen, f"{run.minutes:.2f}", f"{one:.5f}", f"{many:.5f}"])
            print(f"step {run.step}, {run.seen} seen, {run.minutes:.2f} min, {speed:.0f}/s, v error {one:.4f}, of scenes {many:.4f}, scenes made {data.made}, {now - begun:.0f} s", flush=True)
            told = time.monotonic()
        if now - saved > 240:
            run.save()
            before = saved = time.monotonic()
    run.save()
    data.close()


if __name__ == "__main__":
    main()
