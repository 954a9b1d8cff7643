"""The command `penchant`, and `python -m penchant`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; stopped while it is still being loaded, it ends without a traceback."""
    try:
        from penchant.cli import app
    except KeyboardInterrupt:
        sys.exit(130)
    app()


if __name__ == "__main__":
    main()
