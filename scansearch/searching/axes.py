"""An axis of searching: the names that a configuration may give, and where each one's code is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any


class Axis(Mapping[str, str]):
    """Name -> ``module:object``. Importing an axis imports none of its members.

    A member of your own joins with :meth:`register` before the configuration is made::

        RELAXATIONS.register("mine", "my_package.relaxations:Mine")
    """

    def __init__(self, noun: str, members: Mapping[str, str]) -> None:
        self.noun = noun
        self._members = dict(members)

    def register(self, name: str, home: str) -> None:
        """Add a member.

        Raises:
            ValueError: the name is taken, or ``home`` is not written ``module:object``.
        """
        if name in self._members:
            raise ValueError(f"{self.noun} {name!r} is already registered as {self._members[name]!r}")
        module, colon, attribute = home.partition(":")
        if not (module and colon and attribute):
            raise ValueError(f"{self.noun} {name!r}: write its home as 'module:object', not {home!r}")
        self._members[name] = home

    def load(self, name: str) -> Any:
        """The object called ``name``. Raises KeyError for a name that the axis does not have."""
        module, _, attribute = self._members[name].partition(":")
        return getattr(import_module(module), attribute)

    def __getitem__(self, name: str) -> str:
        return self._members[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)
