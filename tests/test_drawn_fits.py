"""Certificates on adversarial data: no fit is certified and wrong by more than three times its own estimate.

The plain tests take some seeds of each family; `python benchmarks/drawn_fits.py` takes thousands.
"""

import drawn
import drawn_factors
import pytest

FITS = {"slim": 5, "higher-order": 8, "weighted-ease": 15}


@pytest.mark.filterwarnings("ignore")  # values at the end of float32's range
@pytest.mark.parametrize("family", drawn.FAMILIES)
def test_no_certified_fit_is_wrong_beyond_its_estimate(family):
    outcomes = [drawn.run(family, seed) for seed in range(FITS.get(family, 60))]
    certified = [outcome for outcome in outcomes if outcome.status == "certified"]
    assert len(certified) > len(outcomes) / 3
    worst = max(certified, key=lambda outcome: outcome.ratio)
    assert worst.ratio <= 3, worst
    assert max(outcome.error for outcome in certified) <= 0.03


FACTORS = {"ials": 8, "awmf": 15, "low-rank-edlae": 10, "elsa": 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", drawn_factors.FAMILIES)
def test_no_certified_factors_are_wrong_beyond_their_estimate(family):
    outcomes = [drawn_factors.run(family, seed) for seed in range(FACTORS[family])]
    certified = [outcome for outcome in outcomes if outcome.status == "certified"]
    assert len(certified) > len(outcomes) / 3
    worst = max(certified, key=lambda outcome: outcome.ratio)
    assert worst.ratio <= 3, worst
    assert all(outcome.change <= 10 * outcome.estimated_change for outcome in certified if outcome.change > 1e-5)
