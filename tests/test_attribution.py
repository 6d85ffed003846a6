import pytest
import torch

from paperlib.attribution import attribute, refine, shares, upsample, upstream
from paperlib.concepts import ConceptExplainer
from paperlib.theorem1 import pool_then_classify

DIMS, SIZES, N, N_CLASSES, K_C = (3, 4, 6), (8, 4, 2), 5, 3, 2


@pytest.fixture
def hC():
    g = torch.Generator().manual_seed(0)
    return torch.randn(4, 9, 6, generator=g, dtype=torch.float64), torch.randn(6, 3, generator=g, dtype=torch.float64)


@pytest.fixture
def features():
    g = torch.Generator().manual_seed(1)
    return [torch.randn(N, d, s, s, generator=g) for d, s in zip(DIMS, SIZES, strict=True)]


@pytest.fixture
def C():
    return torch.randn(DIMS[-1], N_CLASSES, generator=torch.Generator().manual_seed(2))


@pytest.fixture
def explainers():
    """B3, B23, B123 with random prototypes."""
    g = torch.Generator().manual_seed(3)
    found = []
    for blocks in ((3,), (2, 3), (1, 2, 3)):
        prototypes = torch.randn(N_CLASSES * K_C, sum(DIMS[b - 1] for b in blocks), generator=g) / 5
        state = {"prototypes": prototypes, "prototype_sources": torch.zeros(len(prototypes), 3, dtype=torch.long)}
        size = {"resolution": torch.tensor([SIZES[blocks[0] - 1]] * 2), "shares": torch.ones(N_CLASSES)}
        params = {"blocks": blocks, "prototypes_per_class": K_C, "batch_size": 2}
        found.append(ConceptExplainer.from_state(params, state | size))
    return found


# Eq. 11


def test_attribute_against_loops(hC):
    h, C = hC
    att = attribute(h, C)
    assert att.shape == (4, 9, 3)
    for i in range(4):
        for r in range(9):
            for j in range(3):
                dot = sum(h[i, r, d] * C[d, j] for d in range(6))
                torch.testing.assert_close(att[i, r, j], dot / sum(C[d, j] ** 2 for d in range(6)))


def test_a_column_attributes_one_to_itself(hC):
    _, C = hC
    att = attribute(C.T[None], C)[0]
    torch.testing.assert_close(att.diagonal(), torch.ones(3, dtype=torch.float64))


def test_it_is_cam_over_the_squared_norm_and_its_mean_gives_the_logit(hC):
    h, C = hC
    cam = torch.einsum("nrd,dj->nrj", h, C)
    torch.testing.assert_close(attribute(h, C), cam / C.norm(dim=0) ** 2)
    torch.testing.assert_close(attribute(h, C).mean(dim=1) * C.norm(dim=0) ** 2, pool_then_classify(h, C))


def test_attribute_bad_input(hC):
    h, C = hC
    zero = C.clone()
    zero[:, 1] = 0
    with pytest.raises(ValueError, match=r"columns \[1\] are zero"):
        attribute(h, zero)
    with pytest.raises(ValueError, match=r"Needed are h \(n, R, D\)"):
        attribute(h, C.T)
    with pytest.raises(ValueError, match="h holds NaN"):
        attribute(h * torch.nan, C)


# The steps upstream


def refine_by_loops(att, segments):
    out = torch.empty_like(att)
    for i in range(len(att)):
        for k in segments[i].unique():
            out[i][segments[i] == k] = att[i][segments[i] == k].mean()
    return out


def test_refine_against_loops():
    g = torch.Generator().manual_seed(0)
    att = torch.randn(6, 7, 5, generator=g, dtype=torch.float64)
    for segments in (torch.randint(0, 4, att.shape, generator=g), torch.randint(-3, 10**12, att.shape, generator=g)):
        torch.testing.assert_close(refine(att, segments), refine_by_loops(att, segments))
    segments = torch.randint(0, 4, att.shape, generator=g)
    torch.testing.assert_close(refine(att, segments).mean(dim=(1, 2)), att.mean(dim=(1, 2)))
    torch.testing.assert_close(refine(refine(att, segments), segments), refine(att, segments))


def test_upsample():
    att = torch.tensor([[[0.0, 4.0]]])
    torch.testing.assert_close(upsample(att, (1, 4)), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))
    torch.testing.assert_close(upsample(att, (1, 4), "nearest"), torch.tensor([[[0.0, 0.0, 4.0, 4.0]]]))
    assert upsample(att, 6).shape == (1, 6, 6)


