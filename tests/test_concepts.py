import json
import shutil
import tempfile
import time
import tracemalloc
import warnings
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.base import clone
from sklearn.cluster import BisectingKMeans, KMeans
from sklearn.exceptions import NotFittedError
from torch.utils.data import ConcatDataset, Subset

from paperlib import concepts, kmex
from paperlib.composite import composite
from paperlib.concepts import (
    ConceptExplainer,
    concepts_per_map,
    decide,
    fit_together,
    predicted_class,
    readings,
    vote,
)
from paperlib.guards import LeakError
from paperlib.kmex import KMEx
from paperlib.runs.store import plain
from paperlib.scaling.factored import Factored
from paperlib.scaling.rows import bytes_of


class TinyBackbone:
    """Three random blocks of 4, 8, 16 channels, each half the size of the one before; C (16, n_classes)."""

    def __init__(self, n_classes=3, pool_last=False):
        g = torch.Generator().manual_seed(0)
        self.blocks, self.n_classes, self.bias, self.pool_last = ("f1", "f2", "f3"), n_classes, None, pool_last
        self.weights = [torch.randn(o, i, 3, 3, generator=g) / (3 * i**0.5) for i, o in ((3, 4), (4, 8), (8, 16))]
        self.C = torch.randn(16, n_classes, generator=g)

    def features(self, x):
        out = []
        for w in self.weights:
            x = F.conv2d(x, w, padding=1, stride=2).relu()
            out.append(x)
        if self.pool_last:
            out[-1] = out[-1].mean((2, 3), keepdim=True)
        return out


@pytest.fixture(scope="module")
def data():
    """18 pictures 16 x 16 of three classes that differ in their stripes; labels are not sorted."""
    g = torch.Generator().manual_seed(1)
    labels = torch.arange(18) % 3
    stripes = torch.sin(torch.arange(16) * (1.0 + labels[:, None])) * 2
    return torch.randn(18, 3, 16, 16, generator=g) * 0.5 + stripes[:, None, None, :], labels


@pytest.fixture(scope="module")
def backbone(data):
    """With a bias that lets it predict each class for some pictures."""
    found = TinyBackbone()
    found.bias = -(found.features(data[0])[-1].mean((2, 3)) @ found.C).mean(dim=0)
    return found


@pytest.fixture(scope="module")
def fitted(backbone, data):
    return ConceptExplainer((2, 3), prototypes_per_class=4, n_init=2, batch_size=4).fit(backbone, *data)


# Eq. 10


