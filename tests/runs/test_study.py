"""A study: settings that are checked, and a checkpoint, embeddings and explainers that are computed once."""
from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import small
import torch
from PIL import Image

from paperlib import guards
from paperlib.concepts import ConceptExplainer
from paperlib.datasets import files
from paperlib.datasets import load as data
from paperlib.kmex import KMEx
from paperlib.networks import architectures, training
from paperlib.runs import store, study
from paperlib.runs.study import Study, n_runs, open_studies

TINY = Study(dataset="digits", backbone=f"{small.__file__}:tiny", blocks="one,two,three,four", classifier="fc",
             train_per_class=8, test_per_class=4, epochs=1, n_init=1, prototypes_per_class=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny study with its checkpoint in a cache of its own; no test here trains it a second time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERLIB_CACHE", str(tmp_path_factory.mktemp("study")))
        assert TINY.trained.n_classes == 10
        yield TINY


def again(settings: Study) -> Study:
    """The same settings as another notebook would open them: nothing is remembered but what is on disk."""
    return replace(settings)


@pytest.fixture
def computed(monkeypatch):
    """The kinds of results that were computed, not found; one entry per result."""
    kinds, together = [], store.kept_together

    def counting(kind, inputs, compute):
        return together(kind, inputs, lambda missing: kinds.extend([kind] * len(missing)) or compute(missing))
    monkeypatch.setattr(store, "kept_together", counting)
    return kinds


# Settings

@pytest.mark.parametrize("setting, message", [
    ({"epochs": "3"}, "epochs is '3', of type str; give a whole number"),
    ({"seed": 1.0}, "seed is 1.0, of type float; give a whole number"),
    ({"seed": True}, "seed is True, of type bool; give a whole number"),
    ({"allow_subset": 1}, "allow_subset is 1, of type int; give true or false"),
    ({"allow_subset": "yes"}, "allow_subset is 'yes', of type str; give true or false"),
    ({"n_init": None}, "n_init is None, of type NoneType; give a whole number"),
    ({"dataset": 3}, "dataset is 3, of type int; give a text"),
    ({"blocks": ("layer3", "layer4")}, "blocks is .*, of type tuple; give a text"),
    ({"weights": None}, "weights is None, of type NoneType; give a text")])
def test_ill_typed_setting(setting, message):
    with pytest.raises(TypeError, match=message):
        Study(**setting)


@pytest.mark.parametrize("setting, message", [
    ({"epochs": -1}, "epochs is -1; give 0 or more"), ({"n_init": 0}, "n_init is 0; give 1 or more"),
    ({"size": -5}, "size is -5; give 0 or more"), ({"seed": -1}, "seed is -1; give 0 or more")])
def test_setting_out_of_range(setting, message):
    with pytest.raises(ValueError, match=message):
        Study(**setting)


def test_unknown_setting_and_data_set():
    with pytest.raises(TypeError, match="epoch"):
        Study(epoch=3)
    with pytest.raises(data.DataError, match="no data set named 'digit'; the known ones are digits, birds"):
        Study(dataset="digit")


def test_what_is_left_empty_is_the_data_sets_own():
    assert Study().k == 5 and Study(dataset="cub200").k == 10 and Study(prototypes_per_class=3).k == 3
    assert Study(dataset="mnist").recipe == training.RECIPES["mnist"]
    assert Study(dataset="mnist", epochs=2).recipe == replace(training.RECIPES["mnist"], epochs=2)


def test_every_data_set_has_a_recipe_and_a_number_of_prototypes():
    for name in data.LOADERS:
        assert Study(dataset=name).recipe.epochs > 0 and Study(dataset=name).k > 0


def test_open_studies_opens_one_for_each_data_set():
    cell = {"dataset": "digits, birds", "epochs": 3, "seed": 2, "out": "elsewhere", "np": np, "__name__": "__main__"}
    assert open_studies(cell) == [Study.of_profile(dataset=name, epochs=3, seed=2) for name in ("digits", "birds")]
    assert [s.dataset for s in open_studies({"dataset": "birds,"})] == ["birds"]
    assert [s.dataset for s in open_studies({"dataset": ""})] == ["digits", "birds"], "the profile's"


@pytest.mark.parametrize("names", [" , ", 3, ["digits"]])
def test_open_studies_without_a_data_set(names):
    with pytest.raises(TypeError, match="give one or more of digits, birds.*with commas between"):
        open_studies({"dataset": names})


def test_open_studies_refuses_what_study_refuses():
    with pytest.raises(data.DataError, match="'bird'"):
        open_studies({"dataset": "digits,bird"})
    with pytest.raises(TypeError, match="epochs is '1'"):
        open_studies({"dataset": "digits", "epochs": "1"})


def test_subset_is_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(data, "load", lambda *_, **options: asked.append(options["allow_subset"]))
    for settings in (Study("cub200"), Study("cub200", allow_subset=True)):
        settings.data  # noqa: B018 - computed when asked for
    assert asked == [False, True]


def test_settings_may_be_paths_and_numpy_numbers(tmp_path):
    assert Study(data_root=tmp_path, seed=np.int64(3), allow_subset=np.bool_(True)) == Study(
        data_root=str(tmp_path), seed=3, allow_subset=True)
    with pytest.raises(ValueError, match="seed is 10000000000; give at most 2147483647"):
        Study(seed=10**10)


def test_a_profile_and_its_notebooks_give_the_same_study():
    snippet = Study.of_profile("quick", dataset="birds")
    assert snippet in open_studies({"profile": "quick", "dataset": "", "settings": {}})
    assert open_studies({"profile": "quick", "dataset": "birds", "settings": {"epochs": 3}}) == [
        replace(snippet, epochs=3)]
    assert n_runs({"profile": "quick"}) == 3 and n_runs({"profile": "quick", "settings": {"runs": 2}}) == 2
    with pytest.raises(ValueError, match="name one, as in dataset='digits'"):
        Study.of_profile("quick")
    with pytest.raises(ValueError, match="settings names 'epoch'; there are"):
        open_studies({"dataset": "digits", "settings": {"epoch": 3}})


# Before anything is trained

def test_k_larger_than_a_class_is_refused_before_training(fresh_cache, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trained in vain"))
    few = replace(TINY, train_per_class=4, prototypes_per_class=5)
    message = "prototypes_per_class is 5 and class 0 of digits has 4 training pictures; give at most 4, or more"
    for wanted in (lambda: few.trained, lambda: few.manifest, few.kmex, few.explainer,
                   lambda: replace(few, prototypes_per_class=4).kmex(5)):
        with pytest.raises(ValueError, match=message):
            wanted()


def test_problems_are_all_of_them_a_sentence_each(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "train", lambda *_: pytest.fail("trained"))
    assert TINY.problems() == []
    assert replace(TINY, prototypes_per_class=9).problems() == [
        "prototypes_per_class is 9 and class 0 of digits has 8 training pictures; give at most 8, or more pictures."]
    lacking = Study("cub200", str(tmp_path / "gone"), weights=str(tmp_path / "w.pth")).problems()
    assert [sentence.split(";")[0] for sentence in lacking] == [
        f"There is no folder {tmp_path / 'gone'}", f"There is no file of weights {tmp_path / 'w.pth'}"]


# The checkpoint

def test_two_studies_train_once(fresh_cache, monkeypatch):
    calls, train = [], training.train
    monkeypatch.setattr(training, "train", lambda *args, **kwargs: calls.append(1) or train(*args, **kwargs))
    few = replace(TINY, train_per_class=2, test_per_class=1)
    first, second = again(few), again(few)
    x = first.data.test.batch([0])
    assert torch.equal(first.trained(x), second.trained(x)) and calls == [1]
    later = {"prototypes_per_class": 1, "n_init": 2, "blocks": "three,four", "allow_subset": True}
    assert again(replace(few, **later)).manifest["sha256"] == first.manifest["sha256"]
    assert again(replace(few, test_per_class=2)).trained and again(few).for_choosing().choosing
    assert calls == [1], "neither other test pictures nor what comes after the network trains it again"
    for other in (replace(few, seed=1), replace(few, normalisation="half"), replace(few, train_per_class=3)):
        assert again(other).manifest["sha256"] != first.manifest["sha256"]
    assert calls == [1] * 4


def test_training_that_was_stopped_while_it_was_measured_is_not_lost(fresh_cache, monkeypatch, computed):
    few = replace(TINY, train_per_class=2, test_per_class=1)

    def stop(*_):
        raise KeyboardInterrupt
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Study, "embeddings", stop)
        again(few).manifest  # noqa: B018 - computed when asked for
    assert set(again(few).manifest["accuracy"]) == {"train", "test"}
    assert computed.count("checkpoint") == 1
    assert not list(fresh_cache.glob("*unfinished*"))


def test_manifest_says_what_made_the_checkpoint(tiny):
    manifest = tiny.manifest
    assert manifest["kind"] == "checkpoint" and manifest["versions"] == files.versions()
    for name, value in {"dataset": "digits", "backbone": "small.py:tiny", "weights": "none", "seed": 0,
                        "size": 32, "classes": 10, "recipe": asdict(tiny.recipe)}.items():
        assert manifest["inputs"][name] == value
    assert manifest["training"]["recipe"]["epochs"] == 1 and manifest["training"]["pictures"] == 80
    assert set(manifest["accuracy"]) == {"train", "test"}
    for split in ("train", "test"):
        pictures = getattr(tiny.data, split)
        hits = [int(tiny.trained(pictures[i][None]).argmax()) == int(pictures.labels[i]) for i in range(len(pictures))]
        assert manifest["accuracy"][split] == pytest.approx(np.mean(hits))


def test_trained_differs_from_untrained_which_the_seed_decides(tiny):
    x = tiny.data.test.batch(range(3))
    assert torch.equal(tiny.untrained()(x), again(tiny).untrained()(x))
    assert not torch.allclose(tiny.trained(x), tiny.untrained()(x))
    assert not torch.allclose(replace(tiny, seed=1).untrained()(x), tiny.untrained()(x))


def test_own_network_is_known_by_its_code_not_its_folder(fresh_cache, tmp_path):
    code = ("from torch import nn\n"
            "def net(n):\n"
            "    pool = nn.AdaptiveAvgPool2d(1)\n"
            "    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(4, n))\n")
    few = replace(TINY, train_per_class=2, test_per_class=1, blocks="0,1", classifier="4")
    sums = []
    for folder, text in {"a": code, "b": code, "c": code + "# another\n"}.items():
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own.py").write_text(text)
        own = replace(few, backbone=f"{tmp_path / folder / 'own.py'}:net")
        sums.append(own.manifest["inputs"]["own code"])
    assert sums[0] == sums[1] != sums[2]
    assert len(list(fresh_cache.glob("checkpoint-*.safetensors"))) == 2


def test_a_kept_network_leaves_the_global_generator_alone_and_needs_no_imagenet_weights(tiny, monkeypatch):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    asked, build = [], architectures.build
    monkeypatch.setattr(architectures, "build", lambda *args, **kwargs: asked.append(kwargs["load_weights"])
                        or build(*args, **kwargs))
    again(tiny).trained  # noqa: B018 - loaded when asked for
    assert torch.equal(torch.rand(1), expected) and asked == [False]


def test_study_for_choosing_never_sees_a_test_picture(fresh_cache, monkeypatch):
    few, choosing = replace(TINY, train_per_class=5), replace(TINY, train_per_class=5).for_choosing()
    assert len(choosing.data.train) == 40 and len(choosing.data.test) == 10
    assert (choosing.data.train.split, choosing.data.test.split) == ("train", "validation")
    pixels = {few.data.train.pixels(i).numpy().tobytes() for i in range(50)}
    for pictures in choosing.splits.values():
        assert {pictures.pixels(i).numpy().tobytes() for i in range(len(pictures))} <= pixels


def test_test_pictures_that_reach_a_fit_are_refused(tiny, monkeypatch):
    leaked = replace(tiny)
    leaked.__dict__["data"] = replace(tiny.data, train=tiny.data.test)
    for fit in (lambda: leaked.checkpoint, lambda: ConceptExplainer((4,), 2).fit(tiny.trained, tiny.data.test,
                tiny.data.test.labels), lambda: KMEx(2).fit(*tiny.embeddings("test"))):
        with pytest.raises(guards.LeakError, match="test"):
            fit()


# What is computed from it

def test_embeddings_are_cached_and_those_of_the_network(tiny, computed):
    for path in store.folder().glob("embeddings-*"):
        path.unlink()
    for split, n in {"train": 80, "test": 40}.items():
        Z, y = tiny.embeddings(split)
        pictures = getattr(tiny.data, split)
        assert Z.shape == (n, 32) and Z.dtype == np.float32 and np.array_equal(y, pictures.labels)
        expected = tiny.trained.embed(pictures.batch(range(n)))
        np.testing.assert_allclose(Z, expected, atol=1e-5, rtol=1e-5)
        assert np.array_equal(again(tiny).embeddings(split)[0], Z)
    assert computed == ["embeddings", "embeddings"]


def test_kmex_is_cached_and_equal_to_a_fresh_one(tiny, computed):
    found, kept = tiny.kmex(), again(tiny).kmex()
    fresh = KMEx(2, n_init=10, random_state=0).fit(*tiny.embeddings("train"))
    Z, y = tiny.embeddings("test")
    for model in (found, kept):
        for name in ("prototypes_", "prototype_labels_", "classes_", "n_features_in_"):
            np.testing.assert_array_equal(getattr(model, name), getattr(fresh, name))
        assert np.array_equal(model.predict(Z), fresh.predict(Z)) and model.score(Z, y) == fresh.score(Z, y)
    assert computed.count("kmex") == 1
    assert len(tiny.kmex(3).prototypes_) == 30 and computed.count("kmex") == 2


def test_explainers_are_cached_and_equal_to_fresh_ones(tiny, computed):
    found, kept = tiny.explainers(), again(tiny).explainers()
    assert [e.name for e in found] == ["B4", "B34", "B234"]
    assert computed.count("explainer") == 3
    x = tiny.data.test.batch(range(5))
    for depth, pair in enumerate(zip(found, kept, strict=True), start=1):
        fresh = ConceptExplainer(blocks=tuple(range(5 - depth, 5)), prototypes_per_class=2, n_init=1, random_state=0)
        fresh.fit(tiny.trained, tiny.data.train, tiny.data.train.labels)
        for explainer in pair:
            assert explainer.get_params() == fresh.get_params() and explainer.seconds_ >= 0
            for name in ("prototypes_", "prototype_labels_", "prototype_sources_"):
                assert torch.equal(getattr(explainer, name), getattr(fresh, name))
            assert torch.equal(explainer.predict(tiny.trained, x), fresh.predict(tiny.trained, x))


def test_explainers_of_other_choices_are_others(tiny, computed):
    assert not torch.equal(tiny.explainer(2, norm="none").prototypes_, tiny.explainer(2).prototypes_)
    assert len(tiny.explainer(1, prototypes_per_class=1).prototypes_) == 10
    assert again(replace(tiny, blocks="three,four")).explainer(2).name == "B12"


@pytest.mark.parametrize("depth", [0, 5])
def test_depth_out_of_range(tiny, depth):
    with pytest.raises(ValueError, match=f"depth is {depth}; the backbone has 4 blocks, give 1 to 4"):
        tiny.explainer(depth)


def test_evaluate_is_cached_and_equal_to_a_fresh_one(tiny, computed):
    found, kept = tiny.evaluate(1), again(tiny).evaluate(1)
    explainer, test = tiny.explainer(1), tiny.data.test
    fresh = explainer.evaluate(tiny.trained, test, test.labels)
    assert found == kept == pytest.approx(fresh)
    assert computed.count("evaluation") == 3, "B4, B34 and B234 are read in one pass"
    predicted = torch.cat([explainer.predict(tiny.trained, test[i][None]) for i in range(len(test))])
    assert found["accuracy"] == pytest.approx((predicted == test.labels).float().mean().item())
    assert tiny.evaluate(1, "train") != found


def test_evaluation_of_other_pictures_blocks_or_choices_is_another(tiny, computed):
    """Equal weights, and yet another question: an earlier answer must not be taken for it."""
    tiny.evaluate(4)
    others = [(replace(tiny, test_per_class=3), {}), (replace(tiny, blocks="one.2,two,three,four"), {}),
              (replace(tiny, prototypes_per_class=3), {}), (tiny, {"vote": "cluster"}), (tiny, {"norm": "none"})]
    for other, choices in others:
        found, test = other.evaluate(4, **choices), other.data.test
        assert other.manifest["sha256"] == tiny.manifest["sha256"]
        assert found == pytest.approx(other.explainer(4, **choices).evaluate(other.trained, test, test.labels))
    assert computed.count("evaluation") == 1 + len(others)


def test_test_embeddings_of_other_pictures_are_others(tiny):
    tiny.embeddings("test")
    assert len(replace(tiny, test_per_class=3).embeddings("test")[0]) == 30


# Choices

def test_drawn_parts_are_of_each_class_and_apart(tiny):
    labels = tiny.data.train.labels.numpy()
    first, second = tiny.sample(3), tiny.sample(4, 3)
    assert np.bincount(labels[first]).tolist() == [3] * 10 and np.bincount(labels[second]).tolist() == [4] * 10
    assert not set(first) & set(second) and set(tiny.sample(2)) < set(first)
    assert tiny.sample().tolist() == list(range(80))
    assert tiny.sample(3).tolist() != replace(tiny, seed=1).sample(3).tolist()
    with pytest.raises(ValueError, match="0 has 8 training pictures; 9 are asked for"):
        tiny.sample(4, 5)


def test_explainer_of_a_part_is_fitted_on_it_and_names_its_pictures(tiny, computed):
    found, some = tiny.explainer(2, part=(3, 2)), tiny.sample(3, 2)
    train = tiny.data.train
    fresh = ConceptExplainer((3, 4), 2, n_init=1).fit(tiny.trained, train.batch(some), train.labels[some])
    torch.testing.assert_close(found.prototypes_, fresh.prototypes_)
    assert found.prototype_sources_[:, 0].tolist() == some[fresh.prototype_sources_[:, 0]].tolist()
    tiny.explainer(2, part=(3, 2)), tiny.explainer(2, part=(3, 0)), tiny.explainer(2, part=(0, 0)), tiny.explainer(2)
    assert computed.count("explainer") <= 3


def test_compare_reads_every_choice_on_the_same_pictures(tiny, computed):
    choices = {"B4": {"depth": 1, "part": (4, 0)}, "B34": {"depth": 2, "part": (4, 0), "block_weight": 0.5},
               "cluster": {"depth": 2, "part": (4, 0), "block_weight": 0.5, "vote": "cluster"}, "all": {"depth": 1}}
    found, kept = tiny.compare(choices, 3), again(tiny).compare(choices, 3)
    assert computed.count("comparison") == 1
    pictures = tiny.data.test.subset(3)
    x, y = pictures.batch(range(30)), pictures.labels.numpy()
    assert set(found) == {"CNN", *choices}
    assert np.array_equal(found["CNN"]["predicted"], tiny.trained(x).argmax(1))
    for name, options in choices.items():
        explainer, read = tiny.explainer(**options), found[name]
        assert np.array_equal(read["predicted"], explainer.predict(tiny.trained, x))
        assert np.array_equal(read["correct"], read["predicted"] == y)
        shown = explainer.explanation_map(tiny.trained, x, "predicted").numpy()
        assert np.array_equal(read["map"] + 2 * found["CNN"]["predicted"][:, None, None], shown)
        assert read["concepts"].shape == read["tied"].shape == (30,)
        assert all(np.array_equal(read[what], kept[name][what]) for what in read)


def test_what_compare_fits_is_what_explainer_would_fit(tiny, fresh_cache):
    tiny.manifest, tiny.trained  # noqa: B018 - from the cache of the other tests
    choices = {"B4": {"depth": 1, "part": (4, 0)}, "B34": {"depth": 2, "part": (4, 0)}}
    tiny.compare(choices, 1)
    together = [tiny.explainer(**options).prototypes_ for options in choices.values()]
    for path in fresh_cache.glob("explainer-*"):
        path.unlink()
    for prototypes, options in zip(together, choices.values(), strict=True):
        torch.testing.assert_close(tiny.explainer(**options).prototypes_, prototypes)


# What is written beside a figure

def test_settings_are_plain_and_name_no_folder(tiny, tmp_path):
    settings = replace(tiny, data_root=str(tmp_path / "sets")).settings()
    assert json.loads(json.dumps(settings)) == settings
    assert str(tmp_path) not in json.dumps(settings) and "/" not in settings["data_root"]
    for name, value in {"dataset": "digits", "title": "digits", "classes": 10, "train": 80, "test": 40, "size": 32,
                        "epochs": 1, "prototypes_per_class": 2, "data_root": "sets",
                        "backbone": "small.py:tiny"}.items():
        assert settings[name] == value
    assert settings["checkpoint"] == tiny.manifest["sha256"][:16]


def test_settings_of_ones_own_files_name_no_folder(fresh_cache, tmp_path, monkeypatch):
    own = replace(TINY, backbone=str(tmp_path / "nets.py") + ":make", weights=str(tmp_path / "w.pth"))
    monkeypatch.setattr(study.Study, "checkpoint", store.Kept({}, {"sha256": "0" * 64}))
    settings = own.settings()
    assert (settings["backbone"], settings["weights"]) == ("nets.py:make", "w.pth")
    assert str(tmp_path) not in json.dumps(settings)


# Soft-CAM

def test_softcam_is_trained_once_for_each_penalty(tiny, computed):
    soft, manifest = tiny.finetuned(study.SOFTCAM_L1)
    assert manifest["training"]["l1"] == study.SOFTCAM_L1 and manifest["training"]["recipe"]["epochs"] == 1
    assert manifest["training"]["recipe"]["lr"] == pytest.approx(tiny.recipe.lr / 5)
    same, _ = again(tiny).finetuned(study.SOFTCAM_L1)
    assert computed.count("softcam") == 1
    x = tiny.data.test.batch(range(8))
    assert torch.equal(soft(x), same(x)) and torch.equal(again(tiny).softcam(x), soft(x))
    other, _ = tiny.finetuned(0.1)
    assert computed.count("softcam") == 2 and not torch.equal(other(x), soft(x))
    # The trained network is not touched by it.
    assert torch.equal(tiny.trained(x), again(tiny).trained(x))


def test_softcam_accuracy_is_that_of_its_predictions(tiny, computed):
    test = tiny.data.test
    hits = tiny.softcam(test.batch(range(len(test)))).argmax(1).cpu() == test.labels
    assert tiny.softcam_accuracy() == pytest.approx(hits.double().mean().item())
    assert again(tiny).softcam_accuracy("test") == tiny.softcam_accuracy() and computed.count("accuracy") == 1


def test_kept_depends_on_its_parameters_and_the_study(tiny, computed):
    def value(x):
        return lambda: {"x": torch.tensor(float(x))}
    assert tiny.kept("contest", {"a": 1}, value(1))["x"] == 1 and tiny.kept("contest", {"a": 1}, value(9))["x"] == 1
    assert tiny.kept("contest", {"a": 2}, value(2))["x"] == 2
    assert replace(tiny, prototypes_per_class=3).kept("contest", {"a": 1}, value(3))["x"] == 3
    assert computed.count("contest") == 3


# Pictures by file

def test_a_picture_file_is_explained_and_predictions_are_told_by_file(fresh_cache, tmp_path):
    for c, colour in {"red": (200, 0, 0), "blue": (0, 0, 200)}.items():
        (tmp_path / "own" / c).mkdir(parents=True)
        for i in range(5):
            rng = np.random.default_rng(i)
            pixels = np.clip(np.array(colour) + rng.integers(0, 55, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "own" / c / f"{c}{i}.png")
    own = Study("folder", tmp_path / "own", size=32, epochs=1, prototypes_per_class=2, n_init=1)
    columns = own.explain(tmp_path / "own" / "red" / "red0.png")
    assert [column["name"] for column in columns] == ["B4", "B34", "B234"]
    assert columns[0]["attribution"].shape == (1, 1) and columns[-1]["predicted"].shape == (4, 4)
    table = own.predictions_table()
    assert set(table.columns) == {"picture", "class", "CNN", "B4", "B34", "B234", "KMEx"}
    assert len(table) == 2 and table["picture"].str.endswith(".png").all()
    with pytest.raises(data.DataError, match="gone.png"):
        own.explain(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="or the file of a picture"):
        own.explain(99)
