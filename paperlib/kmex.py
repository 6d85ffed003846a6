"""Section 3.2: KMEx, the linear classifier replaced by class-wise k-means on the embedding."""
from __future__ import annotations

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.metrics import euclidean_distances
from sklearn.utils import check_array
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from paperlib.guards import as_array, check_count, count_different, refuse_test
from paperlib.scaling.restarts import RestartKMeans, threads


def make_clusterer(clusterer=None, n_init: int = 10):
    """The clusterer of every class: the one given, or k-means as the paper's authors ran it, its restarts together.

    `sklearn.cluster.KMeans(n_init=10)` given as clusterer is theirs, and the slower way to as good a result.
    Raises TypeError if a given clusterer has no parameter `n_clusters`.
    """
    if clusterer is None:
        check_count("n_init", n_init)
        return RestartKMeans(n_init=n_init)
    if not hasattr(clusterer, "get_params") or "n_clusters" not in clusterer.get_params():
        raise TypeError(f"clusterer={clusterer!r} must be a scikit-learn clusterer with a parameter n_clusters.")
    return clusterer


def class_prototypes(rows: np.ndarray, n: int, clusterer=None, random_state=0, label=None) -> np.ndarray:
    """The n prototypes of one class: centroids of its rows (section 3.2 step 1; section 3.3 for rows of eq. 8).

    rows (m, D) -> (n, D), in the clusterer's order. `clusterer` is cloned, and its n_clusters (and random_state, if it
    has one) are set; None means k-means with 10 restarts. `label` is the class's name in errors.
    Raises ValueError unless rows are finite (m, D) and at least n of them differ; TypeError for a clusterer without
    n_clusters or cluster_centers_.
    """
    _check_class(rows, n, "the rows" if label is None else f"class {label}")
    model = clone(make_clusterer(clusterer)).set_params(n_clusters=n)
    if "random_state" in model.get_params():
        model.set_params(random_state=random_state)
    # One thread: k-means starts a team of threads many times over, which on small data costs more than it saves
    # (scikit-learn's on two cores: 11 times slower), and one thread gives the same bits whatever the number of cores.
    with threads().limit(limits=1):
        model.fit(rows)
    centres = getattr(model, "cluster_centers_", None)
    if centres is None or np.shape(centres) != (n, rows.shape[1]):
        raise TypeError(f"clusterer={clusterer!r} must give cluster_centers_ of shape (n_clusters, D) after fit.")
    return np.asarray(centres, dtype=rows.dtype)


def _check_class(rows, n, where):
    check_count("prototypes_per_class", n)
    if rows.ndim != 2 or not all(np.isfinite(some).all() for some in np.array_split(rows, 1 + len(rows) // 1024)):
        raise ValueError(f"{where}: rows must be a finite matrix (m, D), without NaN, but they are {rows.shape}.")
    if len(rows) < n:
        raise ValueError(f"{where}: {len(rows)} rows cannot give {n} prototypes; lower prototypes_per_class.")
    if count_different(rows, n) < n:
        raise ValueError(f"{where}: fewer than {n} of its {len(rows)} rows differ; lower prototypes_per_class.")


class KMEx(ClassifierMixin, BaseEstimator):
    """Classifier by the nearest of K class-wise k-means prototypes (section 3.2; rows "KMEx" of Tables 1 and 2).

    prototypes_per_class  K/C; 1 makes each prototype the mean of its class
    n_init                restarts of the default k-means; not used with a `clusterer` of your own
    random_state          seed, the same for each class
    clusterer             any scikit-learn clusterer with n_clusters and cluster_centers_; None for k-means

    After fit: prototypes_ (K, D) ordered by class, prototype_labels_ (K,), classes_ (C,), n_features_in_.
    """

    def __init__(self, prototypes_per_class=5, n_init=10, random_state=0, clusterer=None):
        self.prototypes_per_class = prototypes_per_class
        self.n_init = n_init
        self.random_state = random_state
        self.clusterer = clusterer

    def fit(self, Z, y):
        """Step 1: cluster each class's embeddings Z (n, D) with labels y (n,).

        Raises ValueError for NaN, empty data, unequal lengths, or a class with fewer different rows than K/C;
        LeakError for embeddings `guards.marked` as those of the test split.
        """
        refuse_test(Z, "fitting prototypes")
        Z, y = self._check(Z), column_or_1d(as_array(y), warn=True)
        check_consistent_length(Z, y)
        check_classification_targets(y)
        check_count("prototypes_per_class", self.prototypes_per_class)
        classes, n, clusterer = np.unique(y), self.prototypes_per_class, make_clusterer(self.clusterer, self.n_init)
        each = [class_prototypes(Z[y == c], n, clusterer, self.random_state, label=c) for c in classes]
        self.prototypes_, self.prototype_labels_ = np.concatenate(each), np.repeat(classes, n)
        self.classes_, self.n_features_in_ = classes, Z.shape[1]
        return self

    def predict(self, Z):
        """Step 3: class of the most similar prototype. Z (n, D) -> (n,).

        Compares distances, not similarities: exp(-d) is 0 in floating point for all d above 750, and the argmax of
        zeros would be the first class.
        """
        nearest = self._distances(Z).argmin(axis=1)
        return self.prototype_labels_[nearest]

    def similarity(self, Z):
        """Step 2: exp(-||z - p_k||), l2 norm. Z (n, D) -> (n, K), between 0 and 1."""
        return np.exp(-self._distances(Z))

    def _distances(self, Z):
        check_is_fitted(self)
        Z = self._check(Z)
        if Z.shape[1] != self.n_features_in_:
            expected = f"KMEx is expecting {self.n_features_in_} features as input"  # scikit-learn's own wording
            raise ValueError(f"X has {Z.shape[1]} features, but {expected}.")
        return euclidean_distances(Z, self.prototypes_)

    @staticmethod
    def _check(Z):
        return check_array(as_array(Z), dtype=[np.float64, np.float32], input_name="Z")
