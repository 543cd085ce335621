from __future__ import annotations

import os
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import LearningRateMonitor
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gss.cli.configuration import config_dir, instantiate, instantiate_each, register_resolvers, to_plain

LEARNING_RATE = {"_target_": "lightning.pytorch.callbacks.LearningRateMonitor", "logging_interval": "step"}


def test_an_allowed_target_is_built():
    built = instantiate(LEARNING_RATE)
    assert isinstance(built, LearningRateMonitor)
    assert built.logging_interval == "step"


@pytest.mark.parametrize(
    "target",
    [
        "gss.stages.optimisation.Optimisation",
        "gss.labels.LabelSpace.from_names",
        "gss.data.cityscapes.cityscapes_labels",
        "torch.optim.AdamW",
        "lightning.pytorch.loggers.CSVLogger",
        "albumentations.HorizontalFlip",
    ],
)
def test_what_configurations_need_is_allowed(target):
    assert callable(instantiate({"_target_": target, "_partial_": True}))


FORBIDDEN = [
    "os.system",
    "logging.os.system",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "builtins.eval",
    "numpy.load",
    "gssx.labels.LabelSpace",
    # a name may lead out of an allowed package through what its modules import
    "gss.objectives.losses.torch.load",
    "gss.cli.command_line.subprocess.run",
    "gss.atomic_files.os.remove",
    "torch.optim.optimizer.torch.load",
    "lightning.pytorch.callbacks.model_checkpoint.shutil.rmtree",
]


@pytest.mark.parametrize("target", FORBIDDEN)
def test_anything_else_is_refused_with_what_is_allowed(target):
    for node in ({"_target_": target}, OmegaConf.create({"_target_": target, "_partial_": True})):
        with pytest.raises(ValueError, match=rf"_target_: {target} .*gss\., torch\.optim\.") as caught:
            instantiate(node)
        assert "\n" not in str(caught.value)


def test_a_target_is_refused_wherever_it_hides():
    inner = {"_target_": "torch.load"}
    for node in ({"a": {"b": inner}}, [{"a": [inner]}], {**LEARNING_RATE, "log_momentum": inner}):
        with pytest.raises(ValueError, match=r"_target_: torch\.load is not allowed"):
            instantiate(node)


def test_a_target_is_refused_when_an_interpolation_makes_it():
    node = {"_target_": "gss.${tail}", "tail": "losses.torch.load"}
    for form in (node, OmegaConf.create(node)):
        with pytest.raises(ValueError, match=r"_target_: gss\.losses\.torch\.load"):
            instantiate(form)


def test_the_payload_of_a_refused_target_does_not_run(tmp_path):
    with pytest.raises(ValueError, match="not allowed"):
        instantiate({"_target_": "os.mkdir", "_args_": [str(tmp_path / "made")]})
    assert not (tmp_path / "made").exists()


def test_a_target_that_does_not_exist_is_one_sentence():
    with pytest.raises(ValueError, match=r"_target_: gss\.labels\.LabelSpaces") as caught:
        instantiate({"_target_": "gss.labels.LabelSpaces"})
    assert "\n" not in str(caught.value)


def test_a_users_mistake_found_by_a_constructor_stays_a_sentence():
    node = {"_target_": "gss.labels.LabelSpace.from_names", "names": ["road", "road"]}
    with pytest.raises(
        ValueError, match=r"^the class name 'road' occurs more than once; mend data\.label_space\.names$"
    ):
        instantiate(node)


def test_names_set_to_null_are_left_out():
    assert instantiate_each(None) == []
    built = instantiate_each({"first": None, "second": LEARNING_RATE})
    assert [type(item) for item in built] == [LearningRateMonitor]


def test_plain_data_hold_resolved_values_in_plain_containers():
    plain = to_plain(OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": [1, "${a}"]}}))
    assert plain == {"a": 1, "b": {"c": 1, "d": [1, 1]}}
    assert type(plain["b"]) is dict
    assert type(plain["b"]["d"]) is list


def test_a_missing_value_is_an_error():
    with pytest.raises(OmegaConfBaseException, match="a"):
        to_plain(OmegaConf.create({"a": "???"}))


def test_the_configuration_lies_where_the_commands_look():
    assert (config_dir() / "config.yaml").is_file()


def resolved(text):
    register_resolvers()
    return OmegaConf.create({"value": text}).value


def test_the_data_folder_is_the_named_one_else_the_first_that_exists(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("GSS_DATA", raising=False)
    assert resolved("${gss.data_folder:}") == str(work / "data")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert Path(resolved("${gss.data_folder:}")).resolve() == tmp_path / "shared" / "data"
    (work / "data").mkdir()
    assert resolved("${gss.data_folder:}") == str(work / "data")
    monkeypatch.setenv("GSS_DATA", str(tmp_path / "own"))
    assert resolved("${gss.data_folder:}") == str(tmp_path / "own")


def test_folders_are_fixed_where_the_command_starts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolved("${gss.absolute:outputs}") == str(tmp_path / "outputs")
    assert resolved("${gss.absolute:/elsewhere}") == "/elsewhere"


@pytest.mark.parametrize(
    ("key", "login", "offline"),
    [(None, None, True), ("secret", None, False), (None, "machine api.wandb.ai login user password x", False)],
)
def test_wandb_is_offline_unless_logged_in(tmp_path, monkeypatch, key, login, offline):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("WANDB_API_KEY", key)
    if login:
        (tmp_path / ".netrc").write_text(login + "\n")
        os.chmod(tmp_path / ".netrc", 0o600)
    assert resolved("${gss.wandb_offline:}") is offline
