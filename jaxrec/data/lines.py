"""Line ends of text files: every reader sees one kind, whatever systems a file went through."""

from __future__ import annotations

import numpy as np


def one_line_end(content: bytes, quote: bytes | None = None) -> bytes:
    r"""The text as it is, if its lines end in "\n" or all in "\r\n"; where a "\r" stands alone, all of them as "\n".

    Args:
      content: of a file.
      quote: a mark between two of which a line end belongs to the text, or None.
    """
    if b"\r" not in content or content.count(b"\r") == content.count(b"\r\n"):
        return content
    if quote is None or quote not in content:
        return content.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    letters = np.frombuffer(content, np.uint8)
    returns = np.flatnonzero(letters == ord("\r"))
    quoted = np.searchsorted(np.flatnonzero(letters == ord(quote)), returns) % 2 == 1
    returns = returns[~quoted]
    followed = np.append(letters, 0)[returns + 1] == ord("\n")
    made = letters.copy()
    made[returns] = ord("\n")
    return np.delete(made, returns[followed]).tobytes()
