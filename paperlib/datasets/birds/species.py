"""The table of species: one attribute per part of the bird, and the parts that tell two species apart."""
from __future__ import annotations

from dataclasses import dataclass, fields, replace

PARTS = ("background", "crown", "face", "eye", "beak", "throat", "breast", "belly", "back", "wing", "wing bars", "tail",
         "legs")

COLOURS = {
    "white": (242, 240, 233), "black": (38, 35, 38), "grey": (150, 152, 154), "slate": (92, 99, 110),
    "brown": (126, 98, 68), "dark": (74, 52, 38), "rufous": (176, 74, 34), "buff": (222, 192, 142),
    "horn": (196, 164, 112), "pink": (232, 150, 138), "yellow": (248, 210, 44), "orange": (236, 126, 34),
    "red": (212, 38, 36), "blue": (46, 92, 186), "azure": (92, 156, 222), "olive": (128, 134, 62),
}


@dataclass(frozen=True)
class Species:
    """One row of the table: an attribute "colour style" per part. The defaults are the palette sparrows share."""

    name: str
    crown: str = "brown plain"  # plain, striped (a pale line along the middle), crested
    face: str = "buff plain"
    eye: str = "plain"  # brow (a stripe above the eye), line (through it), ring, mask; plain: as the face
    beak: str = "horn conical"  # conical, thin, hooked, dagger, stout
    throat: str = "white plain"  # plain, whiskered (a dark stripe on each side)
    breast: str = "buff plain"  # plain, streaked, spotted, button (one dark spot), banded
    belly: str = "white plain"  # plain, streaked
    back: str = "brown streaked"  # plain, streaked, barred
    wing: str = "brown plain"
    wing_bars: str = "none"  # double, single, patch; none: as the wing
    tail: str = "brown notched"  # notched, long, short, forked, edged (pale outer feathers), barred
    legs: str = "pink plain"
    build: str = "sparrow"  # the shape of the whole, not a part: sparrow, slim, big-headed, heavy

    @property
    def is_sparrow(self) -> bool:
        return "Sparrow" in self.name


