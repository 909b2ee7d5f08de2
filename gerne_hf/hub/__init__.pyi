from .pushes import PublishingError as PublishingError
from .repositories import hub_origin as hub_origin
from .repositories import make_repository as make_repository
