"""SearchSpace: a backbone family, the candidate directions of each layer, and the sizes of its models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, Strict, field_validator, model_validator

from scansearch.directions import Layers, check_directions
from scansearch.errors import InputError
from scansearch.files.strict import Counts, StrictModel, StringLists, Strings, dump_yaml, load_yaml
from scansearch.text import choices, printable

if TYPE_CHECKING:
    from scansearch.display.frames import DataFrame
    from scansearch.display.homes import Figure

Family = Literal["local_vim", "local_vmamba"]


class Switches(StrictModel):
    """Named choices in which the released LocalMamba code and newer practice differ."""

    window_padding: Literal["zero", "skip"] = "skip"
    branch_attention: Literal["none", "channel", "channel+spatial"] = "channel"
    dt_init: Literal["released", "mamba"] = "mamba"
    merge: Literal["sum", "mean"] = "sum"


class Backbone(StrictModel):
    """Sizes that the supernet and the derived models share. Fields left out take the family's default."""

    patch_size: int = Field(ge=1, le=1024)
    states: int = Field(default=16, ge=1, le=64)
    expand: int = Field(default=2, ge=1, le=64)
    position_embedding: bool | None = None
    rope: bool | None = None


class Width(StrictModel):
    """Width of one model: ``embed_dim`` for local_vim, one entry of ``dims`` per stage for local_vmamba."""

    embed_dim: int | None = Field(default=None, ge=1, le=32_768)
    dims: Counts | None = Field(default=None, min_length=1)
    drop_path_rate: float = Field(default=0.0, ge=0.0, lt=1.0)


class Variant(StrictModel):
    """One size of the space. ``depth`` for local_vim, ``depths`` (layers per stage) for local_vmamba."""

    image_size: int = Field(ge=1, le=16_384)
    depth: int | None = Field(default=None, ge=1, le=1024)
    depths: Counts | None = Field(default=None, min_length=1)
    backbone: Backbone
    supernet: Width
    derived: Width

    @property
    def layers(self) -> int:
        return sum(self.depths) if self.depths is not None else int(self.depth or 0)


