"""What transformers reports of a load: unused weights, precision of correction biases, tensors named in errors."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import random_model, tiny_model
from transformers import AutoModelForCausalLM

from turnout.errors import ModelError, RecipeError
from turnout.models.forward.capture import capture
from turnout.models.wrap.load import load, load_causal, load_checkpoint
from turnout.training.model import load_model


@pytest.fixture
def folder(checkpoint, tmp_path):
    """A private copy of a checkpoint, to be changed."""
    return Path(shutil.copytree(checkpoint("olmoe"), tmp_path / "olmoe"))


def add(folder, **tensors):
    """Add tensors to a folder's weights; `__` in a name is a dot."""
    file = folder / "model.safetensors"
    added = {name.replace("__", "."): tensor.clone() for name, tensor in tensors.items()}
    save_file(load_file(file) | added, file, metadata={"format": "pt"})


ONE = torch.ones(3)


@pytest.mark.parametrize(
    "name",
    [
        "model__layers__1__mlp__gate__e_score_correction_bias",
        "model__layers__0__self_attn__q_proj__bias",
        "model__layers__2__mlp__shared_expert__up_proj__weight",
        "model__norm__bias",
        "lm_head__bias",
        "layers__0__mlp__gate__norm",
    ],
)
def test_an_unused_weight_of_the_model_is_refused_by_name(folder, name):
    add(folder, **{name: ONE})
    for read in (load, load_causal):
        with pytest.raises(ModelError, match=rf"weights that OlmoeForCausalLM uses, got {name.replace('__', '.')}; "):
            read(folder)
    with pytest.raises(RecipeError, match=f"got {name.replace('__', '.')}"):
        load_model(folder)


def test_several_are_counted(folder):
    add(folder, model__layers__0__a=ONE, model__layers__1__b=ONE, model__layers__2__c=ONE)
    with pytest.raises(ModelError, match=r"got model\.layers\.0\.a and 2 more"):
        load(folder)


@pytest.mark.parametrize(
    ("names", "note"),
    [
        (
            ["model.layers.3.mlp.gate.weight", "model.layers.3.eh_proj.weight"],
            "model.layers.3.eh_proj.weight and 1 more",
        ),
        (["mtp.layers.0.mlp.gate.weight"], "mtp.layers.0.mlp.gate.weight"),
        (["model.mtp_layers.0.mlp.gate.weight"], "model.mtp_layers.0.mlp.gate.weight"),
        (["model.visual.blocks.0.mlp.weight"], "model.visual.blocks.0.mlp.weight"),
        (["v_head.summary.weight"], "v_head.summary.weight"),
    ],
    ids=["layer beyond the last", "mtp", "mtp layers", "vision tower", "value head"],
)
def test_leftovers_are_named(folder, names, note):
    add(folder, **dict.fromkeys((name.replace(".", "__") for name in names), ONE))
    moe = load(folder)
    assert moe.notes == (f"stored and not used by the model: {note}",)
    assert moe.describe()["notes"] == list(moe.notes)


def test_a_note_is_no_part_of_the_weights(folder, checkpoint):
    add(folder, v_head__summary__weight=ONE)
    assert load(folder).digest() == load(checkpoint("olmoe")).digest()
    assert load(checkpoint("olmoe")).notes == ()
    assert "notes" not in load(checkpoint("olmoe")).describe()


def test_buffers_and_cache_scales_are_neither_refused_nor_noted(folder):
    add(folder, model__layers__0__self_attn__rotary_emb__inv_freq=ONE, model__layers__0__self_attn__k_scale=ONE)
    assert load(folder).notes == ()


BIASED = {"minimax_m2": 3, "afmoe": 2, "kimi_linear": 2, "laguna": 2, "glm4_moe": 2, "deepseek_v3": 2}


