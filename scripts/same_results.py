"""Whether a change of the code leaves every result as it was: a record of short trainings, and what differs from it.

    python scripts/same_results.py record FOLDER          train, evaluate, predict, compose; writes FOLDER/record.json
    python scripts/same_results.py record FOLDER --read-from OLD   and read what another commit wrote in OLD
    python scripts/same_results.py compare OLD NEW        prints what differs; exit code 1 if anything does

A training is 20 steps on drawn scenes at seed 0, on one thread; its record is the loss of each step and the SHA-256 of
every tensor of its state. Records of two machines, or of two versions of PyTorch, need not agree: compare two commits
on one machine. `record` runs the package that `PYTHONPATH` names, so that it can stand beside the code it measures.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout, suppress
from io import StringIO
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

STEPS = 20
SCENES = (
    "data.size=[32,64]",
    "data.splits.train.size=[64,128]",
    "data.splits.train.num_scenes=6",
    "data.splits.val.num_scenes=3",
    "data.splits.test.num_scenes=2",
    "data.batch_size=2",
    "data.num_workers=0",
)
NARROW = (
    "backbone.name=test_resnet",
    "fusion.level_channels=8",
    "fusion.channels=16",
    "fusion.num_heads=2",
    "fusion.window_size=4",
    f"max_steps={STEPS}",
    "val_every=10",
    "logger=none",
    "callbacks.panels=null",
)
TOKENIZERS = {
    "patches": ("tokenizer=patches",),
    "patches_context": ("tokenizer=patches_context",),
    "vqvae": ("tokenizer=vqvae",),
    "fsq": ("tokenizer=vqvae_fsq",),
    "lfq": ("tokenizer=vqvae_lfq",),
}
HEADS = {"tied": ("head=tied",), "codes": ("head=tied", "head.tie=codes"), "free": ("head=free", "head.hidden=32")}
TWINS = {"bilinear": ("head=pixel_bilinear",), "subpixel": ("head=pixel_subpixel",)}
POSTERIORS = ("one_hot", "soft", "smoothed")
VARIANTS = {"ff": (), "ft_w": ("stage.inverse_weight=1.0",)}
SHIFTED_WINDOW = ("maskige.inverse.channels=16", "maskige.inverse.depth=1", "maskige.inverse.num_heads=2")
OTHER_VARIANTS = {  # learned colours need a tokenizer that passes gradients on
    "ff_dataset": "patches",
    "ff_random": "patches",
    "ft": "patches",
    "tf": "vqvae",
    "tt": "vqvae",
}
EVERY_TEN = (
    "+callbacks.every._target_=lightning.pytorch.callbacks.ModelCheckpoint",
    "+callbacks.every.dirpath=${paths.run}/steps",
    "+callbacks.every.filename='{step}'",
    "+callbacks.every.auto_insert_metric_name=false",
    "+callbacks.every.save_top_k=-1",
    "+callbacks.every.every_n_train_steps=10",
)
EXTRAS = {  # what the grid leaves out, each of it one training of patches, the tied head and one-hot targets
    "ema": ("callbacks=ema",),
    "accumulation": ("hardware.accumulate_grad_batches=2",),
    "focal": ("stage.focal=1.0",),
    "label_loss": ("stage.label_weight=0.2",),
    "label_loss_inverse": ("stage.label_weight=0.2", "stage.class_balance=0.5"),
    "class_balance": ("stage.class_balance=0.5",),
    "masked": ("stage.ignore_policy=masked",),
    "filled": ("stage.ignore_policy=filled", "stage.fill_warmup=5"),
    "used_vocabulary": ("head.vocabulary=used",),
    "no_evidence": ("head.pixel_evidence=false",),
    "detail": ("fusion.detail=8",),
    "paper_head": ("head=paper", "head.hidden=32", "head.pixel=pyramid"),
    "argmax": ("stage.readout=argmax",),
    "window": ("inference=window", "data.native=true"),
    "sgd": ("optim=sgd",),
    "published_crops": ("data.augmentation.geometry=native", "data.augmentation.colour=distortion"),
}
READ = ("argmax", "expected", "pixel")


class Case(NamedTuple):
    """One command: its name in the record, `gss.<command>`, its overrides, and whether two processes run it."""

    name: str
    command: str
    overrides: tuple[str, ...]
    processes: int = 1


def prior_cases(folder: Path) -> Iterator[Case]:
    """stage=prior: every tokenizer with fixed and learned inverse, the other maskige variants, a token model."""
    for (name, tokenizer), variant in product(TOKENIZERS.items(), VARIANTS):
        yield _prior_case(folder, f"{name}.{variant}", *tokenizer, *_maskige(variant))
    for variant, tokenizer in OTHER_VARIANTS.items():
        yield _prior_case(folder, f"{tokenizer}.{variant}", *TOKENIZERS[tokenizer], *_maskige(variant))
    small = ("token_model.width=16", "token_model.depth=1", "token_model.max_steps=20")
    yield _prior_case(folder, "patches.token_model", "token_model=masked", *small)
    yield _prior_case(folder, "vqvae.windows", "tokenizer=vqvae", "stage.windows={number: 4, side: 16}")
    yield _prior_case(folder, "vqvae.ema_weights", "tokenizer=vqvae", "callbacks=ema")
    yield _prior_case(folder, "vqvae.two_processes", "tokenizer=vqvae", "hardware=ddp_cpu")._replace(processes=2)


def conditioning_cases(folder: Path) -> Iterator[Case]:
    """stage=conditioning: the whole grid, the twins, what the grid leaves out, two processes."""
    for (tokenizer, choice), (head, heads), posterior, variant in product(
        TOKENIZERS.items(), HEADS.items(), POSTERIORS, VARIANTS
    ):
        given = (*choice, *heads, f"stage.posterior.name={posterior}", *_maskige(variant), *VARIANTS[variant])
        name = f"{tokenizer}.{head}.{posterior}.{variant}"
        yield _conditioning_case(folder, name, f"{tokenizer}.{variant}", *given)
    for name, head in TWINS.items():
        yield _conditioning_case(folder, f"twin.{name}", "patches.ff", *head)
    for name, given in EXTRAS.items():
        yield _conditioning_case(folder, f"patches.{name}", "patches.ff", *given)
    both = _conditioning_case(folder, "patches.two_processes", "patches.ff", "hardware=ddp_cpu")
    yield both._replace(processes=2)
    yield _conditioning_case(folder, "patches.straight", "patches.ff", *EVERY_TEN)


def later_cases(folder: Path) -> Iterator[Case]:
    """What needs a trained network: a resume, an inverse on predictions, draws from the token model."""
    resume = folder / "conditioning/patches.straight/steps/10.ckpt"
    yield _conditioning_case(folder, "patches.resumed", "patches.ff", *EVERY_TEN, f"resume={resume}")
    trained = folder / "conditioning/patches.tied.one_hot.ff/checkpoints/last.ckpt"
    asked = ("stage.maskige_source=predictions", f"checkpoint={trained}", *_maskige("ft_w"))
    yield _prior_case(folder, "patches.on_predictions", *asked)
    run = folder / "sample/patches"
    prior = folder / "prior/patches.token_model/prior.safetensors"
    asked = (f"prior={prior}", f"paths.run={run}", f"hydra.run.dir={run}", "num=4", "completions=1", "steps=4")
    yield Case("sample.patches", "sample", asked)


def reading_cases(folder: Path, made: Path) -> Iterator[Case]:
    """evaluate and predict on what `made` holds, which another commit may have written."""
    checkpoints = sorted(made.glob("conditioning/*/checkpoints/last.ckpt"))
    chosen = [path for path in checkpoints if ".one_hot." in str(path) or "twin" in str(path) or "ema" in str(path)]
    for path in chosen:
        name = path.parts[-3]
        readouts = READ[2:] if "twin" in name else READ
        asked = _placed(folder / "evaluate" / name)
        yield Case(f"evaluate.{name}", "evaluate", (f"checkpoint={path}", f"root={made / 'scenes'}", *asked))
        for readout in readouts:
            asked = (*_placed(folder / "predict" / f"{name}.{readout}"), f"readout={readout}")
            pictures = made / "scenes/leftImg8bit/val"
            yield Case(f"predict.{name}.{readout}", "predict", (f"checkpoint={path}", f"input={pictures}", *asked))
    for path in sorted(made.glob("prior/*/prior.safetensors")):
        name = path.parts[-2]
        asked = ("mode=reconstruction", f"prior={path}", f"root={made / 'scenes'}", *_placed(folder / "read" / name))
        yield Case(f"reconstruction.{name}", "evaluate", asked)


def _prior_case(folder: Path, name: str, *overrides: str) -> Case:
    run = folder / "prior" / name
    lengths = ("tokenizer.vocab_size=64", f"maskige.max_steps={STEPS}", f"prior={run / 'prior.safetensors'}")
    fixed = (*SCENES, *NARROW, *lengths, f"data.root={folder / 'scenes'}", *_placed(run))
    return Case(f"prior.{name}", "train", ("stage=prior", *fixed, *overrides))


def _conditioning_case(folder: Path, name: str, prior: str, *overrides: str) -> Case:
    artefact = f"prior={folder / 'prior' / prior / 'prior.safetensors'}"
    fixed = (*SCENES, *NARROW, artefact, "tokenizer.vocab_size=64", f"data.root={folder / 'scenes'}")
    placed = _placed(folder / "conditioning" / name)
    return Case(f"conditioning.{name}", "train", ("stage=conditioning", *fixed, *placed, *overrides))


def _placed(run: Path) -> tuple[str, ...]:
    return (f"paths.run={run}", f"paths.outputs={run}", f"hydra.run.dir={run}")


def _maskige(variant: str) -> tuple[str, ...]:
    return (f"maskige={variant}", *(SHIFTED_WINDOW if variant == "ft_w" else ()))


def run_case(case: Case, folder: Path) -> dict[str, Any]:
    """Runs a command in processes forked for it and gives what is to stay the same."""
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    context, port = multiprocessing.get_context("fork"), find_free_network_port()
    reports = [folder / "reports" / f"{case.name}.{number}.json" for number in range(case.processes)]
    ranks = [context.Process(target=_as_rank, args=(case, n, port, report)) for n, report in enumerate(reports)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    found = [json.loads(report.read_text()) if report.is_file() else {"died": True} for report in reports]
    print(f"{case.name}: {json.dumps(found[0])[:110]}", flush=True)
    return found[0] if case.processes == 1 else {"ranks": found}


def _as_rank(case: Case, number: int, port: int, report: Path) -> None:
    import torch

    torch.set_num_threads(1)
    if case.processes > 1:
        names = {"LOCAL_RANK": number, "NODE_RANK": 0, "WORLD_SIZE": case.processes, "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    said = StringIO()
    record: dict[str, Any] = {}
    with redirect_stdout(said), redirect_stderr(said), _watched(record):
        try:
            _call(case)
        except SystemExit as end:
            if end.code:
                record["refused"] = [line for line in said.getvalue().splitlines() if "error" in line][-1:]
        except BaseException:
            record["broke"] = traceback.format_exc()[-2000:]
    record |= _files(case)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.write_text(json.dumps(record))


def _call(case: Case) -> None:
    import importlib

    sys.argv = [f"gss-{case.command}", *case.overrides]
    importlib.import_module(f"gss.{case.command}").main()


class _watched:
    """Notes the loss of every step, and the state that a training ends in, wherever the code keeps them."""

    def __init__(self, record: dict[str, Any]) -> None:
        self.record = record

    def __enter__(self) -> None:
        import lightning as L

        backward, fit, record = L.LightningModule.backward, L.Trainer.fit, self.record

        def noted_backward(module: Any, loss: Any, *args: Any, **kwargs: Any) -> None:
            record.setdefault("losses", []).append(float(loss.detach()).hex())
            backward(module, loss, *args, **kwargs)

        def noted_fit(trainer: Any, module: Any, *args: Any, **kwargs: Any) -> None:
            fit(trainer, module, *args, **kwargs)
            record.setdefault("states", []).append(digests(module.state_dict()))

        L.LightningModule.backward, L.Trainer.fit = noted_backward, noted_fit

    def __exit__(self, *error: object) -> None:
        return None  # the process ends here


def digests(tensors: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the bytes, shape and dtype of every tensor, by name."""
    import torch

    found = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor):
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            found[name] = hashlib.sha256(f"{tuple(tensor.shape)}{tensor.dtype}".encode() + raw).hexdigest()[:16]
    return found


