"""Hugging Face's hub, which is asked once whether it is there.

Without a network, its own packages try again for more than a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pascal_nm.common.packages import require

_SECONDS = 2
"""For how long an answer is awaited."""


@contextmanager
def reached_or_offline() -> Iterator[None]:
    """Without a network, the package ``datasets`` takes only what is cached, inside the block.

    Raises:
        DataError: it is not installed.
    """
    client = require("huggingface_hub")
    settings = (require("datasets").config, client.constants)
    before = [each.HF_HUB_OFFLINE for each in settings]
    offline = not _answers(client)
    try:
        for each, was in zip(settings, before, strict=True):
            each.HF_HUB_OFFLINE = was or offline
        yield
    finally:
        for each, was in zip(settings, before, strict=True):
            each.HF_HUB_OFFLINE = was


def _answers(client: Any) -> bool:
    try:
        client.get_session().head(client.constants.ENDPOINT, timeout=_SECONDS)
    except Exception:  # of whichever library it takes
        return False
    return True
