from __future__ import annotations

import hashlib
import re
import sys

import pytest
import torch
from safetensors import safe_open

from gss.convert import convert
from gss.tokenizer.dalle import DalleDVAE
from gss.tokenizer.dalle_conversion import convert_dalle
from gss.tokenizer.dalle_weights import DalleWeights
from published_dvae import Sizes, build, save_module, save_published

SIZES = Sizes(vocab_size=12, hidden=8, num_blocks=2, code_dim=6)


@pytest.fixture
def published(tmp_path):
    """The two files, zip format, and their tensors by published name."""
    return tmp_path, save_published(tmp_path, SIZES)


def our_names(part, num_blocks):
    """Published name -> our name, written out from the published layout."""
    names = {"blocks.output.conv.w": "output.weight", "blocks.output.conv.b": "output.bias"}
    names["blocks.input.w"] = "input.weight" if part == "encoder" else "codebook.weight"
    names["blocks.input.b"] = "input.bias" if part == "encoder" else "code_bias"
    for group in range(4):
        for block in range(num_blocks):
            theirs, ours = f"blocks.group_{group + 1}.block_{block + 1}", f"groups.{group}.{block}"
            for letter, kind in (("w", "weight"), ("b", "bias")):
                for number in range(4):
                    name = f"{theirs}.res_path.conv_{number + 1}.{letter}"
                    names[name] = f"{ours}.convolutions.{number}.{kind}"
                names[f"{theirs}.id_path.{letter}"] = f"{ours}.shortcut.{kind}"
    return names


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_every_tensor_arrives_under_its_name(tmp_path, legacy):
    published = save_published(tmp_path, SIZES, legacy)
    state = convert_dalle(tmp_path, tmp_path / "out.safetensors", {}).state
    seen = set()
    for part, tensors in published.items():
        names = our_names(part, SIZES.num_blocks)
        for name, tensor in tensors.items():
            wanted = tensor[:, :, 0, 0].T if (part, name) == ("decoder", "blocks.input.w") else tensor
            assert state[f"{part}.{names[name]}"].equal(wanted), name
            seen.add(f"{part}.{names[name]}")
    assert seen == state.keys()


def test_the_two_formats_are_what_they_are_called(tmp_path):
    save_published(tmp_path, SIZES)
    assert (tmp_path / "encoder.pkl").read_bytes()[:2] == b"PK"
    with pytest.raises(Exception, match="weights_only"):
        torch.load(tmp_path / "encoder.pkl", weights_only=True)  # torch's safe reader refuses whole modules


def test_half_precision_and_shared_storages_are_read(tmp_path):
    parts = build(SIZES)
    first = parts["encoder"].blocks.input
    first.w = torch.nn.Parameter(first.w.half(), requires_grad=False)
    bias = torch.randn(40)
    parts["encoder"].blocks.output.conv.b = torch.nn.Parameter(bias[5:29:2], requires_grad=False)  # a strided view
    for name, part in parts.items():
        save_module(part, tmp_path / f"{name}.pkl")
    state = convert_dalle(tmp_path, tmp_path / "out.safetensors", {}).state
    assert state["encoder.output.bias"].equal(bias[5:29:2])
    assert state["encoder.input.weight"].equal(first.w.float())


def test_the_command_writes_what_the_tokenizer_reads(published, capsys):
    folder, tensors = published
    convert(["dalle", str(folder)])
    told = capsys.readouterr().out
    path = folder / "dalle.safetensors"
    with safe_open(path, framework="pt") as file:
        assert file.metadata().keys() == {"gss"}
    sources = {part: hashlib.sha256((folder / f"{part}.pkl").read_bytes()).hexdigest() for part in tensors}
    assert DalleWeights.load(path).sources == sources
    for part, held in tensors.items():
        assert f"{part}.pkl: {sum(t.numel() for t in held.values()):,} parameters, sha256 {sources[part]}\n" in told
    assert f"tokenizer=dalle tokenizer.weights={path}\n" in told
    assert sorted(entry.name for entry in folder.iterdir()) == ["dalle.safetensors", "decoder.pkl", "encoder.pkl"]
    settings = {"vocab_size": 12, "hidden": 8, "num_blocks": 2, "code_dim": 6}
    dvae = DalleDVAE(str(path), sha256=sources, **settings)
    dvae.load_weights()
    assert dvae.encoder.input.weight.equal(tensors["encoder"]["blocks.input.w"])


