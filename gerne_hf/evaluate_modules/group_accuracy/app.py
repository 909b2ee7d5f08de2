"""The page of the metric's Space on the Hub: a form with a line for each row of data.

Runs as a script on the Hub, and imports the metric beside it by `evaluate`. Next: `group_accuracy.py`.
"""

from pathlib import Path

import evaluate
import gradio
from evaluate.utils import launch_gradio_widget

if __name__ == "__main__":
    gradio.inputs = gradio.outputs = gradio  # evaluate 0.4.6 looks for the components where gradio 3 had them
    # The file, not its folder: evaluate wants a script with the folder's name, and a Space's folder is "app".
    launch_gradio_widget(evaluate.load(str(Path(__file__).with_name("group_accuracy.py"))))
