"""The Cityscapes label ids that the scenes are drawn with."""

from __future__ import annotations

from gss.data.cityscapes import LABEL_IDS

ROAD, SIDEWALK, TERRAIN, SKY = (LABEL_IDS[name] for name in ("road", "sidewalk", "terrain", "sky"))
BUILDING, WALL, FENCE, VEGETATION = (LABEL_IDS[name] for name in ("building", "wall", "fence", "vegetation"))
POLE, LIGHT, SIGN = (LABEL_IDS[name] for name in ("pole", "traffic light", "traffic sign"))
PERSON, RIDER, BICYCLE = (LABEL_IDS[name] for name in ("person", "rider", "bicycle"))
CAR, TRUCK, BUS = (LABEL_IDS[name] for name in ("car", "truck", "bus"))
EGO_VEHICLE, STATIC = 1, 4  # the camera's own car and small fixed things: both ignored by the benchmark
