"""Model texts made from nothing, so that shapes and thresholds that no training gives are tried too."""

from __future__ import annotations

import numpy as np

EDGES = [0.0, -0.0, 1e-35, -1e-35, 1.0000000180025095e-35, -1.0000000180025095e-35, 5e-36, -5e-36, 1e-45, -1e-45]
EDGES += [3.4028234663852886e38, -3.4028234663852886e38, 1e300, -1e300, 1.1754943508222875e-38, 0.1, 1 / 3, 16777217.0]


def random_text(rng, *, names, trees=3, most=31, objective="binary sigmoid:1", missing=(0, 2)):
    """A model in LightGBM's text format with random shapes, thresholds and missing-value rules."""
    blocks = []
    for index in range(trees):
        leaves = int(rng.integers(1, most + 1))
        blocks.append(_block(rng, index, leaves, len(names), missing))
    head = [
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(names) - 1}",
        f"objective={objective}",
        f"feature_names={' '.join(names)}",
        f"feature_infos={' '.join(['[-1e308:1e308]'] * len(names))}",
        f"tree_sizes={' '.join(str(len(block) + 1) for block in blocks)}",
        "",
        "",
    ]
    return (
        "\n".join(head)
        + "\n".join(blocks)
        + "\nend of trees\n\nfeature_importances:\n\nparameters:\nend of parameters\n"
    )


def _block(rng, index, leaves, features, missing):
    inner = leaves - 1
    left, right = [0] * inner, [0] * inner
    # Grow as LightGBM does: split one leaf, the old number stays on the left, the new leaf is on the right.
    where: dict[int, tuple[int, str] | None] = {0: None}
    for node in range(inner):
        leaf = int(rng.choice(list(where)))
        parent = where[leaf]
        if parent is not None:
            (left if parent[1] == "l" else right)[parent[0]] = node
        left[node], right[node] = ~leaf, ~(node + 1)
        where[leaf], where[node + 1] = (node, "l"), (node, "r")
    kinds = [int(rng.choice(missing)) << 2 | (2 if rng.random() < 0.5 else 0) for _ in range(inner)]
    thresholds = [rng.choice(EDGES) if rng.random() < 0.4 else rng.standard_normal() for _ in range(inner)]
    values = rng.standard_normal(leaves) * 10.0 ** rng.integers(-12, 3, leaves)

    def row(key, numbers):
        return f"{key}={' '.join(map(str, numbers))}"

    def exact(numbers):
        return [f"{float(number):.17g}" for number in numbers]

    lines = [
        f"Tree={index}",
        f"num_leaves={leaves}",
        "num_cat=0",
        row("split_feature", rng.integers(0, features, inner).tolist()),
        row("split_gain", [1] * inner),
        row("threshold", exact(thresholds)),
        row("decision_type", kinds),
        row("left_child", left),
        row("right_child", right),
        row("leaf_value", exact(values)),
        row("leaf_weight", [1] * leaves),
        row("leaf_count", [1] * leaves),
        row("internal_value", [0] * inner),
        row("internal_weight", [0] * inner),
        row("internal_count", [1] * inner),
        "is_linear=0",
        "shrinkage=1",
        "",
        "",
    ]
    return "\n".join(lines)


def random_matrix(rng, features, n):
    """float32[features, n] with NaN, infinities, zeros of both signs, subnormals and the edges of thresholds."""
    matrix = rng.standard_normal((features, n)).astype(np.float32)
    with np.errstate(over="ignore", under="ignore"):
        edges = np.array([*EDGES, np.nan, np.inf, -np.inf, 2e-45, -2e-45, 1e-36, -1e-36], np.float64).astype(np.float32)
        edges = np.concatenate(
            [edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))]
        )
    special = rng.random(matrix.shape) < 0.5
    matrix[special] = rng.choice(edges, int(special.sum()))
    return matrix
