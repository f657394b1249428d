"""The papers' experiments: each a command that writes a table, a record and a plot, and goes on where it was killed."""

from jaxrec.experiments.harness.outcome import Outcome
from jaxrec.experiments.registry import EXPERIMENTS, Experiment, reproduce

__all__ = ["EXPERIMENTS", "Experiment", "Outcome", "reproduce"]
