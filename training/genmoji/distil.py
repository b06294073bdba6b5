"""Make a trained U-Net draw in few steps and without guidance.

    python distil.py --teacher runs/unet/unet --vae FOLDER --text FOLDER --out runs/few --minutes 30

The student learns to go in one step, without guidance, where the teacher goes in two guided DDIM steps (progressive
distillation, Salimans and Ho 2022, with guidance folded in, Meng et al. 2023). It sees only the noise levels of its `--steps`.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
from data import Data
from diffusers import AutoencoderTiny, UNet2DConditionModel
from diffusion import STEPS, load_network, signal_share, velocity
from muon import optimizers
from torch.nn import functional as F
from train import arguments


def rotate(x, v, here, there):
    """The DDIM step from one (signal, noise) pair of amplitudes to another."""
    (a, s), (b, u) = here, there
    return b * (a * x - s * v) + u * (s * x + a * v)


def main():
    begun = time.monotonic()
    p = arguments(argparse.ArgumentParser(description=__doc__.splitlines()[0]))
    p.add_argument("--teacher", type=Path, required=True)
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--guidance", type=float, default=2.5)
    p.add_argument("--quiet-end", type=float, default=0.2, help="share of the schedule, at its clear end, without guidance")
    p.add_argument("--lr", type=float, default=3e-4)
    p.add_argument("--average", type=float, default=0.998)
    a = p.parse_args()
    torch.set_float32_matmul_precision("high")
    data = Data(a, load_network(AutoencoderTiny, a.vae))
    teacher = load_network(UNet2DConditionModel, a.teacher)
    teacher.to(a.device, memory_format=torch.channels_last).requires_grad_(False).eval()
    student = copy.deepcopy(teacher).requires_grad_(True).train()
    average = copy.deepcopy(teacher)
    if a.device != "cpu":
        teacher = teacher.bfloat16()
    guide, learn = (teacher, student) if a.no_compile else (torch.compile(teacher), torch.compile(student))
    chosen = optimizers(student, a.lr)
    abar = torch.cat([signal_share(), torch.ones(1)]).to(a.device)  # the last entry: what comes after the last step

    def amplitudes(t):
        return tuple(part.sqrt().view(-1, 1, 1, 1) for part in (abar[t], 1 - abar[t]))

    stride = STEPS // a.steps
    nothing = None
    step, losses, told, first, trained, before = 0, [], time.monotonic(), True, 0.0, time.monotonic()
    while trained < a.minutes * 60 and time.monotonic() - begun < a.until:
        clean, tokens = data.draw_batch(0.0)
        if nothing is None:
            nothing = data.nothing.expand(len(tokens), -1)
        text = data.text(tokens)
        blank = data.text(nothing)
        turn = torch.randint(a.steps, (a.batch,), device=clean.device)
        t = STEPS - 1 - turn * stride
        middle, after = t - stride // 2, t - stride
        after = torch.where(after < 0, STEPS, after)
        keep, blur = amplitudes(t)
        x = (keep * clean + blur * torch.randn_like(clean)).contiguous(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16):
            y = x
            for now, then in ((t, middle), (middle, after)):
                with_text = velocity(guide, y, now, text).float()
                without = velocity(guide, y, now, blank).float()
                scale = torch.where(now < a.quiet_end * STEPS, 1.0, a.guidance).view(-1, 1, 1, 1)
                y = rotate(y, torch.lerp(without, with_text, scale), amplitudes(now), amplitudes(then))
                y = y.contiguous(memory_format=torch.channels_last)
        (k, s), (b, u) = amplitudes(t), amplitudes(after)
        wanted = (y - (b * k + u * s) * x) / (u * k - b * s)
        with torch.autocast(x.device.type, torch.bfloat16):
            guess = velocity(learn, x, t, text)
        error = F.mse_loss(guess.float(), wanted, reduction="none").mean((1, 2, 3))
        error.mean().backward()
        lr = a.lr * min(1.0, (step + 1) / 50) * max(0.0, 1 - trained / (60 * a.minutes))
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        decay = min(a.average, (step + 1) / (step + 10))
        torch._foreach_lerp_(list(average.parameters()), list(student.parameters()), 1 - decay)
        losses.append(error.detach().mean())
        now = time.monotonic()
        if not first:
            trained += min(now - before, 30)
        before, first = now, False
        if now - told > 10:
            print(f"step {step}, {trained:.0f} s, {len(losses) * a.batch / (now - told):.0f}/s, error {torch.stack(losses).mean():.5f}", flush=True)
            losses.clear()
            told = now
    average.save_pretrained(a.out / "unet")
    data.close()


if __name__ == "__main__":
    main()
