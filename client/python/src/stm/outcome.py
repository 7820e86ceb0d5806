"""Outcome words: what CommitUnknown prints, and `stmctl outcome` and client.outcome take."""

from __future__ import annotations

import re
import uuid

from ._proto import common_pb2
from .errors import BadValue


def _check(text: str) -> str:
    """FNV-1a, folded to 16 bits."""
    check = 2166136261
    for byte in text.encode():
        check = (check ^ byte) * 16777619 & 0xFFFFFFFF
    return f"{check >> 16 ^ check & 0xFFFF:04x}"


def outcome_word(commit_id: common_pb2.CommitId) -> str:
    """Id, writer, seen version and store, and a check of them."""
    digits = commit_id.transaction_id.replace("-", "")
    word = f"{digits}.{commit_id.writer:016x}.{commit_id.seen.version}.{commit_id.seen.store:016x}"
    return f"{word}.{_check(word)}"


_FORM = re.compile(r"([0-9a-f]{32})\.([0-9a-f]{1,16})\.([0-9]{1,19})\.([0-9a-f]{1,16})\.([0-9a-f]{4})")


def parse_outcome_word(text: str) -> common_pb2.CommitId:
    """BadValue: it is not whole."""
    word = text.strip()
    found = _FORM.fullmatch(word)
    if found is None or _check(word[:-5]) != found[5]:
        why = "five parts joined by dots were expected" if found is None else "its check (the last part) does not fit"
        raise BadValue(f'outcome word "{word}": {why}: copy the whole word that the error printed', name="word")
    seen = common_pb2.Seen(version=int(found[3]), store=int(found[4], 16))
    return common_pb2.CommitId(
        transaction_id=str(uuid.UUID(found[1])), writer=int(found[2], 16), seen=seen, resend=True
    )
