from __future__ import annotations

from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image

from gss.data.datamodule import SegmentationDataModule
from gss.data.transforms import Augmentation


@pytest.fixture
def build(write_split, label_space):
    """Give a function that builds a data module over 7 training and 3 validation pairs."""
    sources = {"train": write_split("train", 7), "val": write_split("val", 3)}

    def build(**changes):
        missing = {"test": lambda: pytest.fail("the test split was opened")}
        settings = {"size": (16, 24), "batch_size": 2, "num_workers": 0, "max_steps": 6, "seed": 0} | changes
        return SegmentationDataModule("tiny", label_space, sources | missing, augmentation=Augmentation(), **settings)

    return build


class Recorder(L.LightningModule):
    """Trains one number, and keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen = []
        self.evaluated = []

    def training_step(self, batch, batch_idx):
        self.seen.append((tuple(batch["name"]), round(float(batch["image"].double().sum()), 6)))
        return self.weight * batch["image"].mean()

    def validation_step(self, batch, batch_idx):
        self.evaluated += batch["name"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trainer(max_steps, **options):
    return L.Trainer(
        accelerator="cpu", max_steps=max_steps, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, **options,
    )  # fmt: skip


def test_batches_have_the_promised_form(build):
    data = build(eval_batch_size=2)
    assert data.num_classes == 3  # known before anything is set up
    data.prepare_data()
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert len(batches) == 6
    assert batches[0]["image"].shape == (2, 3, 16, 24)
    assert batches[0]["image"].dtype == torch.float32
    assert batches[0]["labels"].shape == (2, 16, 24)
    assert batches[0]["labels"].dtype == torch.int64
    assert [name for batch in data.val_dataloader() for name in batch["name"]] == ["0", "1", "2"]


def test_training_takes_exactly_max_steps_and_evaluates_the_whole_split(build):
    module = Recorder()
    trainer(6).fit(module, datamodule=build())
    assert len(module.seen) == 6
    assert module.evaluated == ["0", "1", "2"]


@pytest.mark.filterwarnings("error:You're resuming")
@pytest.mark.parametrize(("num_workers", "first_steps"), [(0, 6), (2, 6), (0, 3)])
def test_a_resumed_training_is_shown_what_the_straight_one_was(build, tmp_path, num_workers, first_steps):
    """Stopped in the middle of its data (6 steps), or ended and then prolonged (3 steps)."""
    straight, first, second = Recorder(), Recorder(), Recorder()
    trainer(6).fit(straight, datamodule=build())
    half = trainer(3)
    half.fit(first, datamodule=build(num_workers=num_workers, max_steps=first_steps))
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(6).fit(second, datamodule=build(num_workers=num_workers), ckpt_path=tmp_path / "half.ckpt")
    assert first.seen + second.seen == straight.seen
    assert len(second.seen) == 3


def test_accumulated_gradients_get_their_batches(build):
    module = Recorder()
    trainer(3, accumulate_grad_batches=2).fit(module, datamodule=build(max_steps=3))
    assert len(module.seen) == 6
    assert len(set(module.seen)) == 6


def test_a_trainer_that_would_repeat_the_batches_is_refused(build):
    with pytest.raises(ValueError, match=r"the trainer takes 9 steps, but the data serve 6; set both .* max_steps"):
        trainer(9).fit(Recorder(), datamodule=build())


def test_evaluation_reads_the_split_that_is_asked_for(build):
    module, data = Recorder(), build()
    data.eval_split = "train"
    trainer(1).validate(module, datamodule=data, verbose=False)
    assert module.evaluated == [str(index) for index in range(7)]


def test_two_ranks_share_the_work(build):
    def names(rank, loader):
        data = build()
        state = SimpleNamespace(fn="fit")
        data.trainer = SimpleNamespace(
            global_rank=rank, world_size=2, global_step=0, max_steps=6, accumulate_grad_batches=1, state=state
        )
        return [name for batch in getattr(data, loader)() for name in batch["name"]]

    assert names(0, "val_dataloader") + names(1, "val_dataloader") == ["0", "2", "1"]
    both = names(0, "train_dataloader") + names(1, "train_dataloader")
    assert len(both) == 24
    assert min(both.count(name) for name in set(both)) >= 3  # 24 samples from 7 pairs, pass by pass


def test_label_batches_are_the_evaluated_labels_and_need_no_images(build):
    data = build()
    expected = torch.stack([data.dataset("train")[index]["labels"] for index in range(7)])
    for pair in data.pairs("train"):
        pair.image.unlink()
    batches = list(data.label_batches("train", batch_size=3))
    assert [len(batch) for batch in batches] == [3, 3, 1]
    assert batches[0].dtype == torch.int64
    assert torch.equal(torch.cat(batches), expected)


def break_image(pair):
    pair.image.write_bytes(pair.image.read_bytes()[:200])


def break_mode(pair):
    Image.new("RGB", (32, 24)).save(pair.labels)


def break_ids(pair):
    Image.fromarray(np.full((24, 32), 77, np.uint8)).save(pair.labels)


def break_size(pair):
    Image.new("L", (16, 12)).save(pair.labels)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (break_image, "cannot read image"),
        (break_mode, "has mode RGB"),
        (break_ids, "holds the ids 77"),
        (break_size, "is 12x16 pixels"),
        (lambda pair: pair.labels.unlink(), "images have no labels"),
    ],
)
def test_faults_in_the_data_stop_before_training(build, split, fault, message):
    fault(build().pairs(split)[2])
    module = Recorder()
    with pytest.raises(ValueError, match=message) as caught:
        trainer(6).fit(module, datamodule=build())
    assert "\n" not in str(caught.value)
    assert "2.png" in str(caught.value)
    assert not module.seen


def test_verification_can_be_left_out(build):
    data = build(verify=False)
    break_ids(data.pairs("val")[0])
    data.prepare_data()
    with pytest.raises(ValueError, match="holds the ids 77"):
        list(data.val_dataloader())


def test_an_unknown_split_names_the_known_ones(build):
    with pytest.raises(ValueError, match=r"no split 'dev' in data set 'tiny'; data\.splits has train, val, test"):
        build().dataset("dev")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (0, 24)}, r"size needs two whole numbers above 0 .* got \(0, 24\); mend data\.size"),
        ({"size": (16, 24.5)}, "size needs two whole numbers"),
        ({"size": (16,)}, "size needs two whole numbers"),
        ({"batch_size": 0}, r"batch_size must be a whole number of at least 1, got 0; mend data\.batch_size"),
        ({"batch_size": "8"}, "batch_size must be a whole number of at least 1, got '8'"),
        ({"num_workers": -1}, "num_workers must be a whole number of at least 0, got -1"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(build, change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)
