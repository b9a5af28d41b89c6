# SPDX-License-Identifier: Apache-2.0
"""Values of the environment, checked."""
from __future__ import annotations

import os
from typing import Optional

from .errors import InvalidArgumentError


def get(name: str) -> Optional[str]:
    """A variable's value; None where it is not set or empty."""
    return os.environ.get(name) or None


def integer(name: str, default: int, low: int, high: int) -> int:
    return int(_number(name, default, low, high, "a whole number"))


def real(name: str, default: float, low: float, high: float) -> float:
    return _number(name, default, low, high, "a number")


def _number(name: str, default: float, low: float, high: float, kind: str) -> float:
    value = get(name)
    if value is None:
        return default
    try:
        number = int(value) if kind == "a whole number" else float(value)
        if low <= number <= high:
            return number
    except ValueError:
        pass
    raise InvalidArgumentError(f"{name} is '{value}', expected {kind}, {low} to {high}")
