"""Ranking: the feature matrix of the candidates, the models that score it, and the value that selection goes by."""
