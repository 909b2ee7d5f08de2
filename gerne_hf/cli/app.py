"""`gerne-hf`: the commands with their options, by typer, and how their errors are shown.

Imports the modules of this room when a command runs. What a command does stands in a module of its name.
"""

import sys
from typing import Annotated, Any

import typer

from ..utils.plain_errors import TELLING, sentence

app = typer.Typer(
    name="gerne-hf",
    help="Does a classifier fail for somebody? Evaluate it by groups, find hidden groups, train against them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Label = Annotated[str, typer.Option("--label_column", help="Column of the true class.")]
Output = Annotated[str | None, typer.Option("--output_dir", help="Folder for JSON, picture and page.")]
Dataset = Annotated[str | None, typer.Option("--dataset", help="Hub id, folder or file of the data.")]
DatasetConfig = Annotated[str | None, typer.Option("--dataset_config", help="Its configuration on the Hub.")]
Texts = Annotated[list[str] | None, typer.Option("--text_column", help="Column of texts; twice for pairs.")]
Image = Annotated[str | None, typer.Option("--image_column", help="Column of images.")]
Rows = Annotated[int, typer.Option("--batch_size", min=1, help="Rows of a batch.")]


@app.command()
def evaluate(
    predictions: Annotated[str | None, typer.Option(help="File: .csv, .tsv, .jsonl or .parquet.")] = None,
    model: Annotated[str | None, typer.Option(help="Hub id or folder of a model, in place of a file.")] = None,
    dataset: Dataset = None,
    dataset_config: DatasetConfig = None,
    split: Annotated[str, typer.Option(help="Rows that the model is judged on.")] = "test",
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute_column", help="Column of the attribute; may be given again.")
    ] = None,
    label: Label = "label",
    prediction: Annotated[str, typer.Option("--prediction_column", help="Column of the predicted class.")] = (
        "prediction"
    ),
    probabilities: Annotated[
        str | None, typer.Option("--probability_columns", help="Columns of probabilities, by commas: cat,dog.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--label_names", help="All classes, by commas, where some have no row.")
    ] = None,
    text: Texts = None,
    image: Image = None,
    extra: Annotated[
        str | None, typer.Option("--extra_metrics", help="By commas: f1,tpr,fpr,auroc,ece,equalized_odds_gap.")
    ] = None,
    skip: Annotated[
        bool, typer.Option("--skip_unusable_rows", help="Leave out rows that lack a value, and count them.")
    ] = False,
    delimiter: Annotated[str | None, typer.Option(help="What parts the columns of a CSV file.")] = None,
    batch_size: Rows = 32,
    output_dir: Output = None,
) -> None:
    """Show the accuracy of each group: of a file of predictions, or of a model on a data set."""
    from ..reports.group_report import GroupReport
    from .showing import show_report

    attributes = attribute or []
    if (predictions is None) == (model is None):
        raise ValueError("give either --predictions FILE, or --model with --dataset")
    if not attributes:
        raise ValueError("name the column of the attribute with --attribute_column, such as a place or a sex")
    if predictions is not None:
        report = GroupReport.from_file(
            predictions,
            prediction_column=prediction,
            label_column=label,
            attribute_columns=attributes,
            probability_columns=_parts(probabilities),
            label_names=_parts(classes) or None,
            extra_metrics=_parts(extra),
            skip_unusable_rows=skip,
            delimiter=delimiter,
        )
    else:
        from .model import judge

        report = judge(
            str(model),
            _given(dataset),
            dataset_config,
            split,
            label_column=label,
            attribute_columns=attributes,
            text_columns=text or [],
            image_column=image,
            extra_metrics=_parts(extra),
            batch_size=batch_size,
        )
    show_report(report, output_dir)


