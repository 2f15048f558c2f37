"""What a name stands for: a published model, a search space, or a file or run folder on disk.

The one place that tells these apart; each command says which of them it takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scansearch.errors import InputError
from scansearch.files.regular import similar
from scansearch.files.strict import parse_yaml, read_text
from scansearch.models.published import PUBLISHED, published
from scansearch.records.genotype import Genotype
from scansearch.records.provenance import Provenance
from scansearch.records.space import SearchSpace, load_space, space_names
from scansearch.records.timm_model import PREFIX, TimmModel, TrainedModel
from scansearch.records.weights import read_header
from scansearch.text import nearest

Kind = Literal["published", "space", "genotype", "search", "training", "weights", "exported", "preferences"]

BEST_WEIGHTS = "best.safetensors"
_EXPORTED = (".pt2", ".onnx")
# In words, and the commands that take one, the likeliest first.
_KINDS: dict[Kind, tuple[str, str]] = {
    "genotype": ("genotype file", "train, export, costs, plot"),
    "search": ("search's run folder", "train, derive, evolve, rank, export, costs, compare, plot"),
    "training": ("training's run folder", "evaluate, predict, export, compare, train, costs, plot"),
    "weights": ("weight file", "evaluate, predict, export, train, costs, plot"),
    "exported": ("exported model (.pt2, .onnx or hub folder)", "evaluate, predict"),
    "space": ("search space", "run, probe, costs, plot"),
    "published": ("published model", "train, export, costs, plot"),
    "preferences": ("preferences file", "derive, plot"),
}


@dataclass(frozen=True)
class Named:
    """What a name stands for.

    Attributes:
        name: as it was given.
        path: the file or folder; None for what comes with scansearch.
    """

    name: str
    kind: Kind
    path: Path | None = None

    @property
    def weight_file(self) -> Path | None:
        """The trained weights, where there are any."""
        if self.path is None or self.kind not in ("training", "weights"):
            return None
        return self.path if self.kind == "weights" else _file_in(self.path, BEST_WEIGHTS)

    def genotype(self) -> Genotype:
        """The genotype; of a weight file, or a folder with nothing else, the one in the weights' header.

        Raises:
            InputError: a search that has not chosen yet, a damaged file, or something without a genotype.
        """
        if self.path is None:
            return published_genotype(self.name)
        file = self.path if self.kind == "genotype" else _file_in(self.path, "genotype.yaml")
        if file is not None:
            return Genotype.load(file)
        if self.weight_file is not None:
            return read_header(self.weight_file).genotype
        if self.kind == "search":
            raise InputError(
                f"the search in {self.name!r} holds no genotype.yaml yet: finish it (scansearch run --resume), "
                "or derive one from it (scansearch derive)"
            )
        raise InputError(f"{self.name!r} holds no genotype")

    def space(self) -> SearchSpace:
        """The search space, of kind ``space``."""
        return load_space(self.name if self.path is None else self.path)


def look_up(name: str | Path, accepted: Sequence[Kind], *, command: str) -> Named:
    """What ``name`` stands for: what comes with scansearch by its name, otherwise a file or folder.

    Args:
        name: a :class:`~pathlib.Path` is always a file or folder; so is a text with a slash, as in ``./vim8``.
        accepted: the kinds that the caller can use.
        command: who asks, for the message.

    Raises:
        InputError: nothing of that name, or something of another kind; says which command takes that.
    """
    named = _named(name)
    if named is None and "genotype" in accepted and Path(name).is_file() and Path(name).suffix != ".json":
        named = Named(str(name), "genotype", Path(name))  # its reader says what is wrong with the file
    if named is None:
        raise InputError(_nothing(name, accepted, command))
    if named.kind not in accepted:
        raise InputError(_refusal(named, accepted, command))
    return named


def _refusal(named: Named, accepted: Sequence[Kind], command: str) -> str:
    word, commands = _KINDS[named.kind]
    return (
        f"{named.name!r} is {_article(word)}, but {command} takes {_words(accepted)} "
        f"(what takes {_article(word)}: {commands})"
    )


def _nothing(name: str | Path, accepted: Sequence[Kind], command: str) -> str:
    if Path(name).is_dir():
        return f"folder {str(name)!r} is no run: it holds no genotype.yaml, {BEST_WEIGHTS} or config.yaml"
    if Path(name).exists():
        return f"{str(name)!r} has an unknown ending: {command} takes {_words(accepted)}"
    known = [f"{_KINDS[kind][0]}s: {', '.join(_known(kind))}" for kind in accepted if _known(kind)]
    if isinstance(name, Path) or not known:
        return f"{str(name)!r} does not exist{similar(name)}: {command} takes {_words(accepted)}"
    near = nearest(str(name), [one for kind in accepted for one in _known(kind)])
    hint = similar(name) if near is None else f" (did you mean {near!r}?)"
    return f"{name!r} is unknown{hint}: {command} takes {_words(accepted)} ({'; '.join(known)})"


def _words(accepted: Sequence[Kind]) -> str:
    """``a genotype file, a weight file or a search space``"""
    *words, last = [_article(_KINDS[kind][0]) for kind in accepted]
    return f"{', '.join(words)} or {last}" if words else last


def _article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def find_genotype(name: str | Path, *, command: str = "train") -> Genotype:
    """The genotype that ``name`` stands for: a published model, a genotype file, a run folder, or a weight file.

    Raises:
        InputError: as :func:`look_up`, and as :meth:`Named.genotype`.
    """
    kinds: tuple[Kind, ...] = ("genotype", "search", "training", "weights", "published")
    return look_up(name, kinds, command=command).genotype()


def find_model(name: str | Path, *, command: str = "train") -> TrainedModel:
    """What ``name`` says to train: ``timm:NAME``, or what :func:`find_genotype` finds.

    scansearch's published models are registered with timm too: ``timm:localvim_tiny`` is its genotype.

    Raises:
        InputError: a name that timm does not have, with the nearest one; or as :func:`find_genotype`.
    """
    if not str(name).startswith(PREFIX):
        return find_genotype(name, command=command)
    model_name = str(name).removeprefix(PREFIX)
    if model_name in PUBLISHED:
        return published_genotype(model_name)
    from scansearch.models.timm_baseline import check_timm_name

    check_timm_name(model_name)
    return TimmModel(name=model_name)


def expect_search(folder: str | Path, *, command: str) -> None:
    """Refuse what is no search's run folder, in one line that says what takes it."""
    expect_kind(folder, ("search",), command=command)


