"""Genotype: the chosen scan directions of every layer, as one small immutable value and one YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from scansearch.data.treatment import height_and_width
from scansearch.directions import Layers, check_directions
from scansearch.errors import InputError
from scansearch.files.strict import Integers, StrictModel, StringLists, Strings, dump_yaml, load_yaml
from scansearch.records.provenance import Provenance
from scansearch.records.space import Family, SearchSpace, load_space, space_names, token_grids
from scansearch.text import choices, printable

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure

# What the families take where ``model`` is silent.
_PATCH_SIZE = {"local_vim": 16, "local_vmamba": 4}
_DEPTHS = (2, 2, 9, 2)


class Certificate(StrictModel):
    """Proof of what the derivation achieved: see :func:`scansearch.derive`.

    ``objective`` is the summed preference of the chosen directions, ``bound`` the solver's upper bound on
    it, ``lost_to_budget`` the preference that the same k without budgets would have had on top.
    """

    objective: float
    bound: float
    lost_to_budget: float
    k: str
    budgets: dict[str, float] = Field(default_factory=dict)
    spent: dict[str, float] = Field(default_factory=dict)
    convention: str | None = None
    image_size: Integers | None = None
    device: str | None = None
    notes: Strings = ()


class Genotype(StrictModel):
    """Per layer, the chosen directions. Immutable; equal genotypes have equal :attr:`hash`.

    Attributes:
        family: ``local_vim`` or ``local_vmamba``.
        layers: the directions of each layer, in canonical (candidate) order.
        model: sizes and switches of the derived model, the keyword arguments of its class.
        space, variant: where the search took place; None for a hand-made genotype.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    family: Family
    space: str | None = None
    variant: str | None = None
    layers: StringLists = Field(min_length=1)
    model: dict[str, Any] = Field(default_factory=dict)
    provenance: Provenance = Provenance()
    certificate: Certificate | None = None
    hash: str = ""

    @field_validator("layers")
    @classmethod
    def _known_directions(cls, value: Layers) -> Layers:
        return tuple(check_directions(names, where=f"layer {index}") for index, names in enumerate(value))

    @field_validator("model")
    @classmethod
    def _plain_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        value = {key: list(item) if isinstance(item, tuple) else item for key, item in value.items()}
        for key, item in value.items():
            if not all(
                part is None or isinstance(part, str | int | float)
                for part in (item if isinstance(item, list) else [item])
            ):
                raise ValueError(f"{key} must be a plain value or a list of them")
        depths = value.get("depths")
        if depths is not None and not (
            isinstance(depths, list) and all(type(depth) is int and depth > 0 for depth in depths)
        ):
            raise ValueError("depths must be a list of whole numbers from 1 on")
        if "img_size" in value:
            try:
                height_and_width(value["img_size"])
            except InputError as error:
                raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _hash_holds(self) -> Genotype:
        depths = self.model.get("depths")
        if depths is not None and sum(depths) != len(self.layers):
            raise ValueError(f"layers: {len(self.layers)} given, but model.depths adds up to {sum(depths)}")
        content = self.content_hash()
        if self.hash and self.hash != content:
            raise ValueError(
                f"hash: the file says {self.hash}, its layers and model give {content}; "
                "it was edited by hand (remove the hash line to accept it)"
            )
        object.__setattr__(self, "hash", content)
        return self

    def content_hash(self) -> str:
        """Twelve hexadecimal digits of SHA-256 over family, layers and model; provenance does not count."""
        content = {"schema": 1, "family": self.family, "layers": self.layers, "model": self.model}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def directions_per_layer(self) -> tuple[int, ...]:
        """The number of directions of each layer."""
        return tuple(len(names) for names in self.layers)

    @property
    def title(self) -> str:
        """Where it comes from, its size and its hash, in one line."""
        origin = f"{self.space}/{self.variant}" if self.space else self.family
        sizes = sorted(set(self.directions_per_layer))
        each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
        return printable(
            f"genotype {self.hash} of {origin}: {len(self.layers)} layers, {each} directions each"
        )

    def __repr__(self) -> str:
        return f"<{self.title}>"

    def _repr_html_(self) -> str:
        from scansearch.display.html import fragment, line
        from scansearch.display.sketch import layer_strip

        return fragment(line(self.title), layer_strip(self.layers, self.known_grids()))

    def to_frame(self) -> DataFrame:
        """A pandas table with a row for each layer and direction: ``layer`` (from 0), ``direction``."""
        from scansearch.display.frames import table_of

        rows = (
            {"layer": layer, "direction": name} for layer, names in enumerate(self.layers) for name in names
        )
        return table_of(rows, ("layer", "direction"))

    def plot(
        self, *, image: np.ndarray | None = None, layer: int | None = None, title: str | None = None
    ) -> Figure:
        """A matplotlib Figure: all layers as a diagram, or the scans of one, over an image where one is given.

        Args:
            image: see :func:`scansearch.plots.scan_paths_figure`.
            layer: whose scans, from 0; None for the diagram, or with an image for layer 0.
            title: of the diagram, instead of family, space and hash.

        Raises:
            InputError: a layer that there is not, an image that cannot be drawn, or too many layers for a diagram.
        """
        from scansearch.display.homes import drawn

        if image is None and layer is None:
            return drawn("genotype", self, title=title)
        return drawn("paths", self, image, layer=layer or 0)

    def known_grids(self) -> tuple[tuple[int, int], ...]:
        """:meth:`grids`; empty where the sizes in ``model`` make none."""
        try:
            return self.grids()
        except InputError:
            return ()

    def grids(self, image_size: tuple[int, int] | None = None) -> tuple[tuple[int, int], ...]:
        """Rows and columns of tokens that every layer scans, for images of ``image_size`` (height, width) pixels.

        None is the model's own size.

        Raises:
            InputError: sizes in ``model`` that are none, or images smaller than a patch.
        """
        height, width = image_size or height_and_width(self.model.get("img_size", 224))
        patch = self.model.get("patch_size", _PATCH_SIZE[self.family])
        if type(patch) is not int or not 1 <= patch <= min(height, width):
            raise InputError(f"patches of {patch!r} pixels do not fit into images of {height}x{width}")
        if self.family == "local_vim":
            return token_grids(height, width, patch, len(self.layers))
        depths = self.model.get("depths", _DEPTHS)
        if sum(depths) != len(self.layers):
            raise InputError(f"{len(self.layers)} layers given, but depths {tuple(depths)} are {sum(depths)}")
        return token_grids(height, width, patch, depths)

    @classmethod
    def of_space(
        cls,
        space: SearchSpace,
        layers: Sequence[Sequence[str]],
        *,
        variant: str | None = None,
        provenance: Provenance | None = None,
        certificate: Certificate | None = None,
    ) -> Genotype:
        """The genotype of ``space`` with these ``layers``; sizes and switches come from its derived model.

        Raises:
            InputError: a wrong number of layers, or a direction that is no candidate of its layer.
        """
        name = variant or space.default_variant
        candidates = space.layer_candidates(name)
        if len(layers) != len(candidates):
            raise InputError(f"{len(layers)} layers given, but {space.name}/{name} has {len(candidates)}")
        ordered = []
        for index, (chosen, allowed) in enumerate(zip(layers, candidates, strict=True)):
            check_directions(chosen, where=f"layer {index}")
            unknown = [direction for direction in chosen if direction not in allowed]
            if unknown:
                raise InputError(
                    f"layer {index}: {unknown[0]!r} is no candidate {choices(unknown[0], allowed)}"
                )
            ordered.append(tuple(direction for direction in allowed if direction in chosen))
        model = space.model_arguments(name, "derived")
        treatment = None if provenance is None else provenance.treatment
        if treatment is not None and treatment.image_size != height_and_width(model["img_size"]):
            height, width = treatment.image_size
            model["img_size"] = height if height == width else (height, width)
        return cls(
            family=space.family,
            space=space.name,
            variant=name,
            layers=tuple(ordered),
            model=model,
            provenance=provenance or Provenance(),
            certificate=certificate,
        )

    def build(
        self,
        *,
        num_classes: int = 1000,
        variant: str | None = None,
        space: SearchSpace | str | Path | None = None,
        **overrides: Any,
    ) -> nn.Module:
        """A model with fresh weights and this genotype's directions.

        Args:
            num_classes: size of the classifier; 0 for none.
            variant: sizes of another variant of the genotype's space (same number of layers).
            space: the space that has ``variant``, or its name or file; None for the one that comes with
                scansearch under the name in the genotype, if it is the same.
            overrides: any further argument of the family's class, for example ``img_size``.

        Returns:
            an ``nn.Module`` with timm's interface, taking images [batch, channels, height, width].

        Raises:
            InputError: a variant of another depth, a space that is not the genotype's, or arguments that the
                family does not have.
        """
        from scansearch.models.build import build_model

        arguments = dict(self.model)
        if variant is not None:
            arguments = self._variant_arguments(variant, space)
        elif space is not None:
            raise InputError("space says where a variant comes from: give variant too")
        return build_model(self.family, self.layers, num_classes=num_classes, **(arguments | overrides))

    def _variant_arguments(self, variant: str, space: SearchSpace | str | Path | None) -> dict[str, Any]:
        """Sizes and switches of ``variant``, which must have this genotype's family and depth."""
        if space is None:
            home = self._shipped_space()
        else:
            home = space if isinstance(space, SearchSpace) else load_space(space)
        if home.family != self.family:
            raise InputError(
                f"this genotype is of family {self.family!r}, space {home.name!r} of {home.family!r}"
            )
        depth = home.variant(variant).layers
        if depth != len(self.layers):
            raise InputError(
                f"this genotype has {len(self.layers)} layers, variant {variant!r} of {home.name} has {depth}: "
                "another width is free, another depth needs its own search"
            )
        return home.model_arguments(variant, "derived")

    def _shipped_space(self) -> SearchSpace:
        """The space that comes with scansearch under this genotype's ``space``.

        Raises:
            InputError: none does, or it is another one that happens to have the same name.
        """
        if self.space is None:
            raise InputError("this genotype names no space, so it has no variants: give space")
        if self.space not in space_names():
            raise InputError(
                f"space {self.space!r} does not come with scansearch: give space, it or its file"
            )
        home = load_space(self.space)
        if not self._fits(home):
            raise InputError(
                f"the space {self.space!r} that comes with scansearch is not this genotype's "
                f"(its {self.variant!r} has other sizes or candidates): give space, it or its file"
            )
        return home

    def _fits(self, space: SearchSpace) -> bool:
        """Whether this genotype can come from ``space``: family, candidates, sizes and switches agree."""
        if space.family != self.family or self.variant not in space.variants:
            return False
        candidates = space.layer_candidates(self.variant)
        chosen = [set(names) for names in self.layers]
        if len(candidates) != len(chosen) or not all(map(set.issuperset, map(set, candidates), chosen)):
            return False
        theirs, ours = self._plain_values(space.model_arguments(self.variant, "derived")), dict(self.model)
        # The image size is the user's to choose, in any space.
        return {**theirs, "img_size": None} == {**ours, "img_size": None}

    def to_yaml(self) -> str:
        """Canonical YAML text; :meth:`load` of it gives an equal genotype, byte for byte."""
        data = self.model_dump(mode="json", by_alias=True, exclude_defaults=False)
        data["provenance"] = {
            key: value for key, value in data["provenance"].items() if value not in (None, [])
        }
        if data["certificate"] is None:
            del data["certificate"]
        return dump_yaml({key: value for key, value in data.items() if value not in (None, {})})

    def save(self, path: str | Path) -> None:
        """Write :meth:`to_yaml` to ``path``, atomically."""
        from scansearch.files.atomic import write_text

        write_text(Path(path), self.to_yaml())

    @classmethod
    def load(cls, path: str | Path) -> Genotype:
        """The genotype in a YAML file.

        Raises:
            InputError: one line naming file, key and what is allowed.
        """
        return load_yaml(Path(path), cls)