@app.command()
def groups(
    dataset: Dataset = None,
    output_dir: Output = "outputs/groups",
    dataset_config: DatasetConfig = None,
    split: Annotated[str, typer.Option(help="Rows in which groups are looked for.")] = "train",
    label: Label = "label",
    text: Texts = None,
    image: Image = None,
    model: Annotated[str | None, typer.Option(help="Backbone: Hub id or folder.")] = None,
    epochs: Annotated[float, typer.Option(help="Epochs of the models that find the hard rows.")] = 3.0,
    batch_size: Rows = 32,
    learning_rate: Annotated[float, typer.Option("--learning_rate", help="Their learning rate.")] = 2e-5,
    rule: Annotated[str, typer.Option(help="Which rows are hard; see pseudo_rule.")] = "auto",
    skip: Annotated[
        bool, typer.Option("--skip_unusable_rows", help="Leave out rows that lack a value, and count them.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of these models.")] = 0,
) -> None:
    """Find hidden groups: rows of each class that models get wrong which were trained on other rows."""
    from .groups import find_groups

    find_groups(
        _given(dataset),
        str(output_dir),
        dataset_config=dataset_config,
        split=split,
        label_column=label,
        text_columns=text or [],
        image_column=image,
        model=model,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        rule=rule,
        skip_unusable_rows=skip,
    )


_PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command(context_settings=_PASSED_ON)
def train(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="multinli, waterbirds, text_classification, ...")] = "",
    num_processes: Annotated[int | None, typer.Option("--num_processes", help="Processes of the training.")] = None,
) -> None:
    """Train a recipe: gerne-hf train multinli --demo. All its own options follow; --help lists them."""
    from .train import run_recipe_script

    raise typer.Exit(run_recipe_script(recipe, context.args, num_processes))


@app.command(context_settings=_PASSED_ON)
def compare(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="As for train.")] = "",
    num_processes: Annotated[int | None, typer.Option("--num_processes", help="Processes of the training.")] = None,
) -> None:
    """Train all methods that a recipe can compare, beside each other, and rank them."""
    from .train import compare_arguments, run_recipe_script

    raise typer.Exit(run_recipe_script(recipe, compare_arguments(context.args), num_processes))


@app.command()
def report(
    output_dir: Annotated[str, typer.Argument(help="The run's folder; holds group_metrics.json.")],
    output: Annotated[str | None, typer.Option(help="The page's file.")] = None,
) -> None:
    """Write the page about a run: one HTML file that needs no network."""
    from ..reports.page import write_report
    from .showing import say_page

    say_page(write_report(output_dir, output))


@app.command()
def env() -> None:
    """Print the versions of everything that matters, for an issue."""
    from .environment import environment

    typer.echo(environment())


def _parts(value: str | None) -> list[str]:
    """Return the parts of a value that are parted by commas."""
    return [part.strip() for part in (value or "").split(",") if part.strip()]


def _given(dataset: str | None) -> str:
    """Return the data set, without which nothing can be done."""
    if dataset is None:
        raise ValueError("name the data with --dataset: a Hub id, a folder, or a file")
    return dataset


def main(argv: list[str] | None = None) -> int:
    """Run the command that the command line names; this is the console script `gerne-hf`.

    Args:
        argv (`list[str]`, *optional*): the arguments; those of the process if not given.

    Returns:
        `int`: 0, or another number where something is wrong, which is said on stderr.
    """
    arguments = sys.argv[1:] if argv is None else argv
    traceback = "--traceback" in arguments
    arguments = [argument for argument in arguments if argument != "--traceback"]
    try:
        outcome: Any = app(arguments, prog_name="gerne-hf", standalone_mode=False)
    except TELLING as error:
        if traceback:
            raise
        print(f"gerne-hf: {sentence(error)}\n(--traceback shows where in the code.)", file=sys.stderr)
        return 1
    except typer.Exit as ended:
        return int(ended.exit_code)
    except typer.Abort:
        print("gerne-hf: stopped.", file=sys.stderr)
        return 130
    except Exception as error:
        shown = getattr(error, "format_message", None)  # a usage error of click, which typer builds on
        if shown is None:
            raise
        print(f"gerne-hf: {shown()} (gerne-hf COMMAND --help lists the options.)", file=sys.stderr)
        return int(getattr(error, "exit_code", 2))
    return outcome if isinstance(outcome, int) else 0
