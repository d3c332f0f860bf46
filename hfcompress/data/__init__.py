"""Data: a Hub id, a file or a folder becomes checked training and validation sets of a task."""

from hfcompress.data.config import DataConfig
from hfcompress.data.loading import load_data, load_validation
from hfcompress.data.task_data import ORIGIN_COLUMN, TEACHER_PREFIX, TaskData, encode, fingerprint, row_lengths

__all__ = [
    "ORIGIN_COLUMN",
    "TEACHER_PREFIX",
    "DataConfig",
    "TaskData",
    "encode",
    "fingerprint",
    "load_data",
    "load_validation",
    "row_lengths",
]
