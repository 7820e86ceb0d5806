"""Values of scenarios: EDN text to stm.v1.Value in Protocol Buffers' own JSON, which every language's driver reads."""

import base64
import re

WORD = re.compile(r'[^\s,()\[\]{}"]+')
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", '"': '"', "\\": "\\"}
CHARACTERS = {"newline": "\n", "space": " ", "tab": "\t", "return": "\r"}


class _Reader:
    def __init__(self, text):
        self.text, self.at = text, 0

    def skip(self):
        while self.at < len(self.text) and self.text[self.at] in " \t\n\r,":
            self.at += 1

    def items(self, end):
        self.at += 1
        items = []
        while True:
            self.skip()
            if self.text.startswith(end, self.at):
                self.at += len(end)
                return items
            items.append(self.value())

    def string(self):
        out = []
        self.at += 1
        while self.text[self.at] != '"':
            c = self.text[self.at]
            if c == "\\":
                self.at += 1
                c = self.text[self.at]
                if c == "u":
                    c = chr(int(self.text[self.at + 1:self.at + 5], 16))
                    self.at += 4
                else:
                    c = ESCAPES[c]
            out.append(c)
            self.at += 1
        self.at += 1
        # Two escapes may be one letter.
        return "".join(out).encode("utf-16", "surrogatepass").decode("utf-16")

    def value(self):
        self.skip()
        c = self.text[self.at]
        if c == '"':
            return {"text": self.string()}
        if c == "[":
            return {"vector": {"items": self.items("]")}}
        if c == "(":
            return {"list": {"items": self.items(")")}}
        if c == "{":
            flat = self.items("}")
            return {"map": {"entries": [{"key": k, "value": v} for k, v in zip(flat[::2], flat[1::2])]}}
        if self.text.startswith("#{", self.at):
            self.at += 1
            return {"set": {"items": self.items("}")}}
        if c == "\\":
            self.at += 1
            word = self.text[self.at] + (WORD.match(self.text, self.at + 1) or [""])[0]
            self.at += len(word)
            return {"character": ord(CHARACTERS.get(word, word))}
        word = WORD.match(self.text, self.at)[0]
        self.at += len(word)
        if c == "#" and not word.startswith("##"):
            return self.tagged(word[1:])
        return scalar(word)

    def tagged(self, tag):
        value = self.value()
        if tag == "inst":
            return {"instant": value["text"]}
        if tag == "uuid":
            return {"uuid": value["text"]}
        if tag == "stm/bytes":
            return {"blob": value["text"]}
        if tag == "conf/text":  # a text of so many letters
            return {"text": "x" * int(value["integer"])}
        return {"tagged": {"tag": tag, "value": value}}


def scalar(word):
    if word == "nil":
        return {"nil": True}
    if word in ("true", "false"):
        return {"boolean": word == "true"}
    if word in ("##NaN", "##Inf", "##-Inf"):
        return {"float64": {"##NaN": "NaN", "##Inf": "Infinity", "##-Inf": "-Infinity"}[word]}
    if re.fullmatch(r"[+-]?\d+", word):
        return {"integer": str(int(word))}
    if re.fullmatch(r"[+-]?\d+N", word):
        return {"bigint": word[:-1]}
    if re.fullmatch(r"[+-]?\d+(\.\d*)?M", word):
        return {"decimal": word[:-1]}
    if re.fullmatch(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", word):
        return {"float64": float(word)}
    if word.startswith(":"):
        return {"keyword": word[1:]}
    return {"symbol": word}


def read(text):
    """The one value in `text`; "absent" is no value, {}."""
    if text == "absent":
        return {}
    reader = _Reader(text)
    value = reader.value()
    reader.skip()
    if reader.at != len(text):
        raise ValueError(f"more than one value: {text}")
    return value


def same(value):
    """A form that is equal for equal values: what drivers print may differ in order and in numbers' spelling."""
    if not isinstance(value, dict) or not value:
        return ("absent",)
    (kind, content), = value.items()
    if kind in ("vector", "list"):
        return (kind, tuple(same(item) for item in content.get("items", [])))
    if kind == "set":
        return (kind, frozenset(same(item) for item in content.get("items", [])))
    if kind == "map":
        return (kind, frozenset((same(e["key"]), same(e["value"])) for e in content.get("entries", [])))
    if kind == "tagged":
        return (kind, content["tag"], same(content["value"]))
    if kind == "float64":
        number = float(content)
        return (kind, "NaN" if number != number else repr(number))
    if kind in ("integer", "character"):
        return (kind, int(content))
    if kind == "blob":
        return (kind, base64.b64decode(content + "=" * (-len(content) % 4)))
    if kind == "instant":
        seconds, _, fraction = content.rstrip("Z").partition(".")
        return (kind, seconds, fraction.rstrip("0"))
    return (kind, content)
