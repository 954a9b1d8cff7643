"""The items as columns: their life cycle, their attributes, and the conditions that requests put on them."""

from penchant.catalog.columns import ItemColumns
from penchant.catalog.fold import ROWS_KEY, CatalogFold
from penchant.catalog.predicates import Predicate, compile_where

__all__ = ["ROWS_KEY", "CatalogFold", "ItemColumns", "Predicate", "compile_where"]
