#!/usr/bin/env python3
"""type.py COMMAND... -- QUESTION ANSWER [QUESTION ANSWER]...: runs a command on a terminal and answers its questions.

Prints what the terminal showed; ends with the command's code.
"""
import os
import pty
import select
import sys
import time

split = len(sys.argv) - 1 - sys.argv[::-1].index("--")
command, script = sys.argv[1:split], sys.argv[split + 1:]
child, terminal = pty.fork()
if child == 0:
    os.execvp(command[0], command)
shown, since, deadline = b"", 0, time.time() + 120
while time.time() < deadline:
    if script and script[0].encode() in shown[since:]:
        since = len(shown)
        os.write(terminal, script[1].encode() + b"\n")
        script = script[2:]
    if select.select([terminal], [], [], 0.1)[0]:
        try:
            data = os.read(terminal, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
sys.stdout.write(shown.decode(errors="replace"))
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
