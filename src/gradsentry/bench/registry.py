"""What is pluggable in the bench: a name and where its object is, imported when the name is first looked up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from importlib import import_module
from typing import Generic, TypeVar

from gradsentry.errors import UsageError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Name -> object. Listing the names imports nothing, so help texts can come from here."""

    def __init__(self, kind: str, places: Mapping[str, T | str], also: str = "") -> None:
        """Args:
        kind: what the objects are, for messages: "attack".
        places: name -> object, or where it is: "module:OBJECT", the module being one of `gradsentry.bench`.
        also: further names that the caller accepts, for messages.
        """
        self.kind, self.places, self.also = kind, places, also
        self.added: dict[str, T] = {}
        """Objects that this process has added, by name."""

    def add(self, name: str, item: T) -> None:
        """Make an object available by a name, in this process only.

        Raises:
            UsageError: the name is taken by a built-in one.
        """
        if name in self.places:
            raise UsageError(f"{self.kind} {name!r} is built in; choose another name")
        self.added[name] = item

    def __getitem__(self, name: str) -> T:
        """Raises:
        UsageError: no object has this name.
        """
        if name in self.added:
            return self.added[name]
        if name not in self.places:
            close = get_close_matches(name, self, n=1)
            hint = f", did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"{self.kind} {name!r} is unknown{hint}; there are {', '.join(self)}{self.also}")
        place = self.places[name]
        if not isinstance(place, str):
            return place
        module, _, attribute = place.partition(":")
        return getattr(import_module(f"gradsentry.bench.{module}"), attribute)

    def __contains__(self, name: object) -> bool:
        return name in self.places or name in self.added

    def __iter__(self) -> Iterator[str]:
        yield from (*self.places, *self.added)

    def __len__(self) -> int:
        return len(self.places) + len(self.added)
