"""Programs that look from the vantage point as a client would.

They run there from a zip file and may import the standard library, `aioice`, `websockets` and each other, nothing else of
Ratssaal. One module a probe, with `run(job, secrets) -> facts`: a probe judges nothing.
"""