def _files(case: Case) -> dict[str, Any]:
    """What the run's folder holds: figures, artefact, checkpoint, pictures."""
    import torch
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    run = Path(next(word for word in case.overrides if word.startswith("paths.run=")).partition("=")[2])
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".png" or name == "metrics.json":
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        elif path.suffix == ".safetensors":
            found[name] = digests(load_file(path))
        elif name == "checkpoints/last.ckpt":
            kept = torch.load(path, weights_only=True)
            found[name] = digests(kept["state_dict"]) | digests(_flat(kept.get("averaging_state", {})))
    return found


def _flat(node: Any, above: str = "averaging") -> dict[str, Any]:
    if not isinstance(node, Mapping):
        return {above: node}
    return {name: value for key, child in node.items() for name, value in _flat(child, f"{above}.{key}").items()}


def composed(repository: Path) -> dict[str, str]:
    """`--cfg job` of every experiment, with the targets of gss by their last name, since modules may move."""
    found = {}
    for path in sorted((repository / "conf/experiment").glob("[!_]*.yaml")):
        if path.stem.startswith("base"):
            continue
        case = Case(f"cfg.{path.stem}", "train", (f"experiment={path.stem}", "--cfg", "job"))
        if not re.search(r"override /stage:|/experiment|defaults", path.read_text()):
            raise ValueError(f"{path} composes nothing")
        pair = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_compose, args=(case, pair[1]))
        process.start()
        found[case.name] = re.sub(r"\bgss\.[\w.]*?(\w+(?:\.from_names)?)$", r"\1", pair[0].recv(), flags=re.MULTILINE)
        process.join()
    return found


