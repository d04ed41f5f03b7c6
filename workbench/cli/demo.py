"""`workbench demo`: predict, evaluate and report, one after the other, on what ships with the package."""

import click

from workbench.cli.evaluate import evaluate
from workbench.cli.predict import tell

DATASET = "scenes_val"


@click.command()
@click.option("--out", type=click.Path(), help="Run folder. Default: as `workbench predict` chooses it.")
@click.option("--json", "as_json", is_flag=True, help="Print the metrics as JSON instead of tables.")
@click.pass_context
def demo(ctx: click.Context, out: str | None, as_json: bool) -> None:
    """Predict the bundled sample with the bundled checkpoint, score it, and write a report.

    Needs no internet and no GPU. It does what three commands do, which work alike on data and models of your own:

    \b
    workbench demo
    workbench predict --dataset scenes_val
    workbench evaluate
    workbench report
    """
    # Here and not above: torch takes a second, which --help must not wait for.
    from workbench.prediction.api import predict
    from workbench.prediction.summary import summary
    from workbench.report.api import report

    click.echo(f"$ workbench predict --dataset {DATASET}", err=True)
    run = predict(DATASET, out=out)
    tell(summary(run))
    click.echo(f"$ workbench evaluate {run.path}", err=True)
    ctx.invoke(evaluate, run=run.path, as_json=as_json)
    click.echo(f"$ workbench report {run.path}", err=True)
    click.echo(f"Open in a browser: {report([run.path]).html}", err=True)
    click.echo(f"The predicted segments: pandas.read_parquet('{run.path}/predictions')", err=True)
