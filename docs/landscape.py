"""Makes docs/landscape.png: the bundled LeNet on the digits, as a surface, along Hessian axes, and its spectrum."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from bridges.loaders import lenet
from lla_func import plots, viz_lla


def main() -> None:
    """Evaluates, draws and saves."""
    model = lenet.ModelInit()
    metric = lenet.CustomLoss(*next(iter(lenet.CustomLoader(batch_size=512))), "cpu")
    common = {"seed": 3, "to_save": False, "progress": True}
    random = viz_lla(model, metric, normalization="filter", num_plots=1, dist=2, **common)
    hessian = viz_lla(model, metric, axes="hessian", eval_hessian=True, calc_crit=True, dist=1.2, **common)

    figure = Figure(figsize=(13.6, 4.0), layout="constrained")
    figure.get_layout_engine().set(wspace=0.1)
    left = figure.add_subplot(1, 3, 1, projection="3d")
    plots.surface3d(
        random.landscapes[0], left, title="random axes, filter L2 norm", colorbar=False, legend=False
    )
    middle = figure.add_subplot(1, 3, 2)
    plots.contour(hessian.landscapes[0], middle, title="Hessian axes", legend=False)
    right = figure.add_subplot(1, 3, 3)
    found = hessian.hessian
    criteria = {"$r_e$": found.criteria.r_e.value, "$K_{h0.5}$": found.criteria.k_hn.value}
    rules, curve = found.quadrature, found.curve
    plots.density(
        curve.grid,
        curve.values,
        rules.nodes,
        rules.weights,
        criteria,
        right,
        title="Hessian spectrum",
        legend=False,
    )
    plots.save(figure, Path(__file__).with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
