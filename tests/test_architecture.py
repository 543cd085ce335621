"""The house rules: which folder may know which, and how a module looks. Sources are parsed, never imported.

Start with the table. A room is a folder of `src/gss`, or a file beside the folders, and its row says whom it may know;
docs/architecture.md says the same in words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_MODULE_LINES = 400
MEDIAN_MODULE_LINES = (100, 180)
MAX_FUNCTION_LINES = 60
MAX_ROOT_FILES, MAX_ROOT_FOLDERS, MIN_FOLDER_FILES = 12, 14, 3
JUNK_NAMES = {"util", "utils", "helper", "helpers", "misc", "common"}

SHARED = "labels registry atomic_files tensor_file window_attention"  # one idea each, for several rooms
METHOD = "maskige tokenizer networks pipeline"
ROOMS = {  # a room, and the rooms that it may import from beside itself
    "labels": "",
    "registry": "",
    "atomic_files": "",
    "tensor_file": "atomic_files",
    "window_attention": "",
    "data": "labels registry atomic_files display",  # long readings show how far they have come
    "maskige": "labels registry window_attention",  # maskige, tokenizer, networks and token_model do not meet:
    "tokenizer": "labels registry tensor_file",  # the pipeline brings them together
    "networks": "labels registry window_attention",
    "token_model": "registry",  # numbers in, numbers out: it knows neither classes nor pictures
    "display": "labels",
    "pipeline": "labels registry maskige tokenizer networks",
    "inference": "registry",
    "metrics": "labels maskige inference",
    "objectives": f"labels registry {METHOD}",
    "assembly": f"{SHARED} {METHOD} inference objectives",
    "stages": f"{SHARED} {METHOD} token_model inference metrics objectives assembly display",
    "callbacks": "labels display",
    "runs": f"{SHARED} {METHOD} data token_model display inference metrics objectives assembly stages callbacks",
    "cli": "registry atomic_files",
    "commands": f"{SHARED} data tokenizer display assembly runs cli",
}
COMMANDS = "train evaluate predict sample convert data.__main__ runs.data_verification runs.data_caching"

LIGHTNING = f"stages runs callbacks data.datamodule {COMMANDS}"
OUTSIDE = {  # a package that not everybody may know -> the modules below `gss` that may
    "hydra": f"cli {COMMANDS}",
    "omegaconf": f"cli {COMMANDS}",
    "lightning": LIGHTNING,
    "pytorch_lightning": "",  # the old name of lightning
    "albumentations": "data",
    "timm": "networks window_attention",
    "vector_quantize_pytorch": "tokenizer",
    "diffusers": "tokenizer.diffusers",
    "wandb": "",  # a logger is spoken to through Lightning's interface
    "tensorboard": "",
    "torch.utils.tensorboard": "",
}


class Module(NamedTuple):
    """One parsed file: path below the source folder, dotted name, text, syntax tree."""

    path: str
    name: str
    text: str
    tree: ast.Module


House = Mapping[str, Module]  # by dotted name
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Rule = Callable[[House], Iterator[str]]


def parse(files: Mapping[str, str]) -> dict[str, Module]:
    """Parse sources given by their path below the source folder."""
    modules = (
        Module(path, path.removesuffix(".py").removesuffix("/__init__").replace("/", "."), text, ast.parse(text))
        for path, text in files.items()
    )
    return {module.name: module for module in modules}


def lies_in(name: str, places: str) -> bool:
    """Whether a dotted name is one of the space-separated places or lies below one."""
    return any(name == place or name.startswith(place + ".") for place in places.split())


def imported_names(module: Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import: lazy, for typing only and by a literal name included."""
    package = module.name if module.path.endswith("__init__.py") else module.name.rpartition(".")[0]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
            yield from ((node.lineno, str(name)) for name in names)


