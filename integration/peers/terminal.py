#!/usr/bin/env python3
"""terminal.py COLUMNSxROWS INPUT COMMAND...: runs the command on a new terminal of that size and copies its output.

INPUT (with \\n, \\x04 and the like) is typed once the command has printed something, or after `@` and a text, once that text
was printed. Ends with the command's exit code, 124 after 60 seconds.
"""
import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time

size, typed, command = sys.argv[1], sys.argv[2].encode().decode("unicode_escape"), sys.argv[3:]
columns, rows = (int(n) for n in size.split("x"))
awaited = ""
if typed.startswith("@"):
    awaited, typed = typed[1:].split("@", 1)
pid, master = pty.fork()
if pid == 0:
    # The size is set by the child, before the command can ask for it.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    os.execvp(command[0], command)
deadline = time.monotonic() + 60
seen = b""
while time.monotonic() < deadline:
    if not select.select([master], [], [], 0.2)[0]:
        continue
    try:
        data = os.read(master, 65536)
    except OSError:
        break  # EIO: the other side is closed
    if not data:
        break
    seen += data
    os.write(1, data)
    if typed and awaited.encode() in seen:
        os.write(master, typed.encode())
        typed = ""
else:
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    sys.exit(124)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
