"""Measures what a second start costs: a network of 500 MB, exported by PyTorch, run by `ondine run` in fresh processes.

    python python/golden/starts.py target/release/ondine [folder]

The first start packs the weights into the cache, the second maps them; a third runs a file of `ondine build`. Prints one
JSON object: seconds from the process's start to its end, their ratio, and what is resident after one call.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

import torch


class Net(torch.nn.Module):
    """Convolutions, then a stack of linear layers: 131 million parameters."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 64, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(64, 512, 3, 2, 1))
        self.layers = torch.nn.ModuleList(torch.nn.Linear(2048, 2048) for _ in range(30))
        self.widen = torch.nn.Linear(512, 2048)

    def forward(self, x):
        x = self.widen(self.stem(x).mean((2, 3)))
        for layer in self.layers:
            x = torch.relu(layer(x)) + x
        return x


def start(command, env):
    """Runs one fresh process; seconds, and what it reports."""
    begin = time.perf_counter()
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return time.perf_counter() - begin, json.loads(done.stdout)


def main(ondine, folder):
    torch.manual_seed(0)
    path = os.path.join(folder, "net.pt2")
    if not os.path.exists(path):
        net = Net().eval()
        x = torch.randn(1, 3, 64, 64)
        torch.export.save(torch.export.export(net, (x,)), path)
        from safetensors.torch import save_file

        with torch.no_grad():
            save_file({"x": x, "y": net(x)}, os.path.join(folder, "golden.safetensors"))
    from safetensors.torch import load_file

    golden = load_file(os.path.join(folder, "golden.safetensors"))
    from safetensors.torch import save_file

    save_file({"x": golden["x"]}, os.path.join(folder, "in.safetensors"))
    env = {**os.environ, "ONDINE_CACHE": os.path.join(folder, "cache")}

    def run(model):
        out = os.path.join(folder, "out.safetensors")
        words = ["run", model, "--inputs", os.path.join(folder, "in.safetensors"), "--outputs", out, "--json"]
        seconds, report = start([ondine, *words], env)
        error = (load_file(out)["output_0"] - golden["y"]).abs().max() / golden["y"].abs().max()
        assert error < 1e-5, error
        return seconds, report

    firsts, seconds, reports = [], [], []
    for _ in range(3):
        subprocess.run([ondine, "cache", "clear"], env=env, check=True, capture_output=True)
        first, report = run(path)
        assert not report["from_cache"]
        firsts.append(first)
        second, report = run(path)
        assert report["from_cache"]
        seconds.append(second)
        reports.append(report)
    asset, built = os.path.join(folder, "net.ondine"), os.path.join(folder, "net.built")
    importing = subprocess.run([ondine, "import", path, "-o", asset, "--json"], env=env, check=True, capture_output=True)
    subprocess.run([ondine, "build", asset, "-o", built], env=env, check=True, capture_output=True)
    builts = [run(built)[0] for _ in range(3)]
    median = lambda values: sorted(values)[len(values) // 2]
    print(
        json.dumps(
            {
                "parameters": json.loads(importing.stdout)["parameters"],
                "first_start_seconds": median(firsts),
                "second_start_seconds": median(seconds),
                "ratio": median(firsts) / median(seconds),
                "built_start_seconds": median(builts),
                "resident_bytes": reports[-1]["resident_bytes"],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    if len(sys.argv) > 2:
        main(os.path.abspath(sys.argv[1]), sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as place:
            main(os.path.abspath(sys.argv[1]), place)
