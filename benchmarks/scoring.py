"""What pseudo-attributes cost: scoring the 55,000 training rows of Colored MNIST, and each further threshold.

python benchmarks/scoring.py --dataset_name ylecun/mnist --threads 2
"""

import argparse
import tempfile
import time

import torch
from transformers.utils import logging

from gerne_hf import GerneConfig, PseudoAttributes
from gerne_hf.data import load_colored_mnist
from gerne_hf.models import MLPConfig, MLPForImageClassification

SCORING_BOUND = 20.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset_name", default="ylecun/mnist", help="Hub id or folder of MNIST")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.set_verbosity_error()
    data = load_colored_mnist(arguments.dataset_name)["train"]
    torch.manual_seed(0)
    model = MLPForImageClassification(MLPConfig(num_labels=10))
    forwards = []
    seconds = []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(f"{folder}/model")
            config = GerneConfig(
                output_dir=f"{folder}/run",
                use_cpu=True,
                disable_tqdm=True,
                per_device_eval_batch_size=2000,
                biased_model=f"{folder}/model",
            )
            begin = time.perf_counter()
            pseudo = PseudoAttributes.fit(args=config, train_dataset=data, model=model)
            seconds.append(time.perf_counter() - begin)
    handle = torch.nn.modules.module.register_module_forward_pre_hook(lambda *_: forwards.append(1))
    begin = time.perf_counter()
    for threshold in (0.0005, 0.001, 0.003, 0.005, 0.01):
        pseudo.index(threshold)
    further = (time.perf_counter() - begin) / 5
    handle.remove()
    print(
        f"scoring {len(data):,} rows, {arguments.threads} threads: {min(seconds):.1f} to {max(seconds):.1f} s", end=""
    )
    print(f" (bound {SCORING_BOUND:g} s: {'held' if max(seconds) <= SCORING_BOUND else 'missed'})")
    print(f"each further threshold: {1000 * further:.0f} ms, {len(forwards)} forward passes")


if __name__ == "__main__":
    main()
