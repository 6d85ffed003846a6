"""Networks that ship: `data/networks/` holds 16-bit weights and, for each file, a card that says what made them.

A study takes them in place of training where a card says exactly what the study asks for: the same training pictures
to the last pixel, recipe, seed, backbone, and so on; not the source that trained them, for a network that was renamed
somewhere in the code is still the same network.
"""
from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from paperlib.datasets import files
from paperlib.datasets.resized import digest
from paperlib.guards import finite
from paperlib.runs.settings import Settings
from paperlib.runs.store import Kept

KINDS = ("cnn", "protopnet")
PLACE = "PAPERLIB_NETWORKS"
CARDS = "*-*.json"  # every network's name has a hyphen; candidates.json is no card
ZERO_PADDED = "resnet18_x0_25"  # the twin of notebook 06: birds-zeros-cnn-0 is birds-cnn-0 but for its padding


def folder() -> Path:
    """The folder of the networks: data/networks of this repository, or the one that PAPERLIB_NETWORKS names."""
    return Path(os.environ.get(PLACE) or files.REPOSITORY / "data" / "networks")


@contextmanager
def taken_from(place: Path) -> Iterator[None]:
    """Meanwhile `folder()` is `place`."""
    before = os.environ.get(PLACE)
    os.environ[PLACE] = str(place)
    try:
        yield
    finally:
        os.environ.pop(PLACE)
        os.environ.update({PLACE: before} if before else {})


def name(study: Settings, kind: str) -> str:
    """The network's name: birds-cnn-0; birds-choosing-cnn-0 is trained without the validation pictures."""
    twin = ["zeros"] * (study.backbone == ZERO_PADDED)
    return "-".join([study.dataset, *twin, *["choosing"] * study.choosing, kind, str(study.seed)])


def path(study: Settings, kind: str) -> Path:
    """The file of the weights; the card lies beside it, as .json."""
    return folder() / f"{name(study, kind)}.safetensors"


def stamp(study: Settings) -> str:
    """Changes with the cards and weights that a study may find; "" where it trains anew."""
    if study.train_anew:
        return ""
    return together(path(study, kind).with_suffix(suffix) for kind in KINDS for suffix in (".json", ".safetensors"))


def together(paths: Iterable[Path]) -> str:
    """Changes with the files that there are among `paths`; "" for none."""
    found = [digest(file) for file in paths if file.is_file()]
    return hashlib.sha256(b"".join(found)).hexdigest()[:16] if found else ""


def found(study: Settings, kind: str, asked: Mapping, like: Callable[[], files.Tensors]) -> Kept | None:
    """The network that ships for exactly what is `asked`, its tensors as those of like(); None if it must be trained.

    The manifest is its card. Where only the training pictures differ, and where a file is damaged or does not fit its
    card or the network, a warning says so.
    """
    file, asked = path(study, kind), json.loads(json.dumps(asked))  # as a card has it
    if study.train_anew or not file.with_suffix(".json").is_file():
        return None
    try:
        said = json.loads(file.with_suffix(".json").read_text())["inputs"]
        differing = {word for word in asked.keys() | said.keys() if asked.get(word) != said.get(word)}
        if differing == {"train"}:
            _warn(f"{file.stem} ships, but it was trained on other pictures than these.")
        if not differing:
            tensors, card = files.load(file)
            return Kept(_fitted(tensors, like(), file), card)
    except FileNotFoundError:
        _warn(f"{file} is missing, though its card is there; `git checkout` brings it back.")
    except files.DamagedFile as error:
        _warn(f"{str(error).split('; delete')[0]}; `git checkout` brings both back.")
    except (ValueError, KeyError, AttributeError, TypeError):
        _warn(f"{file.with_suffix('.json')} is no network's card.")
    return None


def _warn(sentence: str) -> None:
    warnings.warn(f"{sentence} The network is trained anew.", stacklevel=4)


def _fitted(tensors, like, file):
    """The tensors in the types of `like`. Raises DamagedFile where names or shapes are others."""
    if {name: t.shape for name, t in tensors.items()} != {name: t.shape for name, t in like.items()}:
        raise files.DamagedFile(f"{file} holds another network than its card says (names or shapes of its weights)")
    return {name: tensor.to(like[name].dtype) for name, tensor in tensors.items()}


