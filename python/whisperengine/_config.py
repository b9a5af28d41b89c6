# SPDX-License-Identifier: Apache-2.0
"""The configuration: the environment, ./.env and the user's file, as the library knows them."""
from __future__ import annotations

from typing import Optional

from . import _native
from .errors import InvalidArgumentError

# What the first guide says of variables that are not set.
_DEFAULTS = {"MLX_MAX_TOKENS": 2048, "MLX_TEMPERATURE": 0.7, "MLX_TOP_P": 0.9, "MLX_BATCH_SIZE": 1}


def get(name: str) -> Optional[str]:
    """A variable's value; None where it is not set."""
    value, err = _native.ConfigValue(), _native.Error()
    _native.check(_native.lib().we_config_get(name.encode(), value, err), err)
    if value.value and not value.is_valid:
        raise InvalidArgumentError(_native.text(value.problem))
    return _native.text(value.value) or None


def number(name: str) -> float:
    return float(get(name) or _DEFAULTS[name])
