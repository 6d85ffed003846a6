"""Guards that have no room of their own to be tested in."""
import pytest
import torch

from paperlib.guards import check_finite, finite


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_value_anywhere_is_seen(dtype, bad):
    for place in (0, 500, 1000):
        x = torch.linspace(-1, 1, 1001).to(dtype)
        assert finite(x) and finite(x.requires_grad_())
        x = x.detach().index_fill(0, torch.tensor(place), bad)
        assert not finite(x) and not finite(x.view(7, 143).T)
        with pytest.raises(ValueError, match="^rows holds NaN or infinite values"):
            check_finite(images=torch.zeros(2), rows=x)


@pytest.mark.parametrize("x", [torch.tensor(3), torch.empty(0, 4), torch.ones(3, dtype=torch.bool), torch.tensor(1.0)])
def test_what_holds_no_such_value_is_finite(x):
    assert finite(x)
