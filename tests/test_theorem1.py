import pytest
import torch

from paperlib.theorem1 import classify_then_pool, evidence, pool_then_classify


@pytest.fixture
def hC():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(*shape, generator=g, dtype=torch.float64) for shape in ((4, 9, 6), (6, 3), (3,))]


def logits_by_loops(h, C, bias):
    y = torch.zeros(len(h), C.shape[1], dtype=h.dtype)
    for i in range(len(h)):
        for j in range(C.shape[1]):
            for d in range(h.shape[2]):
                z = sum(h[i, r, d] for r in range(h.shape[1])) / h.shape[1]
                y[i, j] += z * C[d, j]
            y[i, j] += bias[j]
    return y


@pytest.mark.parametrize("side", [pool_then_classify, classify_then_pool])
def test_both_sides_of_eq_4(hC, side):
    h, C, bias = hC
    torch.testing.assert_close(side(h, C, bias), logits_by_loops(h, C, bias))
    torch.testing.assert_close(side(h, C), logits_by_loops(h, C, torch.zeros(3)))


def test_mean_of_the_evidence_is_the_logit(hC):
    h, C, bias = hC
    assert evidence(h, C, bias).shape == (4, 9, 3)
    torch.testing.assert_close(evidence(h, C, bias)[2, 5, 1], (h[2, 5] * C[:, 1]).sum() + bias[1])
    torch.testing.assert_close(evidence(h, C, bias).mean(dim=1), h.mean(dim=1) @ C + bias)


def test_it_differs_from_a_pooling_that_does_not_commute(hC):
    h, C, _ = hC
    assert not torch.allclose(pool_then_classify(h, C), (h @ C).amax(dim=1))


@pytest.mark.parametrize("function", [pool_then_classify, classify_then_pool, evidence])
def test_bad_input(hC, function):
    h, C, bias = hC
    for shapes in ((h[0], C), (h, C.T), (h, C, bias[:2]), (h[:, :0], C)):
        with pytest.raises(ValueError, match=r"^Needed are h \(n, R, D\), C \(D, n_classes\).* but the shapes are"):
            function(*shapes)
    with pytest.raises(ValueError, match="h holds NaN"):
        function(h * torch.nan, C)
    with pytest.raises(ValueError, match="C holds NaN or inf"):
        function(h, C * torch.inf)
    with pytest.raises(TypeError, match="the same type"):
        function(h, C.float())
    with pytest.raises(TypeError, match="tensor of floats"):
        function(h.long(), C)
    with pytest.raises(TypeError, match="tensor of floats"):
        function(h.numpy(), C)