class SearchSpace(StrictModel):
    """What may be searched. Obtain it with :func:`load_space`.

    ``candidates`` is one list for all layers, or one list per layer. ``merged`` is what a search adds, per layer: the
    candidates that were left out because an earlier one is the same scan there, with its name.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    family: Family
    candidates: Strings | StringLists
    default_variant: str
    switches: Switches = Switches()
    variants: dict[str, Variant] = Field(min_length=1)
    merged: Annotated[tuple[dict[str, str], ...], Strict(False)] = ()

    @field_validator("candidates")
    @classmethod
    def _known_directions(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value or isinstance(value[0], str):
            return check_directions(value, where="its directions")
        return tuple(check_directions(names, where=f"layer {index}") for index, names in enumerate(value))

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        if self.default_variant not in self.variants:
            allowed = choices(self.default_variant, self.variants)
            raise ValueError(f"default_variant {self.default_variant!r} is not a variant {allowed}")
        plain = self.family == "local_vim"
        for name, variant in self.variants.items():
            where = f"variants.{name}"
            if variant.layers > 1024 or max(variant.supernet.dims or (), default=0) > 32_768:
                raise ValueError(f"{where}: at most 1024 layers, none wider than 32768")
            if (variant.depth is None) == plain or (variant.depths is None) != plain:
                raise ValueError(
                    f"{where}: family {self.family} needs {'depth' if plain else 'depths'} and nothing else"
                )
            for part, width in (("supernet", variant.supernet), ("derived", variant.derived)):
                if (width.embed_dim is None) == plain or (width.dims is None) != plain:
                    needed = "embed_dim" if plain else "dims"
                    raise ValueError(f"{where}.{part}: family {self.family} needs {needed} and nothing else")
                if variant.depths is not None and len(width.dims or ()) != len(variant.depths):
                    raise ValueError(
                        f"{where}.{part}: dims needs one entry per stage, so {len(variant.depths)}"
                    )
            if not plain and (
                variant.backbone.position_embedding is not None or variant.backbone.rope is not None
            ):
                raise ValueError(
                    f"{where}.backbone: position_embedding and rope exist in family local_vim only"
                )
            if isinstance(self.candidates[0], tuple) and len(self.candidates) != variant.layers:
                raise ValueError(
                    f"candidates lists {len(self.candidates)} layers, but variant {name} has {variant.layers}"
                )
            if self.merged and len(self.merged) != variant.layers:
                raise ValueError(
                    f"merged lists {len(self.merged)} layers, but variant {name} has {variant.layers}"
                )
        return self

    def variant(self, name: str | None = None) -> Variant:
        """The variant called ``name`` (None: the default one).

        Raises:
            InputError: unknown name.
        """
        chosen = name or self.default_variant
        if chosen not in self.variants:
            raise InputError(
                f"space {self.name!r} has no variant {chosen!r} {choices(chosen, self.variants)}"
            )
        return self.variants[chosen]

    def layer_candidates(self, variant: str | None = None) -> Layers:
        """The candidate names of every layer of ``variant``."""
        layers = self.variant(variant).layers
        if isinstance(self.candidates[0], tuple):
            return tuple(tuple(names) for names in self.candidates)
        return (tuple(str(name) for name in self.candidates),) * layers

    def smaller_variants(self, variant: str | None = None) -> list[str]:
        """The variants with less to compute than ``variant``, smallest first: by tokens times squared width."""

        def work(name: str) -> int:
            width = self.variant(name).supernet
            stages = width.dims or (width.embed_dim or 1,)
            depths = self.variant(name).depths or (self.variant(name).layers,)
            dims = [dim for dim, depth in zip(stages, depths, strict=True) for _ in range(depth)]
            grids = self.grids(name)
            return sum(rows * columns * dim**2 for (rows, columns), dim in zip(grids, dims, strict=True))

        most = work(variant or self.default_variant)
        return sorted((name for name in self.variants if work(name) < most), key=work)

    def names_per_layer(self, variant: str | None = None) -> list[int]:
        """The number of candidates of every layer, those that were merged into others counted too."""
        merged = self.merged or ({},) * self.variant(variant).layers
        pairs = zip(self.layer_candidates(variant), merged, strict=True)
        return [len(names) + len(left_out) for names, left_out in pairs]

    def __repr__(self) -> str:
        candidates = len({name for names in self.layer_candidates() for name in names})
        variants = ", ".join(self.variants)
        return printable(
            f"<SearchSpace {self.name} ({self.family}): {candidates} candidates, variants {variants}>"
        )

    def _repr_html_(self) -> str:
        from scansearch.display.html import fragment, line, table
        from scansearch.display.sketch import layer_strip

        rows = []
        for name, variant in self.variants.items():
            grids = dict.fromkeys(f"{rows} x {columns}" for rows, columns in self.grids(name))
            default = " (default)" if name == self.default_variant else ""
            rows.append((name + default, f"{variant.image_size} px", variant.layers, ", ".join(grids)))
        layers = self.layer_candidates()
        same = len(set(layers)) == 1
        return fragment(
            line(repr(self).strip("<>")),
            table(("variant", "image", "layers", "tokens"), rows),
            line(
                "candidates of every layer:" if same else "candidates of each layer of the default variant:"
            ),
            layer_strip([[name] for name in layers[0]], numbered=False) if same else layer_strip(layers),
        )

    def to_frame(self, variant: str | None = None) -> DataFrame:
        """A pandas table with a row for each layer and candidate of ``variant``.

        Columns: ``layer`` (from 0), ``direction``, and the grid of tokens, ``rows`` and ``columns``.

        Raises:
            InputError: unknown variant.
        """
        from scansearch.display.frames import table_of

        pairs = zip(self.layer_candidates(variant), self.grids(variant), strict=True)
        rows = (
            {"layer": layer, "direction": name, "rows": grid[0], "columns": grid[1]}
            for layer, (names, grid) in enumerate(pairs)
            for name in names
        )
        return table_of(rows, ("layer", "direction", "rows", "columns"))

    def plot(self, variant: str | None = None, *, layer: int = 0) -> Figure:
        """The scans of the candidates of one layer, from 0, on its grid of tokens; a matplotlib Figure.

        Raises:
            InputError: unknown variant, or a layer that it does not have.
        """
        from scansearch.display.homes import drawn

        layers = self.layer_candidates(variant)
        if not 0 <= layer < len(layers):
            raise InputError(f"the space has no layer {layer} (allowed: 0 to {len(layers) - 1})")
        return drawn("paths", layers[layer], grid=self.grids(variant)[layer])

    def to_yaml(self) -> str:
        """The file's text, canonical; see :func:`load_space`."""
        content = self.model_dump(mode="json", by_alias=True)
        if not self.merged:
            del content["merged"]
        return dump_yaml(content)

    def grids(
        self, variant: str | None = None, image_size: tuple[int, int] | None = None
    ) -> tuple[tuple[int, int], ...]:
        """Rows and columns of tokens that every layer scans, for images of ``image_size`` (height, width) pixels.

        None is the variant's own size.
        """
        sizes = self.variant(variant)
        height, width = image_size or (sizes.image_size, sizes.image_size)
        return token_grids(height, width, sizes.backbone.patch_size, sizes.depths or sizes.layers)

    def model_arguments(self, variant: str | None, role: Literal["supernet", "derived"]) -> dict[str, Any]:
        """Keyword arguments of the family's model class for one variant and role."""
        sizes = self.variant(variant)
        width = sizes.supernet if role == "supernet" else sizes.derived
        arguments: dict[str, Any] = {"img_size": sizes.image_size, **self.switches.model_dump()}
        arguments |= sizes.backbone.model_dump(exclude_none=True) | width.model_dump(exclude_none=True)
        if sizes.depths is not None:
            arguments["depths"] = sizes.depths
            arguments["ssm_ratio"] = arguments.pop("expand")
        return arguments


