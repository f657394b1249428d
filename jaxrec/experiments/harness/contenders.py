"""What experiments compare: the methods with the settings to choose from, the deep ones scaled to the data set.

The published settings of the deep autoencoders are for ML-20M, where an epoch of 117,000 users in batches of 500 makes
234 steps. On other data the number of steps must be alike, not the number of epochs: batches are a fiftieth of the
users if that is less than 500, the epochs are as many as a given number of steps takes, and the weight of the KL
divergence has grown to its full size after a tenth of them. On a few thousand users Mult-VAE is better without its
layers of 600 (docs/deep-autoencoders.md), which are therefore one of its settings (width 0: items, code, items).

Where users and items are many, so many steps take hours of a processor. A scale may limit the operations of a training:
one that would take more has as many steps as they make, the divergence grows in a tenth of those, and a method one of
whose settings would take more comes with its first setting alone.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any, NamedTuple

from jaxrec.deep import Autoencoder, MultDae, MultVae, RecVae
from jaxrec.experiments.harness.trials import Contender, Scale, options
from jaxrec.factorization import Ials
from jaxrec.linear import Ease, Edlae, Popularity

VERSION = 2  # of the cells of these contenders, which more than one experiment takes
LARGEST_BATCH = 500  # as published
BATCHES = 50  # in an epoch of fewer users than these make
ANNEALED = 0.1  # share of the steps after which the weight of the KL divergence is what it stays at

POPULARITY = Contender(Popularity)
START = 4  # strength 100 of dense models, in interactions per item
# If the best strength of EASE was published for these data it is taken.
PUBLISHED_REG = {"gowalla": 80.0}  # BARS
EDLAE = Contender(Edlae, START, settings=options("dropout", 0.25, 0.5), on_popular=True)
# In the order in which a scale with fewer settings takes them.
VAES = (
    {"width": 0, "kl_weight": 0.2, "learning_rate": 2e-3},
    {"width": 600, "kl_weight": 0.2, "learning_rate": 1e-3},
    {"width": 0, "kl_weight": 0.1, "learning_rate": 1e-3},
    {"width": 600, "kl_weight": 0.5, "learning_rate": 1e-3},
)
REC_VAES = ({"width": 200, "gamma": 0.005}, {"width": 200, "gamma": 0.01}, {"width": 600, "gamma": 0.005})


class Training(NamedTuple):
    """How long networks are trained, how many settings of each are tried, and how wide they are at most.

    Attributes:
      steps: of the optimiser, at most.
      patience: epochs without a better validation metric after which a training ends.
      variants: settings tried, at most.
      widest: of any hidden layer.
      operations: of a training, at most, to the nearest epoch; one epoch is trained always.
    """

    steps: int
    patience: int
    variants: int
    widest: int = 600
    operations: float = math.inf

    @property
    def described(self) -> str:
        """What the readers of a table have to know, in words."""
        found = (
            "The few settings that Mult-VAE has to choose from were narrowed down in eleven earlier trials on ml1m, on "
            "the validation users; those trials, and one of RecVAE and two of the deep autoencoder, are not counted. "
            "Of a network the epoch is told that was the best on validation users, and how many were trained: where it "
            "is the last one, a longer training may do better."
        )
        if math.isfinite(self.operations):
            found += (
                f" A training of a network ends after {self.steps:,} steps, or {self.operations:.3g} operations "
                "where that is earlier, to the nearest epoch; in the latter case one setting was tried."
            )
        return found


TRAININGS = {
    "smoke": Training(20, 2, 1, widest=12),
    "small": Training(8000, 10, 2, operations=1.15e14),  # 20 minutes of a core
    "full": Training(50_000, 50, 8),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableScale(Scale):
    """The scale of a table of methods: also the rank of iALS, the training of the networks, and lines left out."""

    rank: int
    training: Training
    without: tuple[str, ...] = ()


def ease(data: str) -> Contender:
    """EASE on the data set of this name."""
    if (reg := PUBLISHED_REG.get(data)) is not None:
        return Contender(Ease, settings=({"reg": reg},))
    return Contender(Ease, START, on_popular=True)


def ials(rank: int) -> Contender:
    """The iALS of Rendle et al., with strengths in proportion to the weights of a row."""
    return Contender(partial(Ials, rank), -5, settings=options("unobserved_weight", 0.1, 0.03, 0.3))


def edlae(dropouts: tuple[float, ...]) -> Contender:
    """EDLAE of full rank for data with validation users."""
    return Contender(Edlae, 5, settings=options("dropout", *dropouts))


def deep(shape: tuple[int, int], plan: Training) -> dict[str, Contender]:
    """The deep autoencoders on data of so many users, to learn from, and items."""
    n_users, n_items = shape
    batch_size = min(LARGEST_BATCH, max(1, n_users // BATCHES))
    an_epoch = -(-n_users // batch_size)
    shared: dict[str, Any] = {"batch_size": batch_size, "patience": plan.patience}

    def narrowed(width: int) -> int:
        return min(width, plan.widest)

    def steps(method: Any) -> float:
        """The steps of a training, which takes 6 operations per user and parameter."""
        return min(plan.steps, plan.operations / (6.0 * batch_size * method.architecture(n_items).n_parameters))

    def lasting(method: Any, passes: int = 1) -> Any:
        """The method with the epochs that make so many steps."""
        return dataclasses.replace(method, epochs=max(1, round(steps(method) / (passes * an_epoch))))

    def mult_dae(**settings: Any) -> MultDae:
        return lasting(MultDae(latent=narrowed(200), **shared, **settings))

    def mult_vae(width: int, **settings: Any) -> MultVae:
        method = MultVae((narrowed(width),) if width else (), narrowed(200), **shared, **settings)
        annealing = round(ANNEALED * steps(method) / method.kl_weight)  # it grows by 1 / kl_steps a step
        return lasting(dataclasses.replace(method, kl_steps=annealing))

    def rec_vae(width: int, gamma: float) -> RecVae:
        return lasting(RecVae(narrowed(width), narrowed(max(100, width // 3)), gamma=gamma, **shared), passes=4)

    def autoencoder(**settings: Any) -> Autoencoder:
        widths = (narrowed(600), narrowed(200))
        return lasting(Autoencoder(widths, widths[:1], **shared, **settings))

    def affordable(contender: Contender) -> Contender:
        settings = contender.settings[: plan.variants]
        shortened = any(steps(contender.make_method(**each)) < plan.steps for each in settings)
        return dataclasses.replace(contender, settings=settings[:1] if shortened else settings)

    found = {
        "Mult-DAE": Contender(mult_dae, settings=options("dropout", 0.5, 0.7)),
        "Mult-VAE": Contender(mult_vae, settings=VAES),
        "RecVAE": Contender(rec_vae, settings=REC_VAES),
        "deep autoencoder": Contender(autoencoder, settings=options("dropout", 0.5, 0.7)),
    }
    return {name: affordable(each) for name, each in found.items()}
