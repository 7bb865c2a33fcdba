"""Quantiles against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from facewright.metrics.intervals import beta_cdf, beta_quantile, normal_quantile

SHARES = (1e-9, 0.001, 0.025, 0.3, 0.5, 0.975, 0.999999)
SHAPES = [(1, 1), (1, 7), (0.5, 3), (3, 1100), (250, 251), (999_000, 1_001), (2, 15_600_000), (5e8, 5e8)]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_the_beta_distribution(a: float, b: float) -> None:
    for share in SHARES:
        wanted = special.betaincinv(a, b, share)
        assert beta_quantile(a, b, share) == pytest.approx(wanted, rel=1e-7)
        assert beta_cdf(wanted, a, b) == pytest.approx(special.betainc(a, b, wanted), rel=1e-4, abs=1e-12)
    assert beta_cdf(0, a, b) == 0 and beta_cdf(1, a, b) == 1


def test_the_normal_distribution() -> None:
    shares = np.array([0, *SHARES, 1])
    assert [normal_quantile(share) for share in shares] == pytest.approx(special.ndtri(shares).tolist(), rel=1e-12)
