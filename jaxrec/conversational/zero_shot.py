"""Language models as zero-shot conversational recommenders (He et al. 2023, arXiv 2308.10053)."""

from __future__ import annotations

from jaxrec.conversational.recorded import score_replies

__all__ = ["score_replies"]
