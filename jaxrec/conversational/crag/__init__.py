"""CRAG: collaborative retrieval for language models that recommend (Zhu et al., WWW 2025, arXiv 2502.14137)."""

from jaxrec.conversational.crag.asking import Wording
from jaxrec.conversational.crag.method import ABLATIONS, Crag
from jaxrec.conversational.crag.recommended import Recommended
from jaxrec.conversational.crag.trace import Trace, rank_confusion
from jaxrec.conversational.retrieval import Retrieved, retrieve

__all__ = ["ABLATIONS", "Crag", "Recommended", "Retrieved", "Trace", "Wording", "rank_confusion", "retrieve"]
