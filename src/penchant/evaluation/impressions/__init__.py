"""Ordering what was shown inside recorded impressions: the data, the models and the protocol."""

from __future__ import annotations

from penchant.evaluation.impressions.judge import PER_IMPRESSION, judge_impressions
from penchant.evaluation.impressions.models import ORDERERS, Orderer
from penchant.evaluation.impressions.rows import Impressions, Rows
from penchant.evaluation.impressions.sources import read_impressions

__all__ = ["ORDERERS", "PER_IMPRESSION", "Impressions", "Orderer", "Rows", "judge_impressions", "read_impressions"]
