from .identity import RUN_FIELDS as RUN_FIELDS
from .seals import checkpoint_to_resume as checkpoint_to_resume
from .seals import newest_whole as newest_whole
from .seals import read_seal as read_seal
