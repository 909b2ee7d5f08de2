"""Pairs of sentences as features of a frozen sentence encoder, for benchmarks that train a small head on them.

The features of a pair are those of Conneau et al. (EMNLP 2017): the vectors u and v of its two sentences, |u - v| and
u * v, standardized over the training rows. Imported by unknown_attributes.py.
"""

from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer

from gerne_hf.data import multinli

BATCH = 256


class PairFeatures(torch.utils.data.Dataset):
    """Rows of `pixel_values` of shape `(D, 1, 1)` (an image of one pixel), `labels` and `negation`.

    Args:
        features (`torch.Tensor` of shape `(N, D)`): the features of each pair.
        labels, negation (`np.ndarray` of shape `(N,)`): the class and the attribute of each pair.
    """

    column_names = ("pixel_values", "labels", "negation")
    label_names = tuple(multinli.LABELS)

    def __init__(self, features: torch.Tensor, labels: np.ndarray, negation: np.ndarray):
        self.features, self.columns = features, {"labels": labels, "negation": negation}

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: int | str) -> dict | np.ndarray:
        if isinstance(key, str):
            return self.columns[key]
        values = {name: int(column[key]) for name, column in self.columns.items()}
        return {"pixel_values": self.features[key, :, None, None], **values}


@torch.no_grad()
def sentence_vectors(backbone: str, sentences: Sequence[str]) -> torch.Tensor:
    """Return the mean of the last hidden states over the tokens of each sentence, of length 1, `(N, H)`."""
    tokenizer, model = AutoTokenizer.from_pretrained(backbone), AutoModel.from_pretrained(backbone)
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))  # batches of equal length cost least
    vectors = torch.empty(len(sentences), model.config.hidden_size)
    for begin in tqdm(range(0, len(order), BATCH), desc="Sentences"):
        rows = order[begin : begin + BATCH]
        batch = tokenizer([sentences[row] for row in rows], padding=True, truncation=True, return_tensors="pt")
        mask = batch["attention_mask"][:, :, None].float()
        means = (model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
        vectors[rows] = torch.nn.functional.normalize(means, dim=1)
    return vectors


def pair_features(data: datasets.DatasetDict, backbone: str, cache: Path) -> dict[str, PairFeatures]:
    """Return the features of all splits; the sentences' vectors are kept in `cache`.

    Args:
        data (`datasets.DatasetDict`): `train` and other splits, with `premise`, `hypothesis`, `label` and `negation`.
        backbone (`str`): Hub id or folder of a sentence encoder.
        cache (`Path`): a file for the vectors of the sentences, of this data and this encoder.
    """
    if not cache.exists():
        sentences = [text for split in data.values() for name in ("premise", "hypothesis") for text in split[name]]
        cache.parent.mkdir(parents=True, exist_ok=True)
        torch.save(sentence_vectors(backbone, sentences), cache)
    parts = iter(torch.load(cache, weights_only=True).split([len(split) for split in data.values() for _ in range(2)]))
    found = {}
    for name, split in data.items():
        u, v = next(parts), next(parts)
        found[name] = torch.cat([u, v, (u - v).abs(), u * v], dim=1), split
    train = found["train"][0]
    mean, deviation = train.mean(dim=0), train.std(dim=0) + 1e-6
    return {
        name: PairFeatures((vectors - mean) / deviation, np.asarray(split["label"]), np.asarray(split["negation"]))
        for name, (vectors, split) in found.items()
    }
