"""Prints what changes under /config/, without an end."""

import stm

client = stm.connect()

for commit in client.watch("/config/", initial=True):   # first all as it is, then each commit once
    for change in commit.changes:                       # one commit's changes arrive together
        print(commit.version, change.name, change.before, "->", change.after)  # or stm.ABSENT
