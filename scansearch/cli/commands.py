"""Commands whose help has no word where a value would stand for an option that takes none."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _without_word(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


class Command(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_word(super().get_params(ctx))


class Group(TyperGroup):
    """Commands under one name."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_word(super().get_params(ctx))
