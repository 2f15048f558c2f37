"""What a task is: its data, the head on a backbone, its loss, its score, and the record of that score.

The steps (searching, training) and the run folder know tasks by this protocol alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from scansearch import engine
from scansearch.data import ImageData, Split

if TYPE_CHECKING:
    from accelerate import Accelerator

    from scansearch.data.augment import Augment
    from scansearch.data.treatment import Treatment
    from scansearch.models.backbone import ScanBackbone
    from scansearch.records.heads import TaskHead, TaskName

ScoredSplit = Literal["validation", "test"]


class ScoreRecord(Protocol):
    """The score of one model on one split, as files keep it.

    Attributes:
        images, skipped: images that were scored, and images that could not be read.
        loss: mean, in nats.
        counted: what a class has a number of, in words.
        class_title: the name of each class's figure.
    """

    counted: ClassVar[str]
    class_title: ClassVar[str]
    data: str
    split: ScoredSplit
    classes: tuple[str, ...]
    images: int
    skipped: int
    loss: float
    images_per_second: float | None
    device: str
    notes: tuple[str, ...]

    @property
    def headline(self) -> str:
        """The one figure, for a title."""

    @property
    def score(self) -> float:
        """The figure that counts, in percent, larger is better."""

    @property
    def per_class(self) -> dict[str, float | None]:
        """The same for each class; None where it does not occur."""

    @property
    def class_counts(self) -> dict[str, int]:
        """Of each class how many there are of what ``counted`` names."""

    def describe(self) -> str:
        """The figures in words."""

    def figure_lines(self) -> list[str]:
        """All figures and what was scored, in words, a few on a line."""

    def to_json(self) -> str:
        """One line, with what follows from the kept figures."""

    def model_copy(self, *, update: dict[str, Any]) -> Any:
        """A copy with other values."""


class ConfusionRecord(ScoreRecord, Protocol):
    """A record whose figures follow from counts.

    Attributes:
        confusion: [label][prediction] -> number of what ``counted`` names.
    """

    confusion: tuple[tuple[int, ...], ...]


class VisionTask(Protocol):
    """One task. It holds no state: everything comes as arguments.

    Attributes:
        name: as a configuration and a weight file have it.
        score_name: of the figure that chooses the best weights, as a key of :meth:`score`.
        score_title, class_title: the same, and that of each class, in words.
        figures: keys of :meth:`score` beside ``loss``, with their names in words, the one in ``score_name`` last.
    """

    name: TaskName
    score_name: str
    score_title: str
    class_title: str
    figures: Mapping[str, str]

    def load(
        self,
        spec: str,
        *,
        image_size: int | tuple[int, int],
        augment: Augment | None = None,
        max_broken: int = 100,
        channels: int | None = None,
        scoring: bool = False,
        brightest: float | None = None,
    ) -> ImageData:
        """The data that ``spec`` names; see :func:`scansearch.data.load_data` for the options.

        Raises:
            InputError: data of another task, or none that can be read.
        """

    def match(self, data: ImageData, treatment: Treatment) -> ImageData:
        """``data`` as a trained model knows them: its classes, and images normalised as in its training.

        Raises:
            InputError: a class that the model does not know.
        """

    def arguments(self, family: str, arguments: Mapping[str, Any], classes: int) -> dict[str, Any]:
        """What the backbone's class gets beside ``arguments`` to serve this task."""

    def decoder(self, backbone: ScanBackbone, classes: int, head: TaskHead | None) -> nn.Module | None:
        """What makes the outputs of the backbone's feature maps; None where the backbone classifies itself."""

    def whole(self, backbone: ScanBackbone, decoder: nn.Module | None) -> nn.Module:
        """The model that is trained and kept."""

    def forward(self, network: nn.Module, images: Tensor, targets: Any, *gates: Any) -> Any:
        """What ``network`` makes of a batch in training, with the ``gates`` of a search's supernet."""

    def trial(self, network: nn.Module, images: Tensor) -> Any:
        """The same with targets that are made up: what it costs is what a step costs."""

    def criterion(self, smoothing: float, head: TaskHead | None) -> nn.Module:
        """(outputs, targets) -> the loss (nats) that is minimised, mean over the images."""

    def accuracy(self, outputs: Any, labels: Any) -> Tensor:
        """Share of what was right in one batch, 0 to 1, without a graph; NaN where a task has no such figure."""

    def score(
        self,
        predict: Callable[[Tensor], Any],
        split: Split,
        classes: int,
        *,
        batch_size: int,
        accelerator: Accelerator,
        workers: int = 0,
    ) -> engine.Metrics:
        """``loss`` (nats) and :attr:`figures` (percent).

        Raises:
            RunStopped: as :func:`scansearch.engine.tally_split`.
        """

    def mean_loss(
        self, predict: Callable[[Tensor], Any], split: Split, classes: int, **options: Any
    ) -> float:
        """The ``loss`` of :meth:`score` alone, with the same options: what a search asks of many sub-networks."""

    def evaluate(
        self,
        predict: Callable[[Tensor], Any],
        data: ImageData,
        accelerator: Accelerator,
        *,
        split: ScoredSplit = "test",
        batch_size: int = 64,
        workers: int = 0,
        model: str = "model",
        genotype: str | None = None,
    ) -> Any:
        """The :class:`ScoreRecord` of ``predict`` on a split of ``data``; with several processes, of all together.

        Raises:
            InputError: outputs that do not fit the classes. RunStopped: as :meth:`score`.
        """


def in_float32(outputs: Any) -> Any:
    """The outputs of a model, a tensor or a tuple of tensors, as float32."""
    return tuple(output.float() for output in outputs) if isinstance(outputs, tuple) else outputs.float()
