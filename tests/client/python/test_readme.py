"""What the documents show is what the examples run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[3] / "client" / "python"
EXAMPLES = ["hello", "blog", "nightly", "watch", "take"]
README = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)


@pytest.mark.parametrize(("number", "name"), list(enumerate(EXAMPLES)))
def test_a_snippet_of_the_readme_is_in_its_example_as_it_stands(number: int, name: str) -> None:
    example = (PACKAGE / "examples" / f"{name}.py").read_text()
    snippet = README[number].removeprefix("import stm\n\n")
    assert snippet in example
