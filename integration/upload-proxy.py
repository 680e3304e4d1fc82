#!/usr/bin/env python3
"""upload-proxy.py ADDRESS:PORT UPSTREAM CUTS BYTES: passes TCP connections on; the first CUTS connections that sent more
than BYTES to the server are reset there."""
import socket
import struct
import sys
import threading

listen, upstream = (text.rsplit(":", 1) for text in sys.argv[1:3])
cuts, limit = int(sys.argv[3]), int(sys.argv[4])
lock = threading.Lock()


def up(client, server):
    global cuts
    sent = 0
    try:
        while data := client.recv(65536):
            server.sendall(data)
            sent += len(data)
            with lock:
                cut = sent > limit and cuts > 0
                cuts -= cut
            if cut:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                break
        else:
            server.shutdown(socket.SHUT_WR)
            return
    except OSError:
        pass
    server.close()
    client.close()


def down(client, server):
    try:
        while data := server.recv(65536):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except OSError:
        pass


door = socket.create_server((listen[0], int(listen[1])))
while True:
    client, _ = door.accept()
    server = socket.create_connection((upstream[0], int(upstream[1])))
    threading.Thread(target=up, args=(client, server), daemon=True).start()
    threading.Thread(target=down, args=(client, server), daemon=True).start()
