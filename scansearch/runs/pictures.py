"""The picture that a name asks for: of a run, a genotype, a space or a direction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from scansearch.directions import Layers, parse_direction
from scansearch.errors import InputError
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import Kind, Named, look_up
from scansearch.records.preferences import Preferences
from scansearch.records.weights import read_header
from scansearch.runs.folder import Run
from scansearch.text import choices

if TYPE_CHECKING:
    import numpy as np

Picture = Literal["preferences", "movement", "genotype", "paths", "curves"]
PICTURES: tuple[Picture, ...] = ("preferences", "movement", "genotype", "paths", "curves")
LAYERS_PER_PAGE = 12
# The pictures of each kind of thing, the most useful first.
_OF: dict[Kind | Literal["direction"], tuple[Picture, ...]] = {
    "search": ("preferences", "movement", "genotype", "paths"),
    "training": ("curves", "genotype", "paths"),
    "genotype": ("genotype", "paths"),
    "weights": ("genotype", "paths"),
    "published": ("genotype", "paths"),
    "space": ("paths",),
    "preferences": ("preferences",),
    "direction": ("paths",),
}


@dataclass(frozen=True)
class PictureSubject:
    """What pictures are made of: see :func:`picture_subject`.

    Attributes:
        name: as it was given; of a direction, its name.
        named: what it stands for; None for a direction.
    """

    name: str
    named: Named | None = None

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """The pictures that there are of it, the most useful first."""
        return _OF["direction" if self.named is None else self.named.kind]

    @property
    def run(self) -> Run | None:
        """The run, of a run folder; a folder with nothing but a genotype is none."""
        named = self.named
        if named is None or named.path is None or named.kind not in ("search", "training"):
            return None
        return Run(named.path) if (named.path / "config.yaml").is_file() else None

    def genotype(self) -> Genotype | None:
        """The chosen directions; None for a space, preferences, a direction, or a search that has not chosen yet.

        Raises:
            InputError: a damaged file.
        """
        if self.named is None or self.named.kind in ("space", "preferences"):
            return None
        if self.named.kind == "search" and not (Path(self.name) / "genotype.yaml").is_file():
            return None
        return self.named.genotype()

    def layers(self) -> Layers:
        """The directions of each layer: the chosen ones, else the candidates; of a direction, itself."""
        genotype = self.genotype()
        if genotype is not None:
            return genotype.layers
        if self.named is None:
            return ((self.name,),)
        return (
            self.named.space().layer_candidates()
            if self.named.kind == "space"
            else self.preferences().candidates
        )

    def preferences(self) -> Preferences:
        """The preferences, of a search or a preferences file.

        Raises:
            InputError: a search without any yet, or a damaged file.
        """
        assert self.named is not None
        assert self.named.path is not None
        path = self.named.path
        if self.named.kind == "search":
            path = path / "preferences.json"
            if not path.is_file():
                raise InputError(f"the search in {self.name!r} holds no preferences.json yet")
        return Preferences.load(path)

    def grids(self) -> tuple[tuple[int, int], ...]:
        """Rows and columns of tokens of each layer; empty for a direction, and for a search that has not chosen yet.

        Raises:
            InputError: sizes that make no grid.
        """
        if self.named is not None and self.named.kind == "space":
            return self.named.space().grids()
        genotype = self.genotype()
        if genotype is None:
            return ()
        assert self.named is not None
        size = None
        if self.named.weight_file is not None:
            treatment = read_header(self.named.weight_file).treatment
            size = None if treatment is None else treatment.image_size
        return genotype.grids(size)


def picture_subject(name: str) -> PictureSubject:
    """What ``name`` stands for: what comes with scansearch, a file or folder, or else a scan direction.

    Raises:
        InputError: none of these, or a file of another kind.
    """
    if not Path(name).exists():
        try:
            return PictureSubject(parse_direction(name).name)
        except InputError:
            pass
    kinds: tuple[Kind, ...] = (
        "genotype",
        "search",
        "training",
        "weights",
        "published",
        "space",
        "preferences",
    )
    try:
        return PictureSubject(name, look_up(name, kinds, command="plot"))
    except InputError as error:
        if Path(name).exists():
            raise
        raise InputError(f"{error}; nor is it a scan direction such as 'w7_flip'") from None


def draw(
    subject: PictureSubject,
    kind: Picture | None = None,
    *,
    image: np.ndarray | None = None,
    layer: int | None = None,
    grid: tuple[int, int] | None = None,
) -> list[Any]:
    """The picture ``kind`` of ``subject`` as a matplotlib Figure; of the movement of many layers, one for each twelve.

    Args:
        kind: None for the most useful one.
        image: below scan paths, see :func:`scansearch.plots.scan_paths_figure`.
        layer: of scan paths (None: 0) and of the movement (None: all).
        grid: rows and columns of tokens of scan paths; None for those of the layer.

    Raises:
        InputError: a picture that there is not of this subject, an option that belongs to another picture, or
            something that the subject does not hold yet.
    """
    from scansearch import plots

    kind = check_picture(subject, kind, image=image is not None, layer=layer, grid=grid is not None)
    if kind == "paths":
        return [_paths(subject, image, layer or 0, grid)]
    epochs = _epochs(subject) if kind in ("curves", "movement") else []
    if kind == "curves":  # also of a model without a genotype
        return [plots.curves_figure(epochs, best_epoch=best_epoch(subject))]
    genotype = subject.genotype()
    if kind == "preferences":
        return [plots.preferences_figure(subject.preferences(), genotype)]
    if kind == "genotype":
        if genotype is None:
            assert subject.named is not None
            genotype = subject.named.genotype()  # says why there is none
        return [plots.genotype_figure(genotype)]
    candidates = subject.preferences().candidates
    layers = range(len(candidates)) if layer is None else [layer]
    pages = [layers[start : start + LAYERS_PER_PAGE] for start in range(0, len(layers), LAYERS_PER_PAGE)]
    return [plots.trajectories_figure(epochs, candidates, genotype, layers=page) for page in pages]


def draw_run(
    folder: Path, kind: str | None = None, *, image: np.ndarray | None = None, layer: int | None = None
) -> Any:
    """One picture of the run in ``folder`` as a matplotlib Figure: :meth:`scansearch.Run.plot`."""
    from scansearch.plots import trajectories_figure

    subject = picture_subject(str(folder.absolute()))
    chosen = check_picture(subject, kind, image=image is not None, layer=layer, grid=False)
    if chosen == "movement" and layer is None:  # all layers in one picture
        return trajectories_figure(_epochs(subject), subject.preferences().candidates, subject.genotype())
    return draw(subject, chosen, image=image, layer=layer)[0]


def check_picture(
    subject: PictureSubject, kind: str | None, *, image: bool, layer: int | None, grid: bool
) -> Picture:
    """``kind``, or the most useful picture of ``subject``, where these options belong to it.

    Raises:
        InputError: saying what is allowed.
    """
    allowed = subject.pictures
    chosen = next((one for one in PICTURES if one == (kind or allowed[0])), None)
    if chosen is None:
        raise InputError(f"unknown kind {kind!r} {choices(str(kind), PICTURES)}")
    if chosen not in allowed:
        what = "a scan direction" if subject.named is None else f"a {_WORDS[subject.named.kind]}"
        raise InputError(
            f"--kind {chosen}: {subject.name!r} is {what}, which has no such picture (allowed: {', '.join(allowed)})"
        )
    for given, option in ((image, "--image"), (grid, "--grid")):
        if given and chosen != "paths":
            raise InputError(f"{option} belongs to --kind paths, not {chosen}")
    if layer is not None:
        if chosen not in ("paths", "movement"):
            raise InputError(f"--layer belongs to --kind paths or movement, not {chosen}")
        if subject.named is None:
            raise InputError(f"--layer: {subject.name!r} is a scan direction, which has no layers")
        count = len(subject.layers())
        if not 0 <= layer < count:
            raise InputError(
                f"--layer {layer}: {subject.name!r} has no such layer (allowed: 0 to {count - 1})"
            )
    return chosen


_WORDS = {
    "search": "search's run folder",
    "training": "training's run folder",
    "genotype": "genotype file",
    "weights": "weight file",
    "published": "published model",
    "space": "search space",
    "preferences": "preferences file",
}


def _paths(
    subject: PictureSubject, image: np.ndarray | None, layer: int, grid: tuple[int, int] | None
) -> Any:
    from scansearch.plots import scan_paths_figure

    grids = subject.grids() if grid is None else ()
    return scan_paths_figure(subject.layers()[layer], image, grid=grids[layer] if grids else grid)


def _epochs(subject: PictureSubject) -> list[dict]:
    run = subject.run
    epochs = [] if run is None else run.metrics("epoch")
    if not epochs:
        raise InputError(f"{subject.name!r} holds no finished epoch in metrics.jsonl")
    return epochs


def best_epoch(subject: PictureSubject) -> int | None:
    """The number, from 1, of the epoch that gave the weights of a training; None where it cannot be told."""
    file = None if subject.named is None else subject.named.weight_file
    best = None if file is None else read_header(file).notes.get("best_epoch")
    return best if type(best) is int else None