def test_expected_sums_are_checked(published):
    folder, _ = published
    right = hashlib.sha256((folder / "encoder.pkl").read_bytes()).hexdigest()
    output = folder / "out" / "dalle.safetensors"
    convert(["dalle", str(folder), str(output), "--sha256", f"encoder={right.upper()}"])
    output.unlink()
    with pytest.raises(ValueError, match=rf"decoder\.pkl has SHA-256 (?!{right}).* but --sha256 expects {right}"):
        convert(["dalle", str(folder), str(output), "--sha256", f"encoder={right}", "--sha256", f"decoder={right}"])
    with pytest.raises(ValueError, match=r"--sha256 names 'encoder\.pkl': give sums for encoder and decoder"):
        convert(["dalle", str(folder), str(output), "--sha256", f"encoder.pkl={right}"])
    assert not output.exists()


def test_nothing_named_dall_e_is_imported(published):
    folder, _ = published
    convert_dalle(folder, folder / "out.safetensors", {})
    assert [name for name in sys.modules if name.startswith("dall_e")] == []


def test_swapped_files_are_noticed(published):
    folder, _ = published
    (folder / "encoder.pkl").write_bytes((folder / "decoder.pkl").read_bytes())
    with pytest.raises(ValueError, match=r"encoder\.pkl holds dall_e\.decoder\.Decoder, expected dall_e\.encoder"):
        convert_dalle(folder, folder / "out.safetensors", {})


def rename(encoder):
    paths = encoder.blocks.group_2.block_1._modules
    paths["identity"] = paths.pop("id_path")


def narrow(encoder):
    encoder.blocks.group_3.block_1.res_path.conv_2.b = torch.nn.Parameter(torch.zeros(5))


def strengthen(encoder):
    encoder.blocks.group_4.block_2.post_gain = 0.5


def empty(encoder):
    encoder.blocks = torch.nn.ReLU()


def circle(encoder):
    encoder.blocks._modules["group_1"] = encoder.blocks


FAULTS = {
    rename: r"block_1\.id_path\.b is missing; .*block_1\.identity\.w is unknown",
    narrow: r"blocks\.group_3\.block_1\.res_path\.conv_2\.b is \(5,\), expected \(8,\)",
    strengthen: r"blocks\.group_4\.block_2\.post_gain is 0\.5",
    empty: r"not those of a dVAE: no usable 'blocks\.output\.conv\.w'",
    circle: r"holds one module in two places, at blocks\.group_1\.",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_another_layout_is_refused_with_what_differs(published, fault):
    folder, _ = published
    encoder = build(SIZES)["encoder"]
    fault(encoder)
    save_module(encoder, folder / "encoder.pkl")
    with pytest.raises(ValueError, match=FAULTS[fault]):
        convert_dalle(folder, folder / "out.safetensors", {})
    assert not (folder / "out.safetensors").exists()


def test_missing_files_are_named_with_where_to_find_them(tmp_path):
    with pytest.raises(ValueError, match=r"no encoder\.pkl and no decoder\.pkl") as caught:
        convert_dalle(tmp_path, tmp_path / "out.safetensors", {})
    assert "https://cdn.openai.com/dall-e/" in str(caught.value)
    save_published(tmp_path, SIZES)
    (tmp_path / "decoder.pkl").unlink()
    with pytest.raises(ValueError, match=rf"there is no decoder\.pkl in {re.escape(str(tmp_path))}"):
        convert_dalle(tmp_path, tmp_path / "out.safetensors", {})
