"""Logs of the engine itself: one line an event, readable by people and machines."""

from __future__ import annotations

import logging

logger = logging.getLogger("penchant")
