import itertools

import pytest
import torch
import torch.nn.functional as F

from paperlib.composite import assign, composite

# Eq. 7 and 8


def features_of(shapes, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(*s, generator=g, dtype=torch.float64) for s in shapes]


def test_composite_against_loops():
    deep, shallow = features_of([(2, 5, 2, 2), (2, 3, 4, 4)])
    q = composite([shallow, deep])
    assert q.shape == (2, 4, 4, 8)
    up = F.interpolate(deep, size=(4, 4), mode="bilinear", align_corners=False)
    for n, i, j in itertools.product(range(2), range(4), range(4)):
        parts = [x[n, :, i, j] / (x.shape[1] * x[n, :, i, j].square().sum().sqrt()) for x in (shallow, up)]
        torch.testing.assert_close(q[n, i, j], torch.cat(parts))


def test_bilinear_interpolation_by_hand():
    x = torch.tensor([0.0, 4.0]).reshape(1, 1, 1, 2)
    q = composite([x], (1, 4), norm="none", block_weight="none")
    torch.testing.assert_close(q.flatten(), torch.tensor([0.0, 1.0, 3.0, 4.0]))


@pytest.mark.parametrize(
    ("block_weight", "factor"),
    [("inv_dim", 1 / 5), ("inv_dim_plus_one", 1 / 6), ("inv_sqrt_dim", 5**-0.5), ("none", 1), ("dim", 5), (-1.0, 1 / 5),
     (2, 25)],  # fmt: skip
)
def test_block_weights(block_weight, factor):
    (x,) = features_of([(2, 5, 3, 3)])
    q = composite([x], norm="row", block_weight=block_weight)
    torch.testing.assert_close(q.norm(dim=-1), torch.full((2, 3, 3), factor, dtype=torch.float64))


def test_norms():
    (x,) = features_of([(2, 5, 3, 3)])
    whole = composite([x], norm="tensor", block_weight="none")
    for n in range(2):
        torch.testing.assert_close(whole[n], x[n].permute(1, 2, 0) / x[n].square().sum().sqrt())
    torch.testing.assert_close(composite([x], norm="none", block_weight="none"), x.permute(0, 2, 3, 1))


def test_a_row_of_zeros_stays_zero():
    x = torch.ones(1, 4, 2, 2)
    x[:, :, 0, 0] = 0
    for norm in ("row", "tensor", "none"):
        q = composite([x], norm=norm)
        assert torch.isfinite(q).all() and not q[0, 0, 0].any() and q[0, 1, 1].all()


@pytest.mark.parametrize(("resolution", "size"), [(None, (4, 4)), (6, (6, 6)), ((2, 3), (2, 3))])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
def test_resolution_and_mode(resolution, size, mode):
    features = features_of([(2, 3, 4, 4), (2, 5, 2, 2)])
    q = composite(features, resolution, norm="none", block_weight="none", mode=mode)
    align = {} if mode == "nearest" else {"align_corners": False}
    expected = [F.interpolate(x, size=size, mode=mode, **align) for x in features]
    torch.testing.assert_close(q, torch.cat(expected, 1).permute(0, 2, 3, 1))


def test_composite_bad_input():
    features = features_of([(2, 3, 4, 4), (2, 5, 2, 2)])
    for options, message in [
        ({"norm": "l1"}, "norm='l1' is unknown; choose one of row"),
        ({"block_weight": "inverse"}, "block_weight='inverse' is unknown"),
        ({"block_weight": True}, "block_weight=True is unknown"),
        ({"mode": "cubic"}, "mode='cubic' is unknown"),
        ({"resolution": 0}, "resolution=0 must be"),
        ({"resolution": (2, 3, 4)}, "must be a positive whole number or a pair"),
    ]:
        with pytest.raises(ValueError, match=message):
            composite(features, **options)
    for bad in ([], features[0]):
        with pytest.raises(ValueError, match="a list with the output"):
            composite(bad)
    for bad in ([features[0], features[1][:1]], [features[0][0]], [features[0][:0]]):
        with pytest.raises(ValueError, match=r"Needed are features\[0\] \(n, D0, H0, W0\).*but the shapes are"):
            composite(bad)
    with pytest.raises(ValueError, match=r"features\[1\] holds NaN"):
        composite([features[0], features[1] * torch.nan])
    with pytest.raises(TypeError, match="must be a tensor of floats"):
        composite([features[0].long()])


# Eq. 9


@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (1e-4, 0), (1e-25, 0), (1e20, 0), (1, 1e4)])
def test_assign_is_the_nearest_in_float64(scale, offset):
    g = torch.Generator().manual_seed(0)
    q = (torch.randn(7, 3, 5, 16, generator=g, dtype=torch.float64) * scale + offset).float()
    p = (torch.randn(30, 16, generator=g, dtype=torch.float64) * scale + offset).float()
    distance, s = torch.cdist(q.double().view(-1, 16), p.double()).min(dim=1)
    found, found_distance = assign(q, p, return_distance=True)
    assert found.shape == (7, 3, 5) and found.dtype == torch.long
    torch.testing.assert_close(found.flatten(), s)
    if scale > 1e-20 and scale < 1e10:  # beyond, float32 cannot hold the squares of a distance
        torch.testing.assert_close(found_distance.flatten().double(), distance, rtol=1e-5, atol=0)
    torch.testing.assert_close(assign(q, p), found)


def test_assign_on_tiny_composite_rows():
    q = composite([x.float() for x in features_of([(4, 128, 4, 4), (4, 512, 2, 2)])])
    p = q.reshape(-1, 640)[::7] + 1e-5 * torch.randn(10, 640, generator=torch.Generator().manual_seed(0))
    expected = torch.cdist(q.double().view(-1, 640), p.double()).argmin(dim=1)
    torch.testing.assert_close(assign(q, p).flatten(), expected)


def test_assign_takes_the_lowest_index_of_a_tie():
    p = torch.tensor([[3.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.0]])
    assert assign(torch.tensor([[0.0, 5.0], [1.0, 0.0], [2.0, 0.0]]), p).tolist() == [1, 1, 0]
    assert assign(torch.rand(3, 2), torch.ones(4, 2)).tolist() == [0, 0, 0]


def test_assign_in_chunks(monkeypatch):
    g = torch.Generator().manual_seed(0)
    p = torch.randn(2**12, 2, generator=g)
    q = torch.randn(2**12 + 5, 2, generator=g)  # more than one chunk of 2**24 / 2**12 rows
    sizes, real = [], torch.addmm
    monkeypatch.setattr(torch, "addmm", lambda n, a, b, **k: sizes.append(len(a)) or real(n, a, b, **k))
    s = assign(q, p)
    assert sizes == [4096, 5]
    distances = torch.cdist(q, p, compute_mode="donot_use_mm_for_euclid_dist")
    torch.testing.assert_close(distances.gather(1, s[:, None])[:, 0], distances.amin(dim=1))


def test_assign_bad_input():
    q, p = torch.rand(4, 3), torch.rand(2, 3)
    for given in ((q, p[:, :2]), (q, p[:0]), (q[:0], p)):
        with pytest.raises(ValueError, match=r"Needed are q \(..., D\), prototypes \(K, D\), none of them empty"):
            assign(*given)
    with pytest.raises(ValueError, match="NaN"):
        assign(q * torch.nan, p)
    with pytest.raises(TypeError, match="prototypes must be a tensor of floats"):
        assign(q, p.long())
