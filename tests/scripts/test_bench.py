"""The benchmarks measure what they claim; how fast anything is, is no business of tests."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import gpu_bench
from bench import confusion_matrix, dvae_decoding, feeding, head_step, inference_windows, label_tokens
from bench.harness import QUICK, Effort, Row, fixed_threads, peak_memory, time_in_turn
from gss.tokenizer.dalle import DalleDVAE

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "bench.py"
ROWS = {  # name -> bar: the smallest ratio of costs, other / ours
    "dvae_first_layer_memory": 4.0,
    "dvae_decoding_memory": 4.0,
    "tokens_patches_1": 50.0,
    "tokens_vqvae_1": 50.0,
    "tokens_patches_8": 50.0,
    "tokens_vqvae_8": 50.0,
    "confusion_matrix": 10.0,
    "feeding_cache": 3.0,
    "feeding_files": 1.2,
    "generation_argmax": 1 / 1.15,
    "generation_expected": 1 / 1.15,
    "generation_resnet18_argmax": 1 / 1.15,
    "generation_resnet18_expected": 1 / 1.15,
    "head_step_time": 1 / 0.8,
    "head_step_memory": 4.0,
    "head_step_lean_time": 1 / 0.8,
    "head_step_lean_memory": 4.0,
    "head_step_torch_time": 1.0,
    "head_step_torch_memory": 1.0,
    "inference_windows_memory": 1.5,
    "training_loop": 1 / 1.05,
}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Load scripts/bench.py, which has the name of its package, with its results in a temporary folder."""
    specification = importlib.util.spec_from_file_location("bench_command", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results" / "bench.json")
    return module


def row(ours: tuple[float, ...], other: tuple[float, ...], bar: float) -> Row:
    return Row("drawn", ours, other, "ms", bar)


def test_the_ratio_takes_medians_and_is_above_one_where_we_are_cheaper() -> None:
    assert row(ours=(2.0, 90.0, 1.0), other=(8.0, 8.0, 1000.0), bar=1.0).ratio == 4.0


@pytest.mark.parametrize(("other", "holds"), [(12.0, True), (8.0, True), (7.9, False)])
def test_a_row_holds_up_to_a_fifth_below_its_bar(other: float, holds: bool) -> None:
    assert row(ours=(2.0,), other=(other,), bar=5.0).holds is holds


def test_both_ways_are_timed_in_turn_after_a_warm_up() -> None:
    called: list[str] = []
    effort = Effort(warm_up=1, repeats=3)
    timed = time_in_turn("drawn", lambda: called.append("ours"), lambda: called.append("other"), 1.0, effort)
    assert len(timed.ours) == len(timed.other) == 3
    assert called == ["other", "ours", "ours", "other"] * 2


def test_peak_memory_is_what_was_held_at_once() -> None:
    def hold_two_of_three() -> torch.Tensor:
        first = torch.zeros(1 << 18)  # 1 MiB
        second = first + 1
        del first
        return second * 2

    assert peak_memory(hold_two_of_three) == pytest.approx(2.0, abs=0.01)


def test_threads_are_put_back_also_after_an_error() -> None:
    before = torch.get_num_threads()

    def fail() -> None:
        with fixed_threads(before + 1):
            assert torch.get_num_threads() == before + 1
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.get_num_threads() == before


def test_a_wrong_decoding_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dvae_decoding, "filled_dvae", lambda: DalleDVAE(vocab_size=12, hidden=8, code_dim=6).eval())
    monkeypatch.setattr(dvae_decoding, "_codes", lambda decoder, tokens: torch.zeros(*tokens.shape[:1], 6, 5, 3))
    with pytest.raises(AssertionError, match="not close"):
        dvae_decoding.measure(QUICK)


