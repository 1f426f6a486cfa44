"""The package as a whole: which way imports go, what is public, what the wheel holds, what the versions are."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
MODULES = sorted(path for package in ("lla_func", "bridges") for path in (ROOT / package).rglob("*.py"))
# What a user may rely on as ``from lla_func import ...``; a change here is a change of the interface.
PUBLIC = """
    viz_lla LandscapeResult viz_path PathResult load viz_esd SpectrumResult Analysis Curvature analyse layerwise
    connect Curve
    Objective from_loss risk Layout Landscape evaluate variation barrier EngineFallbackWarning Operator
    chart directions products krylov spectrum criteria plots store
    Trajectory TrajectoryResult sharpness Topology topology
"""


class Import(NamedTuple):
    """An import statement: the module that it names, and whether it runs when its file is imported."""

    module: str
    at_once: bool


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """All imports in a file; ``from a import b`` counts as a and as a.b."""

    def visit(node: ast.AST, at_once: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import, which these tests do not follow"
            yield Import(node.module or "", at_once)
            yield from (Import(f"{node.module}.{alias.name}", at_once) for alias in node.names)
        inside = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, at_once and not inside)

    return visit(ast.parse(path.read_text()), at_once=True)


def within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(package + ".") for package in packages)


def offenders(paths: list[Path], *packages: str, at_once: bool = False) -> list[str]:
    """Imports of the packages in the files, as text; with ``at_once`` only those that run on import."""
    return [
        f"{name_of(path)} imports {found.module}"
        for path in paths
        for found in imports(path)
        if within(found.module, *packages) and (found.at_once or not at_once)
    ]


def files(*packages: str) -> list[Path]:
    return [path for path in MODULES if within(name_of(path), *packages)]


# ---- imports -------------------------------------------------------------------------------------------------------


def test_the_readers_of_imports_see_every_form(tmp_path):
    source = "import a.b\nfrom c import d\ndef f():\n    import e\nif TYPE_CHECKING:\n    import g\n"
    path = tmp_path / "m.py"
    path.write_text(source)
    assert list(imports(path)) == [
        Import("a.b", True),
        Import("c", True),
        Import("c.d", True),
        Import("e", False),
    ]


def test_the_core_never_imports_the_border_benchmarks_or_tests():
    assert not offenders(files("lla_func"), "bridges", "benchmarks", "tests")


def test_the_border_never_imports_benchmarks_or_tests():
    assert not offenders(files("bridges"), "benchmarks", "tests")


def test_the_core_imports_only_what_the_project_file_lists():
    known = {
        "torch",
        "numpy",
        "einops",
        "tqdm",
        "filelock",
        "gudhi",
        "matplotlib",
        "mpl_toolkits",
        "lla_func",
        *sys.stdlib_module_names,
    }
    unknown = {(name_of(path), found.module) for path in files("lla_func") for found in imports(path)}
    assert not {(path, module) for path, module in unknown if module.split(".")[0] not in known}


def test_nothing_is_pickled():
    assert not offenders(MODULES, "pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal")


ROOMS = (  # imports go up this table only: a room may use those before it
    "lla_func.errors",
    "lla_func.options",
    "lla_func._torch",
    "lla_func.files",
    "lla_func.objective",
    "lla_func.graph",
    "lla_func.geometry",
    "lla_func.spectrum",
    "lla_func.hessian",
    "lla_func.landscape.engines",
    "lla_func.landscape",
    "lla_func.assessment",
    "lla_func.connectivity",
    "lla_func.plots",
    "lla_func.facades",
    "bridges.models",
    "bridges.optimizers",
    "bridges.alignment",
    "bridges.metrics",
    "bridges.trajectories",
    "bridges.loaders",
    "bridges.command",
)


def room_of(module: str) -> str | None:
    """The room that a module lies in, the innermost one."""
    return max((room for room in ROOMS if within(module, room)), key=len, default=None)


def test_every_module_lies_in_a_room():
    faces = {"lla_func", "bridges", "bridges.__main__"}
    assert [name for path in MODULES if (name := name_of(path)) not in faces and room_of(name) is None] == []


def test_imports_go_down_the_rooms_only():
    upward = [
        f"{name} imports {found.module}"
        for path in MODULES
        if (mine := room_of(name := name_of(path))) is not None
        for found in imports(path)
        if (theirs := room_of(found.module)) is not None and ROOMS.index(theirs) > ROOMS.index(mine)
    ]
    assert not upward


def test_the_architecture_page_names_the_rooms_in_their_order():
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = re.findall(r"^\| `((?:lla_func|bridges)/[\w/]+)` \|", page, flags=re.MULTILINE)
    assert named == [room.replace(".", "/") for room in reversed(ROOMS)]


def test_every_room_is_there():
    assert [room for room in ROOMS if not files(room)] == []


def test_tests_lie_where_what_they_test_does():
    rooms = {room.removeprefix("lla_func.").replace(".", "/") for room in ROOMS}
    paths = [path.relative_to(ROOT / "tests").with_suffix("") for path in ROOT.glob("tests/*/**/test_*.py")]
    assert len(paths) > 40
    assert [
        path
        for path in paths
        if path.parent.as_posix() not in rooms
        and path.with_name(path.name.removeprefix("test_")).as_posix() not in rooms
    ] == []


def test_files_of_a_room_are_private_to_it():
    peeking = [
        f"{name} imports {found.module}"
        for path in MODULES
        for name in [name_of(path)]
        for found in imports(path)
        if room_of(found.module) not in (None, room_of(name))
        and "._" in found.module.removeprefix("lla_func._torch").removeprefix("lla_func")
    ]
    assert not peeking


def test_linear_algebra_knows_no_model_and_no_loss():
    paths = files("lla_func.spectrum")
    assert paths
    assert not offenders(paths, "lla_func.objective", "lla_func.graph", "lla_func.geometry", "torch.nn")


def test_only_plots_import_matplotlib_and_only_when_drawing():
    others = [path for path in MODULES if not within(name_of(path), "lla_func.plots")]
    assert not offenders(others, "matplotlib", "mpl_toolkits")
    assert not offenders(MODULES, "matplotlib", "mpl_toolkits", at_once=True)


def test_ready_loaders_are_imported_only_on_demand():
    outside = [path for path in MODULES if path.parent.name != "loaders" or path.stem == "__init__"]
    assert not [
        entry for entry in offenders(outside, "bridges.loaders") if not entry.endswith("bridges.loaders")
    ]


def test_importing_the_package_imports_neither_torchvision_nor_matplotlib():
    code = "from lla_func import viz_lla; from bridges import metrics; import sys; print(*(names & set(sys.modules)))"
    code = f"names = {{'torchvision', 'matplotlib'}}; {code}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout == "\n"


# ---- what is public ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_says_its_idea_and_a_room_lists_what_it_offers(path):
    import lla_func

    if path.stem == "__main__":
        return
    module = importlib.import_module(name_of(path))
    assert module.__doc__
    assert len(module.__doc__.splitlines()[0]) <= 121
    private = path.stem.startswith("_") and path.stem != "__init__"
    public = (lla_func.chart, lla_func.directions, lla_func.store, lla_func.krylov, lla_func.criteria)
    if private and module not in public:
        assert not hasattr(module, "__all__"), "what others may use is listed in the room's __init__.py, once"
    elif path.read_text().count("\n") > 5 and path != ROOT / "bridges" / "__init__.py":
        assert len(set(module.__all__)) == len(module.__all__)
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_file_is_longer_than_400_lines(path):
    assert path.read_text().count("\n") <= 400


def test_the_public_surface_of_the_core_is_as_listed():
    import lla_func

    assert set(lla_func.__all__) == set(PUBLIC.split())


def test_everything_public_is_documented():
    import lla_func

    assert [name for name in lla_func.__all__ if not getattr(lla_func, name).__doc__] == []


# ---- what is distributed -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_wheel_holds_both_packages_with_data_and_nothing_else(tmp_path):
    source = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(source)], check=True)
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("lla_func-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "lla_func",
        "bridges",
        next(name.split("/")[0] for name in names if ".dist-info/" in name),
    }
    data = {"digits.npz", "lenet_digits.pth", "mlp_digits.pth", "ATTRIBUTION.md"}
    assert {name for name in names if name.startswith("bridges/data/")} == {
        f"bridges/data/{name}" for name in data
    }
    tracked = subprocess.run(
        ["git", "ls-files", "lla_func", "bridges"], cwd=source, check=True, capture_output=True, text=True
    )
    assert {name for name in names if name.endswith(".py")} == {
        name for name in tracked.stdout.split() if name.endswith(".py")
    }
    assert {"lla_func/py.typed", "bridges/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert any(name.endswith("licenses/NOTICE") for name in names)


# ---- the habits ----------------------------------------------------------------------------------------------------


def test_examples_in_docstrings_are_run(request):
    import lla_func

    assert request.config.getoption("doctestmodules")
    assert {"lla_func", "bridges"} <= set(request.config.getini("testpaths"))
    finder = doctest.DocTestFinder(recurse=False)
    for name in ("Layout", "analyse", "evaluate", "from_loss", "layerwise", "risk"):
        found = finder.find(getattr(lla_func, name), name)
        assert any(test.examples for test in found), f"{name} shows no example"


def test_the_version_is_that_of_the_project_file():
    import lla_func

    (version,) = re.findall(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), flags=re.MULTILINE)
    assert lla_func.__version__ == version


def test_ci_tests_the_lowest_versions_that_the_project_file_promises():
    promised = dict(re.findall(r'"([a-z-]+)>=([0-9.]+)"', (ROOT / "pyproject.toml").read_text()))
    tested = dict(
        re.findall(r"^([a-z-]+)==([0-9.]+)$", (ROOT / ".ci" / "lowest.txt").read_text(), re.MULTILINE)
    )
    assert {"torch", "torchvision", "numpy", "pytest"} <= set(tested)
    for name, version in tested.items():
        assert f"{version}.".startswith(f"{promised[name]}."), (
            f"{name}=={version}, but {name}>={promised[name]}"
        )


@pytest.mark.parametrize("package", ["lla_func", "bridges"])
def test_both_packages_are_typed(package):
    assert (ROOT / package / "py.typed").is_file()


@pytest.mark.slow
def test_plain_pytest_works_as_python_dash_m_pytest_does():
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    plain = Path(sysconfig.get_path("scripts")) / "pytest"
    ways = [[str(plain)], [sys.executable, "-m", "pytest"]]
    counts = [
        subprocess.run(
            [*way, "--collect-only", "-q", "tests/test_laws.py", "tests/graph", "lla_func/graph"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
            env=environment,
        ).stdout.splitlines()
        for way in ways
    ]
    assert len(counts[0]) > 20
    assert counts[0][:-1] == counts[1][:-1]  # but for the line of the time that it took
