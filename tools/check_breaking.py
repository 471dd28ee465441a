"""Does the proto contract still accept what earlier clients send? Exits non-zero and says where, if not.

Compared is, in this order:
- where this branch left `origin/main` or `main`, when it has commits of its own;
- else (on main itself) the contract as it was before the commit that last changed it.
A clone too shallow to hold that commit, or a folder that is no clone, has nothing to compare with: that is
printed, and passes.
"""

from __future__ import annotations

import subprocess
import sys

CONTRACT = "proto/torana"


def main() -> int:
    base = earlier_commit()
    if base is None:
        print("buf breaking: no earlier contract in this clone to compare with")
        return 0
    print(f"buf breaking: comparing with {base[:12]}", flush=True)
    archive = subprocess.run(["git", "archive", base, "buf.yaml", "proto"], stdout=subprocess.PIPE, check=True)
    return subprocess.run(["buf", "breaking", "--against", "-#format=tar"], input=archive.stdout).returncode


def earlier_commit() -> str | None:
    head = git("rev-parse", "HEAD")
    forks = (git("merge-base", "HEAD", branch) for branch in ("origin/main", "main"))
    base = next((fork for fork in forks if fork and fork != head), None) or before_last_change()
    return base if base and git("ls-tree", base, CONTRACT) else None


def before_last_change() -> str | None:
    last = git("rev-list", "-1", "--first-parent", "HEAD", "--", CONTRACT)
    return git("rev-parse", "--quiet", "--verify", f"{last}^") if last else None


def git(*arguments: str) -> str | None:
    """What git prints, or None where it has no answer: no clone, no such branch, no such commit."""
    ran = subprocess.run(["git", *arguments], capture_output=True, text=True)
    return ran.stdout.strip() or None if ran.returncode == 0 else None


if __name__ == "__main__":
    sys.exit(main())
