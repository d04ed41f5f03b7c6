"""Places beyond the disk: s3://, gs:// and hf:// URLs, known to the rest of the workbench by the paths of mirrors.

places.py        URLs and the paths that stand for them
services.py      connections; retrying.py, objects.py: requests, tried again
mirror.py        local copies of annotations, definitions and checkpoints
pictures.py      images, read without a copy
remote_runs.py   run folders; leases.py: one writer at a time
"""

from workbench.storage.mirror import ensure, fetch
from workbench.storage.objects import exists, is_folder
from workbench.storage.pictures import readable
from workbench.storage.places import is_mirror_written_out, is_url, local_path, plain_path, shown, url_of, with_urls

__all__ = [
    "ensure",
    "exists",
    "fetch",
    "is_folder",
    "is_mirror_written_out",
    "is_url",
    "local_path",
    "plain_path",
    "readable",
    "shown",
    "url_of",
    "with_urls",
]
