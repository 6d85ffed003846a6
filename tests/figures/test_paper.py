"""Figure 1: what `Study.explain` computes for a picture, and how `figures` draws it."""
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paperlib import figures
from paperlib.datasets.pictures import window
from paperlib.figures import maps, paper
from paperlib.runs.study import Study


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def study():
    return Study("digits", backbone="resnet18_x0_25", train_per_class=8, test_per_class=3, epochs=1,
                 prototypes_per_class=2, n_init=1)


def test_explain_gives_the_maps_of_each_depth(study):
    number = 7
    x, columns = study.data.test.batch([number]), study.explain(number)
    c = int(study.trained(x).argmax())
    assert [column["name"] for column in columns] == ["B4", "B34", "B234"]
    assert [tuple(column["predicted"].shape) for column in columns] == [(1, 1), (2, 2), (4, 4)]
    for column, explainer in zip(columns, study.explainers(), strict=True):
        assert column["K"] == 20
        assert torch.equal(column["everyone"], explainer.explanation_map(study.trained, x)[0])
        assert set((column["predicted"] // 2).flatten().tolist()) == {c}
        assert sorted(k for k, *_ in column["patches"]) == sorted(column["shares"]) == [2 * c, 2 * c + 1]
        shares = [column["shares"][k] for k, *_ in column["patches"]]
        assert sum(shares) == pytest.approx(1) and shares == sorted(shares, reverse=True)


def test_explain_keeps_the_logit_in_the_mean_at_every_depth(study):
    y = study.trained(study.data.test.batch([0]))[0].max()
    c = study.trained(study.data.test.batch([0]))[0].argmax()
    squared = study.trained.C[:, c].square().sum()
    for column in study.explain(0):
        assert torch.allclose(column["attribution"].mean() * squared, y, atol=1e-4)


@pytest.mark.parametrize("number", [-1, 30])
def test_explain_refuses_a_picture_that_is_not_there(study, number):
    with pytest.raises(ValueError, match=f"picture is {number}; digits has 30 test pictures, give 0 to 29"):
        study.explain(number)


def column(size, few, rng):
    picture = np.zeros((3, 8, 8), dtype=np.uint8)
    return {"name": "B4", "K": 3 * few, "class": 0, "predicted": rng.integers(0, few, (size, size)),
            "everyone": rng.integers(0, 3 * few, (size, size)), "attribution": rng.normal(size=(size, size)),
            "shares": dict.fromkeys(range(few), 1 / few),
            "patches": [(k, picture, (2, 2, 3, 3), "#0") for k in range(few)]}


@pytest.mark.parametrize("few, sizes", [(2, (1, 2, 4)), (12, (4,))])
def test_figure1_is_about_each_maps_mean_and_has_a_picture_for_each_prototype(few, sizes):
    rng = np.random.default_rng(0)
    columns = [column(size, few, rng) for size in sizes]
    figure = figures.figure1(np.zeros((3, 24, 24), dtype=np.uint8), columns, "picture", list("abc"))
    drawn = [image for axis in figure.axes for image in axis.images if image.get_cmap().name == "RdBu_r"]
    for image, each in zip(drawn, columns, strict=True):
        about = each["attribution"] - each["attribution"].mean()
        np.testing.assert_allclose(image.get_array(), about)
        assert -image.get_clim()[0] == image.get_clim()[1] >= np.abs(about).max()
    assert sum(axis.get_title().startswith(f"{few}: ") for axis in figure.axes) == len(columns)


def test_borders_lie_between_different_ids():
    ids = np.array([[0, 0, 1], [2, 0, 1]])
    slow = []
    for y in range(2):
        for x in range(3):
            left, top, right, bottom = (10 * x - 0.5, 5 * y - 0.5, 10 * x + 9.5, 5 * y + 4.5)
            if x < 2 and ids[y, x] != ids[y, x + 1]:
                slow.append([(right, top), (right, bottom)])
            if y < 1 and ids[y, x] != ids[y + 1, x]:
                slow.append([(left, bottom), (right, bottom)])
    assert sorted(maps._borders(ids, 10, 30)) == sorted(slow)


def test_about_mean_takes_each_maps_mean_away():
    maps = {"B4": [np.array([[1.0, 3.0]])], "B34": [torch.tensor([[4.0, 4.0], [0.0, 0.0]])]}
    figure = figures.about_mean([np.zeros((3, 4, 4), dtype=np.uint8)], maps, ["a picture"])
    drawn = [axis.images[1].get_array() for axis in figure.axes if len(axis.images) == 2]
    assert [float(d.mean()) for d in drawn] == [0, 0]
    assert {axis.images[1].get_clim() for axis in figure.axes if len(axis.images) == 2} == {(-2, 2)}


def test_concepts_draws_the_attribution_about_its_mean():
    each = column(4, 5, np.random.default_rng(0))
    figure = figures.concepts(np.zeros((3, 8, 8), dtype=np.uint8), each, "class")
    assert np.allclose(figure.axes[2].images[1].get_array(), each["attribution"] - each["attribution"].mean())
    assert sum("%" in axis.get_title() for axis in figure.axes) == 5


def test_sheet_wraps_long_titles_and_frames():
    pictures = [np.zeros((3, 4, 4), dtype=np.uint8)] * 3
    figure = figures.sheet(pictures, ["short", "Red-shouldered Blackbird", "x"], columns=2, colours=[None, "red", None])
    first, second = figure.axes[:2]
    assert second.get_title() == "Red-shouldered\nBlackbird"
    assert second.spines["left"].get_visible() and not first.spines["left"].get_visible()


def test_a_flat_map_is_drawn_flat_in_spite_of_rounding():
    flat = np.full((2, 2), 10.0) + np.array([[0, 1e-6], [0, 0]])
    figure = figures.about_mean([np.zeros((3, 4, 4), dtype=np.uint8)], {"B4": [flat]}, ["a picture"])
    assert figure.axes[1].images[1].get_clim()[1] == pytest.approx(0.1)


@pytest.mark.parametrize("resolution, side", [((12, 12), 8), ((3, 3), 8), ((2, 2), 12), ((1, 1), 24)])
def test_a_window_holds_the_whole_cell_and_lies_in_the_picture(resolution, side):
    for row in range(resolution[0]):
        left, top, width, height = window(24, row, 0, resolution)
        assert width == height == side and 0 <= left <= 24 - side and 0 <= top <= 24 - side
        assert top <= row * 24 / resolution[0] and top + height >= (row + 1) * 24 / resolution[0] and left == 0


def test_parts_outlines_the_chosen_parts_that_are_there():
    mask, lead = np.zeros((20, 20), dtype=int), torch.tensor([[3.0, -1.0]])
    mask[5:10, 5:10], mask[12:15, 12:15] = 2, 1
    picture = np.full((3, 20, 20), 7, dtype=np.uint8)
    figure = figures.parts(picture, mask, {"crown": 2, "wing bars": 3}, lead, "lead")
    (line,) = figure.axes[0].collections
    assert np.allclose(line.get_edgecolor()[0][:3], figures.CONCEPTS[0])
    assert figure.axes[1].images[1].get_clim() == (-3, 3)
    (outline,) = line.get_paths()
    assert outline.get_extents().bounds == pytest.approx((3.5, 3.5, 7, 7)), "around the part, one pixel away"
    assert (figure.axes[0].images[0].get_array() == 7).all()


def test_prediction_writes_the_logits():
    figure = figures.prediction(np.zeros((3, 4, 4), dtype=np.uint8), "it", ["a", "b"], torch.tensor([2.0, -1.0]))
    assert [text.get_text() for text in figure.axes[1].texts] == ["2.00", "-1.00"]
    assert [label.get_text() for label in figure.axes[1].get_yticklabels()] == ["a", "b"]


def test_umap_keeps_what_it_compiles():
    umap = paper._umap()
    slow = umap.utils.fast_knn_indices, umap.umap_.smooth_knn_dist, umap.umap_.compute_membership_strengths
    assert all(function.stats.cache_path for function in slow)
