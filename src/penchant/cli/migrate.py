"""`penchant migrate`: a folder's log into Kafka, its state into Redis, and the proof that both are equal."""

from __future__ import annotations

import typer

from penchant.cli.context import Dir, Json, clean, err, print_json, settings_of
from penchant.cli.progress import bars


@clean
def migrate(dir: Dir = None, json: Json = False) -> None:
    """Move a folder's log to the Kafka and Redis that the settings name now, and compare both states.

    \b
    export PENCHANT_LOG__URL=kafka://broker:9092/films PENCHANT_STATE__URL=redis://redis:6379/0
    penchant migrate --dir films

    Stop what writes to the folder first. Nothing is removed from it, artifacts stay where they are, and the verb can be
    run again: what was sent counts once. Exits with 1 when a cell differs.
    """
    from penchant.assembly.cluster.migrating import Migration

    folder, settings = settings_of(dir)
    migration = Migration(folder, settings)
    try:
        for warning in migration.warnings():
            err.print(warning, markup=False, soft_wrap=True)
        with bars() as tell:
            compared = migration.run(tell)
    finally:
        migration.close()
    if json:
        print_json(
            {
                "users": compared.users,
                "items": compared.items,
                "cells": compared.cells,
                "wrong": compared.wrong,
                "overflowed": compared.overflowed,
                "forgotten": compared.forgotten,
                "differ": compared.differ,
            }
        )
    else:
        err.print(
            f"{compared.users:,} users and {compared.items:,} items, {compared.cells:,} cells compared: "
            f"{compared.wrong:,} differ"
        )
        for line in compared.differ:
            err.print(f"  {line}", markup=False, soft_wrap=True)
    if compared.wrong:
        raise typer.Exit(1)
