"""Fields of records that this program does not know, kept for one run of a transaction, so that a record which is made
anew by it is written back with them: in its place, or wherever it is moved unchanged. On the wire's values."""

from __future__ import annotations

from ._proto import value_pb2 as v1


def _key(value: v1.Value) -> bytes:
    return value.SerializeToString(deterministic=True)


def _children(value: v1.Value | None) -> list[v1.Value]:
    """Of a vector or list."""
    if value is None:
        return []
    kind = value.WhichOneof("kind")
    return list(getattr(value, kind).items) if kind in ("vector", "list") else []


def _fields(value: v1.Value | None) -> dict[bytes, v1.Value]:
    if value is None or value.WhichOneof("kind") != "map":
        return {}
    return {_key(entry.key): entry.value for entry in value.map.entries}


def _inside(value: v1.Value | None, tag: str) -> v1.Value | None:
    if value is None or value.WhichOneof("kind") != "tagged" or value.tagged.tag != tag:
        return None
    return value.tagged.value


class UnknownFields:
    def __init__(self) -> None:
        self._entries: dict[str, tuple[v1.Value, v1.Value]] = {}
        self._records: dict[bytes, v1.Value] = {}  # as this program would write it: as it was

    def keep(self, name: str, raw: v1.Value, known: v1.Value) -> None:
        """`known`: what this program makes of `raw`."""
        if raw != known:
            self._entries[name] = raw, known
            self._collect(raw, known)

    def restore(self, name: str, written: v1.Value) -> v1.Value:
        if not self._records:
            return written
        moved: set[bytes] = set()
        self._find_moved(written, moved)
        raw, known = self._entries.get(name, (None, None))
        return self._restored(written, raw, known, moved)

    def _collect(self, raw: v1.Value, known: v1.Value) -> None:
        kind = raw.WhichOneof("kind")
        if kind != known.WhichOneof("kind") or raw == known:
            return
        if kind == "tagged":
            if known.tagged.value.WhichOneof("kind") == "map":
                self._records[_key(known)] = raw
            self._collect(raw.tagged.value, known.tagged.value)
        elif kind == "map":
            was = _fields(raw)
            for entry in known.map.entries:
                if (same := was.get(_key(entry.key))) is not None:
                    self._collect(same, entry.value)
        else:
            for one, two in zip(_children(raw), _children(known), strict=False):
                self._collect(one, two)

    def _find_moved(self, written: v1.Value, moved: set[bytes]) -> None:
        match written.WhichOneof("kind"):
            case "tagged":
                if (key := _key(written)) in self._records:
                    moved.add(key)
                else:
                    self._find_moved(written.tagged.value, moved)
            case "map":
                for entry in written.map.entries:
                    self._find_moved(entry.value, moved)
            case "set":
                for item in written.set.items:
                    self._find_moved(item, moved)
            case _:
                for item in _children(written):
                    self._find_moved(item, moved)

    def _restored(self, written: v1.Value, raw: v1.Value | None, known: v1.Value | None, moved: set[bytes]) -> v1.Value:
        match written.WhichOneof("kind"):
            case "tagged":
                return self._restored_record(written, raw, known, moved)
            case "vector" | "list" as kind:
                was, is_known = _children(raw), _children(known)
                items = [
                    self._restored(
                        item, was[at] if at < len(was) else None, is_known[at] if at < len(is_known) else None, moved
                    )
                    for at, item in enumerate(_children(written))
                ]
                made = v1.Items(items=items)
                return v1.Value(vector=made) if kind == "vector" else v1.Value(list=made)
            case "map":
                was_fields, known_fields = _fields(raw), _fields(known)
                pairs = []
                for entry in written.map.entries:
                    key = _key(entry.key)
                    value = self._restored(entry.value, was_fields.get(key), known_fields.get(key), moved)
                    pairs.append(v1.MapEntry(key=entry.key, value=value))
                return v1.Value(map=v1.Map(entries=pairs))
            case "set":
                return v1.Value(
                    set=v1.Items(items=[self._restored(item, None, None, moved) for item in written.set.items])
                )
        return written

    def _restored_record(
        self, written: v1.Value, raw: v1.Value | None, known: v1.Value | None, moved: set[bytes]
    ) -> v1.Value:
        same = self._records.get(_key(written))
        if same is not None:
            return same
        # Changed in its place, unless the record of that place is written elsewhere as it was.
        if known is not None and _key(known) in moved:
            raw = known = None
        tag = written.tagged.tag
        raw_inside, known_inside = _inside(raw, tag), _inside(known, tag)
        inside = self._restored(written.tagged.value, raw_inside, known_inside, moved)
        if raw_inside is not None and inside.WhichOneof("kind") == raw_inside.WhichOneof("kind") == "map":
            fields, known_fields = _fields(inside), _fields(known_inside)
            lost = [
                entry
                for entry in raw_inside.map.entries
                if (key := _key(entry.key)) not in known_fields and key not in fields
            ]
            inside = v1.Value(map=v1.Map(entries=[*inside.map.entries, *lost]))
        return v1.Value(tagged=v1.Tagged(tag=tag, value=inside))
