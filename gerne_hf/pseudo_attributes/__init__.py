"""Unknown attributes: biased models score all rows, and groups are inferred from what they say.

`biased_model.py` trains one biased model and `folds.py` one for each fold; `scores.py` keeps what they say,
`exports.py` and `findings.py` show it to people, and `hub.py` shares it. `rules.py` makes groups of it, by five rules
of which one is the paper's Algorithm 2, and `shift.py` has their linear models. `inferring_trainer.py` is the rung of
the ladder that trains on these groups, and `guard.py` says what it tells before and after.

Imports `training/`, `tuning/`, `method/` and `hub/`. Begin with `scores.py` and `rules.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