def halved(tensors: files.Tensors) -> files.Tensors:
    """Weights of convolutions and linear layers, prototypes too, in 16 bits; all else as it is.

    What has one dimension (biases, batch norms' means and variances) is a hundredth of the whole and may leave 16
    bits' range. Raises ValueError for weights that do.
    """
    small = {name: t.half() if t.is_floating_point() and t.ndim > 1 else t for name, t in tensors.items()}
    beyond = [name for name, t in small.items() if not finite(t)]
    if beyond:
        raise ValueError(f"The weights {beyond[0]} are no numbers in 16 bits: training diverged; take smaller steps.")
    return small


def cards(place: Path) -> dict[str, dict]:
    """The cards in a folder by the networks' names, in order."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(place.glob(CARDS))}


README = """# Networks that ship

These networks are what `make networks` trained; this page is written from their cards, the `.json` beside each file. A
study takes a network from here in place of training where its card says exactly what is asked for: the same training
pictures, recipe, seed and backbone. `--train` trains instead; `make networks` trains all of them anew, into
`figures/run/networks`, and says how near it came. Prototypes, embeddings, votes and tables are computed from them,
never shipped. The profile asks for three runs; five find all their networks here but two ProtoPNets of digits, which
train in ten seconds each.

Weights have 16 bits (batch norms and biases 32) and become 32 when they are loaded; accuracies are of what is loaded.
`choosing` networks have not seen the validation pictures. Minutes are those of a processor that often did other work at
the same time. The pictures are those of this project or of scikit-learn; the networks are MIT like the code.

"""


CANDIDATES = """
## Why a ResNet18 with a quarter of the channels

`candidates.py` trained each of these by the drawn birds' recipe, or for the epochs that stand behind its name, on
{trained on:,} of their training pictures and measured it on the other {measured on}, which the seed draws; no test
picture was looked at. IoU is the best overlap of a bird's parts with concepts of the predicted class (notebook 05; its
standard error over pictures is at most {error:.3f}). Time is that of a forward pass in float32 on one thread, in units
of the first network's; kB are of weights in 16 bits.

A ResNet18 with half the channels did best; with a quarter it ships because it takes about a third of the time and a
quarter of the room. Half of the recipe's epochs cost ten points of accuracy; twice as many won none. In every row but
that of few epochs B4 stays within two points of its CNN, and in all the factor of eq. 8 costs B234 most. The first two
rows differ in the seed alone, and at B234 as much as rows of other networks do: of padding and depth the table says
little. The border's value was taken in place of zeros because those frame the maps (notebook 06).

"""


def readme(place: Path) -> str:
    """The page about the networks in a folder."""
    head = ["network", "backbone", "epochs", "last loss", "train %", "test %", "minutes", "in", "kB"]
    rows = [_row(word, card, place) for word, card in cards(place).items()]
    size = sum(file.stat().st_size for file in place.glob("*.safetensors"))
    table = _table(head, ["---", "---", *["--:"] * 5, "---", "--:"], rows)
    return f"{README}{table}\n{len(rows)} networks, {size / 1e6:.1f} MB.\n" + _candidates(place / "candidates.json")


def _table(head: list[str], sides: list[str], rows: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, sides, *rows])


def _row(word: str, card: dict, place: Path) -> list[str]:
    report, accuracy = card["training"], card["accuracy"]
    epochs, size = len(report["losses"]), (place / f"{word}.safetensors").stat().st_size
    return [word, card["inputs"]["backbone"], str(epochs), f"{report['losses'][-1]:.3f}",
            *(f"{100 * accuracy[split]:.1f}" for split in ("train", "test")), f"{report['seconds'] / 60:.1f}",
            report["precision"], f"{size / 1000:,.0f}"]


def _candidates(file: Path) -> str:
    """The section about the networks that might have shipped; "" where they have not been measured."""
    if not file.is_file():
        return ""
    found = json.loads(file.read_text())
    systems, rows, error = ("CNN", "B4", "B34", "B234", "B234, no factor"), [], 0
    for name, each in found["networks"].items():
        for seed, run in each["seeds"].items():
            error = max(error, *run["IoU error"].values())
            rows.append([name, seed, *(f"{100 * run['accuracy'][system]:.1f}" for system in systems),
                         *(f"{run['IoU'][system]:.3f}" for system in systems[1:4]), f"{each['forward']['ratio']:.2f}",
                         f"{each['parameters']:,}", f"{each['bytes'] / 1000:,.0f}"])
    head = ["backbone", "seed", *(f"{system} %" for system in systems), *(f"IoU, {system}" for system in systems[1:4]),
            "time", "parameters", "kB"]
    return CANDIDATES.format(**found, error=error) + _table(head, ["---"] + ["--:"] * (len(head) - 1), rows)
