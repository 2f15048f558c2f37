"""Pictures: what they promise is in them, legibly, at 3 and at 33 layers, and nothing global changes."""

from __future__ import annotations

import io
from collections.abc import Callable
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.text import Text

from scansearch.directions import parse_direction
from scansearch.errors import InputError
from scansearch.plots import (
    comparison_figure,
    genotype_figure,
    preferences_figure,
    scan_paths_figure,
    trajectories_figure,
)
from scansearch.records.genotype import Genotype
from scansearch.records.lookup import published_genotype
from scansearch.records.preferences import Preferences
from scansearch.records.space import load_space


class Search:
    """The preferences of a made search, how they came about, and the half of the candidates that it chose."""

    def __init__(self, layers: int, space: str) -> None:
        self.names = load_space(space).layer_candidates()[0]
        powers = np.random.default_rng(0).normal(size=(layers, len(self.names)))
        self.epochs = []
        for epoch in range(4):
            gates = np.exp(0.6 * epoch * powers)
            gates /= gates.sum(1, keepdims=True)
            self.epochs.append({"epoch": epoch + 1, "probabilities": gates.tolist()})
        best = np.argsort(-gates)[:, : len(self.names) // 2]
        chosen = [tuple(name for i, name in enumerate(self.names) if i in row) for row in best]
        self.genotype = Genotype(family="local_vim", layers=tuple(chosen))
        self.preferences = Preferences(
            space="a space with a $long$ name of " + 60 * "x",
            variant="micro",
            selection="magnitude",
            candidates=(self.names,) * layers,
            scores=tuple(map(tuple, gates.tolist())),
        )

    def preferences_figure(self) -> Figure:
        return preferences_figure(self.preferences, self.genotype)

    def trajectories_figure(self) -> Figure:
        return trajectories_figure(self.epochs, self.preferences.candidates, self.genotype)

    def genotype_figure(self) -> Figure:
        return genotype_figure(self.genotype)


ROWS = [
    {
        "name": name,
        "genotype": f"abc{place}",
        "score": 90 + place,
        "deviation": 0.5,
        "flops": 1.1e7 * (place + 1),
    }
    for place, name in enumerate(("s0", "_under$x$" + 90 * "y", "run\x1b[2J", "localvim_tiny"))
]
FIGURES: dict[str, Callable[[], Figure]] = {
    f"{kind} {layers} {space}": lambda kind=kind, layers=layers, space=space: getattr(
        Search(layers, space), kind
    )()
    for kind in ("preferences_figure", "trajectories_figure", "genotype_figure")
    for layers in (3, 33)
    for space in ("vim8", "vim16")
}
FIGURES["comparison"] = lambda: comparison_figure(ROWS)
FIGURES["paths"] = lambda: scan_paths_figure(["random123456789012345_flip", "h", "w7"])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.long]
            if name.endswith("33 vim8") or name == "trajectories_figure 33 vim16"
            else [],
        )
        for name in FIGURES
    ],
)
def test_no_text_leaves_the_picture_and_nothing_global_changes(name: str) -> None:
    before = dict(mpl.rcParams)
    figure = FIGURES[name]()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert dict(mpl.rcParams) == before
    width, height = figure.get_size_inches()
    assert width <= 8.2
    assert len([text for text in figure.findobj(Text) if text.get_text().strip()]) >= 3
    for text in (*figure.texts, *(text for axes in figure.axes for text in axes.texts)):
        box = text.get_window_extent(canvas.get_renderer())
        assert -1 <= box.x0 <= box.x1 <= figure.bbox.x1 + 1, text
    drawn = figure.get_tightbbox(canvas.get_renderer())  # of everything that is drawn, in inches
    assert drawn.x0 >= -0.01
    assert drawn.y0 >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


def test_chosen_cells_are_framed() -> None:
    search = Search(33, "vim16")
    (axes, _) = search.preferences_figure().axes
    frames = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    framed = {(round(frame.get_y() + 0.44), search.names[round(frame.get_x() + 0.46)]) for frame in frames}
    assert framed == {(row, name) for row, names in enumerate(search.genotype.layers) for name in names}
    assert len(axes.texts) == 33 * 16
    assert min(text.get_fontsize() for text in axes.texts) >= 5.5


def test_scores_too_long_for_their_cells_are_left_to_the_colour_bar() -> None:
    search = Search(3, "vim16")
    large = tuple(tuple(-12345.0 * value for value in row) for row in search.preferences.scores)
    (axes, bar) = preferences_figure(search.preferences.model_copy(update={"scores": large})).axes
    assert not axes.texts
    assert bar.get_ylabel() == "gate probability"


