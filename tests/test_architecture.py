"""The house rules: which room may know which, and how a module looks. Sources are parsed, never imported.

Start with the two tables. A new module that belongs to no room fails, so the table stays the map of the
house; docs/architecture.md says the same in words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 60
JUNK_NAMES = {"util", "utils", "helper", "helpers", "misc", "common"}


class Room(NamedTuple):
    """Modules below `gss` (a package stands for all it holds), and the rooms that they may import from."""

    modules: str
    may_know: str


ROOMS = {
    # the way of the data: each room knows only rooms above it
    "labels": Room("labels", ""),
    "data": Room("data", "labels"),
    "window_attention": Room("window_attention", ""),
    "maskige": Room("maskige", "labels window_attention"),  # maskige, tokenizer and networks do not meet:
    "tensor_file": Room("tensor_file", ""),
    "published": Room("conversion.published", ""),  # where others' weights are found, as error messages say it
    "tokenizer": Room(
        "tokenizer", "labels tensor_file published"
    ),  # measures, pipeline and assembly bring them together
    "networks": Room("networks", "labels window_attention"),
    "token_model": Room("token_model", ""),  # numbers in, numbers out: it knows neither classes nor pictures
    "measures": Room(
        "targets posteriors divergence balance losses metrics neighbourhood boundaries boundary_iou conditions "
        "exact_sums calibration proper_scores error_detection scoreboard third_class class_statistics windows "
        "inference",
        "labels maskige tokenizer networks",
    ),
    "pipeline": Room("pipeline transform_learning label_loss", "labels maskige tokenizer networks measures"),
    "artefact": Room("artefact", "labels tensor_file"),
    "assembly": Room(
        "assembly head_assembly registry vocabulary_selection tokenizer_source inverse_exchange",
        "labels maskige tokenizer networks measures pipeline artefact",
    ),
    "stages": Room(
        "stages", "labels maskige tokenizer networks token_model measures pipeline artefact assembly display"
    ),
    # what is shown to people
    "display": Room("panels tables progress overlay", "labels"),
    "callbacks": Room("callbacks", "labels display"),
    "conversion": Room("conversion", "tokenizer tensor_file published"),  # published weights -> safetensors
    # where everything meets: what a command does; how it starts (light: --help must be instant); the commands
    "runs": Room(
        "stages.run stages.prior_run stages.predictions_run stages.training stages.evaluation stages.reconstruction "
        "stages.pictures stages.token_run stage_one checkpoints prediction label_prior token_grids label_files samples "
        "completions",
        "labels data maskige tokenizer networks token_model measures pipeline artefact assembly stages display "
        "callbacks",
    ),
    "configuration": Room("configuration overrides command_line sweep_table", ""),
    "entries": Room(
        "train evaluate predict sample convert data.__main__ data_verification",
        "labels data display runs configuration conversion published",
    ),
}

HYDRA = f"{ROOMS['configuration'].modules} {ROOMS['entries'].modules}"
OUTSIDE = {  # a package that not everybody may know -> the modules below `gss` that may
    "hydra": HYDRA,
    "omegaconf": HYDRA,
    "lightning": f"stages data.datamodule callbacks {ROOMS['entries'].modules}",
    "pytorch_lightning": "",  # the old name of lightning
    "albumentations": "data",
    "timm": "networks window_attention",
    "vector_quantize_pytorch": "tokenizer",
    "diffusers": "tokenizer.diffusers_network",
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


def room_of(name: str) -> str | None:
    """The room whose row names a module most closely; None when the table does not know it."""
    places = [(place, room) for room, row in ROOMS.items() for place in row.modules.split()]
    found = [(len(place), room) for place, room in places if lies_in(name.removeprefix("gss."), place)]
    return max(found)[1] if found else None


def every_module_has_a_room(house: House) -> Iterator[str]:
    for module in house.values():
        if module.name != "gss" and room_of(module.name) is None:
            yield f"{module.path}: belongs to no room of the table"


def imports_point_one_way(house: House) -> Iterator[str]:
    for module in house.values():
        room = room_of(module.name)
        allowed = f"{room} {ROOMS[room].may_know}".split() if room else []
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
    every_module_has_a_room,
    imports_point_one_way,
    outside_packages_stay_in_their_rooms,
    imports_have_no_cycle,
    modules_are_short,
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


@pytest.mark.parametrize("row", ROOMS.values(), ids=ROOMS)
def test_the_table_names_only_rooms_that_exist(row: Room) -> None:
    assert {f"gss.{place}" for place in row.modules.split()} <= set(HOUSE)
    assert set(row.may_know.split()) <= set(ROOMS)


@pytest.mark.parametrize("place", [place for row in ROOMS.values() for place in row.modules.split()])
def test_the_map_for_readers_shows_every_place(place: str) -> None:
    assert re.search(rf"\b{place.replace('.', '/')}\b", (REPOSITORY / "docs" / "architecture.md").read_text())


SOUND = {
    "gss/__init__.py": '"""Package."""',
    "gss/labels.py": '"""Labels."""\ndef size(of: list[str]) -> int:\n    """Count."""\n    return len(of)',
    "gss/data/__init__.py": '"""Data."""',
    "gss/data/datamodule.py": '"""Loaders."""\nimport lightning\nfrom ..labels import size',
    "gss/stages/__init__.py": '"""Stages."""\nfrom gss import labels',
    "gss/stages/run.py": '"""Meet."""\nfrom gss.data import datamodule',
    "gss/train.py": '"""Entry."""\nimport hydra\nfrom gss.stages import run',
}

OFFENCES: list[tuple[Rule, str, str, str]] = [  # rule, path, the source put there, what the complaint names
    (every_module_has_a_room, "attic.py", '"""A."""', "gss/attic.py"),
    (imports_point_one_way, "labels.py", "from gss.train import main", "labels may not know gss.train"),
    (imports_point_one_way, "maskige.py", "from . import data", "maskige may not know gss.data"),
    (
        imports_point_one_way,
        "data/a.py",
        "def f():\n    from ..stages import x",
        "data may not know gss.stages",
    ),
    (imports_point_one_way, "stages/base.py", "import gss.data.datamodule", "stages may not know gss.data"),
    (imports_point_one_way, "__init__.py", "from .labels import size", "gss may not know gss.labels"),
    (outside_packages_stay_in_their_rooms, "stages/a.py", "from omegaconf import DictConfig", "omegaconf"),
    (outside_packages_stay_in_their_rooms, "data/a.py", "import lightning.pytorch as L", "lightning"),
    (outside_packages_stay_in_their_rooms, "train.py", "import_module('wandb')", "wandb"),
    (outside_packages_stay_in_their_rooms, "train.py", "from torch.utils import tensorboard", "tensorboard"),
    (imports_have_no_cycle, "labels.py", "from gss.data import datamodule", "gss.labels"),
    (modules_are_short, "labels.py", "\n" * 301, "301 lines"),
    (functions_are_short, "labels.py", "def f():\n" + "    pass\n" * 60, "f has 61 lines"),
    (public_names_are_documented, "labels.py", "", "the module has no docstring"),
    (public_names_are_documented, "labels.py", '"""L."""\nclass A: pass', "A has no docstring"),
    (functions_are_annotated, "labels.py", "def f(a: int, *b) -> int: ...", "leaves b without"),
    (functions_are_annotated, "labels.py", "class A:\n    def f(self): ...", "leaves return without"),
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_sound_source_passes(rule: Rule) -> None:
    assert list(rule(parse(SOUND))) == []


@pytest.mark.parametrize(("rule", "path", "source", "named"), OFFENCES)
def test_an_offence_is_noticed(rule: Rule, path: str, source: str, named: str) -> None:
    complaints = list(rule(parse({**SOUND, f"gss/{path}": source})))
    assert len(complaints) == 1
    assert named in complaints[0]
