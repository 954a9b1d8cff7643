"""Whether the service of this container answers: `health.py PORT [PATH]` exits with 0 when it does."""

import sys
import urllib.error
import urllib.request

path = sys.argv[2] if len(sys.argv) > 2 else "/healthz"
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
try:
    with opener.open(f"http://127.0.0.1:{int(sys.argv[1])}{path}", timeout=4):
        pass
except urllib.error.HTTPError as error:
    sys.exit(f"{path}: {error.code} {error.read(1_000).decode(errors='replace')}")
except OSError as error:
    sys.exit(f"{path}: {error}")
