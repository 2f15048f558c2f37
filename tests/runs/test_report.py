"""``report.html``: one page that says everything, needs nothing else, and fits a phone and a desk."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.browser import look
from support.run_folders import evaluation, search_folder, training_folder

from scansearch.errors import InputError
from scansearch.files.atomic import write_figure
from scansearch.records.lookup import published_genotype
from scansearch.runs.folder import Run
from scansearch.runs.report import report_html, write_report

HOSTILE = "<script>alert(1)</script><img src=x>"
WIDTHS = (390, 1280)
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements, their attributes and all text; every element must be closed in its place."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data + " "


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("report") / "search"
    run = Run.open(search_folder(folder, space=str(folder.parent / "my-space.yaml"), epochs=2))
    write_figure(folder / "plots" / "trajectories.png", run.plot("movement"))
    write_report(run)
    return run


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """33 layers, and long class names of unknown origin."""
    names = tuple(f"{HOSTILE} a rather long name of class {number}" for number in range(70))
    folder = training_folder(
        tmp_path_factory.mktemp("report") / "training",
        genotype=published_genotype("localvmamba_small"),
        test=evaluation(names),
        model=HOSTILE + "x" * 120,
        data=f"folder:/home/somebody/{HOSTILE}",
    )
    run = Run.open(folder)
    write_figure(folder / "plots" / "training.png", run.plot())
    write_report(run)
    return run


def test_a_report_says_what_was_asked_found_costs_and_how_to_repeat_it(search: Run) -> None:
    page = Page((search.folder / "report.html").read_text())
    words = " ".join(page.words.split())
    for part in (
        "Search: my-space.yaml on digits",
        "80.25 % supernet, test accuracy",
        "layer 1: the margin is below its noise",
        "strategy localmamba",
        "0 h v 0.400 0.300 4 x 4 200 2",  # layer, directions, preferences, tokens, costs
        "flops: 405 in all, of which 5 whatever is chosen",
        "layers h v w2 v_flip 0 to 1 100 100 100 100",
        "scansearch run --config search/config.yaml",
        "scansearch train search",
        "torch 2.9",
        search.genotype.hash,
    ):
        assert part in words
    assert str(search.folder.parent) not in words  # no path of this machine
    assert sum(tag == "svg" for tag, _ in page.tags) == 4


def test_a_training_tells_its_worst_classes_and_its_curves(training: Run) -> None:
    page = Page((training.folder / "report.html").read_text())
    words = " ".join(page.words.split())
    assert "The 60 of 70 classes with the lowest accuracy." in words
    assert "the weights are of epoch 2 of 3" in words
    assert "scansearch train --config training/config.yaml" in words
    assert "somebody" not in words
    assert [heading for heading in ("Curves", "Classes", "Layers") if heading not in words] == []


def test_a_report_needs_nothing_else_and_runs_nothing(search: Run, training: Run) -> None:
    for run in (search, training):
        page = Page((run.folder / "report.html").read_text())
        names = {tag for tag, _ in page.tags}
        assert not names & {"script", "link", "iframe", "object", "form"}
        sources = [attrs["src"] for _, attrs in page.tags if "src" in attrs]
        assert sources
        assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
        assert not [
            attrs for _, attrs in page.tags if "href" in attrs or any(a.startswith("on") for a in attrs)
        ]
        assert "url(" not in (run.folder / "report.html").read_text()
    policy = next(attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")


def test_only_pictures_are_taken_into_a_report(tmp_path: Path) -> None:
    run = Run.open(search_folder(tmp_path / "run"))
    secret = tmp_path / "secret"
    secret.write_bytes(b"\x89PNG secret")
    (run.folder / "plots" / "samples.png").symlink_to(secret)
    (run.folder / "plots" / "trajectories.png").write_text("no picture")
    assert "data:image" not in report_html(run)


def test_there_is_no_report_of_what_has_not_finished(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has not finished: there is nothing to report"):
        report_html(Run.open(search_folder(tmp_path / "run", finished=False)))


@pytest.mark.parametrize("name", ["search", "training"])
def test_a_browser_shows_it_whole_on_a_phone_and_a_desk_by_day_and_night(
    name: str, search: Run, training: Run
) -> None:
    run = {"search": search, "training": training}[name]
    shades = {}
    for dark in (False, True):
        for width, seen in look(run.folder / "report.html", WIDTHS, dark=dark).items():
            assert seen["scroll"] <= width
            assert seen["wide"] == []
            assert seen["scripts"] == 0
            assert seen["tallest"] < 60  # no heading of a table is broken into letters
            assert seen["images"]
            assert min(seen["images"]) > 0  # each has loaded
            assert seen["sketches"] >= 4
            assert {"What was asked", "What was found", "Layers", "Environment"} <= set(seen["headings"])
            shades[dark] = (_light(seen["background"]), _light(seen["colour"]))
    assert shades[False][0] > 200 > 60 > shades[False][1]
    assert shades[True][0] < 60 < 200 < shades[True][1]


def _light(colour: str) -> float:
    values = list(map(int, re.findall(r"\d+", colour)[:3]))
    return sum(values) / 3
