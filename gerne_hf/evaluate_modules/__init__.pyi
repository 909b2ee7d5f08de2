from .pushing import GROUP_ACCURACY_PATH as GROUP_ACCURACY_PATH
from .pushing import push_group_accuracy as push_group_accuracy
