"""What a file holds as frozen records: a dataclass's annotations say what each field must be.

    @dataclass(frozen=True, slots=True)
    class Turn:
        query: str                     # must be there
        tokens: Count                  # a whole number that is not negative
        flags: tuple[str, ...] = ()    # may be missing or null

Known are str, bool, int, float, Literal, None beside another type, tuple[T, ...],
Mapping[str, T], Any (JSON of a bounded depth), other dataclasses, and Annotated[T, check]. Fields
that a record does not declare are not looked at.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Check = Callable[[Any, str], Any]  # takes a value and the name of its place, returns the value
MAX_DEPTH = 100  # of lists and objects inside each other
LARGEST = 2**53  # up to here whole numbers are the same in every reader of JSON


class Malformed(ValueError):
    """A value is not what its place asks for; the text names the field and says why."""

    @staticmethod
    def expected(at: str, what: str, value: Any) -> Malformed:
        return Malformed(f"{at or 'it'} must be {what}, not {_kind(value)}")


def read_as(cls: type[T], value: Any, at: str = "") -> T:
    """A dataclass from parsed JSON. `at` names the value's place. Raises Malformed."""
    if not isinstance(value, Mapping):
        raise Malformed.expected(at, "an object", value)
    found = {}
    for name, (check, required) in _fields(cls).items():
        inner = value.get(name)
        place = f"{at}.{name}" if at else name
        if name not in value and required:
            raise Malformed(f"{place} is missing")
        if inner is not None or required:
            found[name] = check(inner, place)
    return cls(**found)


def within(low: float, high: float) -> Check:
    """Numbers from `low` to `high`."""

    def check(value: Any, at: str) -> Any:
        if not low <= value <= high:
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            raise Malformed(f"{at} must be from {low:g} to {high:g}, not {shown[:40]}")
        return value

    return check


Count = Annotated[int, within(0, LARGEST)]


def json_value(value: Any, at: str, depth_limit: int = MAX_DEPTH) -> Any:
    """Any JSON with finite numbers, and no more lists and objects inside each other than that."""
    waiting = [(value, 0)]
    while waiting:
        one, depth = waiting.pop()
        if isinstance(one, dict | list):
            if depth == depth_limit:
                raise Malformed(f"{at or 'it'} is nested more than {depth_limit} levels deep")
            inner = one.values() if isinstance(one, dict) else one
            waiting.extend((v, depth + 1) for v in inner)
        elif isinstance(one, float) and not math.isfinite(one):
            raise Malformed(f"{at or 'it'} holds a number that is too large")
    return value


_known: dict[type, dict[str, tuple[Check, bool]]] = {}


def _fields(cls: type) -> dict[str, tuple[Check, bool]]:
    """Of each field its check, and whether it must be there."""
    if cls not in _known:
        _known[cls] = _read_annotations(cls)
    return _known[cls]


def _read_annotations(cls: Any) -> dict[str, tuple[Check, bool]]:
    hints = get_type_hints(cls, include_extras=True)
    missing = dataclasses.MISSING
    return {
        f.name: (
            _check_of(hints[f.name]),
            f.default is missing and f.default_factory is missing,
        )
        for f in dataclasses.fields(cls)
    }


def _check_of(hint: Any) -> Check:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin is Annotated:
        return functools.partial(_both, _check_of(args[0]), list(args[1:]))
    if origin is Literal:
        return functools.partial(_one_of, args)
    if origin in (Union, types.UnionType):
        return functools.partial(_either, [_check_of(a) for a in args])
    if origin is tuple:
        return functools.partial(_list, _check_of(args[0]))
    if origin is not None and issubclass(origin, Mapping):
        return functools.partial(_mapping, _check_of(args[1]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return functools.partial(read_as, hint)
    raise TypeError(f"records cannot hold {hint!r}")


def _text(value: Any, at: str) -> str:
    if not isinstance(value, str):
        raise Malformed.expected(at, "text", value)
    return value


def _whole(value: Any, at: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Malformed.expected(at, "a whole number", value)
    return value


def _number(value: Any, at: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise Malformed.expected(at, "a number", value)
    if not abs(value) <= 1e300:  # an integer may be too large for a float
        raise Malformed(f"{at} is too large a number")
    return float(value)


def _truth(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise Malformed.expected(at, "true or false", value)
    return value


def _nothing(value: Any, at: str) -> None:
    if value is not None:
        raise Malformed.expected(at, "null", value)


def _one_of(options: tuple[Any, ...], value: Any, at: str) -> Any:
    if not isinstance(value, str):
        raise Malformed.expected(at, "text", value)
    if value not in options:
        known = ", ".join(repr(o) for o in options)
        raise Malformed(f"{at} must be one of {known}, not {value[:40]!r}")
    return value


def _either(checks: list[Check], value: Any, at: str) -> Any:
    found: Malformed | None = None
    for check in checks:
        try:
            return check(value, at)
        except Malformed as error:
            found = found or error
    raise found or Malformed(at)


def _both(check: Check, more: list[Check], value: Any, at: str) -> Any:
    value = check(value, at)
    for further in more:
        value = further(value, at)
    return value


def _list(check: Check, value: Any, at: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise Malformed.expected(at, "a list", value)
    return tuple(check(one, f"{at}[{i}]") for i, one in enumerate(value))


def _mapping(check: Check, value: Any, at: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Malformed.expected(at, "an object", value)
    return {name: check(one, f"{at}.{name[:40]}") for name, one in value.items()}


_PLAIN: dict[Any, Check] = {
    str: _text,
    int: _whole,
    float: _number,
    bool: _truth,
    type(None): _nothing,
    Any: json_value,
}


def _kind(value: Any) -> str:
    """What a value is, in JSON's words."""
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), "something else")