def test_the_published_form_of_decoding_is_the_networks_own() -> None:
    torch.manual_seed(0)
    dvae = DalleDVAE(vocab_size=12, hidden=8, code_dim=6)
    dvae.load_state_dict(dvae.state_dict())
    tokens = torch.randint(12, (2, 3, 4))
    with torch.inference_mode():
        assert dvae_decoding.one_hot_codes(dvae.decoder, tokens).shape == (2, 6, 3, 4)
        published = dvae_decoding.published_decoding(dvae.decoder, tokens)
        torch.testing.assert_close(dvae.decode(tokens).maskige, published)


def test_a_grid_of_another_stride_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(1, label_tokens.SIDE, label_tokens.SIDE, dtype=torch.int64)
    fine = SimpleNamespace(encode=lambda labels: labels[:, ::4, ::4])
    with pytest.raises(AssertionError, match="drawn: not one token per 8x8 pixels"):
        label_tokens._row("drawn", fine, fine, labels, QUICK)


@pytest.fixture
def small_head_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The heads of `head_step` over few tokens."""
    monkeypatch.setattr(head_step, "VOCAB_SIZE", 12)
    monkeypatch.setattr(head_step, "WIDTHS", (6, 5, 4, 3))


def test_every_way_of_a_head_step_is_measured(small_head_step: None) -> None:
    rows = head_step.measure(QUICK)
    names = [name for name in ROWS if name.startswith("head_step")]
    assert [row.name for row in rows] == names[: len(rows)]
    assert len(rows) == (len(names) if head_step.OPTIONS is not None else len(names) - 2)


def test_a_step_of_another_loss_is_not_timed(small_head_step: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = head_step.token_divergence
    monkeypatch.setattr(head_step, "token_divergence", lambda scores, targets: 1.001 * right(scores, targets))
    with pytest.raises(AssertionError, match="not close"):
        head_step.measure(QUICK)


def test_windows_in_bands_and_in_whole_maps_are_compared_before_they_are_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for key, value in {"SIZE": (40, 60), "WINDOW": 16, "STEP": 11}.items():
        monkeypatch.setattr(inference_windows, key, value)
    (measured,) = inference_windows.measure(QUICK)
    assert measured.name == "inference_windows_memory"
    assert 0 < measured.ours[0] < measured.other[0]
    monkeypatch.setattr(inference_windows, "averaged_whole", lambda network, image: network(image))
    with pytest.raises(AssertionError, match="not close"):
        inference_windows.measure(QUICK)


def test_a_wrong_miou_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confusion_matrix, "_ours", lambda predicted_labels, labels: 0.5)
    with pytest.raises(AssertionError, match=r"our mIoU is 0\.5, that of torchmetrics"):
        confusion_matrix.measure(QUICK)


@pytest.fixture
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images and crops of `feeding` at an eighth of their sides."""
    right = feeding.experiment
    monkeypatch.setattr(feeding, "SIZE", (128, 256))
    monkeypatch.setattr(feeding, "AGREEMENT", 0.9)  # a pixel is more of such an image
    monkeypatch.setattr(feeding, "experiment", lambda name: {"data": right(name)["data"] | {"size": [96, 96]}})


def test_feeding_is_measured_both_ways(small_images: None) -> None:
    rows = feeding.measure(QUICK)
    assert [(row.name, row.bar, len(row.ours)) for row in rows] == [
        ("feeding_cache", 3.0, 2),
        ("feeding_files", 1.2, 2),
    ]


def test_other_images_than_the_published_steps_give_are_not_timed(
    small_images: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeding.ResizeWhole, "get_params", lambda step: {"ratio": 1.5})
    with pytest.raises(AssertionError, match=r"images differ by 0\.\d+ of white"):
        feeding.measure(QUICK)


def test_a_cache_of_other_labels_is_not_timed(small_images: None, monkeypatch: pytest.MonkeyPatch) -> None:
    right = feeding.CachedSplit.__getitem__
    monkeypatch.setattr(
        feeding.CachedSplit,
        "__getitem__",
        lambda cached, index: (right(cached, index)[0], np.zeros((128, 256), np.uint8)),
    )
    with pytest.raises(AssertionError, match="the cache gives other labels than the files"):
        feeding.measure(QUICK)


