"""The `turnout` command: one verb a file."""

import typer

from turnout.cli import (
    align,
    audit,
    compare,
    coupling,
    doctor,
    evaluate,
    export,
    grpo,
    import_,
    mask,
    merge,
    plan,
    report,
    sweep,
    train,
    upcycle,
    verify,
    vote,
)

app = typer.Typer(
    name="turnout",
    help="Audit, align, couple and size the routing of Mixture-of-Experts language models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

COMMANDS = (
    audit.audit,
    report.report,
    compare.compare,
    mask.mask,
    align.align,
    merge.merge,
    upcycle.upcycle,
    coupling.coupling,
    plan.plan,
    sweep.sweep,
    grpo.grpo,
    vote.vote,
    verify.verify,
    train.train,
    doctor.doctor,
)
for command in COMMANDS:
    app.command()(command)
app.command()(export.export)
app.command("import")(import_.import_)
app.command("eval")(evaluate.evaluate)


@app.callback()
def turnout() -> None:
    """Audit, align, couple and size the routing of Mixture-of-Experts language models.

    Exit status: 0 done; 1 failed, or `verify` found damage; 2 arguments that do not parse.
    """


def main() -> None:
    """Entry point of the `turnout` command."""
    app()
