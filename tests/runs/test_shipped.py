"""Networks that ship: taken for exactly what their cards say, 16 bits are enough, what is damaged is trained anew."""
from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from paperlib.comparison.scores import part_match
from paperlib.datasets import files
from paperlib.networks import training
from paperlib.runs import command, jobs, kernels, notebooks, results, retrain, shipped
from paperlib.runs.study import Study

TINY = Study(dataset="digits", backbone=f"{Path(__file__).parents[1] / 'small.py'}:tiny", classifier="fc",
             blocks="one,two,three,four", train_per_class=6, test_per_class=2, epochs=1, n_init=1,
             prototypes_per_class=2, protopnet_epochs=1)
SHIPPED = files.REPOSITORY / "data" / "networks"
sys.path.append(str(SHIPPED))

import candidates  # noqa: E402

CARDS = shipped.cards(SHIPPED)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of the tiny study's CNN and ProtoPNet, as `python -m paperlib networks` makes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = tmp_path_factory.mktemp("networks")
        for kind in shipped.KINDS:
            retrain.make(TINY, kind, folder)
        yield folder


@pytest.fixture
def place(made, tmp_path, monkeypatch, fresh_cache):
    """A copy of that folder, from which studies take their networks; nothing is kept of the training."""
    for file in made.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv(shipped.PLACE, str(tmp_path))
    return tmp_path


@pytest.fixture
def trainings(monkeypatch):
    """One entry for each CNN that is trained."""
    calls, train = [], training.train
    monkeypatch.setattr(training, "train", lambda *args, **more: calls.append(1) or train(*args, **more))
    return calls


def test_a_study_that_asks_for_just_that_trains_nothing(place, trainings):
    study = replace(TINY)
    assert study.computed("network") and study.trained.n_classes == 10 and study.protopnet.n_classes == 10
    for kind, manifest in {"cnn": study.manifest, "protopnet": study.protopnet_manifest}.items():
        file = place / f"digits-{kind}-0.safetensors"
        card = json.loads(file.with_suffix(".json").read_text())
        assert manifest == card and card["sha256"] == files.sha256(file)
        assert len(card["training"]["losses"]) == 1 and set(card["accuracy"]) == {"train", "test"}
    assert study.protopnet_manifest["inputs"]["network"] == study.manifest["sha256"][:16]
    assert results.inputs(study, "network")["network"] == study.manifest["sha256"][:16], "in the keys of what follows"
    assert {t.dtype for t in study.checkpoint.tensors.values()} == {torch.float32, torch.int64}
    assert not trainings and not list((place / "cache").glob("checkpoint-*"))


def test_sixteen_bits_are_near_to_the_trained_weights(place, trainings):
    shorter, whole = replace(TINY), replace(TINY, train_anew=True)
    x = shorter.data.test.batch(range(20))
    assert torch.allclose(shorter.trained(x), whole.trained(x), atol=0.02) and trainings == [1]
    assert not torch.equal(shorter.trained(x), whole.trained(x))


@pytest.mark.parametrize("other", [{"seed": 1}, {"epochs": 2}, {"normalisation": "half"}, {"choosing": True},
                                   {"size": 64}, {"backbone": "resnet18_x0_25", "blocks": "", "classifier": ""}])
def test_what_asks_for_anything_else_is_trained(place, other):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert results.shipped_cnn(replace(TINY, **other)) is None
    assert results.shipped_cnn(replace(TINY, prototypes_per_class=1, n_init=3, test_per_class=1)), "what comes after it"


def test_other_pictures_are_told(place):
    with pytest.warns(UserWarning, match="digits-cnn-0 ships, but it was trained on other pictures than these. The"):
        assert results.shipped_cnn(replace(TINY, train_per_class=5)) is None


def test_training_in_place_of_loading_is_asked_for_and_is_no_part_of_what_is_trained(place, trainings):
    study = replace(TINY, train_anew=True)
    assert shipped.stamp(study) == "" != shipped.stamp(TINY)
    assert not study.computed("network") and "train_anew" not in study.manifest["inputs"]
    assert trainings == [1] and study.manifest["sha256"] != TINY.manifest["sha256"]


