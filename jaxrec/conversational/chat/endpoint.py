"""Where a chat endpoint is, and the key that it is asked with: what may be sent to whom."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import urllib.parse

from jaxrec._checks import InputError, shown

SHORTEST_SECRET = 8  # letters; shorter "keys", such as "EMPTY", are what servers without keys are given


def checked_url(url: str) -> str:
    """The address of an endpoint, to which "/chat/completions" is added, without a slash at its end.

    Raises:
      InputError: it is no http or https address, holds a name or a password, or has more behind its path.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is not None and "@" in parts.netloc:
        raise InputError("base_url must hold no name and no password; a key is read from the environment alone.")
    if parts is None or parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise InputError(f"base_url must be an address such as http://localhost:8000/v1, got {_safely(url)}.")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise InputError("base_url must end with its path, as in http://localhost:8000/v1, without ? or #.")
    return url.rstrip("/").removesuffix("/chat/completions")


def is_local(url: str) -> bool:
    """Whether an endpoint is on this machine or in a network of one's own: it may need no key, and has no proxy."""
    host = urllib.parse.urlsplit(url).hostname or ""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_private
    return "." not in host or host.endswith((".local", ".localhost", ".internal"))


def key_for(url: str, variable: str | None) -> str | None:
    """The key for an endpoint, or None where it is asked without one.

    Args:
      url: of the endpoint.
      variable: the name of the environment variable that holds the key; None for an endpoint that wants none.

    Raises:
      InputError: an endpoint elsewhere needs the key and the variable is not set; the key would go there unencrypted;
        or it holds letters that no key has. The message never holds the key.
    """
    key = os.environ.get(variable, "").strip() if variable else ""
    if not key:
        if variable is None or is_local(url):
            return None
        raise InputError(
            f"the environment variable {variable}, which holds the key for {url}, is not set; "
            "set it, name another by key_from, or pass key_from=None to an endpoint that wants none."
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InputError(f"the environment variable {variable} holds letters that no key has, such as a line break.")
    if url.startswith("http://") and not is_local(url):
        raise InputError(f"the key in {variable} would be sent to {url} unencrypted; use https, or key_from=None.")
    return key


def without(key: str | None, text: str) -> str:
    """A text from outside as it may be shown and kept: an endpoint that repeats the key does not get it recorded."""
    return text.replace(key, "(key)") if key and len(key) >= SHORTEST_SECRET else text


def _safely(url: str) -> str:
    """A wrong address as a message repeats it: without what may be a password in it."""
    return shown(url.rpartition("@")[2])
