import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp import dsl

from components import concat, reverse
from components.text.concat.concat import concat as concat_text
from components.text.reverse.reverse import reverse as reverse_text
from tests.local_run import run_pipeline


@pytest.mark.parametrize(("text", "expected"), [("", ""), ("abc", "cba"), ("e\u0301a", "ae\u0301"), ("ação", "oãça")])
def test_reverse_keeps_accents_on_their_letters(text, expected):
    assert reverse_text(text) == expected


@given(st.text(alphabet=st.characters(exclude_categories=["Mn", "Mc", "Me"])))
def test_reverse_twice_is_the_same_text(text):
    assert reverse_text(reverse_text(text)) == text


@given(st.text(), st.text())
def test_concat_keeps_both_texts(first, second):
    joined = concat_text(first, second)
    assert joined.startswith(first) and joined.endswith(second) and len(joined) == len(first) + len(second)


@dsl.pipeline
def both(first: str, second: str) -> str:
    return reverse(text=concat(first=first, second=second).output).output


def test_components_run_one_after_the_other(tmp_path):
    run = run_pipeline(both, tmp_path, first="trans", second="former")
    assert run.parameter("concat") == "transformer"
    assert run.parameter("reverse") == "remrofsnart"
