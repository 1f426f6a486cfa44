"""Hessian work shared among processes gives the single process's numbers, the same in all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lla_func import analyse, products
from lla_func.hessian import _assembly
from lla_func.hessian import _sharding as distributed
from lla_func.objective._objective import Objective, risk, samples
from tests import cases

ROOT = Path(__file__).parents[2]
KINDS = {"hessian": products.hessian, "ggn": products.ggn, "fisher": products.fisher}


def whole() -> Objective:
    """Three batches, of 20, 7 and 1 samples."""
    objective = cases.objective("mlp")
    x, y = objective.batches[0]
    return objective._replace(batches=[(x, y), (x[:7], y[:7]), (x[3:4], y[3:4])])


def uncut() -> Objective:
    """One batch that must not be cut: one of two processes has nothing to do."""
    objective = cases.objective("cnn")
    return objective._replace(separable=False)


def study(group: object) -> dict[str, torch.Tensor]:
    """Products, eigenvalues, trace and density, by processes of a group or alone."""
    found: dict[str, torch.Tensor] = {}
    choose = _assembly.choose
    if group is not None and torch.distributed.get_rank(group) > 0:
        _assembly.choose = None  # whoever asks it fails: rank 0 chooses for all
    for name, build in KINDS.items():
        operator = distributed.shared(build, whole(), group=group)
        block = torch.randn(3, operator.dim, generator=torch.Generator().manual_seed(0), dtype=operator.dtype)
        found[name] = operator.matvec(block)
    operator = distributed.shared(products.hessian, uncut(), group=group)
    found["uncut"] = operator.matvec(torch.ones(operator.dim, dtype=operator.dtype))
    operator = distributed.shared(products.hessian, uncut()._replace(reduction="sum"), group=group)
    found["uncut sum"] = operator.matvec(torch.ones(operator.dim, dtype=operator.dtype))
    part = distributed.shared(products.hessian, whole(), group=group, parameters="2.*")
    found["part"] = part.matvec(torch.ones(part.dim, dtype=part.dtype))
    operator = distributed.shared(products.hessian, whole(), group=group)
    _assembly.choose = choose
    analysis = analyse(
        operator,
        density_steps=20,
        top_n=2,
        trace_products=30,
        criteria=True,
        seed=0,
    )
    assert analysis.eigenpairs is not None
    assert analysis.trace is not None
    assert analysis.quadrature is not None
    found["eigenvalues"] = analysis.eigenpairs.values
    found["trace"] = torch.tensor(analysis.trace.value)
    found["nodes"] = analysis.quadrature.nodes
    return found


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """What each of two processes finds."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    subprocess.run(
        [*command, "-m", "tests.hessian.test_distributed", str(folder)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=120,
        capture_output=True,
    )
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_both_processes_hold_the_same_bits(two_processes):
    first, second = two_processes
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_the_result_is_that_of_one_process_to_rounding(two_processes):
    alone = study(None)
    for name, value in two_processes[0].items():
        torch.testing.assert_close(
            value, alone[name], rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_parts_hold_every_sample_once(size):
    objective = whole()
    parts = [distributed.part(objective, rank, size) for rank in range(size)]
    counts = [sum(samples(batch) for batch in part.batches) for part in parts]
    assert sum(counts) == 28
    assert max(counts) - min(counts) <= len(objective.batches)
    total = sum(float(risk(part)) * count for part, count in zip(parts, counts, strict=True) if count)
    assert total / 28 == pytest.approx(float(risk(objective)), rel=1e-12)


def test_streamed_data_is_cut_on_the_way():
    class Stream:
        def __iter__(self):
            yield from whole().batches

    streamed = distributed.part(whole()._replace(batches=Stream()), 1, 2)
    for _ in range(2):
        assert [samples(batch) for batch in streamed.batches] == [10, 4, 1]


if __name__ == "__main__":
    import torch.distributed as dist

    dist.init_process_group("gloo")
    torch.save(study(dist.group.WORLD), Path(sys.argv[1]) / f"{dist.get_rank()}.pt")
    dist.destroy_process_group()