def test_a_quick_row_is_printed_and_written_where_asked(
    command: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = tmp_path / "some.json"
    arguments = ["--quick", "--only", "confusion_matrix"]
    assert command.main([*arguments, "--output", str(written)]) == 0
    assert command.main(arguments) == 0
    assert not command.RESULTS.exists()  # figures of a full run are not overwritten
    (record,) = json.loads(written.read_text())
    assert list(record) == ["name", "ours", "other", "unit", "ratio", "bar", "holds"]
    assert record["ratio"] == pytest.approx(record["other"] / record["ours"], rel=0.02)
    printed = capsys.readouterr().out
    assert "threads 1" in printed
    assert "confusion_matrix" in printed


def test_a_full_run_writes_the_results_and_fails_with_a_row(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row(ours=(2.0,), other=(9.0,), bar=5.0)]
    monkeypatch.setattr(command, "measure", lambda groups, effort, console: rows)
    assert command.main([]) == 0
    assert "yes*" in capsys.readouterr().out
    rows.append(row(ours=(2.0,), other=(3.0,), bar=5.0))
    assert command.main([]) == 1
    assert [record["holds"] for record in json.loads(command.RESULTS.read_text())] == [True, False]


def test_a_group_that_fails_takes_no_measured_row_with_it(
    command: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    modules = {
        "bench.dvae_decoding": SimpleNamespace(measure=lambda effort: [row(ours=(2.0,), other=(9.0,), bar=5.0)]),
        "bench.label_tokens": SimpleNamespace(measure=lambda effort: pytest.fail("cannot be measured")),
    }
    monkeypatch.setattr(command, "import_module", modules.__getitem__)
    with pytest.raises(pytest.fail.Exception, match="cannot be measured"):
        command.main([])
    assert "drawn" in capsys.readouterr().out
    assert not command.RESULTS.exists()


def test_an_unknown_row_is_answered_with_the_known_ones(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "decoding"])
    assert "dvae_decoding" in capsys.readouterr().err


def test_a_recipe_s_speed_is_measured_for_every_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_bench.main(["--quick", "--peak", "0.001", "data.batch_size=1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert figures["way"] == "eager"
    per_second = figures["tflop_per_step"] * figures["images_per_second"]  # with one image per step
    assert figures["tflops_per_second"] == pytest.approx(per_second, rel=0.02)
    assert figures["share_of_peak"] == pytest.approx(1000 * per_second, rel=0.02)


def test_a_recipe_s_speed_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_bench.main([]) == 1
    assert "no GPU was found" in capsys.readouterr().err


@pytest.mark.slow
def test_every_row_is_measured(command: ModuleType, tmp_path: Path) -> None:
    written = tmp_path / "bench.json"
    assert command.main(["--quick", "--output", str(written)]) == 0
    records = json.loads(written.read_text())
    expected = {name: bar for name, bar in ROWS.items() if head_step.OPTIONS is not None or "_torch_" not in name}
    assert {record["name"]: record["bar"] for record in records} == pytest.approx(expected, rel=0.01)
    assert all(record["ours"] > 0 and record["other"] > 0 for record in records)


@pytest.mark.slow
def test_training_loops_whose_losses_differ_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench import training_loop

    monkeypatch.setattr(training_loop, "pixel_loss", lambda pixel_logits, labels: pixel_logits.sum())
    with pytest.raises(AssertionError, match=r"step 1: our loss is .*, the bare loop's"):
        training_loop.measure(Effort(warm_up=0, repeats=1))


@pytest.mark.slow
def test_both_training_loops_stay_on_the_same_losses() -> None:
    from bench import training_loop

    assert len(training_loop.measure(Effort(warm_up=0, repeats=13))[0].ours) == 13