SPECIES = (
    Species("Meadow Sparrow"),
    Species("Brook Sparrow", breast="buff streaked"),
    Species("Thicket Sparrow", breast="buff streaked", wing_bars="white double"),
    Species("Pebble Sparrow", breast="white spotted", crown="grey plain"),
    Species("Button Sparrow", breast="grey button", crown="rufous plain"),
    Species("Rusty-capped Sparrow", crown="rufous plain", eye="black line"),
    Species("Ember Sparrow", crown="rufous plain", wing_bars="white double"),
    Species("Pale-browed Sparrow", eye="white brow", crown="dark plain"),
    Species("Dune Sparrow", eye="white brow", crown="dark plain", tail="rufous short"),
    Species("Royal Sparrow", crown="black striped", face="grey plain", eye="white brow"),
    Species("Bridled Sparrow", crown="black striped", face="grey plain", eye="white brow", throat="white whiskered"),
    Species("Bibbed Sparrow", throat="black plain", crown="grey plain"),
    Species("Masked Sparrow", throat="black plain", crown="grey plain", eye="black mask"),
    Species("Chimney Sparrow", throat="black plain", crown="rufous plain", wing_bars="white double"),
    Species("Heath Sparrow", tail="dark long", breast="buff streaked"),
    Species("Fork-tailed Sparrow", tail="dark forked", wing_bars="white double"),
    Species("Ridge Sparrow", tail="dark edged", breast="buff streaked", eye="white brow"),
    Species("Slate Sparrow", crown="grey plain", breast="grey plain", face="grey plain"),
    Species("Rose-billed Sparrow", beak="pink conical", breast="grey plain", crown="rufous plain"),
    Species("Saltmarsh Sparrow", face="rufous plain", breast="buff streaked", tail="brown short"),
    Species("Scarlet Cardinal", "red crested", "red plain", "black mask", "orange conical", "black plain", "red plain",
            "red plain", "red plain", "red plain", "none", "red long", "brown plain", "sparrow"),
    Species("Azure Jay", "blue crested", "white plain", "black line", "black stout", "white plain", "grey banded",
            "white plain", "azure plain", "blue plain", "white double", "blue long", "black plain", "heavy"),
    Species("Lemon Goldfinch", "black plain", "yellow plain", "plain", "orange conical", "yellow plain", "yellow plain",
            "white plain", "yellow plain", "black plain", "white single", "black notched", "pink plain", "sparrow"),
    Species("Ladder Woodpecker", "red plain", "white plain", "black line", "black dagger", "white plain", "white plain",
            "red plain", "black barred", "black plain", "white double", "black short", "grey plain", "slim"),
    Species("Ink Crow", "black plain", "black plain", "plain", "black stout", "black plain", "black plain",
            "black plain", "black plain", "black plain", "none", "black notched", "black plain", "heavy"),
    Species("River Kingfisher", "blue crested", "orange plain", "blue mask", "black dagger", "white plain",
            "orange plain", "orange plain", "azure plain", "blue plain", "none", "blue short", "red plain",
            "big-headed"),
    Species("Orchard Robin", "slate plain", "slate plain", "white ring", "yellow thin", "white whiskered",
            "orange plain", "orange plain", "slate plain", "slate plain", "none", "black notched", "dark plain",
            "sparrow"),
    Species("Willow Warbler", "olive plain", "yellow plain", "yellow brow", "dark thin", "yellow plain",
            "yellow streaked", "white plain", "olive plain", "olive plain", "white double", "olive notched",
            "dark plain", "slim"),
    Species("Indigo Bunting", "blue plain", "blue plain", "plain", "grey conical", "blue plain", "blue plain",
            "azure plain", "blue plain", "slate plain", "none", "slate notched", "black plain", "sparrow"),
    Species("Red-shouldered Blackbird", "black plain", "black plain", "yellow ring", "yellow thin", "black plain",
            "black plain", "black plain", "black plain", "black plain", "red patch", "black long", "dark plain",
            "slim"),
    Species("Garden Tit", "black plain", "white plain", "plain", "black conical", "black plain", "yellow plain",
            "yellow plain", "olive plain", "slate plain", "white single", "slate notched", "slate plain", "big-headed"),
    Species("Rock Wren", "brown plain", "buff plain", "white brow", "dark thin", "white plain", "buff plain",
            "rufous streaked", "rufous barred", "rufous plain", "none", "rufous barred", "pink plain", "big-headed"),
    Species("Dusk Shrike", "grey plain", "white plain", "black mask", "black hooked", "white plain", "white plain",
            "white plain", "grey plain", "black plain", "white patch", "black edged", "black plain", "sparrow"),
)
COLUMNS = tuple(f.name for f in fields(Species) if f.name not in ("name", "build"))  # in the order of PARTS[1:]


def species_of(number: int) -> Species:
    """The species of this number. Raises ValueError for a number that has none."""
    if not hasattr(number, "__index__") or not 0 <= number < len(SPECIES):
        raise ValueError(f"Unknown species {number!r}: give a number from 0 to {len(SPECIES) - 1} (see birds.table()).")
    return SPECIES[number]


def table():
    """The attributes of all species as a pandas.DataFrame: one row per species, one column per part, `build` last."""
    import pandas as pd  # here, for only who asks for the table needs it
    return pd.DataFrame([vars(s) for s in SPECIES]).rename(columns={"wing_bars": "wing bars"})


def look(bird: Species, column: str) -> tuple[str, str]:
    """Colour and style of a part as it is drawn. An unmarked eye has the face's colour, absent bars the wing's."""
    value = getattr(bird, column)
    if value in ("plain", "none"):
        return look(bird, {"eye": "face", "wing_bars": "wing"}[column])[0], "plain"
    colour, style = value.split()
    return colour, style


def distinguishing_parts(a: int, b: int) -> tuple[str, ...]:
    """The names in `PARTS` of the parts that look different in species `a` and `b`.

    Raises ValueError for an unknown species.
    """
    first, second = species_of(a), species_of(b)
    return tuple(part for part, c in zip(PARTS[1:], COLUMNS, strict=True) if look(first, c) != look(second, c))


def resembling(bird: Species, model: Species, parts: tuple[str, ...] = ()) -> Species:
    """The bird with `parts` as they are in the model, all of them for none named; its build stays."""
    return replace(bird, **{column: getattr(model, column) for part, column in zip(PARTS[1:], COLUMNS, strict=True)
                            if not parts or part in parts})


def part_names(names) -> tuple[str, ...]:
    """Names of a bird's parts, from one or several. Raises ValueError for what is none."""
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name not in PARTS[1:]:
            raise ValueError(f"Unknown part {name!r}: give {', '.join(PARTS[1:-1])} or {PARTS[-1]}.")
    return names
