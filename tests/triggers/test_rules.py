"""Which pipeline runs for which new object, and the command that checks it."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.triggers.conftest import ROOT
from triggers.bundle import write_bundle
from triggers.errors import ConfigurationError, PermanentError
from triggers.rule_files import as_json, check_rules, read_rules
from triggers.rules import PLACEHOLDERS, Arrived, fill, find_rule

RULE = {
    "name": "texts",
    "bucket": "my-bucket",
    "prefix": "in/",
    "suffix": ".csv",
    "pipeline": "two_steps",
    "parameters": {"count": 1, "text": "{uri}"},
}
FOLDER = {k: v for k, v in RULE.items() if k != "suffix"} | {"name": "folders", "prefix": "days/", "marker": "_SUCCESS"}
FOLDER |= {"parameters": {"count": 2, "items": ["{folder}", {"in": "{bucket}/{name}"}], "text": "{{{generation}}}"}}


@pytest.fixture
def rules_file(tmp_path):
    def write(*rules, name="rules.yaml", version=1):
        path = tmp_path / name
        document = {"version": version, "rules": list(rules)}
        path.write_text(json.dumps(document) if name.endswith("json") else yaml.safe_dump(document))
        return path

    return write


@pytest.mark.parametrize(
    ("bucket", "name", "expected"),
    [
        ("my-bucket", "in/today.csv", "texts"),
        ("my-bucket", "in/a/b.csv", "texts"),
        ("my-bucket", "in/.csv", "texts"),
        ("my-bucket", "in/today.csv.gz", "later"),
        ("my-bucket", "in/today.CSV", "later"),
        ("my-bucket", "in%2Ftoday.csv", None),
        ("my-bucket", "out/today.csv", None),
        ("my-bucket", "/in/today.csv", None),
        ("my-buckets", "in/today.csv", None),
        ("my-bucket", "days/2026-11-21/_SUCCESS", "folders"),
        ("my-bucket", "days/_SUCCESS", "folders"),
        ("my-bucket", "days/2026-11-21/part_SUCCESS", None),
        ("my-bucket", "days/2026-11-21/_SUCCESS/", None),
        ("my-bucket", "in/", None),
    ],
)
def test_the_first_rule_that_matches_decides(rules_file, bucket, name, expected):
    for suffix in ("rules.yaml", "rules.json"):
        found = find_rule(
            read_rules(rules_file(RULE, FOLDER, RULE | {"name": "later", "suffix": ""}, name=suffix)),
            Arrived(bucket, name, "1"),
        )
        assert (found.name if found else None) == expected


def test_placeholders_are_filled_everywhere(rules_file):
    [rule] = read_rules(rules_file(FOLDER)).rules
    made = rule.request(Arrived("my-bucket", "days/1/_SUCCESS", "17"))
    assert made.parameters == {
        "count": 2,
        "items": ["gs://my-bucket/days/1", {"in": "my-bucket/days/1/_SUCCESS"}],
        "text": "{17}",
    }
    assert made.run_key is None
    top = Arrived("my-bucket", "_SUCCESS", "1").values
    assert (top["folder"], top["folder_name"], top["uri"]) == ("gs://my-bucket", "", "gs://my-bucket/_SUCCESS")


def test_the_example_is_right():
    rules = read_rules(ROOT / "examples" / "object_rules.yaml")
    check_rules(rules, ROOT / "compiled")
    arrived = Arrived("my-bucket", "tickets/2026-11-21/_SUCCESS", "1")
    made = find_rule(rules, arrived).request(arrived)
    assert made.parameters["input_uri"] == "gs://my-bucket/tickets/2026-11-21/*.parquet"
    assert made.parameters["output_uri"] == "gs://my-bucket/predictions/tickets/2026-11-21"


@given(st.text(), st.sampled_from(sorted(PLACEHOLDERS)))
def test_what_an_object_is_called_is_not_read(name, placeholder):
    arrived = Arrived("b", name, "1")
    assert fill(f"{{{placeholder}}}", arrived.values) == arrived.values[placeholder]


@given(st.text())
def test_a_text_with_braces_is_refused_or_filled(text):
    try:
        filled = fill(text, dict.fromkeys(PLACEHOLDERS, ""))
    except ValueError:
        assert "{" in text or "}" in text
    else:
        assert (
            filled == re.sub(r"\{(uri|bucket|name|folder|folder_name|generation)\}", "", text)
            or "{{" in text
            or "}}" in text
        )


WRONG = [
    ({"pipeline": "two_step"}, "Did you mean 'two_steps'"),
    ({"parameters": {}}, "count must be given"),
    ({"parameters": {"count": "{generation}"}}, "count is text"),
    ({"parameters": {"count": 1, "text": "{date}"}}, "the placeholders are {uri}"),
    ({"parameters": {"count": 1, "text": "{"}}, "stands for a brace"),
    ({"machine": "l4-3"}, "no machine 'l4-3'"),
    ({"labels": {"Team": "a"}}, "cannot be the name of a label"),
    ({"bucket": "gs://my-bucket"}, "rules.0.bucket"),
    ({"name": "Two words"}, "rules.0.name"),
    ({"suffixes": [".csv"]}, "rules.0.suffixes"),
    ({"prefix": "gs://my-bucket/in/"}, "without gs:// and the bucket"),
    ({"prefix": "/in/"}, "without gs:// and the bucket"),
    ({"marker": "_SUCCESS"}, "goes without suffix"),
    ({"prefix": "", "suffix": ""}, "whatever arrived in the bucket"),
    ({"parameters": {"count": 1, "output_uri": "gs://my-bucket/in/out"}}, "texts writes to gs://my-bucket/in/"),
    ({"parameters": {"count": 1, "output_uri": "{folder}"}}, "write somewhere else"),
]


@pytest.mark.parametrize(("changed", "problem"), WRONG)
def test_a_wrong_rule_is_refused(rules_file, compiled, changed, problem):
    with pytest.raises((ConfigurationError, PermanentError)) as error:
        check_rules(read_rules(rules_file(RULE | changed)), compiled)
    assert problem in str(error.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("version: 2\nrules: []", "rules: List"),
        ("a: [", "cannot be read"),
        ("- 1", "the file"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, content, problem):
    path = tmp_path / "rules.yaml"
    if content:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=problem):
        read_rules(path)


@pytest.mark.parametrize(
    ("earlier", "later", "is_hidden"),
    [
        ({}, {}, True),
        ({"prefix": "i"}, {}, True),
        ({"suffix": ""}, {}, True),
        ({"prefix": "in/a"}, {}, False),
        ({"suffix": "s.csv"}, {}, False),
        ({"bucket": "other-bucket"}, {}, False),
        ({"suffix": ""}, {"suffix": "", "marker": "_SUCCESS"}, True),
        ({"suffix": "SS"}, {"suffix": "", "marker": "_SUCCESS"}, True),
        ({"suffix": ""}, {"suffix": "", "marker": "_SUCCESS", "prefix": "days/"}, False),
        ({"suffix": "", "marker": "_SUCCESS"}, {"suffix": ""}, False),
        ({"suffix": "", "marker": "_SUCCESS"}, {"suffix": "", "marker": "_SUCCESS", "prefix": "in/a/"}, True),
        ({"suffix": "", "marker": "_DONE"}, {"suffix": "", "marker": "_SUCCESS"}, False),
    ],
)
def test_a_rule_that_can_never_decide_is_refused(rules_file, earlier, later, is_hidden):
    path = rules_file(RULE | {"name": "first"} | earlier, RULE | {"name": "second"} | later)
    if is_hidden:
        with pytest.raises(ConfigurationError, match="second never decides: first comes before it"):
            read_rules(path)
    else:
        assert len(read_rules(path).rules) == 2


def test_two_rules_of_one_name_are_refused(rules_file):
    with pytest.raises(ConfigurationError, match="two rules are called texts"):
        read_rules(rules_file(RULE, RULE))


def test_the_bundle_carries_the_rules_as_json(rules_file, compiled, tmp_path):
    write_bundle(tmp_path / "bundle", compiled, rules_file(RULE, FOLDER))
    carried = tmp_path / "bundle" / "rules.json"
    assert as_json(read_rules(carried)) == carried.read_text()
    assert json.loads(carried.read_text())["rules"][1]["marker"] == "_SUCCESS"
    assert not (tmp_path / "bundle" / "triggers" / "check_rules.py").exists()
    with pytest.raises(PermanentError, match="The rule texts is wrong"):
        write_bundle(tmp_path / "other", compiled, rules_file(RULE | {"pipeline": "none"}))
    assert not (tmp_path / "other").exists()


def command(compiled, *arguments):
    run = [sys.executable, "-m", "triggers.check_rules", *map(str, arguments)]
    env = {"COMPILED_FOLDER": str(compiled), "PATH": "/usr/bin"}
    return subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=env, timeout=60)


def test_the_command_says_which_rule_an_object_matches(rules_file, compiled):
    path = rules_file(RULE, FOLDER)
    checked = command(compiled, path)
    assert (checked.returncode, checked.stdout) == (0, "The rules are right: texts, folders.\n")
    matched = command(compiled, path, "--object", "gs://my-bucket/in/today.csv")
    assert "gs://my-bucket/in/today.csv matches the rule texts, and starts two_steps with" in matched.stdout
    assert json.loads(matched.stdout.split("with\n")[1]) == {"count": 1, "text": "gs://my-bucket/in/today.csv"}
    nothing = command(compiled, path, "--object", "gs://my-bucket/other")
    assert (nothing.returncode, nothing.stdout) == (1, "gs://my-bucket/other matches no rule, and starts nothing.\n")


@pytest.mark.parametrize(
    ("name", "problem"),
    [("in/a.csv", "write gs://BUCKET/NAME"), ("gs://my-bucket/in/*.csv", "would read other objects too")],
)
def test_the_command_does_not_blame_the_rules_for_the_object(rules_file, compiled, name, problem):
    refused = command(compiled, rules_file(RULE), "--object", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("The object starts nothing\n")
    assert problem in refused.stderr


def test_the_command_refuses_in_a_sentence(rules_file, compiled):
    wrong = command(compiled, rules_file(RULE | {"pipeline": "two_step"}))
    assert wrong.returncode == 2
    assert wrong.stderr.startswith(
        "The rules cannot be used\nThe rule texts is wrong. There is no pipeline 'two_step'."
    )
    assert "Traceback" not in wrong.stderr
