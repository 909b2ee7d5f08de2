from .distributed import leave_processes_at_exit as leave_processes_at_exit
from .files import write_json as write_json
from .markdown import format_table as format_table