def _compose(case: Case, pipe: Any) -> None:
    said = StringIO()
    with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
        _call(case)
    pipe.send(said.getvalue())


def record(folder: Path, read_from: Path | None) -> None:
    """Runs everything and writes `record.json`."""
    import importlib

    for name in ("train", "evaluate", "predict", "sample"):
        importlib.import_module(f"gss.{name}")
    for name in (
        "lightning",
        "timm",
        "torchmetrics",
        "albumentations",
        "cv2",
        "matplotlib.pyplot",
        "safetensors.torch",
    ):
        importlib.import_module(name)
    import gss

    print(f"the package in {Path(str(gss.__file__)).parent}", flush=True)
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = dict(composed(Path(str(gss.__file__)).parents[2]))
    groups: list[Callable[[], Iterator[Case]]] = [
        lambda: prior_cases(folder),
        lambda: conditioning_cases(folder),
        lambda: later_cases(folder),
        lambda: reading_cases(folder, (read_from or folder).absolute()),
    ]
    first, *_ = prior_cases(folder)
    run_case(first, folder)  # draws the scenes, which two runs at once would both draw
    for group in groups:
        cases = list(group())
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            results = pool.map(lambda case: run_case(case, folder), cases)
            found |= {case.name: result for case, result in zip(cases, results, strict=True)}
        (folder / "record.json").write_text(json.dumps(found, indent=1))
    print(summary(found))


