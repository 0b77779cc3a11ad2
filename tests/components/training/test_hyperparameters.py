import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from components.errors import InputError
from components.training.hyperparameters import Hyperparameters, load_hyperparameters, parse_hyperparameters

VALUES = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": st.floats(1e-9, 1),
        "epochs": st.floats(0.01, 1000),
        "batch_size": st.integers(1, 65536),
        "max_length": st.integers(0, 100_000),
        "schedule": st.sampled_from(["linear", "cosine", "constant"]),
        "warmup_share": st.floats(0, 1, exclude_max=True),
        "dropout": st.none() | st.floats(0, 1, exclude_max=True),
        "class_weights": st.sampled_from(["none", "balanced"]),
        "metric": st.sampled_from(["macro_f1", "accuracy", "loss"]),
        "seed": st.integers(0, 2**32 - 1),
    },
)


@given(VALUES)
def test_what_was_given_survives_a_round_trip_and_nothing_else_is_added(values):
    given_values = parse_hyperparameters(values).model_dump(exclude_unset=True)
    assert given_values == values
    assert parse_hyperparameters(json.loads(json.dumps(given_values))) == parse_hyperparameters(values)


@given(VALUES)
def test_whole_numbers_that_came_as_floats_are_whole_again(values):
    as_kfp_passes_them = {name: float(one) if isinstance(one, int) else one for name, one in values.items()}
    parsed = parse_hyperparameters(as_kfp_passes_them)
    assert parsed == parse_hyperparameters(values)
    assert all(isinstance(getattr(parsed, name), int) for name in ("batch_size", "max_length", "seed"))


@pytest.mark.parametrize("write", [json.dumps, yaml.safe_dump, lambda values: json.dumps(values, indent=4)])
def test_a_file_gives_what_it_names(tmp_path, write):
    values = {"learning_rate": 2e-5, "epochs": 2.0, "dropout": None, "schedule": "cosine"}
    (tmp_path / "settings").write_text(write(values))
    assert load_hyperparameters(tmp_path / "settings") == values


def test_yaml_may_write_a_rate_without_a_dot(tmp_path):
    (tmp_path / "settings.yaml").write_text("# tuned by hand\nlearning_rate: 2e-5\nbatch_size: 32\n")
    assert load_hyperparameters(tmp_path / "settings.yaml") == {"learning_rate": 2e-5, "batch_size": 32}


@pytest.mark.parametrize(
    ("values", "headline", "remedy"),
    [
        ({"lerning_rate": 1}, "no hyper-parameter 'lerning_rate'", "Did you mean learning_rate?"),
        ({"colour": 1}, "no hyper-parameter 'colour'", "There are: learning_rate, epochs"),
        ({"learning_rate": 0}, "learning_rate is 0", "Give a number greater than 0."),
        ({"dropout": 1}, "dropout is 1", "Give a number less than 1."),
        ({"batch_size": 2.5}, "batch_size is 2.5", "Give a valid integer"),
        ({"batch_size": "many"}, "batch_size is 'many'", "Give a valid integer"),
        ({"epochs": float("nan")}, "epochs is nan", "Give a finite number."),
        ({"epochs": True}, "epochs is True", "Give a number or a name, not true or false."),
        ({"epochs": None}, "epochs is None", "Give a valid number."),
        ({"schedule": "cosin"}, "schedule is 'cosin'", "Give linear, cosine or constant."),
        ({"seed": 2**32}, "seed is 4294967296", "Give a number less than 4294967296."),
    ],
)
def test_a_wrong_value_says_what_to_give(values, headline, remedy):
    with pytest.raises(InputError) as refused:
        parse_hyperparameters(values)
    assert headline in refused.value.headline
    assert refused.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no names and values"),
        (b"[1, 2]", "holds no names and values"),
        (b"epochs: [", "neither JSON nor YAML"),
        (b"\xff\xfe\x00", "not text in UTF-8"),
        (b"epochs: !!python/object/apply:os.system ['true']", "neither JSON nor YAML"),
        (b"1: 2", "no hyper-parameter '1'"),
        (b"epochs: 2026-01-01", "Give a valid number"),
    ],
)
def test_a_file_that_is_wrong_is_refused_in_one_line(tmp_path, content, message):
    (tmp_path / "settings.yaml").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load_hyperparameters(tmp_path / "settings.yaml")
    assert "\n" not in str(refused.value)


def test_every_default_is_in_range():
    assert parse_hyperparameters(Hyperparameters().model_dump()) == Hyperparameters()