def test_the_command_line_asks_for_training(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(kernels, "FORKS", False)  # a fork would not tell what it was asked
    monkeypatch.setattr(Study, "problems", lambda study: asked.append(study.train_anew) or ["enough"])
    for option in (["--train"], []):
        assert command.main(["reproduce", *option, "--only", "00", "--out", str(tmp_path)]) == 1
    assert asked[0] and not asked[-1]


def test_other_cards_are_other_work_to_be_done(place):
    before, marks = shipped.stamp(TINY), []
    (place / "digits-protopnet-0.json").unlink()
    assert shipped.stamp(TINY) != before

    def mark():
        return notebooks.fingerprint("# %%", {}, {}, [], place)
    before, marks = shipped.stamp(TINY), [mark()]
    (place / "digits-cnn-0.safetensors").write_bytes(b"damaged")
    marks.append(mark())
    assert shipped.stamp(TINY) != before and marks[0] != marks[1], "what showed the network that was is run again"


# What is damaged

def rewritten(file: Path, change) -> None:
    """Other weights under a checksum that is right."""
    tensors, card = files.load(file)
    files.save(file, change(tensors), card)


@pytest.mark.parametrize("damage, sentence", [
    (lambda file: file.write_bytes(file.read_bytes()[:-9]), "digits-cnn-0.safetensors does not have the checksum in i"),
    (lambda file: file.write_bytes(b""), "digits-cnn-0.safetensors does not have the checksum in its .json; `git"),
    (lambda file: file.unlink(), "digits-cnn-0.safetensors is missing, though its card is there; `git checkout` brin"),
    (lambda file: file.with_suffix(".json").write_text("{"), "digits-cnn-0.json is no network's card. The network is"),
    (lambda file: file.with_suffix(".json").write_text("[1]"), "digits-cnn-0.json is no network's card"),
    (lambda file: file.with_suffix(".json").write_bytes(b"\xff\xfe"), "digits-cnn-0.json is no network's card"),
    (lambda file: rewritten(file, lambda tensors: {"fc.weight": tensors["fc.weight"]}), "holds another network than"),
    (lambda file: rewritten(file, lambda tensors: {**tensors, "fc.weight": tensors["fc.weight"][:3]}), "(names or sh")])
def test_damaged_network_is_told(place, damage, sentence):
    damage(place / "digits-cnn-0.safetensors")
    with pytest.warns(UserWarning) as told:
        assert results.shipped_cnn(TINY) is None
    assert len(told) == 1 and sentence in str(told[0].message)
    assert str(told[0].message).endswith("The network is trained anew.")


def test_damaged_network_is_trained_anew(place, trainings):
    (place / "digits-cnn-0.safetensors").write_bytes(b"")
    with pytest.warns(UserWarning, match="trained anew"):
        assert replace(TINY).trained.n_classes == 10
    assert trainings == [1]


# Making them

def test_vectors_keep_their_bits_and_weights_beyond_sixteen_are_refused():
    tensors = {"w": torch.rand(2, 3), "mean": torch.full((3,), 1e6), "steps": torch.tensor(7)}
    short = shipped.halved(tensors)
    assert short["w"].dtype == torch.float16 and short["mean"] is tensors["mean"] and short["steps"] is tensors["steps"]
    with pytest.raises(ValueError, match="The weights w are no numbers in 16 bits: training diverged"):
        shipped.halved({"w": torch.full((2, 2), 1e6)})


@pytest.fixture
def here(monkeypatch):
    """Jobs are done here, one after the other, and the tiny networks are all that ship."""
    def run(graph, at_a_time, told):
        done = {}
        for name, job in graph.items():
            done[name] = jobs.do(job, [done[need] for need in job.needs])
            yield done[name]
    known = {shipped.name(TINY, kind): (TINY, kind) for kind in shipped.KINDS}
    monkeypatch.setattr(jobs, "run", run)
    monkeypatch.setattr(retrain, "networks", lambda: known)


def test_networks_are_trained_anew_beside_those_before(place, here, trainings, capsys):
    out = place / "out"
    assert command.main(["networks", "--only", "digits-protopnet", "--out", str(out)]) == 0
    assert trainings == [1], "the CNN that it starts from comes first"
    cards, said = shipped.cards(out), capsys.readouterr().out
    assert list(cards) == ["digits-cnn-0", "digits-protopnet-0"] and said.count("the same weights") == 2
    accuracy = f"{100 * cards['digits-cnn-0']['accuracy']['test']:.1f}"
    assert f"{accuracy} -> " in said and f"-> {accuracy:>5}   the same" in said
    assert (out / "README.md").read_text() == shipped.readme(out) and "| digits-cnn-0 | " in shipped.readme(out)
    assert command.main(["networks", "--out", str(out)]) == 0 and trainings == [1], "what is done is not done again"


def test_networks_that_fail_or_are_unknown_are_told(place, here, monkeypatch, capsys):
    assert command.main(["networks", "--only", "mnist"]) == 1
    assert "No network that ships is called 'mnist'; there are digits-cnn-0, dig" in capsys.readouterr().err
    monkeypatch.setattr(training, "train", lambda *_: 1 / 0)
    assert command.main(["networks", "--out", str(place / "out")]) == 1
    assert "digits-protopnet-0: FAILED: not run, for it needs what failed: digits-cnn-0" in capsys.readouterr().out


# Those of the repository

def test_those_of_the_repository_are_small_and_as_their_cards_and_the_profile_say():
    known = retrain.networks()
    assert set(CARDS) <= set(known)
    for name, card in CARDS.items():
        study, kind = known[name]
        assert card["sha256"] == files.sha256(SHIPPED / f"{name}.safetensors")
        asked = {"dataset": study.dataset, "backbone": study.backbone, "weights": "none", "seed": study.seed,
                 "recipe": asdict(study.recipe)}
        if kind == "protopnet":
            cnn = CARDS[name.replace(kind, "cnn")]["sha256"][:16]
            asked |= {"k": study.k, "schedule": asdict(study.schedule), "network": cnn}
        assert {word: card["inputs"][word] for word in asked} == asked
    assert sum(file.stat().st_size for file in SHIPPED.glob("*")) <= 40e6


def test_one_of_the_repository_is_loaded_and_as_accurate_as_its_card_says(trainings):
    study = Study.of_profile(dataset="digits")
    assert study.manifest == CARDS["digits-cnn-0"] and not trainings
    assert study.protopnet_manifest == CARDS["digits-protopnet-0"] and not trainings


def test_all_that_notebooks_show_are_there_and_on_the_page():
    assert set(CARDS) == set(retrain.networks())
    assert (SHIPPED / "README.md").read_text() == shipped.readme(SHIPPED)


# Those that might have shipped

def test_candidates_are_measured_on_training_pictures_alone_and_each_number_is_on_the_page(place, monkeypatch):
    asked, small = [], Study(dataset="sparrows", size=96, train_per_class=5, test_per_class=1, epochs=1, n_init=1,
                             prototypes_per_class=2, backbone=shipped.ZERO_PADDED)
    monkeypatch.setattr(Study, "of_profile", lambda **settings: asked.append(settings) or replace(
        small, seed=settings["seed"], choosing=settings["choosing"]))
    monkeypatch.setattr(candidates, "NETWORKS", {"wide": 2, "deep": 1})
    candidates.main(["--out", str(place / "candidates.json")])
    assert [each["backbone"] for each in asked] == ["wide", "wide", "deep"] and all(each["choosing"] for each in asked)
    found, study = json.loads((place / "candidates.json").read_text()), replace(small, choosing=True)
    assert (found["trained on"], found["measured on"]) == (32, 8) == (len(study.data.train), len(study.data.test))
    one = found["networks"]["deep"]
    read = study.compare({"B34": {"depth": 2}})
    assert one["seeds"]["0"]["accuracy"]["B34"] == read["B34"]["correct"].mean()
    by_hand = [part_match(s, mask)["IoU"] for s, mask in zip(read["B34"]["map"], study.data.test.masks[:, ::2, ::2],
                                                             strict=True)]
    assert one["seeds"]["0"]["IoU"]["B34"] == pytest.approx(sum(by_hand) / 8)
    assert found["networks"]["wide"]["forward"]["ratio"] == 1 and one["forward"]["ms"] > 0
    rows = [line for line in shipped.readme(place).splitlines() if line.startswith(("| wide |", "| deep |"))]
    assert [row[:10] for row in rows] == ["| wide | 0", "| wide | 1", "| deep | 0"]
    wanted = (f"{100 * one['seeds']['0']['accuracy']['CNN']:.1f}", f"{one['seeds']['0']['IoU']['B34']:.3f}",
              f"{one['parameters']:,}", f"{one['forward']['ratio']:.2f}")
    assert all(f"| {each} |" in rows[2] for each in wanted)


def test_the_candidates_of_the_repository_had_the_recipe_of_what_ships():
    found, study = json.loads((SHIPPED / "candidates.json").read_text()), Study.of_profile(dataset="birds")
    card = CARDS["birds-choosing-cnn-0"]
    assert {name: len(each["seeds"]) for name, each in found["networks"].items()} == candidates.NETWORKS
    assert next(iter(found["networks"])) == study.backbone
    assert found["recipe"] == card["inputs"]["recipe"] and found["trained on"] == card["training"]["pictures"]
    assert (found["prototypes_per_class"], found["n_init"]) == (study.k, study.n_init)
    kilobytes = (SHIPPED / "birds-choosing-cnn-0.safetensors").stat().st_size / 1000
    assert found["networks"][study.backbone]["bytes"] / 1000 == pytest.approx(kilobytes, rel=0.02)
    for name, each in found["networks"].items():  # what the page says of all of them
        for got in (run["accuracy"] for run in each["seeds"].values()):
            assert (abs(got["B4"] - got["CNN"]) < 0.02) == ("12 epochs" not in name)
            assert got["B234, no factor"] - got["B234"] > 0.2
    few, own, many = (found["networks"][study.backbone + more]["seeds"]["0"]["accuracy"]["CNN"]
                      for more in (", 12 epochs", "", ", 48 epochs"))
    assert own - few == pytest.approx(0.1, abs=0.01) and many <= own
