"""The ASGI application, for ``uvicorn fastapi_app:app``; run as a script, it serves itself."""

import sys

from scraper import spawning

spawning.end_with_parent()  # loading the rest takes a moment, in which the server may be killed

from api.app import create_app
from scraper.__main__ import main

app = create_app()

if __name__ == "__main__":
    sys.exit(main(["serve"]))
