"""All tables together."""

from __future__ import annotations

from penchant.settings.places import Archive, ClockSettings, Copy, Log, OutboxSettings, Project, Server, State
from penchant.settings.surfaces import Experiment, Filters, Sources, Surface
from penchant.settings.table import Name, Table
from penchant.settings.training import Training
from penchant.settings.world import ActionSettings, Attributes, CatalogSettings, Feature


class Settings(Table, frozen=True):
    """The whole of `penchant.toml`."""

    project: Project = Project()
    clock: ClockSettings = ClockSettings()
    log: Log = Log()
    outbox: OutboxSettings = OutboxSettings()
    state: State = State()
    copy: Copy = Copy()
    archive: Archive = Archive()
    server: Server = Server()
    catalog: CatalogSettings = CatalogSettings()
    actions: dict[Name, ActionSettings] = {}
    attributes: Attributes = Attributes()
    features: dict[Name, Feature] = {}
    sources: Sources = Sources()
    filters: Filters = Filters()
    surfaces: dict[Name, Surface] = {}
    experiments: dict[Name, Experiment] = {}
    training: Training = Training()
