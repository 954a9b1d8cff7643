"""What `penchant.toml` and the environment may say: every key with its default; unknown keys are refused."""

from __future__ import annotations

from penchant.settings.places import Archive, ClockSettings, Copy, Log, OutboxSettings, Project, Server, State
from penchant.settings.reading import FILE, InvalidSettings, duration, find, load, parse, without_password
from penchant.settings.surfaces import (
    Age,
    Arm,
    Cap,
    Curated,
    Experiment,
    Explore,
    Filters,
    New,
    Select,
    SourceRef,
    Sources,
    Surface,
)
from penchant.settings.table import Kind, Name
from penchant.settings.training import IalsTraining, SequenceTraining, Training, TwoTowerTraining
from penchant.settings.whole import Settings
from penchant.settings.world import ActionSettings, Attributes, CatalogSettings, Feature

__all__ = [
    "FILE",
    "ActionSettings",
    "Age",
    "Archive",
    "Arm",
    "Attributes",
    "Cap",
    "CatalogSettings",
    "ClockSettings",
    "Copy",
    "Curated",
    "Experiment",
    "Explore",
    "Feature",
    "Filters",
    "IalsTraining",
    "InvalidSettings",
    "Kind",
    "Log",
    "Name",
    "New",
    "OutboxSettings",
    "Project",
    "Select",
    "SequenceTraining",
    "Server",
    "Settings",
    "SourceRef",
    "Sources",
    "State",
    "Surface",
    "Training",
    "TwoTowerTraining",
    "duration",
    "find",
    "load",
    "parse",
    "without_password",
]
