"""Pseudonyms: names that tie together what is of one patient, and lead nowhere without a secret kept on this machine.

The secret is 32 random bytes in a file that only its owner reads, made when it is first needed:
``~/.local/share/counterstain/pseudonyms.key`` (below ``XDG_DATA_HOME`` where that is set), or the file that
``COUNTERSTAIN_PSEUDONYM_KEY`` names. It is in no table and no log. Whoever loses it gets other pseudonyms.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from store.schema import CounterstainError

_KEY_BYTES = 32
_DIGITS = 16


def pseudonym(key: bytes, value: str) -> str:
    """Return 16 hexadecimal digits that are the same for the same value and key."""
    return keyed_digest(key, value).hex()[:_DIGITS]


def pseudonym_key(name: str) -> bytes:
    """Return the key of a data set: the same at every reading, and telling nothing of another data set's.

    Raises
    ------
    CounterstainError
        If the secret can be neither read nor made, or is damaged.
    """
    return keyed_digest(_secret(_place()), name)


def keyed_digest(key: bytes, value: str) -> bytes:
    """Return the HMAC-SHA-256 of a text."""
    return hmac.new(key, value.encode(errors="surrogatepass"), hashlib.sha256).digest()


def _place() -> Path:
    if named := os.environ.get("COUNTERSTAIN_PSEUDONYM_KEY"):
        return Path(named).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "counterstain" / "pseudonyms.key"


def _secret(path: Path) -> bytes:
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise CounterstainError(
            f"pseudonyms need a secret, and {path} can be neither read nor made ({error.strerror}): name another file "
            "in COUNTERSTAIN_PSEUDONYM_KEY."
        ) from error
    if len(secret) != _KEY_BYTES:
        raise CounterstainError(
            f"{path} is no key of pseudonyms: it has {len(secret)} bytes, not {_KEY_BYTES}. Put the right one back, or "
            "move it away: a new one is made, and pseudonyms change."
        )
    return secret


def _make(path: Path) -> None:
    """Write a new secret whole or not at all; where another process was first, its secret stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
