"""The dashboard: pages made by the server, over the same calls as everybody; live where a browser lets them be.

Every page is at its address with .json too, and every filter is in the address.
"""

from fastapi import APIRouter

from api.dashboard import changes, docs, items, login, overview, queue, search, sources, system, tasks

router = APIRouter(include_in_schema=False)
for part in (overview, sources, changes, items, search, tasks, queue, system, login, docs):
    router.include_router(part.router)
