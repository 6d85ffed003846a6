"""The contest: its truth by hand, each method beside its score, kept results, and data without truth."""
from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import small
import torch

from paperlib.comparison import contest, scores, truth
from paperlib.datasets import birds
from paperlib.runs.study import Study

BIRDS = Study(dataset="sparrows", backbone=f"{small.__file__}:tiny", blocks="one,two,three,four", classifier="fc",
              size=96, train_per_class=6, test_per_class=2, epochs=1, n_init=1, prototypes_per_class=2)


@pytest.fixture(scope="module")
def study():
    assert BIRDS.trained.n_classes == 8
    return BIRDS


def test_task_is_what_the_network_classifies_correctly_and_its_truth_the_masks(study):
    test, todo = study.data.test, contest.task(study)
    assert len(contest.task(study, only_correct=False).numbers) == 16 > len(todo.numbers) > 1
    logits = study.trained(test.batch(range(len(test))))
    right = (logits.argmax(1) == test.labels).nonzero().flatten()
    assert torch.equal(todo.numbers, right)
    assert torch.equal(todo.target, test.labels[right]) and torch.equal(todo.rival, logits[right].topk(2).indices[:, 1])
    assert torch.equal(todo.object, test.masks[right] > 0)
    for i, (a, b) in enumerate(zip(todo.target.tolist(), todo.rival.tolist(), strict=True)):
        wanted = [birds.PARTS.index(part) for part in birds.distinguishing_parts(a, b)]
        assert torch.equal(todo.parts[i], torch.isin(test.masks[right[i]], torch.tensor(wanted)))


def test_task_takes_the_first_of_each_class(study):
    one = contest.task(study, 1, only_correct=False)
    assert one.numbers.tolist() == list(range(0, 16, 2))
    assert contest.task(study, 1, most=3, only_correct=False).numbers.tolist() == [0, 8, 14]
    assert contest.task(study, 1, only_correct=False, skip=1).numbers.tolist() == list(range(1, 16, 2))
    assert contest.task(study, 1, only_correct=False, skip=5).numbers.tolist() == list(range(1, 16, 2))  # no third


def test_cub_parts_are_discs_the_rest_of_the_box_unknown(dotted_cub):
    study = Study(dataset="cub200", data_root=str(dotted_cub), allow_subset=True, size=64)
    labels, test = contest.part_labels(study, [0]), study.data.test
    x1, y1, w, h = test.boxes[0].tolist()
    boxes = contest.true_boxes(study, contest.Task(torch.tensor([0]), None, None))
    assert boxes.tolist() == [[x1, y1, x1 + w, y1 + h]]
    radius, side = truth.DISC * 64, range(64)
    for r in side:
        for c in side:
            near = [(k, (c + 0.5 - x) ** 2 + (r + 0.5 - y) ** 2) for k, (x, y, seen) in
                    enumerate(test.parts[0].tolist(), 1) if seen]
            k, d = min(near, key=lambda pair: pair[1], default=(0, np.inf))
            inside = x1 <= c + 0.5 < x1 + w and y1 <= r + 0.5 < y1 + h
            assert labels[0, r, c] == (k if d <= radius**2 else -1 if inside else 0)
    assert (labels > 0).any()


@pytest.fixture
def few(study, monkeypatch):
    """Three pictures, and RISE with few masks; swapping any part takes one logit off the lead."""
    monkeypatch.setattr(contest.baselines, "RISE_MASKS", 4)
    monkeypatch.setattr(contest, "falls", lambda study, todo: torch.eye(len(birds.PARTS) - 1)[todo.target].double())
    test = study.data.test
    return contest.Task(torch.arange(3), test.labels[:3], test.labels[:3] + 1, test.masks[:3] > 0, test.masks[:3] > 3)


