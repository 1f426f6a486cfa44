"""Claims about weights: a batch counts by what its loss is a mean over, however the data are cut."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from lla_func import chart, products
from lla_func.hessian._sharding import part
from lla_func.landscape._manifest import identity
from lla_func.landscape.engines._engines import ENGINES
from lla_func.objective._objective import Objective, check, from_loss, risk, tiles, weigh
from tests.dense import dense, matrix
from tests.engines import every_engine

F64 = torch.float64
CLASS = torch.tensor([0.2, 1.0, 7.0], dtype=F64)
G = torch.Generator().manual_seed(5)
X = torch.randn(24, 4, generator=G, dtype=F64)
Y = torch.tensor([0, 0, 0, 0, 2, 1, 0, 2, -100, -100, -100, -100, 2, 2, 0, 1, 0, 0, -100, 1, 0, -100, 2, 2])
THETA = {"w": torch.randn(3, 4, generator=G, dtype=F64), "b": torch.randn(3, generator=G, dtype=F64)}
WHOLE, PARTS = [24], [7, 1, 4, 12]
"""One batch; and several, of which the third has no target that counts."""


def outputs(parameters, batch):
    return torch.tanh(batch[0] @ parameters["w"].T + parameters["b"])


def criterion(output, batch):
    return F.cross_entropy(output, batch[1], CLASS)


def weight(batch):
    counting = batch[1] != -100
    return (CLASS[batch[1].clamp_min(0)] * counting).sum()


def weighted(sizes=PARTS) -> Objective:
    """Class weights and ignored targets, over data cut into batches."""
    return from_loss(
        lambda p, batch: criterion(outputs(p, batch), batch),
        THETA,
        list(zip(X.split(sizes), Y.split(sizes), strict=True)),
        separable=True,
        outputs=outputs,
        criterion=criterion,
        weight=weight,
    )


def test_the_risk_does_not_depend_on_how_data_are_cut():
    expected = F.cross_entropy(outputs(THETA, (X, Y)), Y, CLASS)
    for sizes in (WHOLE, PARTS, [1] * 24):
        torch.testing.assert_close(risk(weighted(sizes)), expected, rtol=1e-14, atol=0)


@every_engine(compiling=True)
def test_every_engine_weighs_batches_and_tiles(engine):
    objective = weighted()
    plane = chart.span(objective.theta, *torch.randn(2, 15, generator=G, dtype=F64))
    points = torch.tensor([[0.0, 0.0], [0.5, -1.0], [1.0, 2.0]], dtype=F64)
    run, _ = ENGINES[engine](objective, plane, samples_per_tile=3)
    expected = [risk(weighted(WHOLE), theta) for theta in plane.origin + points @ plane.basis]
    torch.testing.assert_close(run(points), torch.stack(expected), rtol=1e-12, atol=0)


@pytest.mark.parametrize("memory", [None, 0])
@pytest.mark.parametrize("tile", [3, None])
def test_products_weigh_batches_and_tiles(tile, memory):
    objective = weighted()
    expected = dense(weighted(WHOLE))
    torch.testing.assert_close(matrix(products.hessian(objective, tile=tile, memory=memory)), expected)
    whole = matrix(products.ggn(weighted(WHOLE), kernel="vjp"))
    torch.testing.assert_close(matrix(products.ggn(objective, tile=tile, memory=memory)), whole)
    block = products.hessian(objective, tile=tile, memory=memory, parameters="w")
    torch.testing.assert_close(matrix(block), expected[:12, :12])


def test_the_fisher_matrix_is_the_weighted_mean_over_samples():
    objective = weighted()
    gradient = torch.func.grad(weighted(WHOLE).loss)
    single = [sample for sample in tiles((X, Y), 1) if weight(sample) > 0]
    rows = torch.stack([gradient(objective.theta, sample) for sample in single])
    weights = torch.stack([weight(sample) for sample in single])
    expected = rows.T @ (rows * weights[:, None]) / weights.sum()
    for tile in (3, None):
        torch.testing.assert_close(matrix(products.fisher(objective, tile=tile)), expected)


@pytest.mark.parametrize("processes", [2, 5])
def test_parts_of_the_data_add_up_by_their_weights(processes):
    objective = weighted()
    parts = [part(objective, rank, processes) for rank in range(processes)]
    weights = [sum(weigh(objective, batch) for batch in one.batches) for one in parts]
    assert sum(weights) == pytest.approx(float(weight((X, Y))))
    total = sum(
        share * matrix(products.hessian(one, probe=False))
        for share, one in zip(weights, parts, strict=True)
        if share
    )
    torch.testing.assert_close(total / sum(weights), dense(weighted(WHOLE)))


def test_data_that_begin_without_weight_are_looked_at_where_they_have_some():
    x, y = torch.cat([X[8:12]] * 10 + [X]), torch.cat([Y[8:12]] * 10 + [Y])
    objective = weighted()._replace(batches=[(x, y)])
    expected = dense(weighted(WHOLE))
    for make in (products.hessian, products.ggn, products.fisher):
        for kernel in ("auto", "timed"):
            assert torch.isfinite(matrix(make(objective, kernel=kernel))).all()
    torch.testing.assert_close(matrix(products.hessian(objective)), expected)
    apart = objective._replace(batches=list(tiles((x, y), 8)))
    torch.testing.assert_close(matrix(products.hessian(apart)), expected)


def test_a_sum_has_no_weights():
    def loss(parameters, batch):
        return F.cross_entropy(outputs(parameters, batch), batch[1], CLASS, reduction="sum")

    batches = list(zip(X.split(PARTS), Y.split(PARTS), strict=True))
    objective = from_loss(loss, THETA, batches, reduction="sum", separable=True, weight=weight)
    torch.testing.assert_close(risk(objective), loss(THETA, (X, Y)))


def test_other_weights_are_another_job():
    objective = weighted()
    line = chart.span(objective.theta, torch.ones(15, dtype=F64))
    coords = torch.zeros(1, 1)
    equal = objective._replace(weight=lambda batch: (batch[1] != -100).sum())
    jobs = [identity(one, line, coords, {}) for one in (objective, equal, objective._replace(weight=None))]
    assert jobs[0]["weights"] != jobs[1]["weights"] != jobs[2]["weights"]
    assert identity(weighted(), line, coords, {}) == jobs[0]


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match=rf"batch 0: the weight of a batch is {bad:g}; .* not negative"):
        check(weighted()._replace(weight=lambda batch: bad))


def test_data_without_any_weight_have_no_risk():
    objective = weighted()._replace(weight=lambda batch: 0)
    for ask in (risk, lambda o: products.hessian(o, probe=False)):
        with pytest.raises(ValueError, match="all batches have weight zero"):
            ask(objective)


def test_samples_of_no_weight_stay_out_of_the_fisher_matrix_of_any_loss():
    shares = torch.tensor([0.0, 1.0, 3.0], dtype=F64)
    x = torch.tensor([[1.0], [2.0], [4.0]], dtype=F64)

    def loss(theta, batch):
        return ((batch[0] @ theta) * batch[1]).sum() / batch[1].sum()  # 0 / 0 on the first sample alone

    theta = torch.ones(1, dtype=F64)
    objective = from_loss(loss, theta, [(x, shares)], separable=True, weight=lambda batch: batch[1].sum())
    found = matrix(products.fisher(objective))
    torch.testing.assert_close(found, torch.tensor([[(4.0 + 3 * 16.0) / 4]], dtype=F64))
