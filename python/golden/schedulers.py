"""Makes the test data of ondine-image with diffusers, torch and numpy.

    python python/golden/schedulers.py            # writes crates/ondine-image/tests/data/*.json
    python python/golden/schedulers.py --compare scheduler_golden.json

Needs torch 2.15, diffusers 0.42, numpy and scipy. The second form also checks that the toy run made
here agrees with trajectories made elsewhere.

schedulers.json: cases by name. Each runs a diffusers scheduler over a toy network,
    output = 0.7 * sin(1.3 * x + t / 1000), x0[i] = 1.4 * sin(1.7 * i + 0.3) * init_noise_sigma, 8 values,
    noise draw k, element i = 1.2 * sin(12.9898 * (8 * k + i + 1)),
and holds timesteps, sigmas (where the class has them) and the latents after the calls in `kept`.
noise.json: bits of float32 draws, as unsigned integers.
infotext.json: texts with what A1111's rule reads from them.
"""

import argparse
import json
import math
import re
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch

warnings.filterwarnings("ignore")
diffusers.logging.set_verbosity_error()
DATA = Path(__file__).resolve().parents[2] / "crates/ondine-image/tests/data"
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


# ---------------------------------------------------------------- schedulers


def toy_noise(draw):
    values = [1.2 * math.sin(12.9898 * (8 * draw + i + 1)) for i in range(8)]
    return torch.tensor(values, dtype=torch.float32).reshape(1, 8, 1, 1)


def run(class_name, config, steps, step_kwargs=None, set_kwargs=None):
    """One trajectory: every scheduler takes its noise from the toy draws."""
    scheduler = getattr(diffusers, class_name).from_config(config)
    scheduler.set_timesteps(**({"num_inference_steps": steps} | (set_kwargs or {})))
    if hasattr(scheduler, "set_begin_index"):
        # Otherwise the first step is looked up by its timestep, which may stand twice in the list.
        scheduler.set_begin_index(0)
    draws = 0

    def randn_tensor(*args, **kwargs):
        nonlocal draws
        draws += 1
        return toy_noise(draws - 1)

    module = __import__(type(scheduler).__module__, fromlist=["randn_tensor"])
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = randn_tensor
    init = float(getattr(scheduler, "init_noise_sigma", 1.0))
    x = torch.tensor([1.4 * math.sin(1.7 * i + 0.3) for i in range(8)], dtype=torch.float32)
    x = x.reshape(1, 8, 1, 1) * init
    after = []
    for t in scheduler.timesteps:
        inputs = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        output = 0.7 * torch.sin(1.3 * inputs + float(t) / 1000)
        x = scheduler.step(output, t, x, **(step_kwargs or {})).prev_sample
        after.append(x.flatten().tolist())
    sigmas = getattr(scheduler, "sigmas", None)
    return {
        "class": class_name,
        "config": config,
        "steps": steps,
        "step_kwargs": step_kwargs or {},
        "init_noise_sigma": init,
        "timesteps": [float(t) for t in scheduler.timesteps],
        "sigmas": None if sigmas is None else [float(s) for s in sigmas],
        "noise_calls": draws,
        "trajectory": after,
    }


def run_scm(config, steps):
    """A trajectory of SCM as its pipeline calls it, from the circle that it is written on to rectified flow."""
    scheduler = diffusers.SCMScheduler.from_config(config)
    scheduler.set_timesteps(steps, **({} if steps == 2 else {"intermediate_timesteps": None}))
    scheduler.set_begin_index(0)
    draws, data = 0, scheduler.config.sigma_data

    def randn_tensor(*args, **kwargs):
        nonlocal draws
        draws += 1
        return toy_noise(draws - 1)

    __import__(type(scheduler).__module__, fromlist=["randn_tensor"]).randn_tensor = randn_tensor
    x = data * torch.tensor([1.4 * math.sin(1.7 * i + 0.3) for i in range(8)], dtype=torch.float32).reshape(1, 8, 1, 1)
    after, times = [], []
    for t, next in zip(scheduler.timesteps[:-1], scheduler.timesteps[1:]):
        level = t.sin() / (t.cos() + t.sin())
        norm = (level**2 + (1 - level) ** 2).sqrt()
        inputs = x / data * norm
        output = 0.7 * torch.sin(1.3 * inputs + float(level))
        output = ((1 - 2 * level) * inputs + (1 - 2 * level + 2 * level**2) * output) / norm * data
        x = scheduler.step(output, t, x).prev_sample
        after.append((x / data / (next.cos() + next.sin())).flatten().tolist())
        times.append(1000 * float(level))
    # The last draw is multiplied by 0.
    return {"class": "SCMScheduler", "config": config, "steps": steps, "step_kwargs": {}, "init_noise_sigma": 1.0,
            "timesteps": times, "sigmas": None, "noise_calls": draws - 1, "trajectory": after}


