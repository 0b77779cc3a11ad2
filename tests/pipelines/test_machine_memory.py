"""The estimate against what PyTorch keeps: on a CPU, for lack of a GPU, with the same tensors."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from pipelines.machines.memory import GIB, Model, Purpose, estimate, largest_batch, spare_gib

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 0.05
BATCH = 4


def kept_for_backward(model, length, autocast):
    """Returns the bytes that the backward pass needs besides the model's weights, counting shared memory once."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            # The tensor is held, so that its address is not given to another one.
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    ids = torch.randint(0, 2000, (BATCH, length))
    precision = torch.autocast("cpu", dtype=torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), precision:
        output = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.zeros(BATCH, dtype=torch.long))
    return output.loss, sum(size for size, _ in kept.values())


@pytest.mark.parametrize("length", [64, 256])
@pytest.mark.parametrize("bits", [32, 16])
@pytest.mark.parametrize(("layers", "width"), [(2, 128), (4, 256)])
def test_training_takes_what_is_estimated(layers, width, bits, length):
    torch.manual_seed(0)
    # Without dropout of attention, so that a CPU too takes the fused kernel, which keeps no tokens-by-tokens matrix.
    config = BertConfig(
        vocab_size=2000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
        attention_probs_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config).train()
    optimizer = torch.optim.AdamW(model.parameters())
    loss, kept = kept_for_backward(model, length, bits == 16)
    loss.backward()
    optimizer.step()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    measured = {
        "weights": sum(p.nbytes for p in model.parameters()),
        "gradients": sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        "AdamW": sum(v.nbytes for state in optimizer.state.values() for v in state.values() if v.numel() > 1),
    }
    expected = estimate(Model(parameters, layers, width), Purpose.TRAIN, length, BATCH, bits)
    copies = expected.parts["weights"] - 4 * parameters
    assert measured["weights"] + copies == pytest.approx(expected.parts["weights"], rel=TOLERANCE)
    assert measured["gradients"] == pytest.approx(expected.parts["gradients"], rel=TOLERANCE)
    assert measured["AdamW"] == pytest.approx(expected.parts["AdamW"], rel=TOLERANCE)
    # Autocast's copies of the weights are kept for the backward pass, too.
    assert kept == pytest.approx(expected.parts["activations"] + copies, rel=TOLERANCE)
    whole = measured["weights"] + measured["gradients"] + measured["AdamW"] + kept
    assert whole == pytest.approx(expected.tensors, rel=TOLERANCE)


@pytest.mark.parametrize(
    ("parameters", "layers", "width"), [(109.5e6, 12, 768), (4.4e6, 2, 128), (335e6, 24, 1024), (66e6, 6, 768)]
)
def test_the_shape_that_is_derived_is_near_enough(parameters, layers, width):
    derived, real = Model(parameters), Model(parameters, layers, width)
    needs = [estimate(model, Purpose.TRAIN, 512, 16, 16).total for model in (derived, real)]
    assert needs[0] == pytest.approx(needs[1], rel=0.35)


def test_inference_takes_less_than_training_and_grows_with_the_batch():
    model = Model(110e6)
    needs = [estimate(model, Purpose.INFER, 512, batch, 16).total for batch in (1, 32, 256)]
    assert needs == sorted(needs)
    assert needs[1] < estimate(model, Purpose.TRAIN, 512, 32, 16).total / 2


def test_the_largest_batch_fits_and_its_double_does_not():
    model = Model(110e6)
    batch = largest_batch(model, Purpose.TRAIN, 512, 24)
    fits = [estimate(model, Purpose.TRAIN, 512, each, 16) for each in (batch, 2 * batch)]
    assert [spare_gib(each, 24) >= 0 for each in fits] == [each.fits(24) for each in fits] == [True, False]
    assert largest_batch(Model(20e9), Purpose.TRAIN, 512, 24) == 0


@pytest.mark.parametrize("arguments", [(0,), (1e6, 2), (1e6, 0, 128), (-1,)])
def test_a_model_that_cannot_be_is_refused(arguments):
    with pytest.raises(ValueError, match="A model has"):
        Model(*arguments)


def command(*arguments, columns="200"):
    run = [sys.executable, "-m", "pipelines.machines", *arguments]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env={"COLUMNS": columns, "PATH": ""})


@pytest.mark.parametrize("arguments", [(), ("--parameters", "110e6")])
def test_no_name_is_cut_off_on_a_narrow_screen(arguments):
    printed = command(*arguments, columns="80").stdout
    assert "\u2026" not in printed
    assert "h100-mega-8" in printed and "a100-80-8" in printed


def test_the_command_prints_the_table_and_filters_it():
    assert all(name in command().stdout for name in ("t4-1", "b200-8", "-spot -flex", "Custom Job"))
    filtered = command("--gpu-memory-min", "100", "--bf16", "--strategy", "spot").stdout
    assert "h200-8-spot" in filtered and "b200-8-spot" in filtered and "h100" not in filtered
    assert "There is no strategy 'SPOTT'" in command("--strategy", "SPOTT").stderr
    assert command("--gpu-memory-min", "500").returncode == 1
    there = command("--location", "us-west2").stdout
    assert "t4-1" in there and "a100-40-1" not in there


def test_the_command_says_which_gpus_fit_and_why():
    printed = command(
        "--parameters", "110e6", "--sequence-length", "512", "--for", "train", "--batch-size", "64"
    ).stdout
    rows = {line.split()[0]: line for line in printed.splitlines() if " GiB " in line and line.strip()}
    assert "fp16" in rows["TESLA_T4"] and "short: use --batch-size 32" in rows["TESLA_T4"]
    assert "bf16" in rows["L4"] and "GiB to spare" in rows["L4"] and "l4-1 l4-2" in rows["L4"]
    assert "not even one text fits" in command("--parameters", "70e9").stdout
    assert estimate(Model(70e9), Purpose.INFER, 512, 1, 16).total > 100 * GIB
