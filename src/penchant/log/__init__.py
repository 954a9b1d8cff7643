"""Logs: where events are kept, in order and for good."""
