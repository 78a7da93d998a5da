"""The training part of a MedMNIST archive, which is what the study reads."""

from pipelines.readers.medmnist import archive_reader

READER = archive_reader("medmnist_train", splits=("train",))
