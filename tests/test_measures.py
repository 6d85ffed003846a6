import numpy as np
import pytest
import torch

from paperlib.kmex import KMEx
from paperlib.measures import accuracy, over_runs, per_class_cosines, prototype_cosines, prototype_distances


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    y = np.arange(30) % 3
    Z = rng.normal(size=(30, 5)) + 3 * np.eye(5)[y]
    labels = np.array([0, 0, 1, 1, 2, 2])
    return rng.normal(size=(6, 5)) + 2 * np.eye(5)[labels], labels, Z, y


def cosine(a, b):
    return sum(a * b) / np.sqrt(sum(a * a) * sum(b * b))


def cosines_by_loops(P, labels, Z, y, pairing):
    own, out = [], []
    for c in (0, 1, 2):
        found = {True: [], False: []}
        for z, label in zip(Z, y, strict=True):
            pairs = [p for p, k in zip(P, labels, strict=True) if k == c]
            if pairing == "nearest":
                pairs = [min(pairs, key=lambda p, z=z: np.linalg.norm(p - z))]
            found[bool(label == c)] += [cosine(p, z) for p in pairs]
        own.append(np.mean(found[True]))
        out.append(np.mean(found[False]))
    return own, out


@pytest.mark.parametrize("pairing", ["all", "nearest"])
def test_cosines_against_loops(table, pairing):
    own, out = cosines_by_loops(*table, pairing)
    np.testing.assert_allclose(per_class_cosines(*table, pairing=pairing), (own, out))
    np.testing.assert_allclose(prototype_cosines(*table, pairing=pairing), (np.mean(own), np.mean(out)))
    assert all(isinstance(x, float) for x in prototype_cosines(*table, pairing=pairing))


def test_classes_count_equally_whatever_their_size(table):
    P, labels, Z, y = table
    more = np.concatenate([Z, *[Z[y == 2]] * 9]), np.concatenate([y, [2] * 90])
    np.testing.assert_allclose(per_class_cosines(P, labels, *more)[0], per_class_cosines(P, labels, Z, y)[0])


def test_cosines_by_hand():
    Z, y = np.array([[1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), [0, 0, 1]
    assert prototype_cosines([[5.0, 0.0], [0.0, 1.0]], [0, 1], Z, y) == (1.0, 0.0)
    own, out = per_class_cosines([[0.0, 1.0], [-1.0, 0.0]], [0, 1], Z, y)
    assert own.tolist() == [0.0, 0.0] and out.tolist() == [1.0, -1.0]


def test_pairings_agree_for_one_prototype_per_class_and_tensors_do(table):
    _, _, Z, y = table
    model = KMEx(1).fit(Z, y)
    tables = [
        prototype_cosines(torch.tensor(model.prototypes_), torch.tensor(model.prototype_labels_), torch.tensor(Z), y),
        prototype_cosines(model.prototypes_, model.prototype_labels_, Z, y, pairing="nearest"),
    ]
    np.testing.assert_allclose(*tables)


def test_cosines_bad_input(table):
    P, labels, Z, y = table
    zero = Z.copy()
    zero[3] = 0
    for given, message in [
        ((P[:, :4], labels, Z, y), "prototypes have 4 dimensions and Z has 5"),
        ((P, labels[:5], Z, y), "inconsistent numbers of samples"),
        ((P, labels, Z, y[:5]), "inconsistent numbers of samples"),
        ((P, labels, Z * np.nan, y), "Z contains NaN"),
        ((P, labels, Z[:0], y[:0]), "0 sample"),
        ((P, labels, zero, y), "Z holds a zero vector"),
        ((P * 0, labels, Z, y), "prototypes holds a zero vector"),
        ((P, labels, Z[y > 0], y[y > 0]), "must name the same classes"),
        ((P[:2], labels[:2], Z[y == 0], y[y == 0]), "one class only"),
        ((P, labels, Z, y, "some"), "pairing='some' is unknown"),
    ]:
        with pytest.raises(ValueError, match=message):
            prototype_cosines(*given)


def test_distances_against_loops(table):
    P, labels, Z, y = table
    relative, own = [], []
    for p, c in zip(P, labels, strict=True):
        fellows = [z for z, label in zip(Z, y, strict=True) if label == c]
        spacing = np.median([sorted(np.linalg.norm(a - b) for b in fellows)[1] for a in fellows])  # [0] is a itself
        relative.append(min(np.linalg.norm(p - z) for z in fellows) / spacing)
        own.append(y[min(range(len(Z)), key=lambda i, p=p: np.linalg.norm(p - Z[i]))] == c)
    found = prototype_distances(P, labels, torch.tensor(Z), y)
    np.testing.assert_allclose(found[0], relative)
    assert found[1].tolist() == own and set(own) == {True, False}


def test_distances_by_hand():
    Z, y = [[0.0, 0.0], [2.0, 0.0], [10.0, 0.0], [11.0, 0.0]], ["a", "a", "b", "b"]
    relative, own = prototype_distances([[0.0, 3.0], [8.0, 0.0], [10.5, 0.0]], ["a", "a", "b"], Z, y)
    assert relative.tolist() == [1.5, 3.0, 0.5] and own.tolist() == [True, False, True]


def test_distances_bad_input(table):
    P, labels, Z, y = table
    for given, message in [
        ((P[:, :4], labels, Z, y), "prototypes have 4 dimensions and Z has 5"),
        ((P, labels[:5], Z, y), "inconsistent numbers of samples"),
        ((P, labels, Z, y[:5]), "inconsistent numbers of samples"),
        ((P, labels, Z * np.nan, y), "Z contains NaN"),
        ((P, labels, Z[y > 0], y[y > 0]), "class 0 has 0 points"),
        ((P, labels, Z[2:5], y[2:5]), "class 0 has 1 points"),
        ((P, labels, np.repeat(Z[:3], 2, axis=0), np.repeat(y[:3], 2)), "class 0: most of its points coincide"),
    ]:
        with pytest.raises(ValueError, match=message):
            prototype_distances(*given)


def test_accuracy():
    assert accuracy(torch.tensor([0, 1, 2, 2]), [0, 1, 2, 0]) == 0.75
    assert accuracy([1, 0], [0, 1]) == 0  # no matching of labels
    for given in (([], []), ([1, 2], [1]), ([[1]], [[1]])):
        with pytest.raises(ValueError, match="must be one each of the same images"):
            accuracy(*given)


def test_over_runs():
    found = over_runs([{"CNN": (1.0, 0.0), "B4": (2.0, 2.0)}, {"CNN": (3.0, 0.0), "B4": (2.0, 5.0)}])
    assert list(found) == ["CNN", "B4"]
    assert found["CNN"][0].tolist() == [2, 0] and np.allclose(found["CNN"][1], [2**0.5, 0])
    assert found["B4"][0].tolist() == [2, 3.5] and np.allclose(found["B4"][1], [0, 4.5**0.5])
    assert over_runs([{"CNN": (1.0, 2.0)}])["CNN"][1].tolist() == [0, 0], "one run has no spread"
    for runs in ([], [{"CNN": (1.0,)}, {"B4": (1.0,)}]):
        with pytest.raises(ValueError, match="runs must be one or more dicts with the same rows"):
            over_runs(runs)
