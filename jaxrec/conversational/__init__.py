"""Conversational recommenders: dialogues, catalogues of titles, language models, and what a conversation recommends."""

import importlib.util

from jaxrec._checks import InputError

for _name in ("rapidfuzz", "bm25s", "httpx", "tenacity"):
    if importlib.util.find_spec(_name) is None:
        raise InputError(f"conversations need {_name}; install it with: pip install 'jaxrec[conversational]'.")

from jaxrec.conversational.bundled import load  # noqa: E402, where what it needs is there

__all__ = ["load"]
