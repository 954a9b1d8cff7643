"""The items as columns: their life cycle, their attributes, and the conditions that requests put on them."""

from penchant.catalog.columns import ItemColumns
from penchant.catalog.fold import CatalogFold
from penchant.catalog.predicates import Predicate, compile_where
from penchant.catalog.profiles import ROWS_KEY

__all__ = ["ROWS_KEY", "CatalogFold", "ItemColumns", "Predicate", "compile_where"]
