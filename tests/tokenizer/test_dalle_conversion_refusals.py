"""Files that would run something, or are damaged: each is refused, and nothing runs."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import pickletools
import subprocess
import zipfile

import pytest
import torch

from gss.tokenizer.dalle_conversion import load_inert
from published_dvae import Sizes, build, save_module

ENCODER = "dall_e.encoder.Encoder"


class Bomb:
    """Pickles as a call."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call[0], tuple(self.call[1:])


def load(path):
    return load_inert(path.name, path.read_bytes())


@pytest.fixture
def marker(tmp_path):
    """A file that a bomb would make; it is not there afterwards."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def bombs(marker):
    """What the refusal names -> the bomb."""
    write = f"open({str(marker)!r}, 'w')"
    return {
        f"{os.system.__module__}.system": Bomb(os.system, f"touch {marker}"),
        "builtins.eval": Bomb(builtins.eval, write),
        "builtins.exec": Bomb(builtins.exec, write),
        "builtins.getattr": Bomb(builtins.getattr, "text", "upper"),
        "subprocess.Popen": Bomb(subprocess.Popen, ["touch", str(marker)]),
        "torch.serialization.load": Bomb(torch.load, str(marker)),
    }


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", bombs("x"))
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_pickle_that_would_run_something_is_refused_by_name(tmp_path, marker, name, legacy):
    encoder, path = build(Sizes())["encoder"], tmp_path / "encoder.pkl"
    encoder.blocks.group_2.note = bombs(marker)[name]
    save_module(encoder, path, legacy)
    with pytest.raises(ValueError, match=rf"^encoder\.pkl would run {name} when loaded: refused"):
        load(path)


def archive(path, pickled, **more):
    """A torch zip archive around any pickle."""
    with zipfile.ZipFile(path, "w") as made:
        for name, content in {"version": b"3\n", "data.pkl": pickled, **more}.items():
            made.writestr(f"archive/{name}", content)
    return path


def stack_global(module, name):
    """Protocol 4's way to name something, which allows dots in the name."""
    texts = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + texts + b"\x93."


@pytest.mark.parametrize(
    ("pickled", "name"),
    [
        (b"cos\nsystem\n(S'touch MARKER'\ntR.", "os.system"),
        (b"(S'touch MARKER'\nios\nsystem\n.", "os.system"),
        (b"(cos\nsystem\nS'touch MARKER'\no.", "os.system"),
        (stack_global("os", "system"), "os.system"),
        (stack_global("torch._utils", "_rebuild_parameter.x"), r"torch\._utils\._rebuild_parameter\.x"),
        (stack_global("collections", "OrderedDict.__init__"), r"collections\.OrderedDict\.__init__"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n0cnumpy\nload\n.", "numpy.load"),
        (b"\x80\x02cdall_e.encoder\n__builtins__\n.", "dall_e.encoder.__builtins__"),
    ],
)
def test_no_opcode_finds_a_way(tmp_path, marker, pickled, name):
    path = archive(tmp_path / "encoder.pkl", pickled.replace(b"MARKER", str(marker).encode()))
    with pytest.raises(ValueError, match=f"would run {name} when loaded: refused"):
        load(path)


def test_stand_ins_of_one_file_are_not_those_of_the_next(tmp_path):
    defaced = b"\x80\x02cdall_e.encoder\nEncoder\nN}X\x04\x00\x00\x00kindX\x01\x00\x00\x00xs\x86b."
    pickletools.dis(defaced, out=io.StringIO())  # it is a well-formed pickle
    with pytest.raises(ValueError, match="damaged"):
        load(archive(tmp_path / "encoder.pkl", defaced))
    save_module(build(Sizes())["encoder"], tmp_path / "encoder.pkl")
    assert type(load(tmp_path / "encoder.pkl")).__name__ == ENCODER


def tensor(storage=("storage", "FLOAT", "0", "cpu", 4), offset=0, shape=(2, 2), strides=(2, 1)):
    """A pickle of one tensor, said by hand."""

    class Writer(pickle.Pickler):
        def persistent_id(self, item):
            return None if item != "STORAGE" else tuple(torch.FloatStorage if x == "FLOAT" else x for x in storage)

    file = io.BytesIO()
    call = Bomb(torch._utils._rebuild_tensor_v2, "STORAGE", offset, shape, strides, False, None)
    Writer(file, protocol=2).dump(call)
    return file.getvalue()


def test_a_tensor_said_by_hand_is_read(tmp_path):
    numbers = torch.arange(4.0)
    path = archive(tmp_path / "a.pkl", tensor(), **{"data/0": numbers.numpy().tobytes()})
    assert load(path).equal(numbers.view(2, 2))


@pytest.mark.parametrize(
    "said",
    [
        {"offset": 1},
        {"offset": -1},
        {"shape": (3, 2)},
        {"strides": (3, 1)},
        {"strides": (0, 0), "shape": (1 << 20, 1 << 20)},
        {"strides": (-1, 1)},
        {"shape": (2, "2")},
        {"shape": (4,)},
        {"storage": ("storage", "FLOAT", "0", "cpu", 1 << 40)},
        {"storage": ("storage", "FLOAT", "1", "cpu", 4)},
        {"storage": ("storage", "FLOAT", "0", "cpu")},
        {"storage": ("storage", "x", "0", "cpu", 4)},
        {"storage": ("elsewhere", "FLOAT", "0", "cpu", 4)},
    ],
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, said):
    path = archive(tmp_path / "a.pkl", tensor(**said), **{"data/0": bytes(16)})
    with pytest.raises(ValueError, match=r"a\.pkl is damaged"):
        load(path)


def cut(content):
    return content[: len(content) // 2]


def empty(content):
    return b""


def page(content):
    return b"<html>not found</html>"


def swap(content):
    return content.replace(b"\x80\x02", b"\x80\x63", 1)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("damage", [cut, empty, page, swap], ids=lambda damage: damage.__name__)
@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_a_damaged_file_is_said_to_be(tmp_path, legacy, damage):
    path = tmp_path / "encoder.pkl"
    save_module(build(Sizes())["encoder"], path, legacy)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"encoder\.pkl is damaged or was not written by torch\.save"):
        load(path)


def test_numbers_of_the_other_byte_order_are_read(tmp_path):
    numbers = torch.arange(4.0)
    swapped = {"byteorder": b"big", "data/0": numbers.numpy().byteswap().tobytes()}
    assert load(archive(tmp_path / "a.pkl", tensor(), **swapped)).equal(numbers.view(2, 2))


def test_a_torchscript_program_is_refused_before_torch_sees_it(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", lambda *given, **more: pytest.fail("torch.jit.load was called"))
    path = archive(tmp_path / "a.pkl", tensor(), **{"constants.pkl": b"", "data/0": bytes(16)})
    with pytest.raises(ValueError, match=r"a\.pkl is a TorchScript program: refused"):
        load(path)
