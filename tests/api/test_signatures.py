"""Every public verb states its arguments: names, defaults and docstrings, the same as its settings class."""

import inspect
import re

import pytest

import turnout

VERBS = sorted(turnout.PUBLIC["Verbs"])
ALIGN = ("Align", "Reading", "Manifold", "Schedule", "Rerouting")
SETTINGS = {
    "align": [f"turnout.aligning.config.{part}Config" for part in ALIGN],
    "audit": ["turnout.auditing.config.AuditConfig"],
    "evaluate": ["turnout.auditing.config.AuditConfig", "turnout.evaluating.config.EvaluateConfig"],
    "import_routed": ["turnout.exchange.config.ImportConfig"],
    "grpo": ["turnout.reasoning.grpo.config.GrpoConfig"],
    "couple": ["turnout.coupling.config.CoupleConfig"],
    "mask": ["turnout.masking.config.MaskConfig"],
    "measure_coupling": ["turnout.coupling.config.MeasureConfig"],
    "plan": ["turnout.sparsity.config.PlanConfig", "turnout.sparsity.config.Grid"],
    "vote": ["turnout.reasoning.vote.config.VoteConfig"],
    "upcycle": ["turnout.upcycling.config.UpcycleConfig"],
}
ELSEWHERE = {
    "align": {"reading", "manifold", "schedule", "rerouting"},
    "evaluate": {"answers", "shots"},
    "plan": {"grid"},
}
"""Settings that a verb does not take: the harness has its own; the parts' are arguments themselves."""
INHERITED = {"audit"}
"""Verbs whose defaults are None: the settings' default, or that of the stored run that is measured again."""


def fields(verb):
    """Each setting of a verb with its default."""
    found = {}
    for path in SETTINGS[verb]:
        module, _, name = path.rpartition(".")
        owner = getattr(__import__(module, fromlist=[name]), name)
        found |= {key: field for key, field in owner.model_fields.items() if key not in ELSEWHERE.get(verb, ())}
    return found


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_are_explicit_and_described(verb):
    function = getattr(turnout, verb)
    parameters = inspect.signature(function).parameters
    assert not [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert all(p.annotation is not p.empty for p in parameters.values())
    described = re.findall(r"^        (\w+): ", inspect.getdoc(function).replace("    ", "        "), re.MULTILINE)
    assert set(parameters) <= set(described), set(parameters) - set(described)


@pytest.mark.parametrize("verb", sorted(SETTINGS))
def test_settings_are_those_of_the_configuration(verb):
    parameters, settings = inspect.signature(getattr(turnout, verb)).parameters, fields(verb)
    assert set(settings) <= set(parameters)
    for name, field in settings.items():
        if verb in INHERITED:
            assert parameters[name].default is None, name
        elif not field.is_required():
            assert parameters[name].default == field.default, name
        assert field.description, f"{name} has no docstring"
