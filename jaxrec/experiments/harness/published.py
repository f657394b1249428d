"""Published figures of the very data and protocols of our experiments, each with where it was read.

Only figures that were read in their source are here; none from memory. The tolerance of the big sets is what another
choice of users does to the figure: the published one is of other test users wherever the order of the source file is
another.
"""

from __future__ import annotations

from jaxrec.experiments.harness.datasets import STRONG
from jaxrec.experiments.harness.outcome import Published
from jaxrec.experiments.harness.replies import RECORDED

BARS = "BARS leaderboard (reczoo), the same split"
POSTER = "poster of the MRF paper"
MRF_NOTEBOOK = "notebook of the MRF paper"
EDLAE_NOTEBOOK = "notebook of the EDLAE paper"
EASE_PAGE = "a benchmark page for the EASE paper"
VASP = "Table III of the VASP paper"
TOLERANCE = {"ml20m": 0.003, "netflix": 0.0015, "msd": 0.0015}
PRINTED = (*STRONG[1:], STRONG[0])  # the metrics in the order in which papers print them


def of(data: str, line: str, values: tuple[float | None, ...], source: str, tolerance: float | None) -> list[Published]:
    """Recall at 20 and 50 and ndcg at 100 of one line; None for a figure that is not at hand."""
    found = zip(PRINTED, values, strict=True)
    return [Published(data, line, metric, value, source, tolerance) for metric, value in found if value is not None]


MULT = (
    *of("ml20m", "Mult-DAE", (0.387, 0.524, 0.419), VASP, TOLERANCE["ml20m"]),
    *of("netflix", "Mult-DAE", (0.344, 0.438, 0.380), VASP, TOLERANCE["netflix"]),
    *of("msd", "Mult-DAE", (None, 0.363, None), POSTER, TOLERANCE["msd"]),
    *of("ml20m", "Mult-VAE", (0.395, 0.537, 0.426), VASP, TOLERANCE["ml20m"]),
    *of("netflix", "Mult-VAE", (0.351, 0.444, 0.386), VASP, TOLERANCE["netflix"]),
    *of("msd", "Mult-VAE", (None, 0.364, None), POSTER, TOLERANCE["msd"]),
)

EASE = (
    Published("gowalla", "EASE", "recall@20", 0.176493, f"{BARS}, l2 = 80", 0.001),
    Published("gowalla", "EASE", "ndcg@20", 0.146657, f"{BARS}, l2 = 80", 0.001),
    Published("gowalla", "EASE", "recall@50", 0.270126, f"{BARS}, l2 = 80", 0.001),
    Published("gowalla", "EASE", "ndcg@50", 0.175974, f"{BARS}, l2 = 80", 0.001),
    Published("gowalla", "SLIM", "recall@20", 0.1699, BARS),
    Published("gowalla", "SLIM", "ndcg@20", 0.1382, BARS),
    Published("gowalla", "item kNN", "recall@20", 0.1570, f"{BARS}, ItemCF, tuned"),
    Published("gowalla", "item kNN", "ndcg@20", 0.1214, f"{BARS}, ItemCF, tuned"),
    *of("ml20m", "EASE", (0.391, 0.521, 0.420), EASE_PAGE, TOLERANCE["ml20m"]),
    *of("netflix", "EASE", (0.362, 0.445, 0.393), EASE_PAGE, TOLERANCE["netflix"]),
    *of("msd", "EASE", (0.333, 0.428, 0.389), EASE_PAGE, TOLERANCE["msd"]),
    *of("ml20m", "WMF", (None, 0.498, None), POSTER, None),
    *of("netflix", "WMF", (None, 0.404, None), POSTER, None),
    *of("msd", "WMF", (None, 0.312, None), POSTER, None),
    *of("ml20m", "SLIM", (None, 0.495, None), POSTER, None),
    *of("netflix", "SLIM", (None, 0.428, None), POSTER, None),
    *MULT,
)

DEEP = (
    *(each for each in EASE if each.line == "EASE"),
    *MULT,
    *of("ml20m", "RecVAE", (0.414, 0.553, 0.442), VASP, TOLERANCE["ml20m"]),
    *of("netflix", "RecVAE", (0.361, 0.452, 0.394), VASP, TOLERANCE["netflix"]),
    *of("msd", "EDLAE", (0.33408, 0.42948, 0.39151), EDLAE_NOTEBOOK, TOLERANCE["msd"]),
)

MRF = (
    *of("msd", "MRF 0.5 %, r = 0", (None, 0.427, None), POSTER, TOLERANCE["msd"]),
    *of("msd", "MRF 0.5 %, r = 0.1", (None, 0.424, None), POSTER, TOLERANCE["msd"]),
    *of("msd", "MRF 0.5 %, r = 0.5", (None, 0.424, None), POSTER, TOLERANCE["msd"]),
    *of("msd", "MRF 0.1 %, r = 0", (None, 0.421, None), POSTER, TOLERANCE["msd"]),
    *of("msd", "MRF 0.1 %, r = 0.1", (None, 0.417, None), POSTER, TOLERANCE["msd"]),
    *of("msd", "MRF 0.1 %, r = 0.5", (0.32709, 0.41652, 0.38087), MRF_NOTEBOOK, TOLERANCE["msd"]),
    *of("msd", "EASE, dense", (None, 0.430, None), f"{POSTER}, dense MRF: EASE on scaled data", None),
    *of("ml20m", "EASE, dense", (None, 0.522, None), f"{POSTER}, dense MRF: EASE on scaled data", None),
    *of("netflix", "EASE, dense", (None, 0.448, None), f"{POSTER}, dense MRF: EASE on scaled data", None),
)

# Rank 1,000, with settings that the author chose.
EDLAE = (
    *of("msd", "L2 on U and V, rank 1000", (0.19967, 0.27749, 0.24844), f"{EDLAE_NOTEBOOK}, line 1, by SGD", None),
    *of("msd", "L2 on UV', rank 1000", (0.21677, 0.29608, 0.26636), f"{EDLAE_NOTEBOOK}, line 2", TOLERANCE["msd"]),
    *of("msd", "DLAE, rank 1000", (0.25980, 0.35086, 0.31475), f"{EDLAE_NOTEBOOK}, line 3", TOLERANCE["msd"]),
    *of("msd", "zero diagonal, rank 1000", (0.24939, 0.33314, 0.30179), EDLAE_NOTEBOOK, None),
    *of("msd", "EDLAE, rank 1000", (0.26369, 0.35462, 0.31943), f"{EDLAE_NOTEBOOK}, line 5, by ADMM", None),
    *of("msd", "EDLAE", (0.33408, 0.42948, 0.39151), EDLAE_NOTEBOOK, TOLERANCE["msd"]),
)

AUTHORS = "the authors' result tables, recomputed"
ZERO_SHOT = tuple(
    Published(RECORDED.name, f"{run}, {setting}", metric, value, AUTHORS, 5e-5)
    for run, values in {
        "gpt-4.general": (0.0616, 0.1232, 0.0664, 0.1280, 0.0664, 0.1327),
        "baize.general": (0.0190, 0.0569, 0.0284, 0.0806, 0.0332, 0.0806),
    }.items()
    for (setting, metric), value in zip(
        (
            (setting, metric)
            for setting in ("all titles", "in vocabulary", "in vocabulary, unseen")
            for metric in ("recall@1", "recall@5")
        ),
        values,
        strict=True,
    )
)