def saved_in_bfloat16(family, path):
    """A checkpoint in bfloat16 with correction biases in float32, which are of the size of the scores' differences."""
    model = random_model(family).bfloat16()
    generator = torch.Generator().manual_seed(1)
    biases = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if name.endswith(("correction_bias", "expert_bias")):
            biases[name] = 8 + 1e-3 * torch.randn(tensor.shape, generator=generator)
            tensor.data = biases[name].clone()
    model.save_pretrained(path)
    return model, biases


@pytest.mark.parametrize("family", BIASED)
def test_a_correction_bias_keeps_the_stored_precision(family, tmp_path):
    model, biases = saved_in_bfloat16(family, tmp_path)
    assert len(biases) == BIASED[family]
    moe = load(tmp_path)
    found = dict((*moe.model.named_parameters(), *moe.model.named_buffers()))
    for name, bias in biases.items():
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name], bias)
    assert moe.model.dtype == torch.bfloat16
    assert moe.notes == ()
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12], [20, 21, 22, 23]]
    expected = chosen_by(model, moe, prompts)
    traces = [capture(moe, [prompt], experts=None).layers for prompt in prompts]
    for traced in zip(*traces, strict=True):
        chosen = torch.cat([trace.chosen_TK for trace in traced]).sort(-1).values
        assert chosen.tolist() == expected[traced[0].layer]


def chosen_by(model, moe, prompts):
    """The experts that the routers of the saved model choose, layer by layer, one prompt at a time."""
    chosen = {layer.layer: [] for layer in moe.layers}

    def keep(number):
        return lambda _, __, output: chosen[number].extend(output[2].sort(-1).values.tolist())

    handles = [model.get_submodule(x.name).register_forward_hook(keep(x.layer)) for x in moe.layers]
    with torch.no_grad():
        for prompt in prompts:
            model(input_ids=torch.tensor([prompt]), use_cache=False)
    for handle in handles:
        handle.remove()
    return chosen


def test_a_narrowed_bias_would_choose_otherwise(tmp_path):
    """What the restoring is for: transformers' own load of the same files."""
    _, biases = saved_in_bfloat16("minimax_m2", tmp_path)
    narrowed = dict(AutoModelForCausalLM.from_pretrained(tmp_path).named_buffers())
    assert all(len(narrowed[name].unique()) == 1 < len(bias.unique()) for name, bias in biases.items())


def test_router_weights_that_are_narrowed_are_noted(tmp_path):
    model = random_model("olmoe").bfloat16()
    model.model.layers[1].mlp.gate.float()
    model.save_pretrained(tmp_path)
    expected = ("stored in float32, used in bfloat16: model.layers.1.mlp.gate.weight",)
    assert load(tmp_path).notes == expected
    assert load(tmp_path, "bfloat16").notes == ()  # as requested


def test_a_mismatched_tensor_is_named(folder):
    add(folder, model__norm__weight=torch.ones(5))
    with pytest.raises(ModelError, match=r"transformers can load, got model\.norm\.weight \[5\] for \[32\]$"):
        load(folder)


def test_a_tensor_that_cannot_be_converted_is_named(folder):
    add(folder, model__layers__1__mlp__experts__3__up_proj__weight=torch.ones(16, 31))
    with pytest.raises(ModelError, match=r"got model\.layers\.1\.mlp\.experts\.gate_up_proj: .*Error") as error:
        load(folder)
    assert "above report" not in str(error.value)


def test_a_configuration_with_fewer_layers_is_noted(folder):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"num_hidden_layers": 2}))
    (note,) = load_checkpoint(folder).notes
    assert note.startswith("stored and not used by the model: model.layers.2.")


def test_every_reader_names_the_same_leftovers(tmp_path):
    from turnout.models.checkpoint.stored import read_stored

    folder = tiny_model("deepseek_v3", tmp_path)
    add(folder, model__layers__3__mlp__gate__weight=torch.ones(8, 32))
    assert read_stored(folder).notes == load(folder).notes != ()
