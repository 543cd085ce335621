"""How a class looks in a mosaic (the kind of its shapes), and where it is found: indoors, outdoors, or both."""

from __future__ import annotations

from functools import cache

from gss.data.ade20k import CLASSES

_KINDS = {
    "top": "sky, ceiling",  # from the upper edge down
    "bottom": "floor, tree, road, grass, sidewalk, earth, water, sea, field, sand, path, runway, river, dirt track, "
    "land, lake, swimming pool, stage, pier",  # from the lower edge up, trees as the hedge behind them
    "slab": "wall, building, mountain, house, hill, skyscraper, grandstand, curtain, cabinet, wardrobe, bookcase, "
    "tower, waterfall, escalator, bridge, screen door, hovel, ship, counter, bar, stairs, stairway",  # upright fields
    "post": "column, pole, streetlight, lamp, traffic light, sconce, bottle, vase, flag, shower, palm, fountain",
    "rail": "railing, fence, bannister, awning, countertop, shelf, conveyer belt, step, trade name, blind",
    "blob": "person, plant, chair, rock, cushion, pillow, flower, light, chandelier, boat, animal, ball, bag, food, "
    "plaything, apparel, sculpture, pot, ashcan, basket, toilet, swivel chair, stool, ottoman, minibike, bicycle, "
    "towel, blanket, fan, plate, glass, clock, airplane, tent, sink, bathtub, barrel, armchair",
}  # every other class: a box
_INDOORS = (
    "floor, ceiling, wall, bed, cabinet, table, curtain, chair, painting, sofa, shelf, mirror, rug, armchair, desk, "
    "wardrobe, lamp, bathtub, cushion, chest of drawers, counter, sink, fireplace, refrigerator, case, pool table, "
    "pillow, screen door, stairway, bookcase, blind, coffee table, toilet, book, countertop, stove, kitchen island, "
    "computer, swivel chair, bar, arcade machine, towel, chandelier, television, apparel, escalator, ottoman, bottle, "
    "buffet, stage, conveyer belt, washer, plaything, stool, cradle, oven, food, microwave, dishwasher, screen, "
    "blanket, hood, sconce, vase, tray, fan, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock"
)
_OUTDOORS = (
    "building, sky, tree, road, grass, sidewalk, earth, mountain, car, water, house, sea, field, fence, rock, sand, "
    "skyscraper, grandstand, path, runway, river, bridge, hill, palm, boat, hovel, bus, truck, tower, awning, "
    "streetlight, airplane, dirt track, pole, land, van, ship, fountain, canopy, swimming pool, waterfall, tent, "
    "minibike, tank, animal, bicycle, lake, traffic light, ashcan, pier, flag"
)


@cache
def kinds() -> tuple[str, ...]:
    """The kind of each class, in the order of the file ids 1 to 150."""
    table = {name: kind for kind, names in _KINDS.items() for name in _listed(names)}
    return tuple(table.get(row.name, "box") for row in CLASSES)


def found_indoors() -> tuple[bool, ...]:
    """Whether each class occurs in rooms."""
    outdoors = _listed(_OUTDOORS)
    return tuple(row.name not in outdoors for row in CLASSES)


def found_outdoors() -> tuple[bool, ...]:
    """Whether each class occurs in the open."""
    indoors = _listed(_INDOORS)
    return tuple(row.name not in indoors for row in CLASSES)


def _listed(names: str) -> frozenset[str]:
    found = frozenset(names.split(", "))
    assert found <= {row.name for row in CLASSES}, found - {row.name for row in CLASSES}
    return found
