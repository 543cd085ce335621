from __future__ import annotations

import pytest

from gss.cli.overrides import check_overrides, nearest

STAGE = "stage=conditioning"

SOUND = [
    [],
    ["max_steps=3", "seed=1"],
    ["backbone=convnext_tiny", "head=free", "data=camvid", "optim=sgd"],
    ["optim.optimizer.lr=0.1", "optim.optimizer.lr=1"],  # a whole number is a number too
    ["data.size=[64,128]", "data.augmentation.scale=[1.0,1.0]"],
    ["data.name=2024", "prior=/some/path.safetensors", "prior=null"],
    ["backbone.weights=w.safetensors", "resume=last.ckpt"],
    ["callbacks=none", "~logger"],
    ["callbacks.panels=null"],
    ["~callbacks.panels", "+trainer_note=new"],
    ["experiment=camvid_cpu", "debug=fast"],
    ["data=folder", "data.root=photos", "data.label_space.names=[road,car]"],
    ["data.splits.train.num_scenes=5", "hydra.run.dir=elsewhere"],
    ["-m", "optim.optimizer.lr=0.1,0.2", "head=tied,free", "data.size=[32,64],[64,64]"],
    ["--cfg", "job"],
    ["data=cityscapes", "+data@data.elsewhere.acdc=acdc", "data.root=a", "data.elsewhere.acdc.root=b"],
    ["-m", "data=cityscapes", "+data@data.elsewhere.other=acdc,cityscapes_coarse"],
    [
        "data=cityscapes_to_acdc",
        "data.elsewhere.acdc.splits.train.conditions=[fog]",
        "data.elsewhere.acdc.verify=false",
    ],
    ["data=mseg", "data.splits.train.repeat.bdd-relabeled=0"],
    ["data.label_space.names=[a]", "data=folder"],  # groups count before keys, whatever the order
]


@pytest.mark.parametrize("arguments", SOUND, ids=" ".join)
def test_sound_overrides_pass(arguments):
    check_overrides("config", [STAGE, *arguments])