def test_vote_against_loops_and_sums_to_one():
    s = torch.randint(0, 12, (5, 49), generator=torch.Generator().manual_seed(0))
    y = vote(s, n_classes=4, prototypes_per_class=3)
    for i in range(5):
        for c in range(4):
            assert y[i, c].item() == pytest.approx(sum(k // 3 == c for k in s[i].tolist()) / 49)
    torch.testing.assert_close(y.sum(dim=1), torch.ones(5))


def test_vote_bad_input():
    s = torch.zeros(2, 3, dtype=torch.long)
    for bad in (s + 6, s - 1, s.float(), s[:0], s[0]):
        with pytest.raises(ValueError, match=r"s must be whole numbers \(n, R'\) in 0..5"):
            vote(bad, 3, 2)


def decide_rows(rows, distance=None, **options):
    """Decision for one image with 3 classes of 2 prototypes."""
    s = torch.tensor([rows])
    distance = None if distance is None else torch.tensor([distance])
    predicted, tied = decide(vote(s, 3, 2), s, distance, prototypes_per_class=2, **options)
    return predicted.item(), tied.item()


def test_decide_class_and_cluster_can_differ():
    rows = [0, 0, 0, 2, 2, 3, 3]  # class 0 has the largest cluster, class 1 the most rows
    assert decide_rows(rows) == (1, False)
    assert decide_rows(rows, vote="cluster") == (0, False)


def test_decide_breaks_ties_by_mean_distance_then_by_lowest_class():
    rows = [0, 1, 2, 2, 4]
    assert decide_rows(rows) == (0, True)
    assert decide_rows(rows, [1.0, 3.0, 1.0, 1.0, 0.0]) == (1, True)  # class 2 is nearer, but has fewer rows
    assert decide_rows(rows, [1.0, 3.0, 2.0, 2.0, 0.0]) == (0, True)
    clusters = [0, 0, 1, 1, 4, 4]
    assert decide_rows(clusters, vote="cluster") == (0, True)
    assert decide_rows(clusters, [3.0, 3.0, 2.0, 2.0, 1.0, 1.0], vote="cluster") == (2, True)
    assert decide_rows([0, 0, 1, 1, 4], vote="cluster") == (0, False)  # both clusters are of class 0


def test_decide_bad_input():
    s = torch.zeros(2, 3, dtype=torch.long)
    with pytest.raises(ValueError, match="vote='row' is unknown"):
        decide(vote(s, 3, 2), s, vote="row", prototypes_per_class=2)
    with pytest.raises(ValueError, match="decide needs"):
        decide(vote(s, 3, 2), s[:1], prototypes_per_class=2)
    with pytest.raises(ValueError, match="decide needs"):
        decide(vote(s, 3, 2), s, torch.ones(2), prototypes_per_class=2)


def test_concepts_per_map():
    s = torch.randint(0, 9, (6, 4, 5), generator=torch.Generator().manual_seed(0))
    assert concepts_per_map(s).tolist() == [len(set(m.flatten().tolist())) for m in s]


# ConceptExplainer


def test_fit_against_kmex_on_all_rows(backbone, data, fitted):
    images, labels = data
    q = composite(backbone.features(images)[1:])
    assert fitted.name == "B23" and fitted.resolution_ == (4, 4) and fitted.n_classes_ == 3
    assert fitted.prototypes_.shape == (12, 24) and fitted.prototypes_.dtype == torch.float32
    assert fitted.prototype_labels_.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    slow = KMEx(4, n_init=2).fit(q.reshape(-1, 24), labels.repeat_interleave(16))
    np.testing.assert_allclose(fitted.prototypes_, slow.prototypes_, atol=1e-6)


def test_sources_are_the_nearest_training_pixels(backbone, data, fitted):
    images, labels = data
    q = composite(backbone.features(images)[1:])
    for p, c, source in zip(fitted.prototypes_, fitted.prototype_labels_, fitted.prototype_sources_, strict=True):
        d = (q - p).norm(dim=-1).masked_fill((labels != c)[:, None, None], torch.inf)
        assert labels[source[0]] == c
        torch.testing.assert_close(d[tuple(source)], d.min())


def test_one_prototype_per_class_is_the_mean_of_the_rows(backbone, data):
    images, labels = data
    explainer = ConceptExplainer((3,), prototypes_per_class=1).fit(backbone, images, labels)
    q = composite(backbone.features(images)[2:])
    for c in range(3):
        torch.testing.assert_close(explainer.prototypes_[c], q[labels == c].reshape(-1, 16).mean(dim=0))


@pytest.mark.parametrize("vote", ["class", "cluster"])
def test_with_one_row_and_no_norm_it_is_kmex(data, vote):
    images, labels = data
    backbone = TinyBackbone(pool_last=True)
    z = backbone.features(images)[-1].flatten(1)
    kmex = KMEx(prototypes_per_class=2).fit(z, labels)
    same = ConceptExplainer((3,), 2, norm="none", block_weight="none", vote=vote).fit(backbone, images, labels)
    np.testing.assert_array_equal(same.prototypes_, kmex.prototypes_)
    np.testing.assert_array_equal(same.predict(backbone, images), kmex.predict(z))
    scaled = ConceptExplainer((3,), 2, norm="none", vote=vote).fit(backbone, images, labels)
    np.testing.assert_allclose(scaled.prototypes_ * 16, kmex.prototypes_, rtol=1e-5)
    np.testing.assert_array_equal(scaled.predict(backbone, images), kmex.predict(z))


@pytest.mark.parametrize("clusterer", [None, BisectingKMeans()])
def test_one_and_two_workers_give_the_same_prototypes(backbone, data, clusterer):
    one, two = (
        ConceptExplainer((2, 3), 4, n_init=2, n_jobs=n_jobs, clusterer=clusterer, batch_size=4).fit(backbone, *data)
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(one.prototypes_, two.prototypes_)
    np.testing.assert_array_equal(one.prototype_sources_, two.prototype_sources_)


def test_the_backbone_is_never_called_by_two_threads_at_once(data):
    class Busy(TinyBackbone):
        inside, most = 0, 0

        def features(self, x):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.01)  # lets another thread in, if it can come
            self.inside -= 1
            return super().features(x)

    backbone = Busy()
    ConceptExplainer((3,), 2, n_jobs=3, batch_size=2).fit(backbone, *data)
    assert backbone.most == 1


def test_a_class_does_not_depend_on_the_others(data):
    images, labels = data
    both = ConceptExplainer((2, 3), 2, batch_size=4).fit(TinyBackbone(2), images[labels < 2], labels[labels < 2])
    all_three = ConceptExplainer((2, 3), 2, batch_size=4).fit(TinyBackbone(3), images, labels)
    np.testing.assert_array_equal(both.prototypes_, all_three.prototypes_[:4])


def test_fit_holds_one_class_of_rows_at_a_time(data, monkeypatch):
    images, labels = data
    rows_seen, features_seen, alive = [], [], []

    def count(what):
        return sum(ref() is not None for ref in what)

    class Watched(TinyBackbone):
        def features(self, x):
            out = super().features(x)
            alive.append((count(rows_seen), count(features_seen)))
            features_seen.extend(weakref.ref(f) for f in out)
            return out

    def watched(rows, *args, **kwargs):
        rows_seen.append(weakref.ref(rows if rows.base is None else rows.base))
        assert len(rows) == 6 * 16 and count(rows_seen) == 1
        return real(rows, *args, **kwargs)

    real = kmex.class_prototypes
    monkeypatch.setattr(kmex, "class_prototypes", watched)
    ConceptExplainer((2, 3), 2, batch_size=2).fit(Watched(), images, labels)
    assert len(rows_seen) == 3 and len(alive) == 9
    assert all(rows == 0 and features == 0 for rows, features in alive)


class Pairs:
    """A data set that gives (picture, label) and records what was asked for; it cannot be sliced."""

    def __init__(self, images, labels):
        self.images, self.labels, self.asked = images, labels, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        assert isinstance(i, int)
        self.asked.append(i)
        return self.images[i].numpy(), int(self.labels[i])


def test_indexable_images_are_read_once_and_give_the_same(backbone, data, fitted):
    pairs = Pairs(*data)
    explainer = clone(fitted).fit(backbone, pairs, list(map(int, data[1])))
    np.testing.assert_array_equal(explainer.prototypes_, fitted.prototypes_)
    assert sorted(pairs.asked) == list(range(18))
    np.testing.assert_array_equal(explainer.predict(backbone, pairs), fitted.predict(backbone, data[0]))


def test_explanation_maps_against_loops(backbone, data, fitted):
    images, _ = data
    features = backbone.features(images)
    q = composite(features[1:])
    distances = torch.cdist(q.view(18, 16, 24), fitted.prototypes_.expand(18, -1, -1)).view(18, 4, 4, 12)
    assert torch.equal(fitted.explanation_map(backbone, images), distances.argmin(dim=-1))
    predicted = (features[-1].mean((2, 3)) @ backbone.C + backbone.bias).argmax(dim=1)
    assert torch.equal(predicted_class(backbone, features), predicted) and len(predicted.unique()) > 1
    given = torch.arange(18).flip(0) % 3
    for among, classes in (("predicted", predicted), (given, given)):
        maps = fitted.explanation_map(backbone, images, among=among)
        for i, c in enumerate(classes.tolist()):
            own = distances[i, :, :, 4 * c : 4 * c + 4]
            assert torch.equal(maps[i], 4 * c + own.argmin(dim=-1))
    assert torch.equal(fitted.maps_from_features(features), fitted.explanation_map(backbone, images))
    s, distance = fitted.nearest(fitted.rows(features), given)
    torch.testing.assert_close(distance, distances.gather(3, s[..., None])[..., 0], atol=1e-5, rtol=1e-3)


def test_votes_predict_and_evaluate_agree(backbone, data, fitted):
    images, labels = data
    s = fitted.explanation_map(backbone, images)
    y = fitted.votes(backbone, images)
    torch.testing.assert_close(y, vote(s.flatten(1), 3, 4))
    torch.testing.assert_close(y.sum(dim=1), torch.ones(18))
    predicted = fitted.predict(backbone, images)
    assert torch.equal(y.gather(1, predicted[:, None])[:, 0], y.amax(dim=1))
    found = fitted.evaluate(backbone, images, labels)
    assert found["accuracy"] == (predicted == labels).double().mean().item() == fitted.score(backbone, images, labels)
    assert found["tie_rate"] == ((y == y.amax(dim=1, keepdim=True)).sum(dim=1) > 1).double().mean().item()
    assert found["concepts_per_map"] == pytest.approx(np.mean([len(m.unique()) for m in s]))


def test_state_brings_the_explainer_back(backbone, data, fitted):
    again = ConceptExplainer.from_state(fitted.get_params(), fitted.state())
    for name in ("prototypes_", "prototype_labels_", "prototype_sources_", "classes_"):
        assert torch.equal(getattr(again, name), getattr(fitted, name))
    assert again.resolution_ == fitted.resolution_ and again.n_classes_ == fitted.n_classes_
    assert torch.equal(again.votes(backbone, data[0]), fitted.votes(backbone, data[0]))
    with pytest.raises(ValueError, match="it needs prototypes, prototype_sources, resolution, shares, as state"):
        ConceptExplainer.from_state(fitted.get_params(), {k: v for k, v in fitted.state().items() if k != "prototypes"})
    with pytest.raises(ValueError, match="does not fit prototypes_per_class"):
        ConceptExplainer.from_state({"prototypes_per_class": 5}, fitted.state())


def test_clone_and_not_fitted(backbone, data, fitted):
    assert clone(fitted).get_params() == fitted.get_params()
    for call in ("votes", "predict", "explanation_map"):
        with pytest.raises(NotFittedError):
            getattr(clone(fitted), call)(backbone, data[0])


@pytest.mark.parametrize("blocks", [(2,), (1, 3), (3, 2), (1, 2), (2, 3, 4), (0, 1, 2, 3), (3, 3)])
def test_blocks_must_be_a_suffix(backbone, data, blocks):
    with pytest.raises(ValueError, match="must count up, without gap, to the last block, which is 3"):
        ConceptExplainer(blocks, 2).fit(backbone, *data)


def test_fit_bad_input(backbone, data):
    images, labels = data
    for parameters, message in [
        ({"blocks": 3}, "blocks=3 must be a tuple"),
        ({"blocks": ()}, "must be a tuple of block numbers"),
        ({"prototypes_per_class": 0}, "prototypes_per_class=0 must be a whole number"),
        ({"batch_size": 0}, "batch_size=0 must be a whole number"),
        ({"n_init": 1.5}, "n_init=1.5 must be a whole number"),
        ({"vote": "all"}, "vote='all' is unknown"),
        ({"norm": "all"}, "norm='all' is unknown"),
        ({"prototypes_per_class": 25}, "class 0: 24 rows cannot give 25 prototypes"),
        ({"resolution": 0}, "resolution=0 must be a positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            ConceptExplainer(**{"blocks": (3,), "prototypes_per_class": 2, **parameters}).fit(backbone, images, labels)
    explainer = ConceptExplainer((3,), 2)
    for bad_images, bad_labels, message in [
        (images[:0], labels[:0], "images is empty"),
        (iter(images), labels, "has no length"),
        *((images, bad, r"labels must be one class, or one for each of the 18 images, in 0\.\.2")
          for bad in (labels[:-1], labels.float(), labels + 1, labels - 1)),
        (images[labels != 1], labels[labels != 1], "no image of class 1"),
        (images * torch.nan, labels, "NaN or infinite values"),
        (images * (labels != 2)[:, None, None, None], labels, "class 2: fewer than 2 of its 24 rows differ"),
        (images[:, 0], labels, r"an image must be \(3, H, W\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            explainer.fit(backbone, bad_images, bad_labels)
    mixed = [x if c else x[:, :8, :8] for x, c in zip(images, labels.tolist(), strict=True)]
    with pytest.raises(ValueError, match="feature maps of several sizes"):
        ConceptExplainer((2, 3), 2).fit(backbone, mixed, labels)


def test_explain_bad_input(backbone, data, fitted):
    images, labels = data
    with pytest.raises(ValueError, match="among='best' is unknown"):
        fitted.explanation_map(backbone, images, among="best")
    with pytest.raises(ValueError, match="among must be one class, or one for each of the 18 images"):
        fitted.explanation_map(backbone, images, among=labels[:3])
    with pytest.raises(ValueError, match=r"in 0\.\.2"):
        fitted.maps_from_features(backbone.features(images), labels + 1)
    with pytest.raises(ValueError, match="images is empty"):
        fitted.predict(backbone, images[:0])
    with pytest.raises(ValueError, match="labels must be"):
        fitted.evaluate(backbone, images, labels[:2])
    with pytest.raises(ValueError, match="NaN"):
        fitted.predict(backbone, images * torch.nan)
    with pytest.raises(ValueError, match="last block, which is 2"):
        fitted.maps_from_features(backbone.features(images)[:2])


@pytest.mark.parametrize("shown", [False, True])
def test_readings_are_the_explainers_own(backbone, data, fitted, shown):
    images, _ = data
    second = clone(fitted).set_params(prototypes_per_class=2, vote="cluster").fit(backbone, *data)
    other = ConceptExplainer((3,), 2, n_init=1).fit(backbone, *data)
    explainers = {"first": fitted, "one block": other, "second": second}
    features, read = backbone.features(images), list(readings(backbone, images, explainers, 4, shown))
    assert torch.equal(torch.cat([r.index for r in read]), torch.arange(18)) and len(read) == 5
    predicted = torch.cat([r.predicted for r in read])
    assert torch.equal(predicted, predicted_class(backbone, features))
    torch.testing.assert_close(torch.cat([r.features[1] for r in read]), features[1])
    for name, e in explainers.items():
        q = e.compose(features)
        parts = [r.explained[name] for r in read]
        assert [list(r.explained) for r in read] == [list(explainers)] * 5
        assert torch.equal(torch.cat([p.s for p in parts]), e.explanation_map(backbone, images))
        distance = torch.linalg.vector_norm(q - e.prototypes_[e.nearest(e.rows(features))[0]], dim=-1)
        torch.testing.assert_close(torch.cat([p.distance for p in parts]), distance)
        assert torch.equal(torch.cat([p.y for p in parts]), e.votes(backbone, images))
        assert torch.equal(torch.cat([p.predicted for p in parts]), e.predict(backbone, images))
        assert parts[0].tied.dtype == torch.bool
        assert torch.equal(torch.cat([p.concepts for p in parts]), concepts_per_map(torch.cat([p.s for p in parts])))
        if shown:
            own = torch.cat([p.shown for p in parts]) + (predicted * e.prototypes_per_class)[:, None, None]
            assert torch.equal(own, e.explanation_map(backbone, images, "predicted"))
        else:
            assert all(p.shown is None for p in parts)


def test_readings_make_the_rows_of_each_kind_once(backbone, data, fitted, monkeypatch):
    made, real = [], Factored.of
    monkeypatch.setattr(Factored, "of", lambda *given: made.append(given) or real(*given))
    same = {str(k): clone(fitted).set_params(prototypes_per_class=k).fit(backbone, *data) for k in (1, 2)}
    same["other"] = clone(fitted).set_params(block_weight="none").fit(backbone, *data)
    list(readings(backbone, data[0], same, 9))
    assert len(made) == 2 * 2  # two batches of two kinds


# Several explainers in one pass

def several():
    return [ConceptExplainer((3,), 2, n_init=2, batch_size=4),
            ConceptExplainer((2, 3), 3, n_init=1, random_state=np.random.RandomState(5)),
            ConceptExplainer((1, 2, 3), 2, n_init=1, norm="tensor", block_weight=0.5, resolution=3, mode="bicubic")]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_fit_together_is_fit_of_each(backbone, data, n_jobs):
    for together, alone in zip(fit_together(several(), backbone, *data, n_jobs=n_jobs), several(), strict=True):
        alone.fit(backbone, *data)
        torch.testing.assert_close(together.prototypes_, alone.prototypes_)
        assert torch.equal(together.prototype_sources_, alone.prototype_sources_)
        assert together.resolution_ == alone.resolution_ and together.n_classes_ == 3 and together.seconds_ > 0


def test_pictures_pass_once_and_rows_are_made_once_with_two_workers(data, monkeypatch):
    class Counting(TinyBackbone):
        seen = 0

        def features(self, x):
            self.seen += len(x)
            return super().features(x)

    made, real = [], concepts.composite

    def slow(*given):
        made.append(given)
        time.sleep(0.02)  # lets another worker come, if it can want the same rows
        return real(*given)

    monkeypatch.setattr(concepts, "composite", slow)
    explainers = [ConceptExplainer((2, 3), k, n_init=1) for k in (1, 2, 3)] + [ConceptExplainer((3,), 2, n_init=1)]
    counting = Counting()
    start = time.perf_counter()
    fit_together(explainers, counting, *data, n_jobs=2)
    whole = time.perf_counter() - start
    assert counting.seen == 18 and len(made) == 2 * 3  # two kinds, three classes of one batch
    assert whole / 2 < sum(e.seconds_ for e in explainers) < whole + 0.02  # each is rounded to hundredths


def test_fit_together_bad_input(backbone, data):
    with pytest.raises(ValueError, match="prototypes_per_class=0 must be"):
        fit_together([*several(), ConceptExplainer((3,), 0)], backbone, *data)
    with pytest.raises(ValueError, match="labels must be"):
        fit_together(several(), backbone, data[0], data[1][:3])


def test_a_test_picture_reaches_no_prototype(backbone, data):
    class Pictures(list):
        split = "train"

    images, labels = Pictures(data[0]), data[1]
    ConceptExplainer((3,), 2, n_init=1).fit(backbone, Subset(images, range(18)), labels)
    images.split = "test"
    for planted in (images, Subset(Subset(images, range(18)), range(18)), ConcatDataset([images[:9], images])):
        with pytest.raises(LeakError, match="The test split must not be used for fitting prototypes"):
            ConceptExplainer((3,), 2).fit(backbone, planted, labels)


def test_fitting_tells_apart_what_gives_other_prototypes():
    first, second = np.zeros((5000, 2)), np.zeros((5000, 2))
    second[2500] = 1  # str() shortens both to the same text
    keys = [json.dumps(plain(ConceptExplainer(**given).fitting()), sort_keys=True) for given in (
        {}, {"clusterer": KMeans(init=first)}, {"clusterer": KMeans(init=second)}, {"clusterer": BisectingKMeans()},
        {"clusterer": KMeans(init=torch.zeros(5000, 2))}, {"resolution": 4}, {"block_weight": 0.5}, {"batch_size": 8},
        {"random_state": 1}, {"random_state": np.random.RandomState(1)})]
    assert len(set(keys)) == len(keys)
    alike = ConceptExplainer([2, 3, 4], np.int64(5), vote="cluster", n_jobs=3, progress=True)
    assert json.dumps(plain(alike.fitting()), sort_keys=True) == keys[0]
    with pytest.raises(TypeError, match="cannot stand in the key of a cache"):
        plain(ConceptExplainer(clusterer=KMeans(init=lambda *_: first)).fitting())


def test_kinds_tell_apart_what_gives_other_rows():
    kinds = [ConceptExplainer(**given).kind for given in (
        {}, {"blocks": (4,)}, {"norm": "none"}, {"block_weight": "none"}, {"block_weight": 0.1 + 0.2},
        {"block_weight": 0.3}, {"resolution": 4}, {"resolution": (4, 5)}, {"mode": "nearest"})]
    assert len(set(kinds)) == len(kinds)
    assert ConceptExplainer([2, 3, 4], 3, resolution=(4, 4)).kind == ConceptExplainer(resolution=np.int64(4)).kind


# Beyond memory


class FirstRows(KMeans):
    """A clusterer that copies nothing: the class's first rows."""

    def fit(self, X, y=None):
        self.cluster_centers_ = np.array(X[: self.n_clusters])
        return self


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_mapped_rows_and_features_give_the_same_prototypes_and_leave_no_file(backbone, data, n_jobs, tmp_path,
                                                                             monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped, real = [], np.memmap
    monkeypatch.setattr(np, "memmap", lambda *given, **more: mapped.append(more["shape"]) or real(*given, **more))
    inside, beyond = (fit_together([e.set_params(memory=m) for e in several()], backbone, *data, n_jobs=n_jobs)
                      for m in ("4GB", 100))
    # Of each class the last three blocks' features and the rows of three kinds.
    shapes = [(6, 4, 8, 8), (6, 8, 4, 4), (6, 16, 2, 2), (24, 16), (96, 24), (54, 28)]
    assert sorted(mapped) == sorted(3 * shapes), "4 GB hold all, 100 bytes nothing"
    for one, other in zip(inside, beyond, strict=True):
        assert torch.equal(one.prototypes_, other.prototypes_)
        assert torch.equal(one.prototype_sources_, other.prototype_sources_)
        assert other.shares_.tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="cannot give 97 prototypes"):
        ConceptExplainer((2, 3), 97, memory=100).fit(backbone, *data)
    assert list(tmp_path.iterdir()) == []


def test_mapped_features_keep_their_layout_and_every_bit():
    class Wide:  # enough channels for the order in which they are added to show
        n_classes, bias, blocks, C = 2, None, ("f1", "f2"), torch.zeros(192, 2)

        def features(self, x):
            x = F.interpolate(x.repeat(1, 64, 1, 1), 8).relu()
            return [f.contiguous(memory_format=torch.channels_last) for f in (x, F.avg_pool2d(x, 2))]

    images = torch.randn(8, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    images = torch.cat([images, images.flip(1) ** 2])

    def fitted(memory):
        explainers = [ConceptExplainer(blocks, 3, 2, memory=memory) for blocks in ((2,), (1, 2))]
        return fit_together(explainers, Wide(), images, torch.arange(16) // 8)
    for held, mapped in zip(fitted(10**9), fitted(2000), strict=True):
        assert torch.equal(held.prototypes_, mapped.prototypes_)


def test_a_share_is_drawn_by_the_seed_and_named(backbone, data):
    whole = composite(backbone.features(data[0])[1:])
    most = 4 * 24 * 40  # bytes of 40 of a class's 96 rows
    explainers = [ConceptExplainer((2, 3), 40, clusterer=FirstRows(), memory=most, beyond="share", random_state=seed)
                  for seed in (0, 0, 1)]
    with pytest.warns(UserWarning, match=r"B23: 3 of 3 classes are fitted on a share of their rows, at least 41.7%: "
                                         r"more do not fit in memory=3840"):
        first, again, other = (e.fit(backbone, *data) for e in explainers)
    assert first.shares_.tolist() == [40 / 96] * 3 and ConceptExplainer.from_state(
        first.get_params(), first.state()).shares_.tolist() == [40 / 96] * 3
    assert torch.equal(first.prototypes_, again.prototypes_) and not torch.equal(first.prototypes_, other.prototypes_)
    # FirstRows' prototypes are the share itself: rows of the class, each once, and sources tell where they come from.
    for p, (image, row, column) in zip(first.prototypes_, first.prototype_sources_, strict=True):
        torch.testing.assert_close(p, whole[image, row, column])
    assert len(first.prototype_sources_.unique(dim=0)) == 120
    with pytest.warns(UserWarning, match="B23"):  # whatever else is fitted beside it
        together = fit_together([*several(), clone(first)], backbone, *data)[-1]
    assert torch.equal(together.prototypes_, first.prototypes_)


def test_memory_stays_in_its_bound(backbone, data):
    images = data[0][data[1] == 0].repeat(10, 1, 1, 1)
    labels, backbone = torch.arange(len(images)) % 3, TinyBackbone()

    def peak(memory, beyond="map"):
        explainers = [ConceptExplainer(blocks, 2, clusterer=FirstRows(), batch_size=4, resolution=32, memory=memory,
                                       beyond=beyond) for blocks in ((2, 3), (3,))]
        tracemalloc.start()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit_together(explainers, backbone, images, labels)
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    rows = 4 * 20 * 32**2 * 24
    assert peak("4GB") > rows > 1.9e6
    # Besides: a byte for each number while rows are checked, and eight for a cell's number in the draw.
    assert peak("500KB") < 0.8e6 and 0.5e6 < peak("500KB", "share") < 1.5e6


def test_memory_and_beyond_in_words(backbone, data, monkeypatch):
    assert [bytes_of(m) for m in ("512MB", "4GB", "1.5 kb", 7, np.int64(8), "9B")] == [
        512 * 10**6, 4 * 10**9, 1500, 7, 8, 9]
    for bad in ("lots", "4", "4 cows", "", 0, -1, "0GB", True, None, 1.5):
        with pytest.raises(ValueError, match=r"is no amount of memory; give one such as '512MB' or '4GB', or a number"):
            ConceptExplainer((3,), 2, memory=bad).fit(backbone, *data)
    with pytest.raises(ValueError, match="beyond='disk' is unknown; choose one of map, share"):
        ConceptExplainer((3,), 2, beyond="disk").fit(backbone, *data)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=5))
    with pytest.raises(OSError, match=r"A class takes 0.0 GB beyond memory and .* has 0.0 GB left; let TMPDIR name"):
        ConceptExplainer((3,), 2, memory=100).fit(backbone, *data)


def test_what_memory_changes_is_in_the_key_and_nothing_else():
    keys = [json.dumps(plain(ConceptExplainer(memory=memory, beyond=beyond).fitting())) for memory, beyond in (
        ("4GB", "map"), ("1MB", "map"), ("4GB", "share"), (4 * 10**9, "share"), ("1MB", "share"))]
    assert keys[0] == keys[1] and keys[2] == keys[3] and len(set(keys)) == 3
