"""The table of species: one attribute per part of the bird, and the parts that tell two species apart."""
import csv
from dataclasses import dataclass, fields, replace
from pathlib import Path

PARTS = ("background", "crown", "face", "eye", "beak", "throat", "breast", "belly", "back", "wing", "wing bars", "tail",
         "legs")

HERE = Path(__file__).parent
with (HERE / "colours.csv").open(newline="") as rows:
    COLOURS = {name: tuple(map(int, rgb)) for name, *rgb in list(csv.reader(rows))[1:]}


@dataclass(frozen=True)
class Species:
    """One row of the table: an attribute "colour style" per part; of sparrows most parts have the same."""

    name: str
    crown: str  # plain, striped (a pale line along the middle), crested
    face: str
    eye: str  # brow (a stripe above the eye), line (through it), ring, mask; plain: as the face
    beak: str  # conical, thin, hooked, dagger, stout
    throat: str  # plain, whiskered (a dark stripe on each side)
    breast: str  # plain, streaked, spotted, button (one dark spot), banded
    belly: str  # plain, streaked
    back: str  # plain, streaked, barred
    wing: str
    wing_bars: str  # double, single, patch; none: as the wing
    tail: str  # notched, long, short, forked, edged (pale outer feathers), barred
    legs: str
    build: str  # the shape of the whole, not a part: sparrow, slim, big-headed, heavy


with (HERE / "species.csv").open(newline="") as rows:
    SPECIES = tuple(Species(**row) for row in csv.DictReader(rows))
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