def cases():
    """Name -> arguments of `run`."""
    sd = STABLE_DIFFUSION
    ddim = sd | {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1}
    pndm = sd | {"skip_prk_steps": True, "steps_offset": 1}
    consistency = {"set_alpha_to_one": False, "steps_offset": 1}
    v = {"prediction_type": "v_prediction"}
    sample = {"prediction_type": "sample"}
    trailing = {"timestep_spacing": "trailing"}
    leading = {"timestep_spacing": "leading", "steps_offset": 1}
    zero_snr = {"rescale_betas_zero_snr": True} | v | trailing
    curves = [f"use_{curve}_sigmas" for curve in ("karras", "exponential", "beta")]

    yield "ddim_defaults_clip", "DDIMScheduler", {}, 7
    for steps in (1, 2, 3, 50):
        yield f"ddim_{steps}", "DDIMScheduler", ddim, steps
    yield "ddim_sample_eta", "DDIMScheduler", ddim | sample, 13, {"eta": 0.5}
    yield "ddim_linspace_v", "DDIMScheduler", ddim | v | {"timestep_spacing": "linspace"}, 7
    yield "ddim_zero_snr_eta", "DDIMScheduler", ddim | zero_snr, 7, {"eta": 0.5}
    yield "ddim_cosine", "DDIMScheduler", {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}, 13
    yield "ddim_short_training", "DDIMScheduler", sd | {"num_train_timesteps": 137, "clip_sample": False}, 13
    trained = np.linspace(0.001, 0.05, 20).tolist()
    yield "ddim_trained_betas", "DDIMScheduler", {"trained_betas": trained, "num_train_timesteps": 20}, 7

    for steps in (1, 2, 3, 7, 50):
        yield f"pndm_{steps}", "PNDMScheduler", pndm, steps
    yield "pndm_prk", "PNDMScheduler", sd | {"steps_offset": 1}, 13
    yield "pndm_v_alpha_one", "PNDMScheduler", pndm | v | {"set_alpha_to_one": True}, 13
    yield "pndm_trailing", "PNDMScheduler", pndm | trailing, 7

    for steps in (1, 2, 50):
        yield f"euler_{steps}", "EulerDiscreteScheduler", sd | leading, steps
    yield "euler_defaults", "EulerDiscreteScheduler", {}, 7
    yield "euler_sample", "EulerDiscreteScheduler", sd | sample, 7
    yield "euler_zero_snr", "EulerDiscreteScheduler", sd | zero_snr, 7
    yield "euler_sigma_min_end", "EulerDiscreteScheduler", sd | {"final_sigmas_type": "sigma_min"}, 7
    svd = {"use_karras_sigmas": True, "sigma_min": 0.002, "sigma_max": 700.0, "timestep_type": "continuous"}
    yield "euler_continuous", "EulerDiscreteScheduler", sd | svd | v, 7
    for steps in (2, 13):
        yield f"euler_a_{steps}", "EulerAncestralDiscreteScheduler", sd | leading, steps
    yield "euler_a_zero_snr", "EulerAncestralDiscreteScheduler", sd | zero_snr, 7

    for steps in (1, 2, 7):
        yield f"heun_{steps}", "HeunDiscreteScheduler", sd, steps
    yield "heun_clip_v", "HeunDiscreteScheduler", sd | v | trailing | {"clip_sample": True}, 7
    yield "heun_sample", "HeunDiscreteScheduler", sample, 7
    yield "lms_v", "LMSDiscreteScheduler", sd | v | leading, 7
    yield "kdpm2_v", "KDPM2DiscreteScheduler", sd | v | leading, 7
    yield "kdpm2_a_leading", "KDPM2AncestralDiscreteScheduler", sd | leading, 7

    dpm = "DPMSolverMultistepScheduler"
    for steps in (1, 2, 7, 15, 50):
        yield f"dpm_{steps}", dpm, sd, steps
    yield "dpm_heun", dpm, sd | {"solver_type": "heun"}, 16
    yield "dpm_v_zero_snr", dpm, sd | zero_snr, 7
    yield "dpm_sample", dpm, sd | sample | trailing, 7
    yield "dpm_order1", dpm, sd | {"solver_order": 1}, 7
    yield "dpm_order3_short", dpm, sd | {"solver_order": 3} | trailing, 7
    yield "dpm_euler_at_final", dpm, sd | {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, 16
    yield "dpm_sigma_min_end", dpm, sd | {"final_sigmas_type": "sigma_min"}, 16
    yield "dpm_lambda_clipped", dpm, sd | {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}, 7
    yield "dpm_cosine_karras", dpm, {"beta_schedule": "squaredcos_cap_v2", "use_karras_sigmas": True}, 7
    sde = {"algorithm_type": "sde-dpmsolver++"}
    yield "dpm_sde_heun", dpm, sd | sde | {"solver_type": "heun"}, 16
    yield "dpm_sde_3", dpm, sd | sde | {"solver_order": 3}, 16
    yield "dpm_sde_2_steps", dpm, sd | sde, 2

    single = "DPMSolverSinglestepScheduler"
    for steps in (1, 2, 7, 16):
        yield f"dpm_single_{steps}", single, sd, steps
    ends = {"final_sigmas_type": "sigma_min"}
    yield "dpm_single_whole_groups", single, sd | ends, 6
    yield "dpm_single_lower_final", single, sd | ends | {"lower_order_final": True}, 6
    yield "dpm_single_heun_v", single, sd | v | {"solver_type": "heun"}, 7
    for steps in (2, 6, 7, 8):
        yield f"dpm_single_3_{steps}", single, sd | {"solver_order": 3}, steps
    yield "dpm_single_3_heun", single, sd | ends | {"solver_order": 3, "solver_type": "heun"}, 9
    yield "dpm_single_order1", single, sd | {"solver_order": 1} | sample, 5
    yield "dpm_single_sde", single, sd | sde, 7
    yield "dpm_single_sde_heun", single, sd | sde | ends | {"solver_type": "heun"}, 8
    yield "dpm_single_sde_3", single, sd | sde | {"solver_order": 3}, 8
    clipped = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}
    yield "dpm_single_lambda_clipped", single, sd | clipped, 7
    # What the keys of another class leave in a config means nothing.
    left = {"timestep_spacing": "trailing", "steps_offset": 1, "rescale_betas_zero_snr": True, "clip_sample": True}
    yield "dpm_single_left_over", single, sd | left, 7
    yield "ddim_left_over", "DDIMScheduler", ddim | {"use_karras_sigmas": True, "solver_order": 9}, 7

    unipc = "UniPCMultistepScheduler"
    for steps in (1, 2, 3, 7, 50):
        yield f"unipc_{steps}", unipc, sd, steps
    # With bh1 a last step to zero noise is not finite in diffusers.
    bh1 = {"solver_type": "bh1", "final_sigmas_type": "sigma_min"}
    yield "unipc_bh1", unipc, sd | bh1, 13
    yield "unipc_bh1_order3", unipc, sd | bh1 | {"solver_order": 3} | leading, 7
    yield "unipc_order1", unipc, sd | {"solver_order": 1}, 7
    yield "unipc_v_zero_snr", unipc, sd | zero_snr | {"solver_order": 3}, 7
    yield "unipc_sample", unipc, sd | sample, 7
    yield "unipc_no_corrector", unipc, sd | {"disable_corrector": [0, 2]}, 7
    karras_end = {"use_karras_sigmas": True, "final_sigmas_type": "sigma_min"}
    yield "unipc_karras_end", unipc, sd | karras_end, 7
    yield "deis_3", "DEISMultistepScheduler", sd | {"solver_order": 3}, 16
    yield "deis_v_short", "DEISMultistepScheduler", sd | v | leading, 7

    for steps in (1, 2, 7, 50):
        yield f"lcm_{steps}", "LCMScheduler", consistency, steps
    yield "lcm_v_clip", "LCMScheduler", consistency | v | {"clip_sample": True}, 4
    yield "lcm_sample", "LCMScheduler", sample | {"original_inference_steps": 20}, 6
    for steps in (1, 2, 7):
        yield f"tcd_{steps}", "TCDScheduler", consistency, steps, {"eta": 0.3}
    yield "tcd_v_eta0", "TCDScheduler", consistency | v, 4, {"eta": 0.0}
    yield "tcd_sample", "TCDScheduler", consistency | sample, 4, {"eta": 0.7}
    yield "ddpm_large_v", "DDPMScheduler", sd | v | trailing | {"variance_type": "fixed_large"}, 7

    given = {"num_inference_steps": None, "timesteps": [999, 749, 499, 249]}
    yield "lcm_timesteps", "LCMScheduler", consistency, 4, None, given
    yield "tcd_timesteps", "TCDScheduler", consistency, 4, {"eta": 0.3}, given
    yield "euler_timesteps", "EulerDiscreteScheduler", sd | trailing, 4, None, given
    yield "euler_trailing", "EulerDiscreteScheduler", sd | trailing, 4
    yield "euler_a_trailing_1", "EulerAncestralDiscreteScheduler", sd | trailing, 1

    for steps in (1, 2, 7):
        yield f"edm_euler_{steps}", "EDMEulerScheduler", {}, steps
    yield "edm_euler_exponential_v", "EDMEulerScheduler", v | {"sigma_schedule": "exponential", "final_sigmas_type": "sigma_min", "sigma_data": 0.9}, 7
    edm = "EDMDPMSolverMultistepScheduler"
    for steps in (1, 2, 7, 16):
        yield f"edm_dpm_{steps}", edm, {}, steps
    yield "edm_dpm_heun_v", edm, v | {"solver_type": "heun", "sigma_data": 1.2, "sigma_max": 14.0, "rho": 5.0}, 16
    yield "edm_dpm_3_end", edm, {"solver_order": 3, "euler_at_final": True, "final_sigmas_type": "sigma_min"}, 16
    yield "edm_dpm_sde", edm, {"algorithm_type": "sde-dpmsolver++", "sigma_schedule": "exponential"}, 7

    flow = "FlowMatchEulerDiscreteScheduler"
    yield "flow_1", flow, {"shift": 3.0}, 1
    given = np.linspace(1.0, 1 / 7, 7).tolist()
    yield "flow_dynamic", flow, {"use_dynamic_shifting": True}, 7, None, {"mu": 0.63}
    yield "flow_dynamic_given", flow, {"use_dynamic_shifting": True}, 7, None, {"mu": 1.15, "sigmas": given}

    solver = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
    for steps in (1, 2, 7, 16):
        yield f"dpm_flow_{steps}", dpm, solver | {"flow_shift": 3.0}, steps
    yield "dpm_flow_3_heun", dpm, solver | {"solver_order": 3, "solver_type": "heun", "num_train_timesteps": 137}, 7
    yield "dpm_flow_sde", dpm, solver | {"algorithm_type": "sde-dpmsolver++", "flow_shift": 2.0}, 7
    for steps in (1, 2, 3, 7):
        yield f"scm_{steps}", "SCMScheduler", {"sigma_data": 0.5 + 0.25 * (steps % 2)}, steps

    for name, class_name in [
        ("euler", "EulerDiscreteScheduler"),
        ("heun", "HeunDiscreteScheduler"),
        ("lms", "LMSDiscreteScheduler"),
        ("kdpm2", "KDPM2DiscreteScheduler"),
        ("kdpm2_a", "KDPM2AncestralDiscreteScheduler"),
        ("dpm", dpm),
        ("dpm_single", single),
        ("unipc", unipc),
        ("deis", "DEISMultistepScheduler"),
    ]:
        for curve in curves:
            yield f"{name}_{curve[4:-7]}", class_name, sd | {curve: True}, 7


