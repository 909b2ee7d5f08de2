"""What a run leaves for people: record, tables, pictures, worst examples, model card and page, all from a `RunRecord`.

May import all rooms from `utils/` up to `streaming/`, never a trainer. Start with `record.py`; then `model_card.py`
for the card and `page.py` for the page.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
