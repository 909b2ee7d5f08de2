"""`python -m gerne_hf.evaluate_modules push OWNER/group_accuracy`: the metric as a Space on the Hub.

The command line of [`pushing`](gerne_hf.evaluate_modules.pushing).
"""

import argparse

from .pushing import push_group_accuracy


def main(argv: list[str] | None = None) -> None:
    """Parse the command line, push the metric, and print where it is and how to load it.

    Args:
        argv (`list[str]`, *optional*): the arguments; those of the process if not given.

    Raises:
        SystemExit: for arguments that cannot be parsed.
    """
    parser = argparse.ArgumentParser(prog="python -m gerne_hf.evaluate_modules", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    push = commands.add_parser("push", help="push the metric group_accuracy as a Space")
    push.add_argument("repo_id", help="OWNER/group_accuracy; made if there is none")
    push.add_argument("--private", action="store_true", default=None, help="make a private Space")
    arguments = parser.parse_args(argv)
    commit = push_group_accuracy(arguments.repo_id, private=arguments.private)
    print(f'{commit.repo_url}\nevaluate.load("{commit.repo_url.repo_id}", module_type="metric")')


if __name__ == "__main__":
    main()
