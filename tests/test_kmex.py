import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.cluster import DBSCAN, BisectingKMeans, KMeans
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

from paperlib.guards import LeakError, marked
from paperlib.kmex import KMEx, class_prototypes


@pytest.fixture
def Zy():
    """Three classes of 20 points about two centres each, shuffled."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(3, 2, 4)) * 10
    Z = np.concatenate([centres[c, i % 2] + rng.normal(size=(1, 4)) for c in range(3) for i in range(20)])
    order = rng.permutation(60)
    return Z[order], np.repeat([2, 5, 7], 20)[order]


def test_predict_and_similarity_against_loops(Zy):
    Z, y = Zy
    model = KMEx(prototypes_per_class=2).fit(Z, y)
    assert model.prototypes_.shape == (6, 4) and model.prototype_labels_.tolist() == [2, 2, 5, 5, 7, 7]
    for z, predicted, similar in zip(Z, model.predict(Z), model.similarity(Z), strict=True):
        d = [np.sqrt(((z - p) ** 2).sum()) for p in model.prototypes_]
        np.testing.assert_allclose(similar, np.exp(-np.array(d)), rtol=1e-6)
        assert predicted == model.prototype_labels_[int(np.argmin(d))] == model.prototype_labels_[similar.argmax()]
    assert model.score(Z, y) == np.mean(model.predict(Z) == y)


def test_prototypes_are_the_centres_of_each_class(Zy):
    Z, y = Zy
    model = KMEx(prototypes_per_class=2, n_init=10, random_state=3).fit(Z, y)
    for c in (2, 5, 7):
        own = KMeans(2, init="k-means++", n_init=10, max_iter=300, random_state=3).fit(Z[y == c])
        ours, theirs = model.prototypes_[model.prototype_labels_ == c], own.cluster_centers_
        np.testing.assert_allclose(ours[ours[:, 0].argsort()], theirs[theirs[:, 0].argsort()])


def test_one_prototype_per_class_is_the_class_mean(Zy):
    Z, y = Zy
    model = KMEx(prototypes_per_class=1).fit(Z, y)
    np.testing.assert_allclose(model.prototypes_, [Z[y == c].mean(axis=0) for c in (2, 5, 7)])


def test_far_points_whose_similarities_all_underflow():
    Z, y = np.array([[0.0], [1.0], [10.0], [11.0]]), [0, 0, 1, 1]
    model = KMEx(prototypes_per_class=1).fit(Z, y)
    far = np.array([[1e4], [-1e4]])
    assert not model.similarity(far).any()
    assert model.predict(far).tolist() == [1, 0]


def test_tensors_and_names_of_classes(Zy):
    Z, y = Zy
    model = KMEx(2).fit(torch.tensor(Z, dtype=torch.float32, requires_grad=True), torch.tensor(y))
    assert model.prototypes_.dtype == np.float32
    np.testing.assert_array_equal(model.predict(torch.tensor(Z)), KMEx(2).fit(Z, y).predict(Z))
    named = np.array(["cat", "dog", "owl"])[np.searchsorted([2, 5, 7], y)]
    assert set(KMEx(2).fit(Z, named).predict(Z)) == {"cat", "dog", "owl"}


def test_scikit_learn_manners(Zy):
    model = KMEx(prototypes_per_class=3, n_init=2, random_state=4, clusterer=BisectingKMeans())
    assert clone(model).get_params()["prototypes_per_class"] == 3
    with pytest.raises(NotFittedError):
        KMEx().predict(Zy[0])
    assert KMEx(2).fit(*Zy).n_features_in_ == 4
    assert KMEx(2).fit(*Zy).classes_.tolist() == [2, 5, 7]


@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_accepts_it_as_an_estimator():
    check_estimator(KMEx(prototypes_per_class=1, n_init=1))


def test_a_clusterer_of_ones_own_is_cloned_with_its_settings(Zy):
    Z, y = Zy
    own = BisectingKMeans(n_clusters=7, max_iter=11)
    model = KMEx(2, random_state=5, clusterer=own).fit(Z, y)
    expected = BisectingKMeans(n_clusters=2, max_iter=11, random_state=5).fit(Z[y == 2]).cluster_centers_
    np.testing.assert_allclose(model.prototypes_[:2], expected)
    assert own.n_clusters == 7 and not hasattr(own, "cluster_centers_")


def test_the_seed_decides(Zy):
    Z = np.random.default_rng(1).normal(size=(60, 4))
    first, again, other = (KMEx(5, n_init=1, random_state=s).fit(Z, Zy[1]).prototypes_ for s in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_bad_input(Zy):
    Z, y = Zy
    with pytest.raises(ValueError, match="class 5: 1 rows cannot give 2 prototypes"):
        KMEx(2).fit(np.concatenate([Z[y != 5], Z[y == 5][:1]]), np.append(y[y != 5], 5))
    with pytest.raises(ValueError, match="class 7: fewer than 2 of its 20 rows differ"):
        KMEx(2).fit(np.where((y == 7)[:, None], 0.0, Z), y)
    with pytest.raises(ValueError, match="contains NaN"):
        KMEx(2).fit(Z * np.nan, y)
    with pytest.raises(ValueError, match="0 sample"):
        KMEx(2).fit(Z[:0], y[:0])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KMEx(2).fit(Z, y[:-1])
    with pytest.raises(ValueError, match="continuous"):
        KMEx(2).fit(Z, y + 0.5)
    with pytest.raises(ValueError, match="prototypes_per_class=0 must be a whole number"):
        KMEx(0).fit(Z, y)
    with pytest.raises(ValueError, match="n_init=0 must be a whole number"):
        KMEx(2, n_init=0).fit(Z, y)
    with pytest.raises(ValueError, match="X has 3 features, but KMEx is expecting 4"):
        KMEx(2).fit(Z, y).predict(Z[:, :3])
    with pytest.raises(TypeError, match="parameter n_clusters"):
        KMEx(2, clusterer=DBSCAN()).fit(Z, y)


def test_class_prototypes_refuses_bad_rows_and_minus_zero_is_zero():
    rows = np.array([[0.0, 1.0], [-0.0, 1.0], [2.0, 3.0]])
    assert class_prototypes(rows, 2).shape == (2, 2)
    with pytest.raises(ValueError, match="the rows: fewer than 3 of its 3 rows differ"):
        class_prototypes(rows, 3)
    with pytest.raises(ValueError, match="finite matrix"):
        class_prototypes(np.full((3, 2), np.inf), 2)
    with pytest.raises(ValueError, match="finite matrix"):
        class_prototypes(rows[0], 1)


def test_a_clusterer_without_centres_is_refused():
    class NoCentres(KMeans):
        def fit(self, X):
            return self

    with pytest.raises(TypeError, match="must give cluster_centers_"):
        class_prototypes(np.eye(3), 2, NoCentres())


def test_an_embedding_of_the_test_split_reaches_no_prototype(Zy):
    Z, y = Zy
    train, test = marked(torch.tensor(Z), "train"), marked(Z, "test")
    np.testing.assert_array_equal(KMEx(2).fit(train, y).prototypes_, KMEx(2).fit(Z, y).prototypes_)
    for planted in (test, test[:30], 2 * test[y > 0].astype(np.float32)):
        with pytest.raises(LeakError, match="The test split must not be used for fitting prototypes"):
            KMEx(2).fit(planted, y[:len(planted)])
    KMEx(2).fit(train, y).predict(test)  # which is what they are for
