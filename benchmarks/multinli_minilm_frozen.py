"""Every method on MultiNLI: a small head on the frozen features of a sentence encoder, with equal trials for all.

    python benchmarks/multinli_minilm_frozen.py --dataset_name FOLDER --model_name_or_path BACKBONE \
        --compare erm,resampling,group_dro,dfr,jtt --seeds 0,1,2 --tune 6

It takes all arguments of a text recipe. Settings: benchmarks/configs/multinli_minilm_frozen.yaml. The vectors of the
sentences are computed once, and kept in `multinli_sentences.pt` in the folder above `output_dir`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from sentence_pairs import pair_features

from gerne_hf import GerneConfig, GerneTrainer
from gerne_hf.data import load_multinli, multinli
from gerne_hf.models import MLPConfig, MLPForImageClassification, label_maps
from gerne_hf.recipes import RecipeArguments, card_facts, parse_arguments, run_recipe

MOMENTUM = 0.9


@dataclass
class Arguments(RecipeArguments):
    """Arguments of this benchmark; all fields of GerneConfig can be given too."""

    model_name_or_path: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2", metadata={"help": "Sentence encoder: Hub id or folder."}
    )


def main(argv: list[str] | None = None) -> None:
    """Compare the methods that the arguments name."""
    arguments, config = parse_arguments(Arguments, __file__, argv)
    pairs = load_multinli(arguments.dataset_name or "nyu-mll/multi_nli")
    kept = Path(str(config.output_dir)).parent / "multinli_sentences.pt"
    data = pair_features(pairs, arguments.model_name_or_path, kept)
    width = data["train"].features.shape[1]
    head = MLPConfig(image_size=1, num_channels=width, hidden_sizes=[256], **label_maps(multinli.LABELS))

    def make_trainer(run: GerneConfig, trainer_class: type[GerneTrainer]) -> GerneTrainer:
        sgd = {"lr": run.learning_rate, "momentum": MOMENTUM, "weight_decay": run.weight_decay}
        return trainer_class(
            model_init=lambda: MLPForImageClassification(head),
            args=run,
            train_dataset=data["train"],
            eval_dataset=data["validation"],
            optimizer_cls_and_kwargs=(torch.optim.SGD, sgd),
        )

    run_recipe(arguments, config, make_trainer, data["test"], card_facts("multinli", arguments))


if __name__ == "__main__":
    main()