def test_chosen_lines_are_strong_and_named_at_their_ends_and_the_others_grey() -> None:
    search = Search(3, "vim16")
    figure = search.trajectories_figure()
    figure.draw_without_rendering()
    for axes, chosen in zip(figure.axes, search.genotype.layers, strict=True):
        strong = {line.get_label() for line in axes.lines if line.get_linewidth() > 1}
        grey = {line.get_label() for line in axes.lines if line.get_color() == "#b0b0b0"}
        assert strong == set(chosen)
        assert strong | grey == set(search.names)
        assert {text.get_text() for text in axes.texts} == set(chosen)
        ends = {line.get_label(): line.get_ydata()[-1] for line in axes.lines}
        assert {text.get_text(): text.xy[1] for text in axes.texts} == {name: ends[name] for name in chosen}
        boxes = sorted((Text.get_window_extent(text) for text in axes.texts), key=lambda box: box.y0)
        for below, above in pairwise(boxes):
            assert above.y0 - below.y0 > 0.6 * below.height, "names overlap"


def test_without_a_genotype_the_highest_line_is_named_and_layers_can_be_chosen() -> None:
    search = Search(3, "vim8")
    figure = trajectories_figure(search.epochs, search.preferences.candidates, layers=[2])
    (axes,) = figure.axes
    assert axes.get_title() == "layer 2"
    assert [text.get_text() for text in axes.texts] == [search.preferences.ranked(2)[0][0]]


def test_a_genotype_has_a_sketch_and_a_name_of_each_direction_and_its_grids() -> None:
    genotype = published_genotype("localvmamba_small")
    (axes,) = genotype_figure(genotype).axes
    assert len([patch for patch in axes.patches if type(patch) is FancyBboxPatch]) == 33
    assert len([one for one in axes.collections if isinstance(one, LineCollection)]) == 33 * 4
    shown = [text.get_text() for text in axes.texts]
    for name in {name for names in genotype.layers for name in names}:
        assert shown.count(name) == sum(name in names for names in genotype.layers)
    assert {"56 x 56", "28 x 28", "14 x 14", "7 x 7", "32"} <= set(shown)
    assert genotype.grids()[0] == (56, 56)


def test_a_path_goes_through_the_tokens_in_their_order_over_the_image() -> None:
    image = np.zeros((40, 90, 3), dtype=np.uint8)
    image[:, 60:] = 255  # outside of the middle
    figure = scan_paths_figure(["w2", "v_flip"], image, grid=(4, 4))
    for axes, name in zip(figure.axes, ("w2", "v_flip"), strict=True):
        assert axes.get_title() == name
        (picture,) = (one for one in axes.get_children() if isinstance(one, AxesImage))
        pixels = np.asarray(picture.get_array())
        assert pixels.shape == (40, 40, 3)
        assert (pixels[:, :35] < 0.5).all()
        row, column = np.divmod(parse_direction(name).order(4, 4, "skip"), 4)
        path = axes.collections[-1].get_segments()
        assert np.allclose([segment[0] for segment in path], np.stack([column, row], 1)[:-1] + 0.5)
        assert np.allclose(
            np.ravel([line.get_xydata() for line in axes.lines]), [column[0] + 0.5, row[0] + 0.5]
        )
    # white and black borders of windows, beside tokens, halo and path
    assert [len(axes.collections) for axes in figure.axes] == [5, 3]


def test_costs_are_in_words_and_every_name_is_shown() -> None:
    figure = comparison_figure(ROWS)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert axes.get_xlabel() == "MFLOPs an image"
    assert "40" in [label.get_text() for label in axes.get_xticklabels()]
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[0] == "s0 (genotype abc0)"
    assert names[1].startswith(" _under$x$")
    assert names[2:] == ["run\\x1b[2J", "localvim_tiny"]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_every_kind_of_file_is_written(kind: str) -> None:
    for figure in (genotype_figure(Search(3, "vim8").genotype), comparison_figure(ROWS)):
        figure.savefig(content := io.BytesIO(), format=kind)
        assert len(content.getvalue()) > 3000


BAD: dict[str, tuple[Callable[[], object], str]] = {
    "layer": (lambda: scan_paths_figure(published_genotype("localvim_tiny"), layer=20), "allowed: 0 to 19"),
    "grid": (lambda: scan_paths_figure(["h"], grid=(0, 4)), "allowed: 1 to 128"),
    "large grid": (lambda: scan_paths_figure(["h"], grid=(4, 129)), "allowed: 1 to 128"),
    "direction": (lambda: scan_paths_figure(["q"]), "unknown"),
    "channels": (lambda: scan_paths_figure(["h"], np.zeros((4, 4, 2))), "1, 3 or 4 channels"),
    "values": (lambda: scan_paths_figure(["h"], np.full((4, 4), np.nan)), "shares of 1"),
    "no epochs": (lambda: trajectories_figure([], [["h"]]), "no gate probabilities"),
    "no such layer": (
        lambda: trajectories_figure(Search(3, "vim8").epochs, Search(3, "vim8").preferences.candidates, layers=[3]),
        "allowed: 0 to 2",
    ),
    "other genotype": (
        lambda: preferences_figure(Search(3, "vim8").preferences, Search(4, "vim8").genotype),
        "4 layers, the search has 3",
    ),
    "many layers": (lambda: genotype_figure(Genotype(family="local_vim", layers=(("h",),) * 129)), "1 to 128"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_drawn_is_refused(name: str) -> None:
    draw, message = BAD[name]
    with pytest.raises(InputError, match=message):
        draw()
