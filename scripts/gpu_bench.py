"""Training speed of a recipe on a GPU: images per second, peak memory and share of the card's peak, compiled or not.

    python scripts/gpu_bench.py --peak 989     # an H200 multiplies 989 TFLOP/s in bf16, by its data sheet
    python scripts/gpu_bench.py --quick        # a few tiny steps on a CPU: does everything run?

A step is all that a step of `stage=conditioning` computes: labels to tokens by the frozen tokenizer, image to
token scores, both losses, gradients, and the optimiser's update. Weights, images and labels are random and lie on
the device: nothing is read or augmented, and the figures say what the network costs. A further override is a further
argument: `fusion.checkpointing=true`, `data.batch_size=4`. Every way is printed as one line of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.scenes import experiment, label_space, random_autoencoder
from bench.training_loop import BareLoop
from gss.assembly.build import build_segmenter
from gss.cli.configuration import instantiate
from gss.runs.training import prepare_network
from gss.stages.base import Batch

SETTINGS = ("hardware.devices=1", "backbone.pretrained=false")
QUICK = (
    *("hardware=cpu", "backbone.name=test_resnet", "backbone.drop_path=0.0", "data.size=[32,64]", "data.batch_size=2"),
    *("fusion.level_channels=8", "fusion.channels=16", "fusion.num_heads=2", "fusion.window_size=4", "head.hidden=16"),
    *("tokenizer.vocab_size=32", "tokenizer.hidden=8", "tokenizer.code_dim=6", "tokenizer.num_blocks=1"),
)
WARM_UP, STEPS, QUICK_STEPS = 5, 20, 2
WAYS = {"eager": "false", "compiled": "true"}  # values of hardware.compile
GIB = 1 << 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures the ways asked for, one after the other."""
    options = _options(arguments)
    if not options.quick and not torch.cuda.is_available():
        print("no GPU was found: run it where there is one, or give --quick to see that it runs", file=sys.stderr)
        return 1
    for way in options.ways or (["eager"] if options.quick else WAYS):
        overrides = (*SETTINGS, *(QUICK if options.quick else ("hardware=gpu",)), *options.overrides)
        config = experiment(options.experiment, *overrides, f"hardware.compile={WAYS[way]}")
        figures = measure(config, QUICK_STEPS if options.quick else STEPS)
        share = {"share_of_peak": figures["tflops_per_second"] / options.peak} if options.peak else {}
        named = {"experiment": options.experiment, "way": way, **figures, **share}
        print(json.dumps({key: _three_digits(value) for key, value in named.items()}), flush=True)
    return 0


def measure(config: dict[str, Any], steps: int) -> dict[str, float]:
    """Figures of one way to run a recipe, its configuration resolved; one step is counted, `WARM_UP` are not timed."""
    torch.manual_seed(0)
    device = torch.device("cuda" if config["hardware"]["accelerator"] == "gpu" else "cpu")
    loop = _loop(config, device)
    with _precision(config, device):
        with FlopCounterMode(display=False) as counter:
            loop.step()
        prepare_network(loop.segmenter.network, config["hardware"])
        for _ in range(WARM_UP):
            loop.step()
        _wait(device, reset=True)
        start = time.perf_counter()
        for _ in range(steps):
            loop.step()
        _wait(device)
    seconds = (time.perf_counter() - start) / steps
    figures = {
        "images_per_second": config["data"]["batch_size"] / seconds,
        "tflop_per_step": counter.get_total_flops() / 1e12,
        "tflops_per_second": counter.get_total_flops() / 1e12 / seconds,
    }
    return figures | ({"peak_gib": torch.cuda.max_memory_allocated() / GIB} if device.type == "cuda" else {})


def _loop(config: dict[str, Any], device: torch.device) -> BareLoop:
    num_classes = label_space(config).num_classes
    segmenter = build_segmenter(config, num_classes, random_autoencoder(config)).to(device)
    size = (config["data"]["batch_size"], *config["data"]["size"])
    image, labels = torch.rand(size[0], 3, *size[1:], device=device), torch.randint(num_classes, size, device=device)
    data: Any = repeat(Batch(image=image, labels=labels, name=[]))
    return BareLoop(segmenter, instantiate(config["optim"]), config["stage"], data)


def _precision(config: dict[str, Any], device: torch.device) -> contextlib.AbstractContextManager[Any]:
    mixed = config["hardware"]["precision"] == "bf16-mixed"
    return torch.autocast(device.type, torch.bfloat16) if mixed else contextlib.nullcontext()


def _wait(device: torch.device, reset: bool = False) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
        if reset:
            torch.cuda.reset_peak_memory_stats()


def _three_digits(value: float | str) -> float | str:
    return float(f"{value:.3g}") if isinstance(value, float) else value


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes on a CPU, eager only")
    parser.add_argument("--experiment", default="gss_ff_swin_large_cityscapes", help="the recipe")
    parser.add_argument("--ways", nargs="+", choices=WAYS, help="eager, compiled; both if not given")
    parser.add_argument("--peak", type=float, help="TFLOP/s of the card, dense, in the recipe's precision")
    parser.add_argument("overrides", nargs="*", help="of the configuration")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