def expect_training(folder: str | Path, *, command: str) -> None:
    """Refuse what is no training's run folder, in one line that says what takes it."""
    expect_kind(folder, ("training",), command=command)


def expect_kind(name: str | Path, accepted: Sequence[Kind], *, command: str) -> None:
    """Refuse what stands for something else than ``accepted``; of what stands for nothing, its reader tells.

    Raises:
        InputError: says what it is, and which command takes that.
    """
    named = _named(name if Path(name).exists() else str(name))
    if named is None or named.kind in accepted:
        return
    # A folder without config.yaml is no run at all, which opening it says.
    if named.kind in ("search", "training") and not _file_in(Path(name), "config.yaml"):
        return
    raise InputError(_refusal(named, accepted, command))


def published_genotype(name: str) -> Genotype:
    """The genotype of a published model.

    Raises:
        InputError: an unknown name.
    """
    model = published(name)
    return Genotype.model_validate(
        {
            "family": model.family,
            "layers": model.layers,
            "model": model.arguments,
            "provenance": Provenance(note=f"published model {name}: {model.summary}"),
        }
    )


def _named(name: str | Path) -> Named | None:
    text, path = str(name), Path(name)
    if isinstance(name, str):
        for kind in ("published", "space"):
            if text in _known(kind):
                return Named(text, kind)
    if path.is_dir():
        kind_of_run = _run_kind(path)
        if kind_of_run is not None:
            return Named(text, kind_of_run, path)
        return Named(text, "exported", path) if _file_in(path, "config.json") else None
    if not path.is_file():
        return None
    if path.suffix == ".safetensors":
        return Named(text, "weights", path)
    if path.suffix in _EXPORTED:
        return Named(text, "exported", path)
    if path.suffix == ".json":
        content = read_text(path)
        is_preferences = '"selection"' in content and '"scores"' in content
        return Named(text, "preferences", path) if is_preferences else None
    if path.suffix in (".yaml", ".yml"):
        data = parse_yaml(read_text(path), source=text)
        return Named(text, "space" if "variants" in data else "genotype", path)
    return None


def _run_kind(folder: Path) -> Literal["search", "training"] | None:
    """What ran in a folder, told by its files; a folder with nothing but a genotype counts as a search's."""
    if _file_in(folder, BEST_WEIGHTS):
        return "training"
    if _file_in(folder, "space.yaml"):
        return "search"
    config = _file_in(folder, "config.yaml")
    if config is not None:
        return "training" if "model" in parse_yaml(read_text(config), source=str(config)) else "search"
    return "search" if _file_in(folder, "genotype.yaml") else None


def _known(kind: str) -> Sequence[str]:
    if kind == "published":
        return tuple(PUBLISHED)
    return space_names() if kind == "space" else ()


def _file_in(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_file() else None
