"""The README says what is so: its wrong requests are told what it says, and its links and commands exist."""

import re

import pytest

from tests.triggers.conftest import ROOT
from triggers import job
from triggers.errors import PermanentError
from triggers.request import Origin, parse
from triggers.rules import PLACEHOLDERS, Rule

PAGE = (ROOT / "triggers" / "README.md").read_text()
WRONG = re.findall(r"^\| `(.+?)` \| (.+) \|$", PAGE.partition("what the log and the dead letter say |\n")[2], re.M)


def test_there_are_at_least_ten_wrong_requests():
    assert len(WRONG) >= 10


@pytest.mark.parametrize(("data", "sentence"), WRONG)
def test_a_wrong_request_is_told_what_the_page_says(data, sentence):
    with pytest.raises(PermanentError) as error:
        job.check(parse(data.encode()), Origin("s", "1", "2026-11-21T12:00:00Z"), ROOT / "compiled")
    said = str(error.value)
    assert said.startswith(sentence.removesuffix("...")) if sentence.endswith("...") else said == sentence


def test_every_placeholder_and_field_is_in_a_table():
    assert set(re.findall(r"^\| `\{(\w+)\}` \|", PAGE, re.M)) == set(PLACEHOLDERS)
    assert all(f"`{field}`" in PAGE for field in Rule.model_fields)


def test_links_lead_somewhere():
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGE):
        assert (ROOT / "triggers" / link).exists(), link
    for module in re.findall(r"python -m ((?:triggers|benchmarks)\.\w+)", PAGE):
        assert (ROOT / f"{module.replace('.', '/')}.py").exists(), module
