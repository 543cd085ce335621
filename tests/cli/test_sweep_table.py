"""The table at the end of a sweep, from folders as trials leave them; tests/commands starts a real one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from omegaconf import OmegaConf

from gss.cli.configuration import config_dir, instantiate, register_resolvers
from gss.cli.sweep_table import SweepTable, markdown, table_rows

COMMON = ("stage=prior", "data=camvid")
PRIOR = {
    "val/ceiling": 0.91234,
    "val/miou": 0.91234,
    "val/boundary_f3": 0.5,
    "trained_parameters": 12345,
    "seconds": 61.26,
}


def settings(folder, stage, mode=RunMode.MULTIRUN):
    """What Hydra tells its callbacks of one job."""
    hydra = {"mode": mode, "runtime": {"output_dir": str(folder)}, "sweep": {"dir": str(folder.parent)}}
    return OmegaConf.create({"hydra": hydra, **({"stage": {"name": stage}} if stage else {})})


@pytest.fixture
def sweep(tmp_path):
    """Give a function that lets a callback see trials: (overrides, files of the trial's folder)."""

    def seen(*trials, stage="prior", common=COMMON):
        table = SweepTable()
        table.on_multirun_start(settings(tmp_path / "none", stage))
        for number, (overrides, files) in enumerate(trials):
            folder = tmp_path / str(number)
            folder.mkdir()
            for name, content in files.items():
                (folder / name).write_text(content)
            table.on_job_end(settings(folder, stage), SimpleNamespace(overrides=[*common, *overrides]))
        return table

    return seen


def result(**figures):
    return {"result.json": json.dumps(figures)}


def test_a_row_holds_what_was_varied_and_the_figures_of_its_stage(sweep):
    table = sweep(
        (["maskige=ff", "+tokenizer.seed=0"], result(**PRIOR)),
        (["maskige=ft", "+tokenizer.seed=0"], result(**PRIOR | {"val/ceiling": 0.5, "trained_parameters": 0})),
    )
    header, rows = table_rows(table.trials)
    assert header == ["trial", "maskige", "mIoU", "boundary F (3 px)", "trained parameters", "seconds"]
    assert rows == [
        ["0", "ff", "0.9123", "0.5000", "12,345", "61.3"],
        ["1", "ft", "0.5000", "0.5000", "0", "61.3"],
    ]


def test_failed_trials_keep_their_row_and_say_why(sweep):
    table = sweep(
        (["maskige=ff"], result(**{"val/ceiling": float("nan")})),
        (["maskige=ft"], {"error.txt": "a | b is too much\n"}),
        (["maskige=tf"], {}),
    )
    header, rows = table_rows(table.trials)
    assert header == ["trial", "maskige", "mIoU", "failed"]
    assert rows == [
        ["0", "ff", "-", "-"],
        ["1", "ft", "-", "a | b is too much"],
        ["2", "tf", "-", "left no result"],
    ]
    assert markdown(header, rows).splitlines() == [
        "| trial | maskige | mIoU | failed |",
        "| --- | --- | --- | --- |",
        "| 0 | ff | - | - |",
        r"| 1 | ft | - | a \| b is too much |",
        "| 2 | tf | - | left no result |",
    ]
    assert [trial.line() for trial in table.trials[:2]] == ["trial 0: mIoU -", "trial 1: failed: a | b is too much"]


def test_trials_of_two_stages_and_of_another_command_have_their_own_figures(sweep):
    of_conditioning = sweep((["seed=0"], result(**{"val/miou": 0.25, "val/ceiling": 0.75})), stage="conditioning")
    assert table_rows(of_conditioning.trials) == (["trial", "mIoU", "ceiling"], [["0", "0.2500", "0.7500"]])


def test_a_command_that_trains_nothing_has_a_table_too(sweep):
    table = sweep(
        (["readout=argmax"], result(miou=0.5, ceiling=None)), (["readout=pixel"], result(miou=0.25)), stage=None
    )
    header, rows = table_rows(table.trials)
    assert header == ["trial", "readout", "mIoU", "ceiling"]
    assert rows == [["0", "argmax", "0.5000", "-"], ["1", "pixel", "0.2500", "-"]]


def test_both_files_are_written_and_the_table_is_printed(sweep, tmp_path, capsys):
    table = sweep((["a=1"], result(**PRIOR, deep={"x": float("nan")})), (["a=2"], {"error.txt": "no"}))
    table.on_multirun_end(settings(tmp_path / "0", "prior"))
    first, second = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)  # no NaN in it
    assert first == {"trial": "0", "varied": {"a": "1"}, "result": {**PRIOR, "deep": {"x": None}}, "error": None}
    assert second == {"trial": "1", "varied": {"a": "2"}, "result": {}, "error": "no"}
    assert (tmp_path / "sweep.md").read_text() == markdown(*table_rows(table.trials))
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("0.9123", "12,345", "sweep.md"))


def test_a_single_run_is_no_sweep(tmp_path):
    table = SweepTable()
    table.on_job_end(settings(tmp_path, "prior", RunMode.RUN), SimpleNamespace(overrides=[]))
    assert table.trials == []


def test_the_experiment_of_all_maskiges_sweeps_over_options_that_exist():
    register_resolvers()
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("config", ["experiment=maskige_variants"], return_hydra_config=True)
    options = config.hydra.sweeper.params.maskige.split(",")
    assert set(options) == {path.stem for path in (config_dir() / "maskige").iterdir()}
    assert isinstance(instantiate(config.hydra.callbacks.sweep_table), SweepTable)
