"""How good a ranking is: metrics with named definitions, and how sure we can be."""