def test_contest_scores_each_method_and_keeps_it(study, few, monkeypatch):
    found = contest.contest(study, few, steps=2)
    assert list(found)[:5] == ["B4", "B34", "B234", "Soft-CAM", "saliency"] and {"RISE", "flat map"} <= set(found)
    x, target = study.data.test.batch(few.numbers), few.target
    att = contest.methods(study)["saliency"](study.trained, x, target)
    assert set(found["saliency"]) == set(contest.SCORES)
    np.testing.assert_allclose(found["saliency"]["pointing, object"], scores.pointing_game(att, few.object))
    np.testing.assert_allclose(found["saliency"]["mass, parts"], scores.relevance_mass(att, few.parts), rtol=1e-4)
    np.testing.assert_allclose(found["saliency"]["Gini"], scores.gini(att), rtol=1e-4)
    swap = scores.part_order(att, study.data.test.masks[:3].long(), torch.eye(12)[target].double())
    np.testing.assert_allclose(found["saliency"]["swap"], swap)
    cut = scores.blobs(torch.stack([study.data.test.pixels(i) for i in range(3)]))
    deletion = scores.area_under(scores.flipping(study.trained, x, att, target, 2, blobs=cut))
    np.testing.assert_allclose(found["saliency"]["deletion"], [deletion[0], np.nan, np.nan], rtol=1e-3)
    for score, first in (("Gini", "RISE"), ("pointing, parts", "occlusion")):  # what is dear, of every third picture
        assert np.isfinite(found[first][score]).tolist() == [True, False, False]
    monkeypatch.setattr(contest, "_scored", None)  # what is kept is not computed again
    again = contest.contest(study, few, steps=2)
    assert all(np.array_equal(again[m][s], found[m][s], equal_nan=True) for m in found for s in found[m])


def test_floors_and_ceilings(study, few):
    found = contest.contest(study, few, steps=2)
    area = few.parts.double().mean((1, 2))
    np.testing.assert_allclose(found["flat map"]["pointing, parts"], area)
    oracles = [name for name in found if name.startswith("oracle")]
    assert len(oracles) == 3 and all((found[name]["mass, parts"] > area.numpy()).all() for name in oracles)


def test_the_lead_is_explained_by_what_explains_a_logit_and_the_network_is_put_back(study, few):
    net, x = study.trained, study.data.test.batch(few.numbers)
    before, y = {name: p.clone() for name, p in net.state_dict().items()}, net(x)
    with contest.leading(net, 2, 5):
        torch.testing.assert_close(net(x)[:, 2], y[:, 2] - y[:, 5])
    h = net.features(x)[-1]
    by_hand = torch.einsum("ndhw,nd->nhw", h, (net.C[:, few.target] - net.C[:, few.rival]).T)
    found = contest.lead_maps(net, "B4", contest.methods(study)["B4"], x, few.target, few.rival)
    for one, other in zip(found, by_hand, strict=True):  # but for a factor, and upsampled
        other = contest.upsample(other[None], x.shape[-2:])[0]
        torch.testing.assert_close(one / one.abs().max(), other / other.abs().max(), atol=1e-4, rtol=1e-3)
    soft = contest.lead_maps(net, "Soft-CAM", contest.methods(study)["Soft-CAM"], x, few.target, few.rival)
    torch.testing.assert_close(soft.mean((1, 2)), study.softcam(x).gather(1, few.target[:, None])[:, 0]
                               - study.softcam(x).gather(1, few.rival[:, None])[:, 0], atol=1e-3, rtol=1e-3)
    assert all(torch.equal(p, before[name]) for name, p in net.state_dict().items())
    nothing = contest.contest(study, few, steps=2)
    assert all(np.isnan(nothing[name]["swap, lead"]).all() for name in contest.NO_CLASS)


def only(monkeypatch, *names):
    """The contest of these methods alone."""
    every = contest.methods
    monkeypatch.setattr(contest, "methods", lambda study: {name: every(study)[name] for name in names})


def test_inverted_masks_are_another_contest(study, few, monkeypatch):
    only(monkeypatch, "edges")
    found, other = contest.contest(study, few, 1), contest.contest(study, replace(few, object=~few.object), 1)
    np.testing.assert_allclose(found["edges"]["mass, object"] + other["edges"]["mass, object"], 1)
    np.testing.assert_array_equal(found["edges"]["mass, parts"], other["edges"]["mass, parts"])