def token_grids(
    height: int, width: int, patch: int, depths: int | Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Rows and columns of tokens that every layer scans, for images of ``height`` x ``width`` pixels.

    Args:
        patch: side of a patch in pixels.
        depths: the layers of every stage of a hierarchical backbone, or the number of layers of a plain one.
    """
    if isinstance(depths, int):
        return ((-(-height // patch), -(-width // patch)),) * depths
    rows, columns = height // patch, width // patch
    grids: list[tuple[int, int]] = []
    for depth in depths:
        grids += [(rows, columns)] * depth
        rows, columns = -(-rows // 2), -(-columns // 2)
    return tuple(grids)


def spaces_folder() -> Path:
    """The folder of the spaces that come with scansearch: the checkout's, else the installed package's."""
    package = Path(__file__).resolve().parents[1]
    if (package.parent / "pyproject.toml").is_file() and (package.parent / "search_spaces").is_dir():
        return package.parent / "search_spaces"
    return package / "search_spaces"


def space_names() -> list[str]:
    """Names of the spaces that come with scansearch, sorted."""
    return sorted(path.stem for path in spaces_folder().glob("*.yaml"))


def load_space(name: str | Path) -> SearchSpace:
    """The space called ``name``, or the one in the YAML file ``name``.

    Raises:
        InputError: no such space or file, or a file that is not a valid space.
    """
    text = str(name)
    if text.endswith((".yaml", ".yml")) or "/" in text or isinstance(name, Path):
        return load_yaml(Path(name), SearchSpace)
    path = spaces_folder() / f"{text}.yaml"
    if text not in space_names():
        allowed = choices(text, space_names(), ", or a path to a .yaml file")
        raise InputError(f"unknown space {text!r} {allowed}")
    return load_yaml(path, SearchSpace)