def inner_imports(module: Module, house: House) -> Iterator[tuple[int, str]]:
    """Line and name of every module of the house that this one imports."""
    for line, name in imported_names(module):
        while name and name not in house:  # `gss.labels.LabelSpace` means `gss.labels`
            name = name.rpartition(".")[0]
        if name and name not in ("gss", module.name):
            yield line, name


def room_of(name: str) -> str:
    """The room of a module by its dotted name; that of the package itself is empty."""
    inner = name.removeprefix("gss").removeprefix(".")
    return "commands" if lies_in(inner, COMMANDS) else inner.partition(".")[0]


def every_room_stands_in_the_table(house: House) -> Iterator[str]:
    for module in house.values():
        if (room := room_of(module.name)) and room not in ROOMS:
            yield f"{module.path}: the room {room} has no row in the table"


def imports_point_one_way(house: House) -> Iterator[str]:
    for module in house.values():
        room = room_of(module.name)
        allowed = {room, *ROOMS.get(room, "").split()}
        for line, name in inner_imports(module, house):
            if room_of(name) not in allowed:
                yield f"{module.path}:{line}: {room or module.name} may not know {name}"


def outside_packages_stay_in_their_rooms(house: House) -> Iterator[str]:
    for module in house.values():
        for line, name in imported_names(module):
            for package, places in OUTSIDE.items():
                if lies_in(name, package) and not lies_in(module.name.removeprefix("gss."), places):
                    yield f"{module.path}:{line}: {package} is imported outside [{places}]"


def imports_have_no_cycle(house: House) -> Iterator[str]:
    graph = {module.name: {name for _, name in inner_imports(module, house)} for module in house.values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"cycle: {' <- '.join(error.args[1])}"


def modules_are_short(house: House) -> Iterator[str]:
    for module in house.values():
        if (lines := len(module.text.splitlines())) > MAX_MODULE_LINES:
            yield f"{module.path}: {lines} lines, at most {MAX_MODULE_LINES}"


def modules_have_a_middling_length(house: House) -> Iterator[str]:
    lengths = [len(module.text.splitlines()) for module in house.values() if module.text.strip()]
    lowest, highest = MEDIAN_MODULE_LINES
    if len(lengths) >= lowest and not lowest <= median(lengths) <= highest:
        yield f"the median of {len(lengths)} modules is {median(lengths)} lines, not {lowest} to {highest}"


def rooms_are_few_and_filled(house: House) -> Iterator[str]:
    files = [module.path for module in house.values() if module.path.count("/") == 1]
    inside = [module.path.split("/") for module in house.values() if module.path.count("/") > 1]
    folders = sorted({parts[1] for parts in inside})
    if len(files) > MAX_ROOT_FILES:
        yield f"{len(files)} files beside the folders, at most {MAX_ROOT_FILES}"
    if len(folders) > MAX_ROOT_FOLDERS:
        yield f"{len(folders)} folders, at most {MAX_ROOT_FOLDERS}"
    for folder in folders:
        held = [parts[-1] for parts in inside if parts[1] == folder]
        if len(held) < MIN_FOLDER_FILES or f"gss.{folder}" not in house:
            yield f"{folder}: a folder holds at least {MIN_FOLDER_FILES} files, one of them its __init__.py"


def functions_are_short(house: House) -> Iterator[str]:
    for module, node in definitions(house):
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        if not isinstance(node, ast.ClassDef) and lines > MAX_FUNCTION_LINES:
            yield f"{module.path}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}"


def public_names_are_documented(house: House) -> Iterator[str]:
    """As the house measures it, a name is public unless it begins with an underscore, closures included."""
    for module in house.values():
        if ast.get_docstring(module.tree) is None:
            yield f"{module.path}: the module has no docstring"
    for module, node in definitions(house):
        if not node.name.startswith("_") and ast.get_docstring(node) is None:
            yield f"{module.path}:{node.lineno}: {node.name} has no docstring"


def functions_are_annotated(house: House) -> Iterator[str]:
    for module, node in definitions(house):
        if isinstance(node, ast.ClassDef):
            continue
        plain = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        starred = [a for a in (node.args.vararg, node.args.kwarg) if a]
        bare = [a.arg for a in plain + starred if a.annotation is None and a.arg not in ("self", "cls")]
        bare += ["return"] if node.returns is None else []
        if bare:
            yield f"{module.path}:{node.lineno}: {node.name} leaves {', '.join(bare)} without a type"


def definitions(
    house: House,
) -> Iterator[tuple[Module, Definition]]:
    """Every function and class, nested ones too."""
    for module in house.values():
        for node in ast.walk(module.tree):
            if isinstance(node, Definition):
                yield module, node


def junk_names(paths: list[str]) -> list[str]:
    """Paths of which a folder or the file is named after nothing."""
    return [path for path in paths if JUNK_NAMES & set(path.removesuffix(".py").split("/"))]


RULES: tuple[Rule, ...] = (
    every_room_stands_in_the_table,
    imports_point_one_way,
    outside_packages_stay_in_their_rooms,
    imports_have_no_cycle,
    modules_are_short,
    modules_have_a_middling_length,
    rooms_are_few_and_filled,
    functions_are_short,
    public_names_are_documented,
    functions_are_annotated,
)

SOURCE_FOLDER = REPOSITORY / "src"
HOUSE = parse({p.relative_to(SOURCE_FOLDER).as_posix(): p.read_text() for p in SOURCE_FOLDER.glob("gss/**/*.py")})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    assert HOUSE, "no source was found"
    complaints = list(rule(HOUSE))
    assert not complaints, "\n".join(complaints)


def test_no_file_is_named_after_nothing() -> None:
    files = [path for folder in ("src", "tests", "scripts") for path in REPOSITORY.glob(f"{folder}/**/*.py")]
    assert junk_names([path.relative_to(REPOSITORY).as_posix() for path in files]) == []
    assert junk_names(["a/utils.py", "common/a.py", "a/misconduct.py"]) == ["a/utils.py", "common/a.py"]


@pytest.mark.parametrize("room", ROOMS)
def test_the_table_names_only_rooms_that_exist(room: str) -> None:
    assert room == "commands" or f"gss.{room}" in HOUSE
    assert set(ROOMS[room].split()) <= set(ROOMS)


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "commands"])
def test_the_map_for_readers_shows_every_room(room: str) -> None:
    assert re.search(rf"\b{room}\b", (REPOSITORY / "docs" / "architecture.md").read_text())


