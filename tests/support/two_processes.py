"""What test_distributed.py runs on two processes: trains, evaluates, resumes, and writes what each process saw."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from helpers import mlp, table, trainer, watch_batches, weights

from gerne_hf.groups.batches import GROUP_KEY
from gerne_hf.utils.distributed import leave_processes_at_exit

SETTINGS = dict(num_train_epochs=2, max_steps=-1, optim="adamw_torch", learning_rate=0.01, logging_steps=1, beta=0.8)
SETTINGS |= dict(per_device_train_batch_size=13, per_device_eval_batch_size=4, save_strategy="steps", save_steps=3)
SETTINGS |= dict(eval_strategy="epoch", extra_metrics=["tpr", "auroc", "ece", "equalized_odds_gap"])
HELD_OUT = [[9, 14], [11, 3]]  # 37 rows: 4 full steps of 8, then 5 rows for 2 processes


def collected(prediction):
    """A user's figure that needs all labels, once each and in the order of the predictions."""
    hits = prediction.predictions.argmax(-1) == prediction.label_ids
    return {"mine": float(hits.mean()), "rows": len(hits), "ones": int(prediction.label_ids.sum())}


def build(output_dir, seed=0, **settings):
    """The trainer of this test, for one process or two."""
    data = table(HELD_OUT, seed=5)
    hooks = dict(eval_dataset=data, compute_metrics=collected)
    return trainer(output_dir, mlp(seed, dropout=0.3), **hooks, **{**SETTINGS, **settings})


def streamed():
    """The evaluation rows as a stream, with names of two lengths for the attribute."""
    words = [["0", "eleven"][place] for place in table(HELD_OUT, seed=5)["place"]]
    data = table(HELD_OUT, seed=5).remove_columns("place").add_column("place", words)
    return data.to_iterable_dataset(num_shards=3)


def overlapping_rows():
    """[`HELD_OUT`] with three attributes, of which a row has several, one, or none."""
    members = np.random.default_rng(8).random((np.sum(HELD_OUT), 3)) < 0.4
    data = table(HELD_OUT, seed=5)
    for k, name in enumerate("abc"):
        data = data.add_column(name, members[:, k].tolist())
    return data, members


def evaluate_overlapping(output_dir, **settings):
    """The group result of a model that was not trained, over groups that overlap."""
    data, members = overlapping_rows()
    settings = dict(overlapping_columns=list("abc"), eval_dataset=data, per_device_eval_batch_size=4, **settings)
    subject = trainer(output_dir, mlp(3), **settings)
    subject.overlapping_train_counts = np.array([[5, 6, 7], [8, 9, 10]])
    metrics = subject.evaluate()
    return subject.group_results["eval"], plain(metrics), subject.predict(data).predictions, members


def plain(metrics):
    """Without times and rates."""
    return {key: value for key, value in metrics.items() if "runtime" not in key and "per_second" not in key}


def main(folder: str) -> None:
    """Leave `rank0.json` and `rank1.json` in `folder`."""
    out = Path(folder)
    subject = build(out / "whole")
    rank = subject.args.process_index
    # The stock Trainer would leave a model that was evaluated before train() out of DDP.
    seen = {"processes": subject.args.world_size, "before": plain(subject.evaluate())}
    batches = watch_batches(subject)
    subject.train()
    seen["steps"] = subject.state.global_step
    seen["rows"] = [batch["row"].tolist() for batch in batches]
    seen["groups"] = [batch[GROUP_KEY].tolist() for batch in batches]
    seen["segments"] = [segment.rows for segment in subject.plan.segments]
    seen["logs"] = [entry for entry in subject.state.log_history if "loss_extrapolated" in entry]
    seen["after"] = plain(subject.evaluate())
    seen["worst"] = list(subject.worst_rows["eval"].items())
    seen["saved"] = subject.save_worst_examples(table(HELD_OUT, seed=5), "eval")
    output = subject.predict(table(HELD_OUT, seed=5))
    seen["labels"] = np.asarray(output.label_ids).tolist()

    metrics = subject.evaluate(streamed(), metric_key_prefix="streamed")
    output = subject.predict(streamed())
    seen["streamed"] = {"metrics": plain(metrics), "labels": np.asarray(output.label_ids).tolist()}

    result, metrics, predictions, _ = evaluate_overlapping(out / "overlapping")
    seen["overlapping"] = {"result": result, "metrics": metrics, "scores": predictions.tolist()}

    for step in (3, 6):  # of 4 steps an epoch: both lie inside an epoch
        torch.manual_seed(rank + 50)
        resumed = build(out / "whole", seed=9)
        again = watch_batches(resumed)
        resumed.train(resume_from_checkpoint=str(out / "whole" / f"checkpoint-{step}"))
        seen[f"rows after {step}"] = [batch["row"].tolist() for batch in again]
        left, right = weights(resumed.model), weights(subject.model)
        seen[f"equal after {step}"] = all(torch.equal(left[name], right[name]) for name in right)
    torch.save(weights(subject.model), out / f"weights{rank}.pt")
    (out / f"rank{rank}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    leave_processes_at_exit()
    main(sys.argv[1])
