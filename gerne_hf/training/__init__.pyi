from .evaluating_trainer import EvaluatingTrainer as EvaluatingTrainer
from .group_trainer import GroupTrainer as GroupTrainer
from .plan_trainer import PlanTrainer as PlanTrainer
from .publishing_trainer import PublishingTrainer as PublishingTrainer
from .resumable_trainer import ResumableTrainer as ResumableTrainer
from .sampling_trainer import SamplingTrainer as SamplingTrainer