@pytest.mark.parametrize("folder", sorted({name for name in HOUSE if HOUSE[name].path.endswith("/__init__.py")}))
def test_every_folder_says_what_may_enter_it(folder: str) -> None:
    if folder.count(".") == 1:
        assert "belongs here" in str(ast.get_docstring(HOUSE[folder].tree))


SOUND = {
    "gss/__init__.py": '"""Package."""',
    "gss/labels.py": '"""Labels."""\ndef size(of: list[str]) -> int:\n    """Count."""\n    return len(of)',
    "gss/data/__init__.py": '"""Data."""',
    "gss/data/folder.py": '"""A data set."""',
    "gss/data/datamodule.py": '"""Loaders."""\nimport lightning\nfrom ..labels import size',
    "gss/runs/__init__.py": '"""Runs."""\nfrom gss import labels',
    "gss/runs/run.py": '"""Meet."""\nfrom gss.data import datamodule',
    "gss/runs/training.py": '"""Train."""',
    "gss/train.py": '"""Entry."""\nimport hydra\nfrom gss.runs import run',
}

OFFENCES: list[tuple[Rule, str, str, str]] = [  # rule, path, the source put there, what the complaint names
    (every_room_stands_in_the_table, "attic.py", '"""A."""', "the room attic"),
    (imports_point_one_way, "labels.py", "from gss.train import main", "labels may not know gss.train"),
    (imports_point_one_way, "maskige.py", "from . import data", "maskige may not know gss.data"),
    (imports_point_one_way, "data/a.py", "def f():\n    from ..runs import x", "data may not know gss.runs"),
    (imports_point_one_way, "data/a.py", "import gss.runs.run", "data may not know gss.runs.run"),
    (imports_point_one_way, "__init__.py", "from .labels import size", "gss may not know gss.labels"),
    (outside_packages_stay_in_their_rooms, "runs/a.py", "from omegaconf import DictConfig", "omegaconf"),
    (outside_packages_stay_in_their_rooms, "data/a.py", "import lightning.pytorch as L", "lightning"),
    (outside_packages_stay_in_their_rooms, "train.py", "import_module('wandb')", "wandb"),
    (outside_packages_stay_in_their_rooms, "train.py", "from torch.utils import tensorboard", "tensorboard"),
    (imports_have_no_cycle, "labels.py", "from gss.data import datamodule", "gss.labels"),
    (modules_are_short, "labels.py", "\n" * 401, "401 lines"),
    (rooms_are_few_and_filled, "attic/a.py", '"""A."""', "attic: a folder holds at least 3 files"),
    (functions_are_short, "labels.py", "def f():\n" + "    pass\n" * 60, "f has 61 lines"),
    (public_names_are_documented, "labels.py", "", "the module has no docstring"),
    (public_names_are_documented, "labels.py", '"""L."""\nclass A: pass', "A has no docstring"),
    (functions_are_annotated, "labels.py", "def f(a: int, *b) -> int: ...", "leaves b without"),
    (functions_are_annotated, "labels.py", "class A:\n    def f(self): ...", "leaves return without"),
]