def shortest(values):
    """Float32 values in the fewest digits that read back the same."""
    return [float(str(np.float32(value))) for value in values]


def schedulers():
    made = {}
    for name, class_name, config, steps, *rest in cases():
        case = run_scm(config, steps) if class_name == "SCMScheduler" else run(class_name, config, steps, *rest)
        calls = len(case["trajectory"])
        kept = sorted({0, 1, 2, calls // 2, calls - 2, calls - 1} & set(range(calls)))
        case["kept"] = kept
        case["trajectory"] = [shortest(case["trajectory"][call]) for call in kept]
        case["timesteps"] = shortest(case["timesteps"])
        if case["sigmas"] is not None:
            case["sigmas"] = shortest(case["sigmas"])
        given = rest[1] if len(rest) > 1 else {}
        if "mu" in given:
            case["mu"] = given["mu"]
        if "timesteps" in given:
            case["timesteps_given"] = given["timesteps"]
        if "sigmas" in given:
            case["sigmas_given"] = given["sigmas"]
        if not np.isfinite(case["trajectory"]).all():
            raise SystemExit(f"{name}: diffusers gives values that are not finite")
        made[name] = case
    return made


def tables():
    """Every 37th entry of alpha_bar, as bits."""
    configs = {
        "scaled_linear": STABLE_DIFFUSION,
        "linear": {"beta_schedule": "linear"},
        "cosine": {"beta_schedule": "squaredcos_cap_v2"},
        "zero_snr": STABLE_DIFFUSION | {"rescale_betas_zero_snr": True},
        "short": STABLE_DIFFUSION | {"num_train_timesteps": 137},
    }
    made = {}
    for name, config in configs.items():
        table = diffusers.DDIMScheduler(**config).alphas_cumprod.numpy()
        made[name] = {"config": config, "bits": bits(table[::37]), "sum": float(table.astype(np.float64).sum())}
    return made


def compare(path):
    """Runs the cases of another file and prints how far its trajectories are."""
    worst = 0.0
    for name, case in json.loads(Path(path).read_text())["schedulers"].items():
        if "trajectory" not in case:
            continue
        own = run(case["class"], case["config"], case["steps"], case["step_kwargs"])
        theirs, ours = np.array(case["trajectory"]), np.array(own["trajectory"])
        error = np.abs(theirs - ours).max() / np.abs(theirs).max()
        worst = max(worst, error)
        if error > 1e-6:
            print(f"{name}: {error:.1e}")
    print(f"largest difference {worst:.1e}")


# --------------------------------------------------------------------- noise


def bits(values):
    return np.asarray(values, dtype=np.float32).view(np.uint32).tolist()


def philox(seed, draw, count):
    """The generator of CUDA's randn as A1111's rng_philox.py emulates it."""
    counter = [np.full(count, draw), np.zeros(count), np.arange(count), np.zeros(count)]
    counter = [words.astype(np.uint64) for words in counter]
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    low, shift = np.uint64(0xFFFFFFFF), np.uint64(32)
    for turn in range(10):
        if turn:
            key = [(key[0] + 0x9E3779B9) & 0xFFFFFFFF, (key[1] + 0xBB67AE85) & 0xFFFFFFFF]
        a, b = counter[0] * np.uint64(0xD2511F53), counter[2] * np.uint64(0xCD9E8D57)
        counter = [
            b >> shift ^ counter[1] ^ np.uint64(key[0]),
            b & low,
            a >> shift ^ counter[3] ^ np.uint64(key[1]),
            a & low,
        ]
    unit = np.array([2.3283064e-10], dtype=np.float32)
    angle = np.array([2.3283064e-10 * 6.2831855], dtype=np.float32)
    u = counter[0].astype(np.uint32) * unit + unit / 2
    v = counter[1].astype(np.uint32) * angle + angle / 2
    return (np.sqrt(-2.0 * np.log(u)) * np.sin(v)).astype(np.float32)


def noise():
    made = {"torch": [], "philox": [], "numpy": [], "torch_long": []}
    for seed in (0, 1, 42, 123456789, 2**32 + 5):
        # Draws of one stream in this order: short ones keep half a pair, long ones redraw the tail.
        counts = [1, 3, 16, 1, 17, 2, 33, 15, 64]
        generator = torch.Generator().manual_seed(seed)
        draws = [bits(torch.randn(count, generator=generator)) for count in counts]
        made["torch"].append({"seed": seed, "draws": draws})
        draws = [bits(philox(seed, draw, 12)) for draw in range(2)]
        made["philox"].append({"seed": seed, "draws": draws})
        if seed < 2**32:
            made["numpy"].append({"seed": seed, "draws": [bits(np.random.RandomState(seed).normal(size=13))]})
    generator = torch.Generator().manual_seed(7)
    for count in (4 * 64 * 64, 100003):
        values = torch.randn(count, generator=generator).numpy().view(np.uint32)
        # Sum of bits * position, modulo 2^64: any wrong bit shows.
        weights = np.arange(1, count + 1, dtype=np.uint64)
        made["torch_long"].append({"count": count, "checksum": int((values * weights).sum(dtype=np.uint64))})
    return made


# ------------------------------------------------------------------ infotext

PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')


def unquoted(value):
    if not value:
        return None
    if value[0] == '"' and value[-1] == '"':
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def read_infotext(text):
    """A1111's rule: pairs on the last line if there are three, prompt lines before."""
    *lines, last = text.strip().split("\n")
    found = PAIR.findall(last)
    if len(found) < 3:
        lines, found = [*lines, last], []
    parts, negative = {False: "", True: ""}, False
    for line in lines:
        line = line.strip()
        if line.startswith("Negative prompt:"):
            negative, line = True, line[16:].strip()
        parts[negative] += ("\n" if parts[negative] else "") + line
    pairs = [(key, unquoted(value)) for key, value in found]
    pairs = [[key, value] for key, value in pairs if value is not None]
    return {"text": text, "prompt": parts[False], "negative": parts[True], "pairs": pairs}


def infotext():
    tail = "Steps: 20, Sampler: Euler a, Schedule type: Automatic, CFG scale: 7, Seed: 965400086, Size: 512x512"
    texts = [
        f"a cat\nNegative prompt: blurry\n{tail}, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Version: v1.10.1",
        "a cat",
        "",
        "   \n  ",
        tail,
        f"two\nlines, with: colons, Steps: 3\n\nand an empty one\n{tail}",
        f'(masterpiece:1.2), "quoted" [x|y] <lora:a b:0.8>\nNegative prompt: bad, worst\nworse: still\n{tail}',
        f"Negative prompt: only that\n{tail}",
        f"a\nNegative prompt: b\nNegative prompt: c\n{tail}",
        f"猫 🐱, ünïcode: yes\nNegative prompt: Größe\n{tail}, Schlüssel: wert, 模型: 猫",
        f'x\n{tail}, Lora hashes: "name: abcdef123456, other: 123456abcdef", Version: 1',
        f'x\n{tail}, Hires prompt: "a \\"b\\"\\n, c: d", Model: a-b_c.1',
        'x\nSteps: 1, Broken: "no end, Seed: 5, Size: 8x8',
        'x\nSteps: 1, Odd: "end" tail, Seed: 5, Empty: , Also empty:, Quoted empty: "", Size: 8x8',
        'x\nSteps: 1, Bad: "\\q", Seed: 5, Size: 8x8',
        "x\n-/-/--Steps: 1,, ,Seed:5,a: 3,ab: 4, c d/e-f : g, Size: 64x64,",
        "x\nSteps: 1, Seed: 2, (Key): 3, é: 4, éé: 5, _x: 6,\tTab: 7, 1k: 8",
        "Steps: 20, Seed: 1",
        "prompt: with, three: pairs, on: its line",
        f"windows\r\nNegative prompt: lines\r\n{tail}\r\n",
        f"x\n{tail}, Model: , Version: v1: 2",
        f"x\n{tail}, Flag, Other: 1",
    ]
    return [read_infotext(text) for text in texts]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", metavar="FILE", help="check a file of trajectories made elsewhere")
    options = parser.parse_args()
    if options.compare:
        compare(options.compare)
        return
    DATA.mkdir(parents=True, exist_ok=True)
    versions = {"torch": torch.__version__.split("+")[0], "diffusers": diffusers.__version__}
    files = {
        "schedulers": {"versions": versions, "tables": tables(), "cases": schedulers()},
        "noise": {"versions": versions | {"numpy": np.__version__}, **noise()},
        "infotext": infotext(),
    }
    for name, content in files.items():
        path = DATA / f"{name}.json"
        path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")).replace('},"', '},\n"') + "\n")
        print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
