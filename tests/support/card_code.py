"""The code of a card executed as it stands, and its answer beside the one that the card tells."""

import re


def run_code_of(text):
    """The names that the code defines; `answer` is what its call of `classify` returned, `told` what the card says of
    that: label and probability."""
    code = re.search(r"## How to load it\n.*?```python\n(.*?)```", text, re.S)[1]
    found = {}
    exec(code, found)
    call = re.search(r"^classify\(.*\)$", code, re.M)
    found["answer"] = eval(call[0], found)[0] if call else None
    told = re.search(r'^# "(.*)", with the probability (\d\.\d\d)$', code, re.M)
    found["told"] = (told[1], float(told[2])) if told else None
    return found
