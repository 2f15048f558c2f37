"""The only level that parses YAML, and that turns parsed data into strict pydantic models.

PyYAML's ``safe_load`` runs no code, but three of its habits lose a user's intent: ``1e-3`` becomes a
string, a repeated key silently wins, and nested aliases expand without bound. The loader below mends
them: YAML 1.2 floats, repeated keys refused, aliases refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, Strict, ValidationError

from scansearch.errors import InputError
from scansearch.files.regular import read_regular
from scansearch.text import choices

Model = TypeVar("Model", bound=BaseModel)

# Immutable sequences: strict about their elements, but built from the lists that YAML and JSON have.
Strings = Annotated[tuple[str, ...], Strict(False)]
Integers = Annotated[tuple[int, ...], Strict(False)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Strict(False)]
Numbers = Annotated[tuple[float, ...], Strict(False)]
StringLists = Annotated[tuple[Strings, ...], Strict(False)]
NumberLists = Annotated[tuple[Numbers, ...], Strict(False)]


if TYPE_CHECKING:
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)  # which has no public name


class _OneLine(ModelMetaclass):
    """A value that is made from bad arguments says why in one line; inside other values pydantic gathers all."""

    if not TYPE_CHECKING:  # type checkers take the signature of the class

        def __call__(cls, *arguments: Any, **fields: Any) -> Any:  # noqa: N805 - of a metaclass
            try:
                return super().__call__(*arguments, **fields)
            except ValidationError as error:
                raise InputError(f"{cls.__name__}: {describe(error, cls)}") from None


class StrictModel(BaseModel, metaclass=_OneLine):
    """Base of every file and configuration: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    def __str__(self) -> str:
        return repr(self)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.YAMLError(
                f"line {event.start_mark.line + 1}: aliases (*{event.anchor}) are not allowed"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} must be a string")
            if key in seen:
                raise yaml.YAMLError(f"line {key_node.start_mark.line + 1}: key {key!r} is repeated")
            seen.add(key)
        return super().construct_mapping(node, deep)


_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"
)
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] not in ("timestamp", "bool")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|false|False)$"), list("tTfF")
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def parse_yaml(text: str, *, source: str) -> dict[str, Any]:
    """``text`` as a mapping.

    Raises:
        InputError: naming ``source``, the line and the problem.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{source}: {line}{_one_line(error.problem or error)}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{source}: {_one_line(error) or type(error).__name__}") from None
    if not isinstance(data, dict):
        raise InputError(f"{source}: expected keys and values, found {type(data).__name__}")
    return data


def read_text(path: Path, *, limit: int = 4_000_000) -> str:
    """The text of a small file.

    Raises:
        InputError: the file is missing, unreadable, no regular file, larger than ``limit`` bytes or not UTF-8.
    """
    try:
        return read_regular(path, limit=limit).decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a UTF-8 text file") from None


def load_yaml(path: Path, model: type[Model]) -> Model:
    """The file ``path`` as a validated ``model``.

    Raises:
        InputError: one line naming file, key and what is allowed.
    """
    return validate(parse_yaml(read_text(path), source=str(path)), model, source=str(path))


def load_json(path: Path, model: type[Model]) -> Model:
    """The JSON file ``path`` as a validated ``model``, as strict as :func:`load_yaml`.

    Raises:
        InputError: one line naming file, key and what is allowed.
    """
    return parse_json(read_text(path), model, source=str(path))


def parse_json(text: str, model: type[Model], *, source: str) -> Model:
    """The JSON ``text`` as a validated ``model``.

    Raises:
        InputError: one line naming ``source``, key and what is allowed.
    """
    try:
        data = json.loads(text, object_pairs_hook=_distinct_keys)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{source}: not valid JSON ({_one_line(error)})") from None
    if not isinstance(data, dict):
        raise InputError(f"{source}: not one of ours: expected keys and values, found {type(data).__name__}")
    return validate(data, model, source=source)


def _distinct_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is repeated")
    return data


def validate(data: Any, model: type[Model], *, source: str) -> Model:
    """``data`` (plain dicts and lists, as YAML and JSON give them) as a ``model``.

    Raises:
        InputError: one line naming ``source``, the first offending key and what is allowed.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{source}: {describe(error, model)}") from None


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """The first problem of a pydantic error in one line: key, problem, what is allowed."""
    problems = error.errors(include_url=False)
    # A misspelt key is also a missing one: the misspelling is what helps.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    # Members of a union put their type into the location: no key of the file, so left out.
    key = ".".join(str(part) for part in first["loc"] if "[" not in str(part))
    if first["type"] == "extra_forbidden":
        allowed = _fields_at(model, first["loc"][:-1])
        text = f"unknown key {key!r}" + (f" {choices(str(first['loc'][-1]), allowed)}" if allowed else "")
    elif first["type"] == "missing":
        text = f"key {key!r} is missing"
    elif first["type"] == "value_error":
        text = (f"{key}: " if key else "") + str(first["ctx"]["error"])
    else:
        value = repr(first["input"])
        value = value if len(value) <= 60 else value[:57] + "..."
        message = first["msg"].replace("valid tuple", "list")
        text = f"{key}: {message[0].lower()}{message[1:]}, found {value}"
    more = len(problems) - 1
    return _one_line(text) + (f" (and {more} more)" if more else "")


def apply_settings(data: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """``data`` with every ``a.b=value`` of ``settings`` put in its level; values are read as YAML.

    Raises:
        InputError: a setting without ``=``, or one that goes through a plain value.
    """
    result = dict(data)
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path:
            raise InputError(f"setting {setting!r}: expected KEY=VALUE, for example alphas.lr=0.01")
        *parents, last = path.split(".")
        level = result
        for parent in parents:
            inner = level.get(parent) or {}
            if not isinstance(inner, dict):
                raise InputError(f"setting {setting!r}: {parent!r} holds a value, not a group")
            level[parent] = level = dict(inner)
        level[last] = parse_yaml(f"value: {text}", source=f"setting {setting!r}")["value"]
    return result


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at ``location`` inside ``model``; empty where that cannot be told."""
    current: Any = model
    in_container = False
    for part in location:
        if in_container:  # the part is a key or an index, and the members are all of one model
            in_container = False
            continue
        fields = getattr(current, "model_fields", {})
        named = [field.annotation for name, field in fields.items() if part in (name, field.alias)]
        current = _model_in(named[0]) if named else None
        in_container = bool(named) and get_origin(named[0]) in (dict, list, tuple)
    fields = getattr(current, "model_fields", {})
    return [field.alias or name for name, field in fields.items()]


def _model_in(annotation: Any) -> Any:
    """The model inside ``Model | None``, ``dict[str, Model]`` or ``tuple[Model, ...]``, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part)) is not None), None)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


class _Dumper(yaml.SafeDumper):
    """Block style for mappings, one line for lists of plain values."""

    def represent_sequence(
        self, tag: str, sequence: Any, flow_style: bool | None = None
    ) -> yaml.SequenceNode:
        plain = all(isinstance(item, str | int | float | bool) or item is None for item in sequence)
        return super().represent_sequence(tag, sequence, flow_style=plain)

    def ignore_aliases(self, data: Any) -> bool:
        return True


# A text that reads as a number here but not in YAML 1.1 (1e3) must be quoted.
_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_representer(list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data))
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data))


def dump_yaml(data: dict[str, Any]) -> str:
    """``data`` as canonical YAML text: key order kept, no aliases, one line per list of plain values."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