def summary(found: Mapping[str, Any]) -> str:
    """How many cases ran, were refused and broke, and one digest over all of them."""
    refused = [name for name, one in found.items() if isinstance(one, dict) and "refused" in one]
    broke = [name for name, one in found.items() if isinstance(one, dict) and ({"broke", "died"} & set(one))]
    losses = sum(len(one.get("losses", ())) for one in found.values() if isinstance(one, dict))
    tensors = sum(len(s) for one in found.values() if isinstance(one, dict) for s in one.get("states", ()))
    digest = hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16]
    told = f"{len(found)} cases: {losses} losses, {tensors} tensors, {len(refused)} refused, {len(broke)} broke"
    return f"{told}; digest {digest}" + "".join(f"\n  broke: {name}" for name in broke)


def compare(old: Path, new: Path) -> int:
    """Prints what differs between two records, and gives the exit code."""
    one, other = (json.loads((folder / "record.json").read_text()) for folder in (old, new))
    differ = [f"  {name}: only in {old if name in one else new}" for name in sorted(set(one) ^ set(other))]
    for name in sorted(set(one) & set(other)):
        if one[name] != other[name]:
            differ.append(f"  {name}: {_first_difference(one[name], other[name])}")
    for folder, found in ((old, one), (new, other)):
        print(f"{folder.name}: {summary(found)}")
    print(f"{len(differ)} cases differ" + "".join(f"\n{line}" for line in differ))
    return 1 if differ else 0


def _first_difference(one: Any, other: Any, where: str = "") -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(set(one) | set(other)):
            if one.get(key) != other.get(key):
                return _first_difference(one.get(key), other.get(key), f"{where}/{key}")
    if isinstance(one, str) and isinstance(other, str) and "\n" in one + other:
        pairs = zip(one.splitlines(), other.splitlines(), strict=False)
        return next((f"{where} {a!r} became {b!r}" for a, b in pairs if a != b), f"{where} other number of lines")
    return f"{where} {str(one)[:200]} became {str(other)[:200]}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--read-from", type=Path)
    comparing = commands.add_parser("compare")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.command == "compare":
        return compare(given.old, given.new)
    record(given.folder, given.read_from)
    return 0


if __name__ == "__main__":
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.exit(main())
