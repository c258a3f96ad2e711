"""A model behind HTTP: OpenAI's endpoints, log-likelihoods that tasks can trust, and the chat page.

One thread computes (`worker`); asyncio takes requests in (`requests`) and gives what was written
out (`choices`, `streams`). Starlette, uvicorn and prometheus-client are imported here only.
"""
