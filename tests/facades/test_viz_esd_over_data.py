"""What viz_esd says of other data."""

from __future__ import annotations

from lla_func import viz_esd
from tests import cases


def test_errors_over_data_come_with_the_result_or_say_why_not():
    case = cases.build("cnn")
    found = viz_esd(
        case.model, case.metric, eigs=True, trace=True, calc_crit=True, esd_n_iter=20, to_save=False, seed=0
    )
    assert len(found.over_data.eigenvalues) == len(found.eigenvalues)
    assert bool((found.over_data.eigenvalues > 0).all())
    assert found.over_data.trace > 0
    assert found.over_data.Khn is None
    assert "K_hn" in found.over_data.note


def test_matrices_without_contributions_of_samples_say_so():
    case = cases.build("mlp")
    found = viz_esd(case.model, case.metric, eigs=True, esd=False, curvature="fisher", to_save=False, seed=0)
    assert found.over_data.eigenvalues is None
    assert "not known" in found.over_data.note
