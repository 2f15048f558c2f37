"""``timm:NAME``: a classifier of timm, trained as genotypes are, to compare a search with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from scansearch.data.treatment import height_and_width
from scansearch.files.strict import StrictModel, dump_yaml, load_yaml
from scansearch.records.genotype import Genotype

if TYPE_CHECKING:
    from torch import nn

PREFIX = "timm:"


class TimmModel(StrictModel):
    """A model that timm makes; it scans nothing, so it has no genotype.

    Attributes:
        name: as timm has it registered, without a tag of pretrained weights.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9_]{1,120}$")

    @property
    def title(self) -> str:
        """``timm:NAME``"""
        return f"{PREFIX}{self.name}"

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels that timm made it for."""
        from scansearch.models.timm_baseline import own_image_size

        return own_image_size(self.name)

    def build(self, **arguments: Any) -> nn.Module:
        """See :func:`scansearch.models.timm_baseline.build_timm`.

        Raises:
            InputError: a model that timm does not have, or arguments that do not fit it.
        """
        from scansearch.models.timm_baseline import build_timm

        size = height_and_width(arguments.pop("img_size", self.image_size))
        options: dict[str, Any] = {"num_classes": 1000, "in_chans": 3, **arguments}
        return build_timm(self.name, img_size=size, **options)

    def to_yaml(self) -> str:
        """Canonical YAML text."""
        return dump_yaml(self.model_dump(mode="json", by_alias=True))

    @classmethod
    def load(cls, path: str | Path) -> TimmModel:
        """The model that a YAML file names.

        Raises:
            InputError: one line naming file, key and what is allowed.
        """
        return load_yaml(Path(path), cls)


TrainedModel = Genotype | TimmModel
