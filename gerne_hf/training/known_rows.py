"""What a trainer knows of the rows of its data sets: hashed once a set, and compared between the processes of a run.

Imports `groups/` and `streaming/`. Used by [`GroupTrainer`](gerne_hf.training.group_trainer.GroupTrainer).
"""

from collections.abc import Sequence
from typing import Any

import datasets
from accelerate.utils import gather_object

from ..groups.contents import Content, content_of
from ..groups.fingerprints import group_fingerprint
from ..groups.index import GroupIndex
from ..streaming.stream import GroupStream
from ..utils.hashing import hash_value

_KEPT = 100
"""So many data sets are remembered: some users give a new object to each evaluation."""


class KnownRows:
    """The contents of data sets, each hashed when it is first asked for."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, Any, Content]] = []
        self._compared: list[Any] = []

    def content(self, dataset: Any) -> Content:
        """Return what is known of the rows of a data set, or of a stream by its description.

        Args:
            dataset: a data set; one that got another format since counts anew.
        """
        mark = dataset.format if isinstance(dataset, datasets.Dataset) else None
        for known, its_mark, content in self._known:
            if known is dataset and its_mark == mark:
                return content
        if isinstance(dataset, GroupStream):
            transform = hash_value(dataset.transform)
            code = "" if dataset.transform is None else transform.data + transform.code
            content = Content(group_fingerprint(dataset.groups), code, unknown=transform.unknown)
        else:
            content = content_of(dataset)
        self._known = [*self._known[-_KEPT:], (dataset, mark, content)]
        return content

    def check_processes(self, sets: Sequence[tuple[str, Any, GroupIndex | None]]) -> None:
        """Refuse sets whose rows differ between the processes of a run; all processes call this with theirs.

        The rows of a `datasets.Dataset` are compared, and of any set the groups in the order of the rows.

        Args:
            sets (`Sequence`): name, data set and groups of each set; those compared before are left out.

        Raises:
            ValueError: on all processes, naming the set.
        """
        fresh = [entry for entry in sets if not any(entry[1] is known for known in self._compared)]
        if not fresh:
            return
        marks = {}
        for name, dataset, index in fresh:
            groups = None if index is None else group_fingerprint(index)
            marks[name] = groups, self.content(dataset).rows if isinstance(dataset, datasets.Dataset) else None
        found = gather_object([marks])
        for process, theirs in enumerate(found):
            other = sorted(name for name in {*theirs, *found[0]} if theirs.get(name) != found[0].get(name))
            if other:
                raise ValueError(
                    f"the {other[0]} set of process {process} has other rows, or the same in another order, than that "
                    "of process 0: results would be of neither. This comes of a shuffle or a split without a seed. "
                    "Give it one, such as dataset.shuffle(seed=0), or make the set on one process and load it on all"
                )
        self._compared = [*self._compared, *(dataset for _, dataset, _ in fresh)][-_KEPT:]
