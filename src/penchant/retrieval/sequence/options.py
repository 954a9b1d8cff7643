"""How a sequence encoder is trained."""

from __future__ import annotations

from dataclasses import dataclass, field

from penchant.core.errors import SettingsError
from penchant.retrieval.sequence.weights import Shape

WHOLE = 5_000
"""Up to so many items a softmax over all of them is worth its time."""
SHARED = 512
"""Negatives that a batch shares where there are more."""


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """The shape of the network, its loss and its schedule; the defaults are those of the figures in the docs."""

    shape: Shape = field(default_factory=Shape)
    dropout: float = 0.2
    negatives: int | None = None
    """How many uniform draws one batch shares; 0: the softmax is over all items; None: as `draws` has it."""
    rate: float = 1e-3
    warm_up: int = 300
    """Steps in which the rate rises from 0; from then on it falls along a cosine to a hundredth."""
    weight_decay: float = 0.0
    epochs: int = 40
    restart: int = 0
    """After so many epochs rate and moments begin anew (Loshchilov and Hutter, ICLR 2017); 0: never."""
    batch: int = 6_400
    """Places in one batch: `batch // L` histories of the bucket of length L."""
    validation_share: float = 0.0
    """Share of the users whose last item is kept out of training, to choose the epoch by; 0: the last epoch stays."""
    validate_every: int = 3
    """Epochs between two validations."""
    patience: int = 0
    """Validations in a row without a better one after which training ends; 0: it runs through."""

    def __post_init__(self) -> None:
        shape = self.shape
        if shape.dim % shape.heads:
            raise SettingsError(f"dim ({shape.dim}) must be a multiple of heads ({shape.heads})")
        if shape.block not in ("ligr", "hstu"):
            raise SettingsError(f"block must be ligr or hstu, not {shape.block!r}")
        if min(shape.dim, shape.blocks, shape.heads, shape.length, shape.widening) < 1:
            raise SettingsError("dim, blocks, heads, length and widening must be at least 1")
        if min(self.epochs, self.batch, self.validate_every) < 1 or min(self.negatives or 0, self.warm_up) < 0:
            raise SettingsError("epochs, batch and validate_every must be at least 1, negatives and warm_up at least 0")
        if not 0 <= self.restart < self.epochs:
            raise SettingsError("restart must be at least 0 and less than epochs")
        if not 0 <= self.dropout < 1 or not 0 <= self.validation_share <= 1 or shape.temperature < 0:
            raise SettingsError("dropout must be in [0, 1), validation_share in [0, 1] and temperature at least 0")

    def draws(self, n_items: int) -> int:
        """Negatives that a batch shares; where it is not said, none up to `WHOLE` items: all of them are negatives."""
        if self.negatives is not None:
            return self.negatives
        return 0 if n_items <= WHOLE else SHARED
