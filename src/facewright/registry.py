"""Names to things: a table that refuses a second registration and names the nearest known name for an unknown one."""

from __future__ import annotations

from typing import Generic, TypeVar

from facewright.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of named values, filled where they are defined and read by name.

    >>> optimizers: Registry[str] = Registry("optimizer")
    >>> optimizers.register("adamw", "AdamW")
    >>> optimizers.get("adamw"), "sgd" in optimizers, optimizers.names()
    ('AdamW', False, ('adamw',))
    """

    def __init__(self, kind: str) -> None:
        """
        Args:
            kind: what the names stand for, in the singular ("model"); error messages use it.
        """
        self.kind = kind
        self._values: dict[str, T] = {}

    def register(self, name: str, value: T) -> None:
        """Enter `value` under `name`.

        Raises:
            ValueError: the name is taken; two meanings of one name are a mistake in the program.
        """
        if name in self._values:
            raise ValueError(f"{self.kind} {name!r} is already registered")
        self._values[name] = value

    def get(self, name: str) -> T:
        """The value registered under `name`.

        Raises:
            UnknownName: no such name; the message proposes the nearest known one.
        """
        if name not in self._values:
            raise UnknownName(self.kind, name, self._values)
        return self._values[name]

    def names(self) -> tuple[str, ...]:
        """Every registered name, in the order of registration."""
        return tuple(self._values)

    def __contains__(self, name: object) -> bool:
        return name in self._values
