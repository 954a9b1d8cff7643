"""The request path: one executor runs the stages of a surface and owns what happens when one fails."""
