"""A mistake on the command line: exit code 2 and one sentence, before anything heavy is imported."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from gss.cli.configuration import config_dir

MISTAKES = {
    "a mistyped option": (["train", "stage=prior", "backbone=resnet81"], r"backbone=resnet81 .*nearest: .*resnet18"),
    "a mistyped key": (["train", "stage=prior", "max_step=3"], r"no key max_step; nearest: max_steps"),
    "a value of another type": (["train", "stage=prior", "max_steps=many"], r"max_steps=many should be a whole number"),
    "no stage": (["train"], r"stage=prior or stage=conditioning"),
    "no folder for own data": (["train", "stage=prior", "data=folder"], r"data\.label_space\.names, data\.root"),
    "no checkpoint to evaluate": (["evaluate"], r"give checkpoint=PATH of stage=conditioning"),
    "a mode that there is not": (
        ["evaluate", "mode=sampling"],
        r"mode='sampling': one of segmentation, reconstruction",
    ),
    "a tokenizer that is not made yet": (["evaluate", "mode=reconstruction", "tokenizer=vqvae"], r"train stage=prior`"),
    "no images to predict": (["predict", "checkpoint=last.ckpt"], r"give either input=FOLDER.*submission=NAME"),
    "no artefact to draw from": (["sample"], r"prior=VALUE"),
    "a mistyped key of the drawing": (["sample", "prior=a", "step=3"], r"no key step; nearest: steps"),
    "no weights to convert": (["convert", "dalle", "nowhere"], r"no encoder\.pkl and no decoder\.pkl in nowhere"),
    "a sum that is none": (["convert", "dalle", "here", "--sha256", "encoder=12"], r"--sha256 encoder=12: expected"),
    "weights of another kind": (["convert", "vqgan", "here"], r"invalid choice: 'vqgan'"),
    "a mistyped key of a command": (["predict", "chekpoint=a"], r"no key chekpoint; nearest: checkpoint"),
}

PROGRAM = """
import contextlib, importlib, io, json, sys
report = {}
for name, (command, *arguments) in json.loads(sys.argv[1]).items():
    sys.argv = [f"gss-{command}", *arguments]
    said, wrong = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
        try:
            importlib.import_module(f"gss.{command}").main()
            code = 0
        except SystemExit as stop:
            code = stop.code
    heavy = [module for module in ("torch", "lightning", "timm", "numpy") if module in sys.modules]
    report[name] = {"code": code, "out": said.getvalue(), "error": wrong.getvalue(), "heavy": heavy}
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(stranger, tmp_path_factory):
    """All these command lines, one after the other in one process, and what each led to."""
    lines = {name: arguments for name, (arguments, _) in MISTAKES.items()}
    lines |= {
        f"{command} --help": [command, "--help"] for command in ("train", "evaluate", "predict", "sample", "convert")
    }
    words, folder = [sys.executable, "-c", PROGRAM, json.dumps(lines)], tmp_path_factory.mktemp("mistakes")
    ended = subprocess.run(words, capture_output=True, text=True, cwd=folder, env=stranger, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_with_code_2_and_one_sentence(report, name):
    found, (_, message) = report[name], MISTAKES[name]
    assert found["code"] == 2
    assert re.search(message, found["error"])
    assert found["error"].startswith("error: ")
    assert found["error"].count("\n") == 1
    assert found["heavy"] == []


def test_help_lists_every_group_and_imports_nothing_heavy(report):
    found = report["train --help"]
    for group in (folder for folder in config_dir().iterdir() if folder.is_dir() and folder.name != "hydra"):
        options = ", ".join(sorted(path.stem for path in group.glob("[!_]*.yaml")))
        assert f"\n{group.name}: {options}\n" in found["out"]
    assert not re.search(r"\b_\w", found["out"])  # what others derive from is no choice
    assert found["code"] == 0
    assert found["heavy"] == []


def test_help_on_conversion_says_what_is_needed(report):
    found = report["convert --help"]
    assert found["code"] == 0
    assert found["heavy"] == []
    assert all(word in found["out"] for word in ("dalle", "WEIGHTS_DIR", "OUTPUT", "encoder.pkl", "cdn.openai.com"))


@pytest.mark.parametrize("command", ["evaluate", "predict", "sample"])
def test_every_command_has_help(report, command):
    assert report[f"{command} --help"]["code"] == 0
    assert "Generative semantic segmentation" in report[f"{command} --help"]["out"]


def test_the_shell_sees_the_code_and_the_sentence_alone(start):
    ended = start("train", "stage=prior", "tokeniser=patches")
    assert ended.returncode == 2
    assert ended.stderr == "error: there is no key tokeniser; nearest: tokenizer, token_model\n"
    assert ended.stdout == ""
