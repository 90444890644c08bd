"""A GitHub push of some 10 kB to a branch that nobody watches: all of webhook's work, a row in pipeline's ledger.

  delivery.py URL [BYTES]     URL of the repository; its last two parts are its full name
"""
import json
import sys


def delivery(url, size=10000):
    who = {"name": "Ada Lovelace", "email": "ada@example.org", "username": "ada"}
    name = "/".join(url.split("/")[-2:])

    def commit(i):
        return {"id": f"{i:040x}", "tree_id": f"{i:040x}", "distinct": True,
                "message": f"Change number {i}: the page says more about carts", "timestamp": "2026-11-21T10:00:00Z",
                "url": f"{url}/commit/{i:040x}", "author": who, "committer": who,
                "added": [f"src/cart/part{i}.c"], "removed": [], "modified": [f"src/page{i}.c", "README.md"]}
    push = {"ref": "refs/heads/bench", "before": "a" * 40, "after": "b" * 40, "created": False, "deleted": False,
            "forced": False, "pusher": who, "sender": {"login": "ada", "id": 1}, "commits": [], "head_commit": commit(0),
            "repository": {"full_name": name, "html_url": url, "clone_url": url + ".git", "default_branch": "main"}}
    while len(json.dumps(push)) < size:
        push["commits"].append(commit(len(push["commits"])))
    return json.dumps(push)


if __name__ == "__main__":
    print(delivery(sys.argv[1], *map(int, sys.argv[2:3])), end="")
