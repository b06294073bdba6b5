"""Small files of torch.save for the reader of checkpoints, and one that would run a command if it were believed.

    python torch_files.py crates/ondine-models/tests/data/torch
"""
import argparse
import os
from collections import OrderedDict
from pathlib import Path

import torch


class Acts:
    """What runs when a pickle is believed."""

    def __reduce__(self):
        return os.system, ("echo this must not run",)


def contents():
    """A checkpoint as trainers leave them: weights of several types and views, numbers, and what is of no concern."""
    table = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    state = OrderedDict(plain=table, swapped=table.T, row=table[1], half=(table / 4).half(), brain=(table / 2).bfloat16(),
                        whole=torch.arange(3), parameter=torch.nn.Parameter(table * 2), none=torch.zeros(0, 3))
    state["shared"] = state["plain"]
    rest = dict(global_step=470000, epoch=3, optimizer_states=[dict(state={0: dict(step=1)}, lr=1e-4)], flags=(True, None, -1.5),
                device=torch.device("cpu"), size=table.shape, kind=torch.float16)
    return dict(state_dict=state, **rest)


def eight_bits():
    """Numbers of 8 bits and integers without a sign, whose storages have no type."""
    table = torch.tensor([[1.0, -2.0, 0.5], [448.0, -0.001953125, 0.0]])
    return dict(e4m3=table.to(torch.float8_e4m3fn), swapped=table.to(torch.float8_e4m3fn).T, e5m2=table.to(torch.float8_e5m2),
                parameter=torch.nn.Parameter(table[1].to(torch.float8_e4m3fn), requires_grad=False),
                whole=torch.tensor([1, 65535], dtype=torch.uint16), plain=table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(contents(), folder / "zip.pt")
    torch.save(contents(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(contents(), folder / "protocol4.pt", pickle_protocol=4)
    torch.save(eight_bits(), folder / "float8.pt")
    torch.save(eight_bits(), folder / "float8_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(dict(state_dict=dict(a=torch.ones(2)), payload=Acts()), folder / "acts.pt")


if __name__ == "__main__":
    main()
