"""The Hugging Face Hub: repositories that are made or refused, and pushes during training whose failures are told.

Imports no other room but `utils/`. Next: `training/publishing_trainer.py`, the trainer that pushes, and
`pseudo_attributes/hub.py`, which keeps scores on the Hub.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