def test_other_constants_and_another_softcam_are_another_contest(study, few, monkeypatch):
    only(monkeypatch, "occlusion", "Soft-CAM")
    keys = []

    def kept(self, kind, inputs, compute):
        if inputs.get("method") in ("occlusion", "Soft-CAM"):  # not floors, ceilings and what all share
            keys.append((inputs["method"], json.dumps(inputs)))
        return dict.fromkeys(contest.SCORES, torch.zeros(3))
    monkeypatch.setattr(Study, "kept", kept)
    contest.contest(study, few, 1)
    for name in ("IG_STEPS", "WINDOW", "STRIDE", "RISE_MASKS", "RISE_CELLS", "RISE_KEPT"):
        with monkeypatch.context() as patch:
            patch.setattr(contest.baselines, name, 3)
            contest.contest(study, few, 1)
    assert len(set(keys)) == len(keys) == 14
    with torch.no_grad():
        bias = next(study.softcam.parameters())
        bias += 1
        contest.contest(study, few, 1)
        bias -= 1
    assert [method for method, _ in sorted(set(keys[14:]) - set(keys[:14]))] == ["Soft-CAM"]


def test_pictures_without_truth_get_the_scores_that_need_none(monkeypatch):
    study = replace(BIRDS, dataset="digits", size=0)
    only(monkeypatch, "B4", "edges")
    todo = contest.task(study, 1, most=4, only_correct=False)
    assert todo.object is None and todo.parts is None and contest.true_boxes(study, todo) is None
    found = contest.contest(study, todo, 2)
    assert tuple(found["B4"]) == contest.scored(study) == ("deletion", "insertion", "verdict changes", "Gini")
    x = study.data.test.batch(todo.numbers)
    att = contest.methods(study)["edges"](study.trained, x, todo.target)
    np.testing.assert_allclose(found["edges"]["Gini"], scores.gini(att), rtol=1e-4)
    with pytest.raises(ValueError, match="digits has no masks or boxes: take the birds or CUB-200"):
        contest.concept_contest(study, [1])


def test_costs_are_multiples_of_a_forward_pass(study, monkeypatch):
    monkeypatch.setattr(contest.baselines, "methods", lambda net: {"ten passes": lambda net, x, target: [
        net(x) for _ in range(10)], "nothing": lambda *_: None})
    ticks = iter(range(100_000))
    monkeypatch.setattr(contest, "perf_counter", lambda: next(ticks))
    assert set(contest.costs(study, n=2, repeats=1).values()) == {1.0}  # each call takes one tick of this clock
    monkeypatch.undo()
    assert {"B4", "B34", "B234", "Grad-CAM", "RISE"} <= set(contest.costs(study, n=1, repeats=1))


def test_concept_contest_scores_maps_and_the_floor(study):
    found = contest.concept_contest(study, ks=(1, 2), per_class=1)
    oracles = {name for name in found if "oracle" in name[0]}
    assert set(found) - oracles == {(name, k) for name in ("B4", "B34", "B234", "colours") for k in (1, 2)}
    assert len(oracles) == 3
    test = study.data.test
    numbers = test.first(1)
    classes = study.trained(test.batch(numbers)).argmax(1)
    maps = study.explainer(2, prototypes_per_class=2).explanation_map(study.trained, test.batch(numbers), classes)
    for i, number in enumerate(numbers.tolist()):
        by_hand = scores.part_match(maps[i], test.masks[number])
        assert {score: found["B34", 2][score][i] for score in by_hand} == pytest.approx(by_hand)
    assert np.allclose(found["B4", 1]["ARI"], 0)  # one prototype, one segment


def test_pooled_is_the_mean_over_the_networks_that_scored_a_picture():
    def one(numbers, values):
        todo = contest.Task(torch.tensor(numbers), None, None)
        return todo, {"a": {"Gini": np.array(values)}}
    found = contest.pooled([one([4, 7], [1.0, 3.0]), one([7, 9], [5.0, np.nan])])
    np.testing.assert_array_equal(found["a"]["Gini"], [1.0, 4.0, np.nan])


def test_table_has_means_within_their_intervals():
    found = contest.table({"a": {"Gini": np.array([0.1, 0.5, np.nan, 0.9])}})
    mean, low, high = found["a"]["Gini"]
    assert mean == pytest.approx(0.5) and low < mean < high


def test_a_network_that_is_never_right(study, monkeypatch):
    Z, y = study.embeddings("test")
    monkeypatch.setattr(Study, "embeddings", lambda *_: (Z * 0 - 1e3, y))
    monkeypatch.setattr(study.trained, "classify", lambda z: torch.eye(8)[(torch.as_tensor(y) + 1) % 8])
    with pytest.raises(ValueError, match="0 of these pictures of eight sparrows are classified correctly, too few"):
        contest.task(study)
