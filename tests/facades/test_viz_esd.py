"""viz_esd: the front door to eigenvalues, trace, density and criteria."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from bridges import metrics
from bridges.metrics import Loss
from lla_func import from_loss, store, viz_esd
from lla_func.facades import _spectrum as facade
from tests.cases import build, every_case
from tests.dense import dense
from tests.peak import Peak
from tests.state import unchanged


@pytest.fixture(scope="module")
def matrix(case):
    return dense(case.metric.objective(case.model))


@pytest.fixture
def run(case, tmp_path):
    def call(**options):
        folders = {"viz_dir": tmp_path / "viz", "res_dir": tmp_path / "res"}
        return viz_esd(case.model, case.metric, **{"seed": 0, "to_save": False, **folders, **options})

    return call


def test_the_result_unpacks_into_the_five_of_the_original(run, matrix):
    exact = torch.linalg.eigvalsh(matrix)
    top = exact[exact.abs().argsort(descending=True)[:2]]
    values, vectors, trace, re, khn = run(
        eigs=True,
        trace=True,
        calc_crit=True,
        eigs_tol=1e-9,
        eigs_n_iter=500,
        trace_n_iter=500,
        trace_tol=0.01,
    )
    torch.testing.assert_close(values, top, rtol=1e-8, atol=0)
    torch.testing.assert_close(matrix @ vectors.mT, vectors.mT * top, rtol=0, atol=1e-8)
    assert trace == pytest.approx(float(exact.sum()), rel=0.1)
    assert re == pytest.approx(float((exact[0] / exact[-1]).abs()), rel=1e-6)
    assert khn > 0


def test_the_result_is_indexed_as_the_list_of_the_original(run):
    result = run(eigs=True, esd=False)
    assert len(result) == 5
    assert result[0] is result.eigenvalues
    assert result[1] is result.eigenvectors
    assert result[-1] is result.Khn is None
    assert result[2:] == (None, None, None)
    with pytest.raises(IndexError):
        result[5]


def test_a_result_shows_itself_as_a_short_table(run):
    result = run(eigs=True, trace=True, calc_crit=True, top_n=12)
    shown = repr(result)
    assert len(shown) < 1000
    assert f"{float(result.eigenvalues[0]):.6g} ± {float(result.residuals[0]):.1g}" in shown
    assert "2 more in .eigenvalues" in shown
    for part in ("hessian", f"{result.products} products", "trace", "r_e", "K_hn", "Lanczos steps", "seed"):
        assert part in shown
    assert f"({result.criteria.note})" in shown
    several = run(calc_crit=True, n_v=3)
    assert f"(spread {several.criteria.k_hn.spread:.1g})" in repr(several)
    assert "eigenvalue" not in repr(run())


@every_case()
def test_eigenpairs_of_every_case_are_those_of_the_dense_hessian(name, dtype):
    case = build(name, dtype)
    exact = torch.linalg.eigvalsh(dense(case.metric.objective(case.model)))
    found = viz_esd(
        *(case.model, case.metric),
        esd=False,
        eigs=True,
        top_n=3,
        eigs_tol=1e-10,
        eigs_n_iter=400,
        to_save=False,
    )
    top = exact[exact.abs().argsort(descending=True)[:3]]
    torch.testing.assert_close(found.eigenvalues, top, rtol=1e-8, atol=0)
    assert found.residuals.max() <= 1e-9 * top.abs().max()


def test_what_is_not_asked_for_is_none(run):
    assert list(run(esd=True))[:5] == [None] * 5
    result = run(esd=False, eigs=True)
    assert result.nodes is None
    assert result.trace is None
    assert result.trace_error is None


def test_errors_products_and_times_are_attributes(run):
    result = run(eigs=True, trace=True, trace_tol=1.0, calc_crit=True, n_v=3, esd_n_iter=12)
    assert result.residuals.shape == (2,)
    assert result.trace_error > 0
    assert result.nodes.shape == result.weights.shape == (3, 12)
    assert result.products == sum(result.analysis.products.values())
    assert result.criteria.k_hn.spread > 0
    assert result.criteria.note is None
    assert result.seconds > 0


def test_all_at_once_spends_fewer_products_than_the_parts(run):
    options = {"esd_n_iter": 30, "n_v": 2, "eigs_tol": 1e-6, "trace_tol": 0.05}
    together = run(eigs=True, trace=True, **options).products
    apart = sum(
        run(**{"esd": False, **part}, **options).products
        for part in ({"esd": True}, {"eigs": True}, {"trace": True})
    )
    assert together < apart


def test_products_are_counted_one_by_one(case):
    count = 0

    class Counting(metrics.Loss):
        def loss(self, model, batch):
            nonlocal count
            count += 1
            return super().loss(model, batch)

    metric = Counting(case.criterion, case.inputs, case.targets)
    viz_esd(case.model, metric, esd_n_iter=5, to_save=False, kernel="recompute", seed=0)
    base = count
    count = 0
    viz_esd(case.model, metric, esd_n_iter=15, to_save=False, kernel="recompute", seed=0)
    assert count - base == 10


@pytest.mark.filterwarnings("ignore:the trace .* did not converge")
def test_the_trace_and_its_error_cover_the_truth(run, matrix):
    hits = sum(
        abs((found := run(esd=False, trace=True, trace_n_iter=30, seed=seed)).trace - float(matrix.trace()))
        <= 2 * found.trace_error
        for seed in range(40)
    )
    assert 34 <= hits <= 40


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(run):
    first, second, other = (run(eigs=True, trace=True, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.nodes, second.nodes)
    assert torch.equal(first.eigenvectors, second.eigenvectors)
    assert first.trace == second.trace
    assert not torch.equal(first.nodes, other.nodes)


def test_without_a_seed_a_fresh_one_is_named(run):
    first, second = run(seed=None, esd_n_iter=3), run(seed=None, esd_n_iter=3)
    assert first.seed != second.seed
    assert torch.equal(run(seed=first.seed, esd_n_iter=3).nodes, first.nodes)


def test_a_subset_of_parameters_is_a_block_of_the_hessian(run, case, matrix):
    values = run(esd=False, eigs=True, eigs_tol=1e-9, eigs_n_iter=500, parameters="2.*").eigenvalues
    start = sum(p.numel() for p in case.model[0].parameters())
    exact = torch.linalg.eigvalsh(matrix[start:, start:])
    torch.testing.assert_close(values, exact[exact.abs().argsort(descending=True)[:2]], rtol=1e-8, atol=0)


@pytest.mark.parametrize("curvature", ["ggn", "fisher", "finite_difference"])
def test_other_curvatures_are_named_in_the_result(run, curvature):
    result = run(curvature=curvature, eigs=True, esd=False)
    assert curvature.split("_")[0] in result.analysis.operator
    if curvature != "finite_difference":
        assert result.eigenvalues.min() > -1e-9


def test_files_hold_numbers_settings_and_a_line_for_each_result(run):
    result = run(eigs=True, trace=True, calc_crit=True, to_save=True, esd_n_iter=10)
    assert {what: path.name for what, path in result.paths.items()} == {
        "spectrum": "esd_esd_example.npz",
        "summary": "esd_esd_example.json",
        "eigenvalues": "eigenvalues_esd_example.log",
        "trace": "trace_esd_example.log",
        "hessian_criteria": "hessian_criteria_esd_example.log",
        "esd": "esd_example_esd.png",
    }
    arrays = store.load_arrays(result.paths["spectrum"])
    assert torch.equal(torch.as_tensor(arrays["nodes"]), result.nodes)
    assert torch.equal(torch.as_tensor(arrays["eigenvectors"]), result.eigenvectors)
    record = json.loads(result.paths["summary"].read_text())
    assert record["results"]["re"] == result.re
    assert record["settings"]["seed"] == 0
    again = run(eigs=True, trace=True, calc_crit=True, to_save=True, esd_n_iter=10)
    lines = again.paths["hessian_criteria"].read_text().splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"re: {result.re}, Kh0.5: {result.Khn}")
    assert lines[0].endswith(f"({result.criteria.note})")
    assert record["results"]["note"] == result.criteria.note


def test_more_starts_save_the_spread_of_k_hn_instead_of_a_note(run):
    result = run(calc_crit=True, to_save=True, esd_n_iter=10, n_v=3)
    summary = json.loads(result.paths["summary"].read_text())["results"]
    assert summary["note"] is None
    assert summary["Khn_spread"] == result.criteria.k_hn.spread > 0
    assert "Ct" not in summary
    assert (
        result.paths["hessian_criteria"].read_text().endswith(f"(spread of Kh0.5: {summary['Khn_spread']})\n")
    )


def test_the_model_is_left_as_it_was(run, case):
    with unchanged(case.model):
        run(eigs=True, trace=True, calc_crit=True, esd_n_iter=5)


def test_the_model_is_left_as_it_was_when_the_loss_fails_midway(case):
    class Failing(metrics.Loss):
        calls = 0

        def loss(self, model, batch):
            self.calls += 1
            if self.calls > 3:
                raise KeyboardInterrupt
            return super().loss(model, batch)

    metric = Failing(case.criterion, case.inputs, case.targets)
    with unchanged(case.model), pytest.raises(KeyboardInterrupt):
        viz_esd(case.model, metric, kernel="recompute", to_save=False)


@pytest.mark.filterwarnings("ignore:the trace .* did not converge")
def test_the_trace_is_unbiased_beside_eigenpairs_of_the_same_run():
    objective = from_loss(lambda t, _: 0.5 * t.square().sum(), torch.zeros(200, dtype=torch.float64))
    options = {"eigs": True, "trace": True, "trace_n_iter": 10, "esd_n_iter": 10, "to_save": False}
    found = [viz_esd(objective, seed=seed, **options) for seed in range(12)]
    assert sum(result.trace for result in found) / 12 == pytest.approx(200, abs=1.0)
    assert max(result.trace_error for result in found) < 2.0


def test_eigenvectors_have_a_sign_of_their_own(run):
    for seed in range(4):
        for vector in run(esd=False, eigs=True, seed=seed).eigenvectors:
            assert vector[vector.abs().argmax()] > 0


def test_nan_in_the_data_is_named_instead_of_an_index_error(case):
    inputs = case.inputs.clone()
    inputs[3, 1] = float("nan")
    with pytest.raises(ValueError, match="NaN or infinite"):
        viz_esd(case.model, metrics.Loss(case.criterion, inputs, case.targets), to_save=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"trace": True, "trace_n_iter": 20},
            r"the trace .* did not converge to trace_tol=0.001 in 20 products: its standard error is .*; raise "
            r"trace_n_iter \(75 make it exact\) or trace_tol",
        ),
        (
            {"eigs": True, "eigs_tol": 1e-9, "eigs_n_iter": 5},
            "the eigenpairs did not converge to eigs_tol=1e-09 in 10 products: residuals reach .*; raise eigs_n_iter",
        ),
    ],
)
def test_what_did_not_converge_is_warned_of(run, options, words):
    with pytest.warns(UserWarning, match=words) as caught:
        run(esd=False, **options)
    assert caught[0].filename == __file__


def test_a_trace_with_p_products_within_the_budget_is_exact(run, matrix):
    found = run(esd=False, trace=True, trace_n_iter=75)
    assert found.trace == pytest.approx(float(matrix.trace()), rel=1e-9)
    assert found.trace_error == 0.0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"calc_crit": True, "esd": False, "eigs": True}, "calc_crit=True needs esd=True"),
        ({"esd": False}, "esd, eigs and trace are all False"),
        ({"eigs": True, "top_n": 0}, "top_n=0 is too small"),
        ({"eigs": True, "top_n": 10**6}, "top_n=1000000 is more than there are parameters"),
        ({"eigs": True, "eigs_n_iter": 0}, "eigs_n_iter=0 is too small"),
        ({"eigs": True, "eigs_tol": 0}, "eigs_tol=0 is not allowed"),
        ({"trace": True, "trace_n_iter": -1}, "trace_n_iter=-1 is too small"),
        ({"trace": True, "trace_tol": float("inf")}, "trace_tol=inf is not allowed"),
        ({"esd_n_iter": 0}, "esd_n_iter=0 is too small"),
        ({"n_v": 0}, "n_v=0 is too small"),
        ({"max_v": 1}, "max_v=1 is too small; pass an int of at least 2"),
        ({"n_kh": 0}, "n_kh=0 is not allowed"),
        ({"n_kh": -0.5}, "n_kh=-0.5 is not allowed"),
        ({"which": "top"}, "which='top' is not one of"),
        ({"curvature": "hesian"}, "curvature='hesian' is not one of .*did you mean 'hessian'"),
        ({"curvature": "ggn", "kernel": "vjp"}, "kernel='vjp' is for curvature='hessian'"),
        ({"kernel": "magic"}, "kernel='magic' is not one of"),
        ({"parameters": "conv*"}, r"'conv\*' matches no parameter"),
        ({"batchnorm": "train"}, "batchnorm='train' is not one of"),
        ({"seed": -3}, "seed=-3 is too small"),
        ({"device": "meta"}, "device='meta' is not where the metric evaluates"),
        ({"exp_name": "../up", "to_save": True}, "exp_name"),
    ],
)
def test_bad_options_are_named(run, options, words):
    with pytest.raises(ValueError, match=words):
        run(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"esd_n_iter": 2.5}, "esd_n_iter=2.5 is not a whole number"),
        ({"n_v": "3"}, "n_v='3' is not a whole number"),
        ({"eigs_tol": "small", "eigs": True}, "eigs_tol='small' is not a number"),
    ],
)
def test_options_of_the_wrong_type_are_named(run, options, words):
    with pytest.raises(TypeError, match=words):
        run(**options)


def test_a_metric_that_returns_a_number_has_no_hessian_and_says_so():
    class Number(metrics.Metric):
        def __call__(self, model):
            return sum(p.square().sum() for p in model.parameters()).item()

    with pytest.raises((TypeError, ValueError, RuntimeError), match=r"derivative|item|float"):
        viz_esd(nn.Linear(2, 1), Number(), to_save=False)


WIDE = """
import resource, sys, time, torch
from torch import nn
from bridges.metrics import Loss
from lla_func import viz_esd
torch.set_num_threads(1)
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(784, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))
metric = Loss(nn.CrossEntropyLoss(), torch.randn(8, 784), torch.randint(10, (8,)))
start = time.perf_counter()
found = viz_esd(model, metric, eigs=True, top_n=1, esd=False, seed=0, to_save=False)
assert found.analysis.eigenpairs.converged
print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


