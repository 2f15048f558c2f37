"""The public names: these and no others, each explained, none hiding another, and light to import.

Everything else is private. A name that appears or disappears is a decision: change the list with it, and CHANGELOG.md.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys

import pytest

PUBLIC = {
    "scansearch": {
        "Costs", "Evaluation", "Genotype", "LoadedModel", "Preferences", "Probe", "Run", "SearchResult", "SearchSpace",
        "TrainResult",
        "baseline_genotype", "bench_table", "data_from_arrays", "data_from_dataset", "derive", "evaluate", "evolve",
        "export", "load", "load_space", "pareto_front", "parse_direction", "probe", "register_direction", "search",
        "train",
    },
    "scansearch.errors": {"InputError", "MissingExtra", "RunStopped"},
    "scansearch.models": {"CONFIGURATION", "create", "LayerGates", "LocalVMamba", "LocalVim", "build_model"},
    "scansearch.plots": {
        "agreement_figure", "comparison_figure", "confusion_figure", "costs_figure", "curves_figure",
        "directions_figure", "genotype_figure", "preferences_figure", "published_figure", "receptive_fields_figure",
        "scan_paths_figure", "trajectories_figure",
    },
    "scansearch.testing": {"GRIDS", "check_direction"},
    "scansearch_kernels": {"available_backends", "branch_means", "branch_sum", "causal_conv", "selective_scan"},
}  # fmt: skip
# Methods that timm explains.
PRESCRIBED = {"group_matcher"}
HEAVY = ("torch", "timm", "scipy", "matplotlib")


def fresh(program: str) -> str:
    """What ``program`` prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module: str) -> None:
    names = importlib.import_module(module).__all__
    assert len(names) == len(set(names))
    assert set(names) == PUBLIC[module]


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in PUBLIC.items() for name in sorted(names)]
)
def test_a_public_name_is_there_and_explained(module: str, name: str) -> None:
    value = getattr(importlib.import_module(module), name)
    if isinstance(value, tuple | dict):
        return  # a constant has its explanation in a comment
    assert value.__doc__ is not None
    assert value.__doc__.strip()
    # a dataclass without a docstring gets its signature as one
    assert not value.__doc__.startswith(f"{value.__name__}(")
    for method, member in vars(value).items() if inspect.isclass(value) else ():
        function = getattr(member, "__func__", getattr(member, "fget", member))  # or of a property
        if inspect.isfunction(function) and not method.startswith("_") and method not in PRESCRIBED:
            assert inspect.getdoc(getattr(value, method)), f"{name}.{method} has no docstring"


def test_dir_shows_the_public_names_before_they_are_loaded() -> None:
    assert fresh("import scansearch; print(set(scansearch.__all__) <= set(dir(scansearch)))") == "True"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import scansearch

    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        scansearch.no_such  # noqa: B018


LIGHT = [
    "scansearch",
    "scansearch.cli",
    "scansearch.derivation.derive",
    "scansearch.directions",
    "scansearch.errors",
    "scansearch.records.costs",
    "scansearch.records.genotype",
    "scansearch.records.preferences",
    "scansearch.searching.strategies",
    "scansearch.testing",
]


@pytest.mark.parametrize("module", LIGHT)
def test_importing_a_light_module_loads_nothing_heavy(module: str) -> None:
    program = f"import sys, {module}; print([name for name in {HEAVY} if name in sys.modules])"
    assert fresh(program) == "[]"


def test_deriving_from_a_file_loads_no_torch(tmp_path) -> None:
    """What is lazy when imported stays so when it is used."""
    from scansearch.records.preferences import Preferences

    scores = ((0.5, 0.3, 0.2),) * 2
    path = tmp_path / "preferences.json"
    Preferences(
        space="s", variant="v", selection="magnitude", candidates=(("h", "v", "w2"),) * 2, scores=scores
    ).save(path)
    program = (
        "import sys, scansearch\n"
        f"preferences = scansearch.Preferences.load({str(path)!r})\n"
        "print(preferences.ranked(0)[0][0], 'torch' in sys.modules, 'timm' in sys.modules)\n"
    )
    assert fresh(program) == "h False False"


def all_modules() -> list[str]:
    import scansearch

    walked = pkgutil.walk_packages(scansearch.__path__, "scansearch.")
    return [
        module.name for module in walked if "__main__" not in module.name and "templates" not in module.name
    ]


def test_no_name_hides_a_module() -> None:
    """``import a.b.c as m`` gives the module ``a.b.c``, whatever ``a.b`` has been asked for before."""
    modules = all_modules()
    assert {"scansearch.derivation.derive", "scansearch.searching.strategies"} <= set(modules)
    program = (
        "import sys, types, scansearch\n"
        "for name in scansearch.__all__: getattr(scansearch, name)\n"
        f"for name in {modules!r}:\n"
        "    namespace = {}\n"
        "    exec(f'import {name} as module', namespace)\n"
        "    module = namespace['module']\n"
        "    assert isinstance(module, types.ModuleType) and module.__name__ == name, (name, module)\n"
    )
    fresh(program)


def test_public_names_are_functions_and_classes_whatever_was_imported_first() -> None:
    program = (
        f"import {', '.join(all_modules())}\n"
        "for name in scansearch.__all__:\n"
        "    assert callable(getattr(scansearch, name)), name\n"
    )
    fresh(program)
