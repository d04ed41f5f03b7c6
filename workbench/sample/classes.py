"""The classes of the sample scenes: things, stuff, and their ids, which have gaps as COCO's do."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SceneClass:
    """One category: `category_id` as in the COCO files; `color` is the RGB that viewers paint it with."""

    category_id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


THINGS = (
    SceneClass(1, "person", True, (220, 20, 60)),
    SceneClass(3, "car", True, (0, 0, 142)),
    SceneClass(9, "boat", True, (106, 0, 228)),
    SceneClass(16, "tree", True, (107, 142, 35)),
    SceneClass(25, "house", True, (174, 57, 255)),
    SceneClass(37, "ball", True, (255, 179, 0)),
)
STUFF = (
    SceneClass(101, "sky", False, (70, 130, 180)),
    SceneClass(105, "grass", False, (152, 251, 152)),
    SceneClass(110, "water", False, (58, 41, 149)),
    SceneClass(111, "sand", False, (254, 212, 124)),
    SceneClass(118, "road", False, (128, 64, 128)),
    SceneClass(130, "wall", False, (102, 102, 156)),
)
CLASSES = THINGS + STUFF
"""Things first: the position in this tuple is the class index of the bundled checkpoint."""

BY_NAME = {scene_class.name: scene_class for scene_class in CLASSES}
BY_ID = {scene_class.category_id: scene_class for scene_class in CLASSES}
