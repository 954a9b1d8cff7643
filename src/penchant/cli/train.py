"""`penchant train`: models from the log, through the gate."""

from __future__ import annotations

import os
from contextlib import closing
from enum import StrEnum
from typing import Annotated

import msgspec
import typer

from penchant.cli.context import Dir, Json, check_surface, clean, err, out, print_json, settings_of
from penchant.cli.progress import bars


class Objective(StrEnum):
    """What the ranker learns."""

    binary = "binary"
    lambdarank = "lambdarank"


@clean
def train(
    surface: Annotated[str, typer.Option(help="The surface whose slates the ranker learns from.")] = "home",
    simulate: Annotated[
        int, typer.Option(help="How many requests to make up from history where few were served.", min=0)
    ] = 20_000,
    objective: Annotated[Objective, typer.Option(help="P(action) per action, or one order.")] = Objective.binary,
    threads: Annotated[int, typer.Option(help="Threads of the tree trainer.", min=1)] = 1,
    seed: Annotated[int, typer.Option(help="Seed of all draws.")] = 0,
    force: Annotated[bool, typer.Option("--force", help="Publish although the gate says no.")] = False,
    dry: Annotated[bool, typer.Option("--dry-run", help="Train and judge, publish nothing.")] = False,
    dir: Dir = None,
    json: Json = False,
) -> None:
    """Train the models of the listed sources and the ranker on the log and publish them if the gate lets them through.

    Runs beside a serving engine, which swaps to what is published without dropping a request. Exits with 1 when the
    gate refuses.

    \b
    penchant train
    penchant train --objective lambdarank --seed 7
    """
    os.nice(5)
    from penchant.assembly.services import open_past
    from penchant.assembly.training import Trainer
    from penchant.training.fusion import LEAST

    folder, settings = settings_of(dir)
    check_surface(settings, surface)
    with bars() as tell, closing(open_past(folder, settings, tell)) as parts:
        trainer = Trainer(parts, tell)
        trained = trainer.train(
            surface=surface, simulate=simulate, objective=objective.value, threads=threads, seed=seed, force=force
        )
        published = False if dry else trainer.publish(trained)
    examples, verdict = trained.examples, trained.gate
    if json:
        print_json(
            {
                "artifact": trained.artifact,
                "published": published,
                "gate": msgspec.to_builtins(verdict),
                "requests": examples.requests,
                "rows": len(examples),
                "simulated": trained.simulated,
                "heads": list(trained.ranker.heads) if trained.ranker else [],
                "blend": dict(trained.weights),
                "skipped": dict(trained.ranker.skipped) if trained.ranker else {},
                "left_out": dict(examples.left_out),
            }
        )
    else:
        out.print(f"rows      {len(examples)} of {examples.requests} requests ({trained.simulated} simulated)")
        heads = ", ".join(trained.ranker.heads) if trained.ranker else "none (too few rows)"
        out.print(f"heads     {heads}")
        if trained.weights:
            told = ", ".join(f"{name} {weight:.2f}" for name, weight in trained.weights.items())
            out.print(f"blend     {told}: how much each source counts without a ranker")
            if idle := [name for name, weight in trained.weights.items() if weight <= LEAST]:
                told = f"gain nothing here: unless a ranker reads them, [surfaces.{surface}] does as well without"
                out.print(f"          {', '.join(idle)} {told}", markup=False, soft_wrap=True)
        for action, why in trained.ranker.skipped.items() if trained.ranker else ():
            out.print(f"          no head for {action}: {why}")
        out.print(
            f"gate      NDCG@10 {verdict.candidate_ndcg:.4f} against {verdict.live_ndcg:.4f} ({verdict.baseline}), "
            f"difference in [{verdict.interval[0]:+.4f}, {verdict.interval[1]:+.4f}] over {verdict.n} requests"
        )
        out.print(f"          {verdict.reason}")
        out.print(f"artifact  {trained.artifact}  {'published' if published else 'not published'}")
    if not published and not dry:
        err.print("the present artifact keeps serving; --force publishes all the same")
        raise typer.Exit(1)
