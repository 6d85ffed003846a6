"""What is drawn is what was given, and what is kept says where it came from."""
import ast
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from paperlib import figures
from paperlib.runs import store


@pytest.fixture(autouse=True)
def no_open_figures():
    yield
    plt.close("all")


def drawn_texts(axis):
    return [text.get_text() for text in axis.texts]


def test_bars_carry_their_numbers_and_errors():
    values = {"CNN": {"digits": 97.5, "birds": 87.04}, "B4": {"digits": 98.6, "birds": np.nan}}
    errors = {"CNN": {"digits": 1.0, "birds": 2.0}, "B4": {"digits": 3.0, "birds": np.nan}}
    (axis,) = figures.bars(values, "percent", decimals=1, errors=errors).axes
    assert sorted(text for text in drawn_texts(axis) if text[:1].isdigit()) == ["87.0", "97.5", "98.6"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["CNN", "B4"]
    drawn = [c for c in axis.containers if hasattr(c, "has_yerr")]
    reach = drawn[0].lines[2][0].get_segments()
    assert [round(float(np.ptp(s[:, 1])), 6) for s in reach] == [2.0, 6.0]


@pytest.mark.parametrize("names", [("0", "1"), ("Meadow Sparrow", "Brook Sparrow")])
def test_figure2_joins_each_prototype_to_the_middle_of_its_class(names):
    train, y = np.array([[0.0, 0], [2, 0], [10, 0], [12, 0]]), np.array([0, 0, 1, 1])
    crosses, triangles, squares = np.array([[5.0, 5], [5, 6]]), np.array([[1.0, 1], [11, 1]]), [np.zeros((3, 2))] * 2
    figure = figures.figure2(train, y, train, y, crosses, triangles, squares, names)
    left, right = figure.axes
    ends = {tuple(map(tuple, line.get_xydata().tolist())) for line in left.lines}
    assert ends == {((5, 5), (1, 0)), ((5, 6), (11, 0)), ((1, 1), (1, 0)), ((11, 1), (11, 0))}
    assert len(right.lines) == 6
    assert drawn_texts(left) == drawn_texts(right) == ["1", "2"]
    assert [text.get_text() for text in figure.legends[1].get_texts()] == [f"{c} {n}" for c, n in enumerate(names, 1)]


def test_numbers_of_figure2_stand_apart_from_points_and_one_another():
    rng = np.random.default_rng(0)
    middles = rng.normal(size=(6, 2))
    train, y = np.repeat(middles, 20, 0) + rng.normal(scale=0.05, size=(120, 2)), np.repeat(range(6), 20)
    figure = figures.figure2(train, y, train, y, middles, middles, list(middles[:, None]), list("abcdef"))
    side = np.ptp(train, axis=0)
    places = np.array([text.xyann for text in figure.axes[0].texts]) / side
    others = np.concatenate([train / side, places])
    gaps = np.linalg.norm(places[:, None] - others, axis=2) + np.pad(np.eye(6), ((0, 0), (120, 0))) * 9
    assert gaps.min() > 0.02


def test_dots_has_one_dot_per_number_and_a_row_per_name():
    values = {"first": {"honest": [0.1, 0.2], "shortcut": [0.9, 0.8]}, "second": {"honest": [0.5], "shortcut": [0.4]}}
    figure = figures.dots(values, "share", (0, 1))
    axis = figure.axes[0]
    found = [sorted(dots.get_offsets()[:, 0].round(3)) for dots in axis.collections]
    assert found == [[0.1, 0.2, 0.5], [0.4, 0.8, 0.9]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["first", "second"]
    alike = figures.dots({"first": {"honest": [0.5, 0.5, 0.501, 0.9]}}, "share", (0, 1)).axes[0].collections[0]
    assert len(set(alike.get_offsets()[:3, 1])) == 3, "dots that coincide step aside"


@pytest.mark.parametrize("joined", [True, False])
def test_options_are_dots_on_shared_ranges(joined):
    values = {"digits": {"row": {"accuracy, %": 90.0, "ids": 4.0}, "none": {"accuracy, %": 80.0, "ids": np.nan}},
              "birds": {"row": {"accuracy, %": 70.0, "ids": 9.0}}}
    limits = {"accuracy, %": (0, 100), "ids": (0, 10)}
    figure = figures.options(values, limits, "row", {"digits": {"none": 6.0}, "birds": {}}, joined)
    left, right = figure.axes
    assert [axis.get_xlabel() for axis in figure.axes] == list(limits)
    assert left.get_xlim() == (0, 100) and right.get_xlim() == (0, 10)
    assert [label.get_text() for label in left.get_yticklabels()] == ["row (default)", "none"]
    dots = [[container.lines[0].get_xdata().tolist() for container in axis.containers] for axis in figure.axes]
    assert dots[0][0] == [90, 80] and dots[0][1][0] == 70 and np.isnan(dots[0][1][1]) and dots[1][0][0] == 4
    (reach,) = left.containers[0].lines[2]
    assert [float(np.ptp(s[:, 0])) for s in reach.get_segments()] == [0.0, 12.0]
    dashed = [line.get_xdata()[0] for line in left.lines if line.get_linestyle() == "--"]
    assert dashed == [90, 70]
    assert (left.containers[0].lines[0].get_linestyle() == "-") == joined


def test_curves_have_a_panel_each_their_intervals_and_a_dashed_model():
    panels = {"accuracy": {"B4": {5: (90.0, 80.0, 95.0), 10: 92.0}}, "seconds": {"B4": {1: 1.0, 2: 2.0}}}
    figure = figures.curves(panels, "", "y", {"seconds": {"B4": {1: 1.5, 2: 2.5}}}, powers=True)
    first, second = figure.axes
    assert first.get_lines()[0].get_ydata().tolist() == [90.0, 92.0]
    assert [[5, 80], [5, 95]] in [segment.tolist() for each in first.collections for segment in each.get_segments()]
    assert second.get_lines()[-1].get_linestyle() == "--" and list(second.get_lines()[-1].get_ydata()) == [1.5, 2.5]
    assert second.get_yscale() == "log" and [each.get_text() for each in second.get_xticklabels()] == ["1", "2"]
    assert [axis.get_xlabel() for axis in figure.axes] == ["accuracy", "seconds"]


def test_ladder_has_a_column_of_two_maps_for_each_option():
    picture = np.zeros((3, 8, 8), dtype=np.uint8)
    column = {"name": "1", "predicted": np.array([[4, 4], [5, 5]]), "everyone": np.array([[0, 4], [9, 7]]),
              "patches": [(4,), (5,)]}
    figure = figures.ladder(picture, [column, {**column, "name": "$D_b$"}], "Meadow Sparrow")
    titles = [axis.get_title() for axis in figure.axes]
    assert len(titles) == 6 and titles.count("concepts on the map: 4") == 2
    assert titles.count("1\nconcepts on the map: 2") == 1
    painted = figure.axes[4].images[1].get_array()
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 4
    np.testing.assert_allclose(painted[0, 1], figures.CONCEPTS[0])


def test_figure1_numbers_its_segments_and_says_their_share_of_the_evidence():
    picture, rng = np.zeros((3, 8, 8), dtype=np.uint8), np.random.default_rng(0)
    patches = [(k, picture, (2, 2, 3, 3), "#0") for k in (5, 4)]
    columns = [{"name": name, "K": 10, "class": 2, "predicted": np.array([[4, 4], [5, 5]]), "patches": patches,
                "everyone": np.array([[0, 4], [9, 7]]), "attribution": rng.normal(size=(2, 2)),
                "shares": {4: 0.2, 5: 0.8}} for name in ("B4", "B234")]
    figure = figures.figure1(picture, columns, "a picture", [f"species {c}" for c in range(5)])
    titles = [axis.get_title() for axis in figure.axes]
    assert titles.count("1: 80%") == 2 and titles.count("2: 20%") == 2
    assert "B234: votes among all 10 prototypes\nconcepts on that map: 4" in titles
    limits = {image.get_clim() for axis in figure.axes for image in axis.images if image.get_cmap().name == "RdBu_r"}
    assert len(limits) == 1, "the darkest red means the same in each band"
    assert sum(drawn_texts(axis) == ["1", "2"] for axis in figure.axes) == 2
    assert sum(drawn_texts(axis)[:1] == ["25% species 0"] for axis in figure.axes) == 2


@pytest.mark.parametrize("share, there, shown", [(0.333, True, "33%"), (0.004, True, "<1%"), (-0.002, True, "-0.2%"),
                                                 (-0.02, True, "-2%"), (0.0, False, "not on the map")])
def test_a_share_that_rounds_to_zero_is_not_one_that_is_not_there(share, there, shown):
    from paperlib.figures.paper import _share
    assert _share(share, there) == shown


def test_a_tally_ends_with_the_rest():
    from paperlib.figures.paper import tally
    classes = np.arange(10).reshape(2, 5)
    axes = plt.subplots(1, 3)[1]
    tally(axes[0], classes, "abcdefghij", {0: "red"})
    tally(axes[1], classes, "abcdefghij", {0: "red"}, named={0, 3})
    tally(axes[2], classes % 2, "abcdefghij", {})
    assert drawn_texts(axes[0]) == [*(f"10% {c}" for c in "abcde"), "50% others"]
    assert drawn_texts(axes[1]) == ["10% a", "10% d", "80% others"] and drawn_texts(axes[2]) == ["50% a", "50% b"]


def test_votes_colours_the_correct_class_alike_everywhere():
    maps = {"B4": np.array([[3, 3], [3, 1]]), "B234": torch.tensor([[0, 1], [2, 3]])}
    figure = figures.votes(np.zeros((3, 8, 8), dtype=np.uint8), maps, list("abcd"), 3, "d")
    above = [axis for axis in figure.axes if len(axis.images) == 2]
    below = [axis for axis in figure.axes if axis.patches]
    np.testing.assert_allclose(above[0].images[1].get_array()[0, 0], figures.CONCEPTS[0])
    np.testing.assert_allclose(above[1].images[1].get_array()[1, 1], figures.CONCEPTS[0])
    assert drawn_texts(below[0]) == ["75% d", "25% b"] and len(drawn_texts(below[1])) == 4


def test_votes_keeps_grey_for_the_others():
    picture, maps = np.zeros((3, 8, 8), dtype=np.uint8), {"B4": np.arange(8).reshape(2, 4)}
    figure = figures.votes(picture, maps, list("abcdefgh"), 7, "h")
    (above,) = [axis for axis in figure.axes if len(axis.images) == 2]
    (below,) = [axis for axis in figure.axes if axis.patches]
    painted = above.images[1].get_array()
    np.testing.assert_allclose([painted[1, 1], painted[1, 2]], 0.9)  # f and g, the last two of those with one cell
    assert drawn_texts(below)[-1] == "25% others" and len(drawn_texts(below)) == 7


def test_keep_writes_the_numbers_with_settings_and_versions(tmp_path, monkeypatch):
    figure = figures.bars({"CNN": {"digits": 97.5}}, "percent")
    path = figures.keep(figure, "table2", {"accuracy": np.float32(0.5)}, {"dataset": "digits"}, str(tmp_path))
    kept = json.loads(path.read_text())
    assert path.name == "table2_digits.json" and path.with_suffix(".png").is_file()
    assert kept["numbers"] == {"accuracy": 0.5} and kept["settings"] == {"dataset": "digits"}
    assert "torch" in kept["versions"]


def test_keep_leaves_the_committed_figures_alone(tmp_path, monkeypatch):
    class Study:
        def settings(self):
            return {"dataset": "digits"}
    monkeypatch.delenv("PAPERLIB_OUT", raising=False)
    monkeypatch.setattr("paperlib.figures.record.files.written_whole", lambda path: pytest.fail(str(path.parent)))
    with pytest.raises(pytest.fail.Exception, match=r"figures/run$"):
        figures.keep(None, "table2", {}, Study())
    monkeypatch.setenv("PAPERLIB_OUT", str(tmp_path))
    with pytest.raises(pytest.fail.Exception, match=str(tmp_path)):
        figures.keep(None, "table2", {}, Study())


def loaded(name: str) -> set[str]:
    """The modules that importing paperlib's module `name` imports, directly or through others of paperlib's."""
    found = set()
    for node in ast.parse(store.source(name)).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names = {full.removeprefix("paperlib.") for full in found if full.startswith("paperlib.")}
    return found.union(*(loaded(name) for name in names if store._is_module(name)))


def test_method_loads_no_plots_and_figures_no_umap():
    rooms = "theorem1, kmex, concepts, attribution, measures, networks.training, networks.softcam, datasets.load"
    heavy = {"matplotlib", "seaborn", "papermill", "umap", "captum", "paperlib.figures"}
    for room in rooms.split(", "):
        found = {part for full in loaded(room) for part in (full, full.split(".")[0])}
        assert "torch" in found and not heavy & found, room
    assert "matplotlib.pyplot" in loaded("figures") and "umap" not in loaded("figures")


def test_figures_of_the_theorem():
    errors = {"one": {"float32": [1e-7, 0.0], "float64": [2e-16]}, "two": {"float32": [0.5]}}
    axis = figures.log_dots(errors, {"epsilon": 2e-16}, "error").axes[0]
    shown = {tuple(dot) for dots in axis.collections for dot in dots.get_offsets().tolist()}
    zero = min(x for x, _ in shown)
    assert shown == {(1e-7, 0), (zero, 0), (2e-16, 0), (0.5, 1)}
    assert zero < 2e-16 and axis.get_xticklabels()[0].get_text() == "0"
    assert axis.lines[0].get_xdata() == [2e-16, 2e-16]

    maps = [torch.tensor([[1.0, -3.0]]), torch.tensor([[0.5, 0.5]])]
    axes = figures.evidence([torch.zeros(3, 4, 4, dtype=torch.uint8)] * 2, maps, ["a", "b"], "logits").axes
    assert [axis.get_xlabel() for axis in axes[2:4]] == ["mean -1.00", "mean 0.50"]
    assert all(axis.images[1].get_clim() == (-3, 3) for axis in axes[2:4])  # one scale for all, about zero


@pytest.mark.parametrize(("centred", "limit", "first"), [(False, 3, -3), (True, 2, -2)])
def test_maps_beside_a_picture_share_a_scale_about_zero_or_about_their_means(centred, limit, first):
    maps = {"a": torch.tensor([[-3.0, 1.0]]), "b": torch.tensor([[0.5, 0.5]])}
    axes = figures.beside(np.zeros((3, 4, 4), dtype=np.uint8), maps, "logits", centred).axes
    assert [axis.get_title() for axis in axes[:3]] == ["the picture", "a", "b"]
    assert [axis.get_xlabel() for axis in axes[1:3]] == ["mean -1.00", "mean 0.50"]
    assert all(axis.images[1].get_clim() == (-limit, limit) for axis in axes[1:3])
    assert axes[1].images[1].get_array().tolist()[0][0] == first
    *_, shown, bar = figures.beside(np.zeros((3, 4, 4), dtype=np.uint8), maps, "logits", centred, limit=1).axes
    assert shown.images[1].get_clim() == (-1, 1) and shown.images[1].colorbar.extend == "both"


def test_panel_of_many_methods_stands_in_bands():
    pictures, maps = [np.zeros((3, 4, 4), dtype=np.uint8)] * 2, {f"m, {i}": [np.eye(2)] * 2 for i in range(9)}
    axes = figures.panel(pictures, maps, ["a", "b"]).axes
    drawn = [axis for axis in axes[:-1] if axis.axison]
    assert len(drawn) == 2 * (6 + 5) and len(axes) == 4 * 6 + 1, "a picture and five methods, a picture and four"
    assert [axis.get_title() for axis in drawn if axis.get_title()] == [f"m\n{i}" for i in range(9)]


def test_ten_classes_differ_in_colour_and_a_number_stays_in_the_frame():
    from paperlib.figures.paper import _beside, distinct
    colours = np.array(distinct(25))
    apart = np.linalg.norm(colours[:10, None] - colours[:10], axis=2) + np.eye(10)
    assert apart.min() > 0.15 and np.allclose(colours[:10], colours[10:20]) and (colours[20:] <= colours[:5]).all()
    axis = plt.figure().add_subplot()
    points = np.array([[0.0, 0], [1, 1], [1, 0]])
    _beside(axis, points, points)
    assert all(-0.02 <= at <= 1.02 for text in axis.texts for at in text.xyann)


@pytest.mark.parametrize("n, bands, across", [(3, 1, 3), (4, 1, 4), (6, 2, 3), (7, 2, 4)])
def test_intervals_of_many_scores_stand_in_bands(n, bands, across):
    found = {"B4": {f"s{i}": (i, i - 0.1, i + 0.1) for i in range(n)}, "flat": {}}
    figure = figures.forest(found, {f"s{i}": f"score {i}" for i in range(n)}, {"s0": 0.5})
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_xlabel() for axis in drawn] == [f"score {i}" for i in range(n)]
    assert [axis.containers[0].lines[0].get_xdata()[0] for axis in drawn] == list(range(n))
    assert figure.axes[0].get_gridspec().get_geometry() == (bands, across) and figure.get_figwidth() < 9.68


def test_differences_fit_a_page():
    row = {word: {"difference": 0.1, "limit": 0.1, "p": 0.5} for word in "abcdefgh"}
    figure = figures.differences({name: {"edges": row} for name in ("B4", "B34", "B234")}, list("abcdefgh"))
    assert figure.get_figwidth() < 9.68
    assert [axis.get_title() for axis in figure.axes[:3]] == [f"{name} is better by" for name in ("B4", "B34", "B234")]


def test_no_minus_before_a_zero():
    row = {word: {"difference": gap, "limit": 0.1, "p": 0.5} for word, gap in {"s": -0.001, "t": -0.2}.items()}
    assert drawn_texts(figures.differences({"B4": {"a": row}}, ["s", "t"]).axes[0]) == ["0.00", "-0.20"]
    small = {"s": {"difference": -0.0012, "limit": 0.001, "p": 0.01}}
    assert drawn_texts(figures.differences({"B4": {"a": small}}, ["s"]).axes[0]) == ["-0.001"], "told from zero"


def test_plane_has_a_panel_for_each_classifier_on_one_scale():
    C = torch.tensor([[1.0, -1], [-1, 1]])
    Z, y = torch.tensor([[2.0, 0], [0, 2]]), torch.tensor([0, 1])
    left, right = figures.plane(Z, y, {"as trained": C, "moved": C + 2}, Z, "AB").axes
    assert [axis.get_title() for axis in (left, right)] == ["as trained", "moved"]
    np.testing.assert_allclose([arrow.xy for arrow in right.texts], [[3, 1], [1, 3]])
    assert left.get_xlim() == right.get_ylim() and right.get_legend()
