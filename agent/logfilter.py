"""A log record says which patches ran when it was written."""

from __future__ import annotations

import logging

from zdpatch.agent.launch import active


class PatchFilter(logging.Filter):
    """Sets `record.zdpatch` to the active patch ids, "FIX-1,FIX-2", or "" for none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Mark the record; it always passes."""
        record.zdpatch = ",".join(active())
        return True