CROWDS: list[tuple[Rule, dict[str, str], str]] = [  # rule, many files, what the complaint names
    (rooms_are_few_and_filled, {f"gss/a{n}.py": "" for n in range(13)}, "files beside the folders, at most 12"),
    (rooms_are_few_and_filled, {f"gss/a{n}/b.py": "" for n in range(13)}, "15 folders, at most 14"),
    (modules_have_a_middling_length, {f"gss/data/a{n}.py": "\n" * 20 + "a = 1" for n in range(120)}, "21 lines"),
]


@pytest.mark.parametrize(("rule", "files", "named"), CROWDS)
def test_a_crowd_is_noticed(rule: Rule, files: dict[str, str], named: str) -> None:
    assert any(named in complaint for complaint in rule(parse({**SOUND, **files})))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_source_passes(rule: Rule) -> None:
    assert list(rule(parse(SOUND))) == []


@pytest.mark.parametrize(("rule", "path", "source", "named"), OFFENCES)
def test_an_offence_is_noticed(rule: Rule, path: str, source: str, named: str) -> None:
    complaints = list(rule(parse({**SOUND, f"gss/{path}": source})))
    assert len(complaints) == 1
    assert named in complaints[0]


def test_the_tests_mirror_the_package() -> None:
    """The test of `gss/a/b.py` is `tests/a/test_b.py`, or several `tests/a/test_b_SUBJECT.py`."""
    modules = {path.relative_to(SOURCE_FOLDER / "gss").with_suffix("") for path in SOURCE_FOLDER.glob("gss/**/*.py")}
    for path in REPOSITORY.glob("tests/*/**/test_*.py"):
        folder = path.relative_to(REPOSITORY / "tests").parent
        if folder.parts[0] in ("conf", "scripts"):  # of configurations and of scripts
            continue
        tested = path.stem.removeprefix("test_")
        of_folder = [module.name for module in modules if module.parent == folder]
        assert any(tested == name or tested.startswith(f"{name}_") for name in of_folder), path


def test_tests_know_no_private_names() -> None:
    for path in REPOSITORY.glob("tests/**/*.py"):
        for line, name in imported_names(Module(str(path), "tests", "", ast.parse(path.read_text()))):
            private = [part for part in name.split(".") if part.startswith("_") and not part.startswith("__")]
            assert not (name.startswith("gss") and private), f"{path}:{line}: {name}"
