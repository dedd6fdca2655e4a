"""Attributes that are there while their object is open: used before or after, they say so in words."""

from __future__ import annotations

from typing import Any, Generic, TypeVar, overload

__all__ = ["Opened"]

T = TypeVar("T")


class Opened(Generic[T]):
    """One such attribute. It is set when its object opens; ``Opened.close`` ends all of an object's."""

    def __set_name__(self, owner: type[object], name: str) -> None:
        """Learn its name."""
        self._name = name

    @overload
    def __get__(self, it: None, owner: type[Any]) -> Opened[T]: ...

    @overload
    def __get__(self, it: object, owner: type[Any]) -> T: ...

    def __get__(self, it: object | None, owner: type[Any]) -> T | Opened[T]:
        """Return the value; raises RuntimeError before the object was opened and after it was closed."""
        if it is None:
            return self
        try:
            value: T = it.__dict__[self._name]
        except KeyError:
            name = owner.__name__
            msg = f"this {name} is not open (not yet, or not any more): use it inside 'async with {name}(...)'"
            raise RuntimeError(msg) from None
        return value

    def __set__(self, it: object, value: T) -> None:
        """Keep the value until the object is closed."""
        it.__dict__[self._name] = value

    @staticmethod
    def close(it: object) -> None:
        """Take away all values."""
        for name, attribute in vars(type(it)).items():
            if isinstance(attribute, Opened):
                it.__dict__.pop(name, None)
