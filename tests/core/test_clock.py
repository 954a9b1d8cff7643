from __future__ import annotations

from penchant.core.clock import EventClock, ManualClock


def test_a_clock_that_follows_events_never_goes_back():
    machine = ManualClock(100)
    clock = EventClock(ceiling=machine)
    for ts, seen in ((50, 50), (20, 50), (500, 100)):
        clock.observe(ts)
        assert clock.now() == seen
    machine.set(70)
    clock.observe(400)
    assert clock.now() == 100
    machine.set(300)
    clock.observe(400)
    assert clock.now() == 300
