"""The metric `group_accuracy` as a folder that `evaluate` loads and that is pushed to the Hub as a Space.

`group_accuracy.py` is the metric, `app.py` its page, `README.md` its card. Nothing is exported from here.
"""
