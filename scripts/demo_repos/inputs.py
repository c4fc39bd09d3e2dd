"""The datasets, encoders and sizes that the Space's repos are made from; each is a flag."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from common import MINILM, MPNET

from demo_repos.progress import Progress


@dataclass(frozen=True)
class Inputs:
    """The inputs of the Space's repos, and their owner; fields with a help text are flags."""

    cache: Path
    namespace: str = field(
        default="local", metadata={"help": "user or organisation that owns the repos"}
    )
    news: str = field(default="local/bbc-news", metadata={"help": "dataset of labelled texts"})
    news_text: str = field(default="text", metadata={"help": "its column of texts"})
    news_label: str = field(default="label", metadata={"help": "its column of classes"})
    pictures: str = field(default="local/openclipart", metadata={"help": "dataset of pictures"})
    picture_image: str = field(default="image", metadata={"help": "its column of pictures"})
    picture_title: str = field(default="title", metadata={"help": "its column of titles"})
    picture_folder: str = field(
        default="folder", metadata={"help": "its column of groups, which the split keeps whole"}
    )
    clothes: str = field(default="local/fashion-mnist", metadata={"help": "dataset of clothes"})
    small_encoder: str = field(default=MINILM, metadata={"help": "encoder of queries"})
    text_encoder: str = field(
        default=MPNET,
        metadata={"help": "encoder of news and titles"},
    )
    image_encoder: str = field(
        default="local/efficientnet-lite0", metadata={"help": "encoder of pictures"}
    )
    train_texts: int = field(default=1000, metadata={"help": "texts that the fits see"})
    test_pictures: int = field(default=600, metadata={"help": "pictures of held-out folders"})
    progress: Progress = field(default_factory=Progress, compare=False)

    def repo_id(self, name: str) -> str:
        """The repo with this name."""
        return f"{self.namespace}/{name}"


FLAGS = [flag for flag in fields(Inputs) if flag.metadata]