@pytest.mark.slow
def test_twenty_million_parameters_take_a_minute_and_two_and_a_half_gigabytes():
    done = subprocess.run([sys.executable, "-c", WIDE], capture_output=True, text=True, check=True)
    seconds, peak = map(float, done.stdout.split())
    assert seconds < 60  # of one core, so that what else runs on the machine does not count
    assert peak < 2.5e9


def test_vectors_and_what_products_keep_stay_within_the_budget():
    case = build("mlp")
    wide = nn.Sequential(nn.Linear(5, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 3))
    metric = Loss(case.criterion, case.inputs.float(), case.targets)
    sizes = []
    for vectors in (20, 40):
        budget = vectors * 4 * sum(p.numel() for p in wide.parameters())
        with Peak(50_000) as peak:
            viz_esd(
                wide,
                metric,
                eigs=True,
                top_n=2,
                esd_n_iter=12,
                eigs_n_iter=30,
                seed=0,
                to_save=False,
                memory_budget=budget,
            )
        sizes.append(peak.most)
        assert peak.most <= budget
    assert sizes[1] > 1.3 * sizes[0]


def test_memory_that_is_not_there_is_missed_before_the_work(monkeypatch):
    calls = []
    objective = from_loss(lambda t, b: calls.append(1) or t.square().sum(), torch.ones(1000))
    monkeypatch.setattr(facade, "free_memory", lambda device: 40_000)
    with pytest.raises(
        MemoryError, match=r"24 vectors of 1000 parameters.*GiB are free.*memory_budget=.*parameters="
    ):
        viz_esd(objective, eigs=True, esd=False, to_save=False)
    with pytest.raises(ValueError, match=r"budget of 15000 bytes is too small.*32000 bytes.*twice"):
        viz_esd(objective, eigs=True, esd=False, to_save=False, memory_budget=30_000)
    assert not calls