MISTAKES = [
    ("backbone=resnet81", r"backbone=resnet81 is not an option of that group; nearest: .*resnet18"),
    ("head=teid", r"head=teid is not an option.*nearest: tied"),
    (
        "hardware=tpu",
        r"hardware=tpu is not an option.*there are: cpu, ddp, ddp_cpu, gpu|hardware=tpu.*nearest: .*[cg]pu",
    ),
    ("callbacks=null", r"callbacks=None is not an option of that group; nearest: none"),
    ("max_step=3", r"no key max_step; nearest: max_steps"),
    ("optim.optimizer.lrr=1", r"no key optim\.optimizer\.lrr; nearest: lr"),
    ("optim.optimiser.lr=1", r"no key optim\.optimiser\.lr; nearest: optimizer"),
    ("data.batch_sise=3", r"no key data\.batch_sise; nearest: .*batch_size"),
    ("bakcbone=resnet18", r"no key bakcbone; nearest: backbone"),
    ("tokenizer.stride.x=1", r"no key tokenizer\.stride\.x: x lies below a plain value"),
    ("max_steps=many", r"max_steps=many should be a whole number, as in its default 500"),
    ("max_steps=2.5", r"max_steps=2\.5 should be a whole number"),
    ("max_steps=null", r"max_steps=None should be a whole number"),
    ("optim.optimizer.lr=high", r"lr=high should be a number, as in its default 0\.001"),
    ("data.verify=maybe", r"data\.verify=maybe should be true or false, as in its default True"),
    ("data.verify=1", r"data\.verify=1 should be true or false"),
    ("max_steps=true", r"max_steps=True should be a whole number"),
    ("data.size=64", r"data\.size=64 should be a list, as in its default \[128, 256\]"),
    ("data.augmentation=3", r"data\.augmentation=3 should be a mapping"),
    ("stage.readout=[argmax]", r"stage\.readout=\['argmax'\] should be text, as in its default 'expected'"),
    ("max_steps", r"max_steps"),
    ("+data@data.elsewhere.acdc=adcc", r"data=adcc is not an option of that group; nearest: acdc"),
    (
        "+data@data.elsewher.acdc=acdc",
        r"data@data\.elsewher\.acdc: there is no mapping elsewher to put .* nearest: elsewhere",
    ),
    ("+data@data.batch_size.acdc=acdc", r"there is no mapping batch_size to put a group into; it is a plain value"),
    ("data@data.elsewhere.acdc=acdc", r"To append to your default list use \+data@data\.elsewhere\.acdc=acdc"),
    ("data.size=[64", r"\[64"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES, ids=[override for override, _ in MISTAKES])
def test_a_mistake_is_one_sentence_with_the_nearest_valid_names(override, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_overrides("config", [STAGE, override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["backbone=resnet18,resnet81"], r"backbone=resnet81 is not an option"),
        (["optim.optimizer.lrr=1,2"], r"no key optim\.optimizer\.lrr"),
        (["max_steps=2,many"], r"max_steps=many should be a whole number"),
    ],
)
def test_a_mistake_in_a_sweep_is_found_before_the_first_run(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_overrides("config", ["-m", STAGE, *arguments])


def test_a_sound_sweep_of_the_stage_passes():
    check_overrides("config", ["--multirun", "stage=prior,conditioning", "max_steps=1,2"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no stage was given: say stage=prior or stage=conditioning"),
        (["stage=priro"], "stage=priro is not an option of that group; nearest: prior"),
    ],
)
def test_the_stage_must_be_said_and_exist(arguments, message):
    with pytest.raises(ValueError, match=message):
        check_overrides("config", arguments)


@pytest.mark.parametrize("name", ["evaluate", "predict"])
def test_the_other_commands_are_checked_too(name):
    check_overrides(name, ["checkpoint=last.ckpt", "readout=argmax"])
    with pytest.raises(ValueError, match=r"no key chekpoint; nearest: checkpoint"):
        check_overrides(name, ["chekpoint=last.ckpt"])


def test_evaluation_takes_the_data_groups():
    check_overrides("evaluate", ["checkpoint=last.ckpt", "data=camvid", "hardware=ddp_cpu", "split=test"])
    check_overrides("evaluate", ["checkpoint=last.ckpt", "data=cityscapes", "+data@data.elsewhere.acdc=acdc"])
    with pytest.raises(ValueError, match=r"there is no mapping data to put a group into"):
        check_overrides("evaluate", ["checkpoint=last.ckpt", "+data@data.elsewhere.acdc=acdc"])
    with pytest.raises(ValueError, match=r"data=camvit is not an option of that group; nearest: camvid"):
        check_overrides("evaluate", ["data=camvit"])


def test_nothing_near_gives_the_whole_list():
    assert nearest("zzz", ["b", "a"]) == "there are: a, b"
    assert nearest("resnet81", ["resnet18", "swin"]) == "nearest: resnet18"


def test_keys_of_a_data_set_placed_elsewhere_are_checked():
    placed = ["stage=prior", "data=cityscapes", "+data@data.elsewhere.acdc=acdc"]
    with pytest.raises(ValueError, match=r"no key data\.elsewhere\.acdc\.rot; nearest: root"):
        check_overrides("config", [*placed, "data.elsewhere.acdc.rot=b"])
    with pytest.raises(ValueError, match=r"data=acdd is not an option of that group"):
        check_overrides("config", ["-m", "stage=prior", "+data@data.elsewhere.other=acdc,acdd"])


def test_files_that_others_derive_from_are_no_options():
    with pytest.raises(ValueError, match=r"experiment=_base_paper is not an option of that group; ") as said:
        check_overrides("config", ["stage=prior", "experiment=_base_paper"])
    assert "_base" not in str(said.value).partition(";")[2]