def test_bad_maps():
    att, segments = torch.rand(2, 3, 3), torch.zeros(2, 3, 3, dtype=torch.long)
    for given in ((att, segments[:1]), (att, segments.float())):
        with pytest.raises(ValueError, match="segments must be whole numbers shaped as att"):
            refine(*given)
    for given in ((att[0], segments[0]), (att[:0], segments[:0])):
        with pytest.raises(ValueError, match=r"Needed are att \(n, H, W\), none of them empty"):
            refine(*given)
    with pytest.raises(ValueError, match="NaN"):
        refine(att * torch.nan, segments)
    with pytest.raises(ValueError, match="mode='bicubic' is unknown"):
        upsample(att, 6, "bicubic")
    with pytest.raises(ValueError, match="Needed are att"):
        upsample(att[0], 6)
    with pytest.raises(ValueError, match="size=0 must be a positive whole number"):
        upsample(att, 0)


@pytest.mark.parametrize("segments", ["predicted", "all"])
@pytest.mark.parametrize("base", ["raw", "averaged"])
def test_upstream_against_the_steps_by_hand(features, C, explainers, segments, base):
    target = torch.tensor([0, 2, 1, 1, 0])
    maps = upstream(features, C, explainers, target, segments, base)
    assert list(maps) == ["B3", "B23", "B123"]
    classes = target if segments == "predicted" else None
    att = torch.stack([torch.einsum("dhw,d->hw", features[-1][i], C[:, j]) / C[:, j].norm() ** 2
                       for i, j in enumerate(target.tolist())])  # fmt: skip
    if base == "averaged":
        att = refine_by_loops(att, explainers[0].maps_from_features(features, classes))
    torch.testing.assert_close(maps["B3"], att)
    for explainer, size in zip(explainers[1:], (4, 8), strict=True):
        up = torch.nn.functional.interpolate(att[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0]
        att = refine_by_loops(up, explainer.maps_from_features(features, classes))
        torch.testing.assert_close(maps[explainer.name], att)


def test_nearest_conserves_the_mean(features, C, explainers):
    maps = upstream(features, C, explainers, 1, base="averaged", mode="nearest")
    mean = attribute(features[-1].flatten(2).transpose(1, 2), C)[:, :, 1].mean(dim=1)
    for att in maps.values():
        torch.testing.assert_close(att.mean(dim=(1, 2)), mean)
    assert not torch.equal(maps["B123"], upsample(maps["B3"], 8, "nearest"))


def test_one_target_for_all(features, C, explainers):
    one, each = upstream(features, C, explainers, 2), upstream(features, C, explainers, [2] * N)
    assert all(torch.equal(one[k], each[k]) for k in each)


def test_upstream_bad_input(features, C, explainers):
    for options, message in [
        ({"segments": "best"}, "segments='best' is unknown"),
        ({"base": "mean"}, "base='mean' is unknown"),
        ({"mode": "bicubic"}, "mode='bicubic' is unknown"),
        ({"target": 3}, r"in 0\.\.2"),
        ({"target": [0, 1]}, "one for each of the 5 images"),
        ({"explainers": explainers[::-1]}, "deepest first: B3, B23, ...; given: B123, B23, B3"),
        ({"explainers": [explainers[0], explainers[2]]}, "of every suffix"),
        ({"explainers": []}, "given: none"),
    ]:
        with pytest.raises(ValueError, match=message):
            upstream(**{"features": features, "C": C, "explainers": explainers, "target": 0, **options})


def test_segments_come_with_the_maps_from_one_pass(features, C, explainers):
    target = torch.tensor([0, 2, 1, 1, 0])
    alone = upstream(features, C, explainers, target)
    maps, segments = upstream(features, C, explainers, target, return_segments=True)
    assert list(maps) == list(segments) == [e.name for e in explainers]
    for e in explainers:
        assert torch.equal(maps[e.name], alone[e.name])
        assert torch.equal(segments[e.name], e.maps_from_features(features, target))


def test_a_feature_map_of_zeros_gives_zeros_and_no_nan(features, C, explainers):
    maps, segments = upstream([torch.zeros_like(x) for x in features], C, explainers, 1, return_segments=True)
    for name, att in maps.items():
        assert att.abs().max() == 0 and segments[name].min() >= K_C
    maps = upstream([*features[:-1], torch.zeros_like(features[-1])], C, explainers, 1)
    assert all(torch.isfinite(att).all() and att.abs().max() == 0 for att in maps.values())


def test_shares_of_the_evidence_are_cells_times_score():
    att, segments = torch.tensor([[1.0, 3.0], [2.0, -1.0]]), torch.tensor([[4, 4], [7, 9]])
    assert shares(att, segments) == pytest.approx({4: 0.8, 7: 0.4, 9: -0.2})
