"""`python -m penchant.testing.servers [LANE…]` installs what the lanes need; `deploy` is the validators."""

from __future__ import annotations

import sys

from penchant.testing.servers.install import go_missing, install, install_promtool
from penchant.testing.servers.lanes import LANES


def main(asked: list[str]) -> int:
    """Exit status: 0 when every lane asked for can run, 1 when something is missing, 2 for an unknown lane."""
    known = [*LANES, "deploy"]
    unknown = [lane for lane in asked if lane not in known]
    if unknown:
        print(f"no such lane: {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    lanes = asked or known
    left = install([lane for lane in lanes if lane in LANES])
    fit = [lane for lane in lanes if lane in LANES and LANES[lane]() is None]
    if "deploy" in lanes:
        absent = install_promtool() + go_missing()
        left += absent
        fit += [] if absent else ["deploy"]
    for line in left:
        print(line, file=sys.stderr)
    print(f"lanes that can run: {', '.join(fit) or 'none'}")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
