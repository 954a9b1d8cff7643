"""The composition root: settings become an engine; the only place that names adapters."""

from penchant.assembly.embedded import Embedded, open_folder

__all__ = ["Embedded", "open_folder"]
