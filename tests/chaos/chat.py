"""`python -m tests.chaos.chat HOST PORT SECONDS`: the scripted chat endpoint as a process, which takes its time."""

import sys

from tests.fakes.chat_endpoint import ChatEndpoint

if __name__ == "__main__":
    server = ChatEndpoint((sys.argv[1], int(sys.argv[2])))
    server.seconds = float(sys.argv[3])
    server.serve_forever()
